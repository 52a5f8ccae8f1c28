"""Compare two executions of one lockfile: outputs byte for byte, then whatever else differs.

Files are compared by the digests that the two machines certified. If weights differ, the two local
files show by how much, tensor by tensor. The reason is not determined, but differences between the
reports are shown (processor features, versions), because those change arithmetic.
"""

import array
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.files.tensors import read_tensors
from aicert.formats import safetensors
from aicert.formats.certificate import Certificate
from aicert.formats.machine_io import CERTIFICATE
from aicert.formats.measurement import INPUT_PCR
from aicert.formats.run_report import parse as parse_report
from aicert.formats.safetensors import Tensor
from aicert.formats.statement import Statement
from aicert.formats.statement import parse as parse_statement
from rules.host.work import write_whole
from rules.project import platform_cas
from rules.project.config import Run
from rules.project.results import REPRODUCTIONS

# These values differ between two equal runs, because equal work takes a different time each day.
_TIMES = frozenset(
    ("wallSeconds", "cpuSeconds", "maxMemoryBytes", "trainSeconds", "paceSeconds", "logTruncated")
)
_SHOWN = 8
# A multiple of every element size.
BLOCK = 1 << 22
# The array type code for each type whose values are compared as numbers.
_FLOATS = {"F32": "f", "F64": "d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One execution: its certificate, and the folder of its output."""

    certificate: Certificate
    model: Path

    @property
    def statement(self) -> Statement:
        """The statement of its machine."""
        return parse_statement(self.certificate.envelope.payload)

    def files(self) -> dict[str, str]:
        """Return the digest of every output file."""
        outputs = self.statement.outputs.values()
        return {path: digest for output in outputs for path, digest in output.files.items()}


def leave(root: Path, run: Run, out: Path) -> Path:
    """Keep the second run's certificate, and the CA that vouches for it. Returns the certificate's
    path. Another party's certificate comes from another checkout, in a commit.
    """
    folder = root / REPRODUCTIONS / run.name / run.machine.name
    ca = platform_cas.own(root, run.machine.driver.policy)
    if ca is not None:
        write_whole(folder / platform_cas.BESIDE, ca.pem)
    write_whole(folder / CERTIFICATE, (out / CERTIFICATE).read_bytes())
    return folder / CERTIFICATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`lines` are the report; their text may come from a machine."""

    equal: bool
    lines: tuple[str, ...]


def compare(first: Side, again: Side) -> Comparison:
    """Compare two executions: what is equal, and what differs."""
    one, two = first.files(), again.files()
    lines = [_registers(first, again)]
    differing = 0
    for path in sorted(one.keys() | two.keys()):
        same = one.get(path) == two.get(path)
        differing += not same
        lines += [f"  same     {path}"] if same else _file(path, first, again, one, two)
    lines += _reports(first, again)
    if differing:
        lines.append(f"NOT REPRODUCED  {differing} of {len(one.keys() | two.keys())} files differ")
    else:
        lines.append(f"REPRODUCED  {len(one)} files, byte for byte")
    return Comparison(equal=not differing, lines=tuple(lines))


def _registers(first: Side, again: Side) -> str:
    one, two = (side.certificate.evidence.pcrs[INPUT_PCR].hex() for side in (first, again))
    return f"PCR 14     sha256:{one}" + (
        ", the same" if one == two else f"\n   again   sha256:{two}"
    )


def _file(
    path: str, first: Side, again: Side, one: Mapping[str, str], two: Mapping[str, str]
) -> list[str]:
    if path not in two:
        return [f"  MISSING  {path}: only in the certified outputs"]
    if path not in one:
        return [f"  NEW      {path}: only in the repeated run"]
    detail = ""
    if safetensors.is_named(path):
        try:
            detail = ": " + "; ".join(_tensors(first.model / path, again.model / path))
        except (EvidenceError, OSError) as error:
            detail = f": {error}"
    return [
        f"  DIFFERS  {path}{detail}",
        f"           certified  sha256:{one[path]}",
        f"           again      sha256:{two[path]}",
    ]


def _tensors(one: Path, two: Path) -> Iterator[str]:
    with one.open("rb") as mine, two.open("rb") as theirs:
        files = (mine.fileno(), theirs.fileno())
        (a, first), (b, again) = (read_tensors(fd, os.fstat(fd).st_size) for fd in files)
        others = {tensor.name: tensor for tensor in again}
        names = {tensor.name for tensor in first} ^ others.keys()
        if names:
            yield f"tensors that only one file has: {', '.join(sorted(names)[:_SHOWN])}"
        differing: list[tuple[str, int, float | None]] = []
        for tensor in first:
            other = others.get(tensor.name)
            if other is None:
                continue
            difference = _tensor((files[0], a, tensor), (files[1], b, other))
            if difference is not None:
                differing.append((tensor.name, *difference))
    if not differing and not names:
        yield "all tensors are the same, but the rest of the file differs"
    elif differing:
        yield _summary(differing, len(first))


def _summary(differing: Sequence[tuple[str, int, float | None]], tensors: int) -> str:
    elements = sum(count for _, count, _ in differing)
    apart = [most for _, _, most in differing if most is not None]
    text = f"{len(differing)} of {tensors} tensors differ, in {elements:,} elements"
    text += f", by at most {max(apart):.3g}" if apart else ""
    return f"{text}; first {', '.join(name for name, _, _ in differing[:_SHOWN])}"


def _tensor(
    one: tuple[int, int, Tensor], two: tuple[int, int, Tensor]
) -> tuple[int, float | None] | None:
    """Return how many elements differ, and by how much at most; None if the tensors are equal."""
    tensor, again = one[2], two[2]
    if (tensor.dtype, tensor.shape) != (again.dtype, again.shape):
        return tensor.elements, None
    code = _FLOATS.get(tensor.dtype) if sys.byteorder == "little" else None
    # A few types have elements smaller than a byte.
    size = max(1, (tensor.end - tensor.begin) // max(1, tensor.elements))
    count = 0
    apart: list[float] = []
    for mine, other in _blocks(one, two):
        if mine == other:
            continue
        places = range(0, len(mine), size)
        count += sum(mine[at : at + size] != other[at : at + size] for at in places)
        if code is not None:
            pairs = zip(array.array(code, mine), array.array(code, other), strict=True)
            apart += [max((abs(x - y) for x, y in pairs if x != y), default=0.0)]
    return (count, max(apart, default=None)) if count else None


def _blocks(
    one: tuple[int, int, Tensor], two: tuple[int, int, Tensor]
) -> Iterator[tuple[bytes, bytes]]:
    """Both tensors' bytes in pieces: a tensor may be larger than memory or one read."""
    length = one[2].end - one[2].begin
    for at in range(0, length, BLOCK):
        most = min(BLOCK, length - at)
        mine, other = (
            os.pread(fd, most, start + each.begin + at) for fd, start, each in (one, two)
        )
        if not len(mine) == len(other) == most:
            raise EvidenceError("a file was truncated while it was compared")
        yield mine, other


def _reports(first: Side, again: Side) -> Iterator[str]:
    one, two = (parse_report(side.statement.report).values for side in (first, again))
    for name in sorted((one.keys() | two.keys()) - _TIMES):
        values = [str(side[name].data) if name in side else "none" for side in (one, two)]
        if values[0] != values[1]:
            yield f"report     {name}: {values[0][:120]}; again: {values[1][:120]}"
