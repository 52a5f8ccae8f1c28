"""Start the runner in the measured machine: one boot, one run (docs/spec/image.md).

The machine's init (image/machine/init.c) starts this program when the volumes are open, and powers
off when it ends. Everything from the host is on the input volume: `lock.toml`, `nonce`,
`limits.json` and `inputs/NAME`; dm-verity pins it, and what matters in it is measured. Only block
devices are read. Results leave as a stream on the output volume, from which nothing is read. What
the run does is decided by the runner, as on a local machine.
"""

import os
import sys
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.formats import machine_io
from enclave_runner import __main__ as runner
from enclave_runner.boot import gpu
from enclave_runner.boot.output_stream import write_stream
from enclave_runner.events import Events

INPUTS = Path("/inputs")
SCRATCH = Path("/scratch")
TRAINING = Path("/training")
COMMAND_LINE = Path("/proc/cmdline")
TPM = "device:/dev/tpmrm0"
# The user that trains. Only the runner is root.
TRAINER = 65534
CONSOLE = "/dev/console"


def main() -> int:
    """Make the run on the input volume; return 0 if a certificate was streamed out."""
    events = os.open(_events_device(), os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    # This event comes first, so that a host without it knows that no run began.
    Events(events).send(machine_io.STARTED)
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


def _arguments(events: int) -> list[str]:
    work = SCRATCH / "work"
    # The roots of the image's volumes, from the kernel command line of this machine.
    roots = machine_io.verity_roots(COMMAND_LINE.read_text("ascii"))
    inputs = INPUTS / machine_io.INPUTS
    names = sorted(entry.name for entry in os.scandir(inputs))
    return [
        f"--tcti={TPM}",
        f"--nonce={_nonce()}",
        f"--lockfile={INPUTS / machine_io.LOCKFILE}",
        f"--events-fd={events}",
        f"--scratch={work}",
        f"--training-env={TRAINING}",
        f"--tools={machine_io.TOOLS_PLACE}",
        f"--trainer-user={TRAINER}",
        *(f"--input={name}={inputs / name}" for name in names),
        *(f"--builder={name}={root}" for name, root in roots.items()),
        *(f"--gpu={path}" for path in _gpus()),
        *(f"--{name}={value}" for name, value in limits().items()),
    ]


def _gpus() -> list[Path]:
    """Make and return the GPUs' nodes; print a line if the GPU image finds none."""
    nodes = gpu.make_nodes()
    if gpu.FIRMWARE.is_dir() and not nodes:
        print("aicert: no GPU found: training on the CPU", file=sys.stderr)
    return nodes


def _nonce() -> str:
    with (INPUTS / machine_io.NONCE).open("rb") as file:
        return machine_io.parse_nonce(file.read(machine_io.MAX_NONCE))


def limits() -> dict[str, int]:
    """Return what the host lets the run use; none of it is certified."""
    with (INPUTS / machine_io.LIMITS_FILE).open("rb") as file:
        return machine_io.parse_limits(file.read(machine_io.MAX_LIMITS + 1))


def _events_device() -> str:
    """Return the device for progress: a virtio port, or the console in a cloud, which has none."""
    for port in Path("/sys/class/virtio-ports").glob("*"):
        if (port / "name").read_text("ascii", "replace").strip() == machine_io.EVENTS_PORT:
            return f"/dev/{port.name}"
    return CONSOLE


def _output_device() -> Path:
    wanted = machine_io.OUTPUT_DISK
    for disk in sorted(Path("/sys/block").glob("vd*")):
        if (disk / "serial").read_text("ascii", "replace").strip() == wanted.serial:
            return Path("/dev", disk.name)
    for disk in sorted(Path("/sys/block").glob("sd*")):
        # A SCSI disk's address is host:channel:target:LUN.
        if (disk / "device").resolve().name.endswith(f":{wanted.lun}"):
            return Path("/dev", disk.name)
    raise ToolError(f"no disk has the serial number {wanted.serial} or the LUN {wanted.lun}")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of a TPM that never answers must not keep the machine running.
    os._exit(code)
