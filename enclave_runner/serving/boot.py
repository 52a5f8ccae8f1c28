"""Start `__main__` in a serving machine: one boot serves one lease (docs/spec/serving.md).

The machine's init (image/machine/init.c) starts this once the volumes are open, and powers off when
it ends. The input volume holds the bundle and `serve.json`. The courier talks through a
virtio-serial port, or where `serve.json` has its key, by the one TCP port that clients reach.
Everything written is in memory. Serving itself is the same as in a process and is not here.
"""

import os
import sys
from pathlib import Path
from typing import Final

from aicert.errors import AicertError, ToolError
from aicert.files.bounded import read_bounded
from aicert.formats import machine_io
from aicert.lease import serve_settings
from enclave_runner.serving import __main__ as serving
from enclave_runner.serving import network

INPUTS: Final = Path("/inputs")
MEMORY: Final = Path("/scratch")
# The training volume, and the packages that it lacks for serving (rules/image/serving.py).
ENVIRONMENT: Final = Path("/training")
PACKAGES: Final = Path("/usr/lib/aicert-engine")
TPM: Final = "device:/dev/tpmrm0"
# The engine's user. Only the machine's own program runs as root.
ENGINE_USER: Final = 65534
_PORTS: Final = Path("/sys/class/virtio-ports")


def main() -> int:
    """Serve as the input volume says, and return the exit code of `__main__`."""
    try:
        settings = serve_settings.parse(
            read_bounded(
                INPUTS / serve_settings.SETTINGS, machine_io.MAX_LIMITS, serve_settings.SETTINGS
            )
        )
        if settings.courier is None:
            _take_courier()
        network.bring_up(settings.address, settings.prefix, settings.gateway)
        scratch = MEMORY / "engine"
        scratch.mkdir(mode=0o700)
        os.chown(scratch, ENGINE_USER, ENGINE_USER)
    except (AicertError, OSError) as error:
        message = error.message if isinstance(error, AicertError) else f"in the machine: {error}"
        print(f"error: {message}", file=sys.stderr)
        return 2
    return serving.main(
        [
            f"--tcti={TPM}",
            f"--bundle={INPUTS / serve_settings.BUNDLE}",
            f"--memory={MEMORY / 'weights'}",
            f"--copies={MEMORY / 'copies'}",
            f"--scratch={scratch}",
            f"--log={MEMORY / 'engine.log'}",
            f"--environment={ENVIRONMENT}",
            f"--packages={PACKAGES}",
            f"--engine-memory={settings.memory}",
            f"--engine-user={ENGINE_USER}",
            f"--threads={settings.threads}",
            # Listen on the machine's own address only, so that no other interface is open.
            f"--host={settings.address}",
            f"--port={settings.port}",
            f"--image={settings.image}",
            *([] if settings.courier is None else [f"--courier-key={settings.courier}"]),
        ]
    )


def _take_courier() -> None:
    """Make the courier's port standard input and output, as they are in a process."""
    for port in _PORTS.glob("*"):
        if (port / "name").read_text("ascii", "replace").strip() == serve_settings.COURIER_PORT:
            descriptor = os.open(f"/dev/{port.name}", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(descriptor, 0)
            os.dup2(descriptor, 1)
            os.close(descriptor)
            return
    raise ToolError(f"the machine has no port named {serve_settings.COURIER_PORT}")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # A thread blocked on a dead TPM must not keep the machine running.
    os._exit(code)
