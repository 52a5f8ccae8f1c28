"""What is extended into PCR 14 and PCR 8, and the resulting values (docs/spec/measurement.md).

Both registers start at zero; each event's SHA-256 is extended in the SHA-256 bank
(TPM 2.0 Part 1, clause 17.3). The verifier computes these values and compares: it never replays a
log that came with the evidence.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest

INPUT_PCR = 14
OUTPUT_PCR = 8
QUOTED_PCRS = tuple(range(16))
ZERO = bytes(32)
SEALED = b"sealed\n"

# `0`–`255`, `signal:N`, `timeout`, `memory`: how the training child ended.
_EXIT_CODE = re.compile(
    r"(?:0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])|signal:[1-9][0-9]?|timeout|memory"
)


def extend(pcr: bytes, event: bytes) -> bytes:
    """Return the register after TPM2_PCR_Extend with the SHA-256 of `event`."""
    return hashlib.sha256(pcr + hashlib.sha256(event).digest()).digest()


def replay(events: Iterable[bytes]) -> bytes:
    """Return the value of a zero register after `events`, in order."""
    value = ZERO
    for event in events:
        value = extend(value, event)
    return value


def input_event(name: str, digest: Digest) -> bytes:
    """Return the event of one input, as hashed in the machine."""
    return f"input {name} {digest}\n".encode("ascii")


def input_events(lockfile: bytes, inputs: Iterable[tuple[str, Digest]]) -> list[bytes]:
    """Return PCR 14's events: the lockfile's bytes, each input in its order, `sealed`."""
    return [lockfile, *(input_event(name, digest) for name, digest in inputs), SEALED]


def output_events(exit_code: str, outputs: Mapping[str, Digest], report: Digest) -> list[bytes]:
    """Return PCR 8's events: `exit CODE`, outputs sorted by name, `report DIGEST`, `sealed`."""
    check_exit_code(exit_code)
    events = [f"exit {exit_code}\n".encode("ascii")]
    events += [f"output {name} {outputs[name]}\n".encode("ascii") for name in sorted(outputs)]
    return [*events, f"report {report}\n".encode("ascii"), SEALED]


def check_exit_code(text: str) -> None:
    """Raise EvidenceError unless `text` has the form of an exit code."""
    if not _EXIT_CODE.fullmatch(text):
        raise EvidenceError(f"not an exit code: {text[:40]!r}")
