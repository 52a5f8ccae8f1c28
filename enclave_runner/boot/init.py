"""The measured machine's way into the runner: one boot, one run (design section 5).

The machine's init (image/machine/init.c) starts this when the volumes are open, and powers off when
it ends. Everything that the host says is on the input volume: `lock.toml`, `nonce`, `limits.json`
and `inputs/NAME`; it is pinned by dm-verity and what counts of it is measured. Nothing but block
devices is read. Results leave as a stream on the output volume, of which no byte is read. Left out:
what the run does, which is the runner's, the same as on a local machine.
"""

import os
import re
import sys
from pathlib import Path

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats import strict_json
from enclave_runner import __main__ as runner
from enclave_runner.boot import gpu
from enclave_runner.boot.output_stream import write_stream
from enclave_runner.events import Events

INPUTS = Path("/inputs")
SCRATCH = Path("/scratch")
TRAINING = Path("/training")
TPM = "device:/dev/tpmrm0"
# Who trains: root here is the runner alone.
TRAINER = 65534
# Written only; a virtio-serial port of the machine's.
EVENTS_PORT = "aicert.events"
OUTPUT_SERIAL = "aicert-output"
# Where disks are SCSI ones: host:channel:target:LUN.
OUTPUT_LUN = 11
CONSOLE = "/dev/console"
_LIMITS = ("time-limit", "memory", "processes", "scratch-limit", "threads")
_MAX_LIMITS = 4096
_VOLUME = re.compile(r"(?:^| )aicert\.([a-z]+)=([0-9a-f]{64}),[0-9]+(?= |\n|$)")


def main() -> int:
    """Run what the input volume asks for; 0 when a certificate was streamed out."""
    events = os.open(_events_device(), os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    # The first thing of all: who hears nothing knows that no run began.
    Events(events).send("started")
    try:
        arguments = _arguments(events)
        out = SCRATCH / "out"
        out.mkdir()
        code = runner.main([*arguments, f"--out={out}"])
        if code == 0:
            write_stream(out, _output_device())
    except (AicertError, OSError) as error:
        message = error.message if isinstance(error, AicertError) else f"in the machine: {error}"
        print(f"error: {message}", file=sys.stderr)
        Events(events).error(message, None, 2)
        return 2
    return code


def verity_roots(command_line: str) -> dict[str, str]:
    """What this machine is, by its own command line: the dm-verity root of each volume."""
    found = _VOLUME.findall(command_line)
    roots = {name: f"sha256:{root}" for name, root in found}
    if sorted(name for name, _ in found) != ["root", "training"]:
        raise EvidenceError(
            "the command line does not name the volumes root and training, once each"
        )
    return roots


def _arguments(events: int) -> list[str]:
    work = SCRATCH / "work"
    roots = verity_roots(Path("/proc/cmdline").read_text("ascii"))
    names = sorted(entry.name for entry in os.scandir(INPUTS / "inputs"))
    return [
        f"--tcti={TPM}",
        f"--nonce={_nonce()}",
        f"--lockfile={INPUTS / 'lock.toml'}",
        f"--events-fd={events}",
        f"--scratch={work}",
        f"--training-env={TRAINING}",
        f"--trainer-user={TRAINER}",
        *(f"--input={name}={INPUTS / 'inputs' / name}" for name in names),
        *(f"--builder={name}={root}" for name, root in roots.items()),
        *(f"--gpu={path}" for path in _gpus()),
        *(f"--{name}={value}" for name, value in limits().items()),
    ]


def _gpus() -> list[Path]:
    """Nodes of the GPUs; said where an image that is made for them finds none."""
    found = gpu.make_nodes()
    if gpu.FIRMWARE.is_dir() and not found:
        print("aicert: no GPU was found: training on the processor", file=sys.stderr)
    return found


def _nonce() -> str:
    text = (INPUTS / "nonce").read_bytes()[:66]
    if not re.fullmatch(rb"[0-9a-f]{64}\n", text):
        raise EvidenceError("the input volume holds no nonce of 32 bytes")
    return text.decode("ascii").strip()


def limits() -> dict[str, int]:
    """What the host allows the run; none of it is certified."""
    with (INPUTS / "limits.json").open("rb") as file:
        data = file.read(_MAX_LIMITS + 1)
    found = strict_json.loads(data, what="limits.json", max_bytes=_MAX_LIMITS)
    if not isinstance(found, dict) or sorted(found) != sorted(_LIMITS):
        raise EvidenceError(f"limits.json must have exactly {', '.join(_LIMITS)}")
    for name, value in found.items():
        if type(value) is not int or value < 1:
            raise EvidenceError(f"limits.json: {name} is not a positive number")
    return found


def _events_device() -> str:
    """Where progress goes. A cloud has no such port: its console is all that people see there."""
    for port in Path("/sys/class/virtio-ports").glob("*"):
        if (port / "name").read_text("ascii", "replace").strip() == EVENTS_PORT:
            return f"/dev/{port.name}"
    return CONSOLE


def _output_device() -> Path:
    for disk in sorted(Path("/sys/block").glob("vd*")):
        if (disk / "serial").read_text("ascii", "replace").strip() == OUTPUT_SERIAL:
            return Path("/dev", disk.name)
    for disk in sorted(Path("/sys/block").glob("sd*")):
        if (disk / "device").resolve().name.endswith(f":{OUTPUT_LUN}"):
            return Path("/dev", disk.name)
    raise ToolError(f"no disk is called {OUTPUT_SERIAL}, or has number {OUTPUT_LUN}")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of a TPM that never answers must not keep the machine running.
    os._exit(code)
