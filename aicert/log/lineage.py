"""Draw which runs used the outputs of other runs, as the digests in their entries show.

An edge leads from the run that wrote an output to each run that read the same bytes. Entries are
claims: they may form cycles, name thousands of runs, or say that a run wrote what it read. So the
drawing is bounded, and an edge shows only that two entries name the same digest.
"""

import html
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from aicert.log.find import Hit
from aicert.text import safe

MAX_NODES: Final = 80
MAX_EDGES: Final = 300
MAX_LANES: Final = 300
_WIDE, _HIGH, _GAP_X, _GAP_Y = 176, 44, 60, 16
_STEP: Final = _WIDE + _GAP_X
_LABEL: Final = 20


def edges(hits: Sequence[Hit]) -> list[tuple[int, int]]:
    """Return pairs of a writer and a reader of the same bytes, as indices into `hits`.

    Returns at most MAX_EDGES pairs.
    """
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
    """Arrange the entries that have an edge in columns.

    Each entry stands to the right of all those that it was made from. The entries of a cycle stand
    in the first column.
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
    """Return the drawing as markup; empty if no entry was made from another."""
    pairs = edges(hits)
    across = columns(pairs)
    if not across:
        return ""
    depth = {node: at for at, column in enumerate(across) for node in column}
    drawn = [pair for pair in pairs if pair[0] in depth and pair[1] in depth]
    lanes = _lanes(drawn, depth)
    drawn = drawn[: len(lanes)]
    heights = [len(column) * (_HIGH + _GAP_Y) for column in across]
    places = {
        node: (depth[node] * _STEP + 2, row * (_HIGH + _GAP_Y) + 2)
        for column in across
        for row, node in enumerate(column)
    }
    lines = []
    for (writer, reader), between in zip(drawn, lanes, strict=True):
        points = [(places[writer][0] + _WIDE, places[writer][1] + _HIGH // 2)]
        for at in between:
            # Lead the line through a lane of its own below the boxes: behind a box, it would seem
            # to end there.
            y = heights[at] + _GAP_Y // 2
            heights[at] += _GAP_Y
            points += [(at * _STEP + 2, y), (at * _STEP + 2 + _WIDE, y)]
        points.append((places[reader][0], places[reader][1] + _HIGH // 2))
        lines.append(_line(points))
    width, height = (len(across) - 1) * _STEP + _WIDE + 4, max(heights)
    boxes = "".join(_box(hits[node], *place) for node, place in places.items())
    more = "" if len(drawn) == len(pairs) < MAX_EDGES else " There are more than are drawn."
    return (
        f'<figure><div class="scroll"><svg width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="What was made from what">'
        f"{''.join(lines)}{boxes}</svg></div><figcaption>A line leads from a run to one that read "
        "what it wrote, by the digest that both name. Boxes with a broken edge are claims."
        f"{more}</figcaption></figure>\n"
    )


def _lanes(pairs: Sequence[tuple[int, int]], depth: Mapping[int, int]) -> list[range]:
    """Return the columns that each line passes, for as many lines as there is room for."""
    lanes: list[range] = []
    room = MAX_LANES
    for writer, reader in pairs:
        between = range(depth[writer] + 1, depth[reader])
        room -= len(between)
        if room < 0:
            break
        lanes.append(between)
    return lanes


def _line(points: Sequence[tuple[int, int]]) -> str:
    """Draw a line between two boxes: bent in the gaps, straight past the columns between them."""
    path = f"M{points[0][0]} {points[0][1]}"
    bend = _GAP_X // 2
    for (x, y), (to_x, to_y) in pairwise(points):
        straight = f"L{to_x} {to_y}"
        curve = f"C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}"
        path += straight if y == to_y else curve
    return f'<path d="{path}"/>'


def _box(hit: Hit, x: int, y: int) -> str:
    style = "claim" if hit.verified is None else "verified"
    name = html.escape(safe(hit.entry.run, _LABEL))
    return (
        f'<a href="#e{hit.index}"><rect class="{style}" x="{x}" y="{y}" width="{_WIDE}" '
        f'height="{_HIGH}" rx="6"/><text x="{x + 10}" y="{y + 19}">{name}</text>'
        f'<text class="small" x="{x + 10}" y="{y + 35}">entry {hit.index}, {style}</text></a>'
    )
