"""Runs, their inputs and their certificates as one graph, drawn as text and as SVG.

A `run:` input is an edge between runs. Digests are from the lockfiles. A run's state is the one
that `certify` would report (rules.runs.certify.why).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from aicert.errors import AicertError
from aicert.formats import statement as statements
from aicert.formats.lockfile import RUN_SCHEME
from aicert.text import safe
from rules.host.terminal import fitted
from rules.project import locked, results
from rules.project.config import Project, Run
from rules.runs import certify

SHORT = 12
_WIDTH, _HEIGHT, _GAP, _COLUMN, _MARGIN = 260, 38, 10, 640, 20
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.small{font-size:10px;fill:#666}"
    "rect{fill:#fff;stroke:#888}"
    ".certified{stroke:#1a7f37;stroke-width:2}.open{stroke:#b35900;stroke-width:2}"
    "path{fill:none;stroke:#888}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One run: its inputs as (name, source, digest), its outputs as (name, digest), its state.

    `certificate` is the file that passes for all of that, or None.
    """

    name: str
    inputs: tuple[tuple[str, str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    state: str
    certificate: str | None

    @property
    def parents(self) -> tuple[str, ...]:
        """The runs whose outputs this one uses."""
        return tuple(
            source.removeprefix(RUN_SCHEME).partition("/")[0]
            for _, source, _ in self.inputs
            if source.startswith(RUN_SCHEME)
        )


def nodes(root: Path, project: Project) -> list[Node]:
    """Return every run, parents first."""
    by_name = {run.name: _node(root, run) for run in project.runs.values()}
    levels = _levels(by_name)
    return [by_name[name] for name in sorted(by_name, key=lambda name: (levels[name], name))]


def _node(root: Path, run: Run) -> Node:
    digests: dict[str, str] = {}
    try:
        lockfile = locked.parsed(locked.read(root, run.name))
        digests = {item.name: str(item.digest) for item in lockfile.inputs}
    except AicertError:
        digests = {}
    reason = certify.why(root, run, None)
    if reason is None:
        state = "certified"
    else:
        state = f"{'stopped' if reason.stops else 'to run'}: {reason.text.splitlines()[0]}"
    path = results.certificate_path(root, run.name).relative_to(root)
    return Node(
        name=run.name,
        inputs=tuple((i.name, i.source, digests.get(i.name, "not locked")) for i in run.inputs),
        outputs=_outputs(root, run, certified=reason is None),
        state=state,
        certificate=str(path) if reason is None else None,
    )


def _outputs(root: Path, run: Run, *, certified: bool) -> tuple[tuple[str, str], ...]:
    """Return the outputs according to a passing certificate; any other certificate counts for
    nothing.
    """
    if not certified:
        return tuple((name, "not certified") for name in run.outputs)
    outputs = statements.parse(results.read_certificate(root, run.name).envelope.payload).outputs
    return tuple((name, str(outputs[name].digest)) for name in run.outputs)


def _levels(by_name: Mapping[str, Node]) -> dict[str, int]:
    """Return how many runs come before each run. A cycle of runs, which cannot be locked, ends the
    search.
    """
    levels = dict.fromkeys(by_name, 0)
    for _ in by_name:
        for name, node in by_name.items():
            above = [levels[parent] + 1 for parent in node.parents if parent in levels]
            levels[name] = min(max(above, default=0), len(by_name))
    return levels


def text(drawn: Sequence[Node]) -> str:
    """Return one block per run: inputs, outputs and state."""
    blocks = []
    for node in drawn:
        width = max((len(name) for name, _, _ in node.inputs), default=0)
        lines = [f"{node.name}  {safe(node.state, 160)}"]
        lines += [
            f"  <- {name:<{width}}  {safe(source, 80)}  {_short(digest)}"
            for name, source, digest in node.inputs
        ]
        takers = [other.name for other in drawn if node.name in other.parents]
        to = f"  to {', '.join(takers)}" if takers else ""
        lines += [f"  -> {output}  {_short(digest)}{to}" for output, digest in node.outputs]
        if node.certificate is not None:
            lines.append(f"  by {node.certificate}")
        blocks.append("\n".join(part for line in lines for part in fitted(line)))
    return "\n\n".join(blocks) + "\n"


def svg(drawn: Sequence[Node]) -> str:
    """Draw the runs as a picture: inputs to the left of their run, runs from left to right."""
    levels = _levels({node.name: node for node in drawn})
    places: dict[str, tuple[int, int]] = {}
    # Draw lines first, so that boxes cover them.
    edges: list[str] = []
    boxes: list[str] = []
    top = _MARGIN
    for node in drawn:
        own = [item for item in node.inputs if not item[1].startswith(RUN_SCHEME)]
        rows = max(len(own), 1)
        x = _MARGIN + levels[node.name] * _COLUMN + _WIDTH + 60
        y = top + (rows - 1) * (_HEIGHT + _GAP) // 2
        places[node.name] = (x, y)
        for number, (name, source, digest) in enumerate(own):
            at = (x - _WIDTH - 60, top + number * (_HEIGHT + _GAP))
            boxes += _box(at, f"{name}  {source}", _short(digest), "")
            edges.append(_edge((at[0] + _WIDTH, at[1]), (x, y)))
        outputs = ", ".join(f"{name} {_short(digest)}" for name, digest in node.outputs)
        style = "open" if node.certificate is None else "certified"
        below = node.state if node.certificate is None else f"{node.state}: {outputs}"
        boxes += _box((x, y), node.name, below, style)
        top += rows * (_HEIGHT + _GAP) + _GAP
    for node in drawn:
        for parent in node.parents:
            if parent in places:
                x, y = places[parent]
                edges.append(_edge((x + _WIDTH, y), places[node.name]))
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + _MARGIN}" '
        f'viewBox="0 0 {width} {top + _MARGIN}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *edges, *boxes, "</svg>"]) + "\n"


def _short(digest: str) -> str:
    kind, colon, value = digest.partition(":")
    return f"{kind}:{value[:SHORT]}…" if colon else digest


def _box(at: tuple[int, int], title: str, below: str, style: str) -> list[str]:
    x, y = at
    return [
        f'<rect class="{style}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4"/>',
        f'<text x="{x + 8}" y="{y + 16}">{escape(safe(title, 40))}</text>',
        f'<text class="small" x="{x + 8}" y="{y + 30}">{escape(safe(below, 46))}</text>',
    ]


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = start, end
    y1, y2, half = y1 + _HEIGHT // 2, y2 + _HEIGHT // 2, (x2 - x1) // 2
    return f'<path d="M{x1} {y1} C{x1 + half} {y1} {x2 - half} {y2} {x2} {y2}"/>'
