"""What was made from what, by digests that entries share, as a drawing.

An edge leads from the run that wrote an output to each that read those very bytes. Entries are
claims: they may form circles, name thousands of runs, or say that a run made what it read. So the
drawing is bounded, and an edge shows only that two entries name the same digest.
"""

import html
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from aicert.log.find import Hit
from aicert.text import safe

MAX_NODES: Final = 80
MAX_EDGES: Final = 300
_WIDE, _HIGH, _GAP_X, _GAP_Y = 190, 44, 70, 16
_LABEL: Final = 22


def edges(hits: Sequence[Hit]) -> list[tuple[int, int]]:
    """Which entries read what others wrote, by their places in `hits`, at most MAX_EDGES."""
    writers: dict[str, list[int]] = defaultdict(list)
    for place, hit in enumerate(hits):
        for item in hit.entry.outputs:
            writers[str(item.digest)].append(place)
    pairs: dict[tuple[int, int], None] = {}
    for place, hit in enumerate(hits):
        for item in hit.entry.inputs:
            for writer in writers.get(str(item.digest), ()):
                if writer != place:
                    pairs[writer, place] = None
                if len(pairs) == MAX_EDGES:
                    return list(pairs)
    return list(pairs)


def columns(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The entries that have an edge, in columns: each right of all that it was made from, but in a
    circle, whose entries stand in the first one.
    """
    nodes = list(dict.fromkeys(node for pair in pairs for node in pair))[:MAX_NODES]
    kept = set(nodes)
    before: dict[int, set[int]] = {node: set() for node in nodes}
    after: dict[int, list[int]] = defaultdict(list)
    for writer, reader in pairs:
        if writer in kept and reader in kept:
            before[reader].add(writer)
            after[writer].append(reader)
    depth = dict.fromkeys(nodes, 0)
    left = {node: len(writers) for node, writers in before.items()}
    ready = [node for node in nodes if not left[node]]
    while ready:
        node = ready.pop()
        for reader in after[node]:
            depth[reader] = max(depth[reader], depth[node] + 1)
            left[reader] -= 1
            if not left[reader]:
                ready.append(reader)
    for node in nodes:
        if left[node]:
            depth[node] = 0
    drawn: list[list[int]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in sorted(nodes):
        drawn[depth[node]].append(node)
    return [column for column in drawn if column]


def drawing(hits: Sequence[Hit]) -> str:
    """The figure, as markup; nothing where no entry was made from another."""
    pairs = edges(hits)
    placed = {
        node: (across * (_WIDE + _GAP_X) + 2, down * (_HIGH + _GAP_Y) + 2)
        for across, column in enumerate(columns(pairs))
        for down, node in enumerate(column)
    }
    if not placed:
        return ""
    width = max(x for x, _ in placed.values()) + _WIDE + 2
    height = max(y for _, y in placed.values()) + _HIGH + 2
    drawn = [pair for pair in pairs if pair[0] in placed and pair[1] in placed]
    lines = "".join(_line(placed[writer], placed[reader]) for writer, reader in drawn)
    boxes = "".join(_box(hits[node], *place) for node, place in placed.items())
    more = "" if len(drawn) == len(pairs) < MAX_EDGES else " There are more than are drawn."
    return (
        f'<figure><div class="scroll"><svg width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="What was made from what">'
        f"{lines}{boxes}</svg></div><figcaption>A line leads from a run to one that read what it "
        "wrote, by the digest that both name. Boxes with a broken edge are claims."
        f"{more}</figcaption></figure>\n"
    )


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y = start[0] + _WIDE, start[1] + _HIGH // 2
    to_x, to_y = end[0], end[1] + _HIGH // 2
    bend = _GAP_X // 2
    return f'<path d="M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"/>'


def _box(hit: Hit, x: int, y: int) -> str:
    style = "claim" if hit.verified is None else "verified"
    name = html.escape(safe(hit.entry.run, _LABEL))
    return (
        f'<a href="#e{hit.index}"><rect class="{style}" x="{x}" y="{y}" width="{_WIDE}" '
        f'height="{_HIGH}" rx="6"/><text x="{x + 10}" y="{y + 19}">{name}</text>'
        f'<text class="small" x="{x + 10}" y="{y + 35}">entry {hit.index}, {style}</text></a>'
    )
