"""The serving machine's way from its init to `__main__`: one boot, one lease (spec/serving.md).

The machine's init (image/machine/init.c) starts this when the volumes are open, and powers off when
it ends. The input volume has the bundle and `serve.json`; the courier talks through a port of
virtio-serial, and clients reach one port of TCP. Everything that is written lies in memory. Left
out: what serves, which is the same as for a process.
"""

import os
import sys
from pathlib import Path
from typing import Final

from aicert.errors import AicertError, ToolError
from aicert.files.bounded import read_bounded
from aicert.formats import machine_io
from aicert.lease import handed
from enclave_runner.serving import __main__ as serving
from enclave_runner.serving import network

INPUTS: Final = Path("/inputs")
MEMORY: Final = Path("/scratch")
# The volume that trained, and what its environment lacks to serve (rules/image/serving.py).
ENVIRONMENT: Final = Path("/training")
PACKAGES: Final = Path("/usr/lib/aicert-engine")
TPM: Final = "device:/dev/tpmrm0"
# Who the engine is: root here is the machine's own program alone.
ENGINE_USER: Final = 65534
_PORTS: Final = Path("/sys/class/virtio-ports")


def main() -> int:
    """Serve as the input volume asks; 0 where serving ended as it was told or licensed."""
    try:
        settings = handed.parse(
            read_bounded(INPUTS / handed.SETTINGS, machine_io.MAX_LIMITS, handed.SETTINGS)
        )
        _take_courier()
        network.bring_up(settings.address, settings.prefix)
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
            f"--bundle={INPUTS / handed.BUNDLE}",
            f"--memory={MEMORY / 'weights'}",
            f"--copies={MEMORY / 'copies'}",
            f"--scratch={scratch}",
            f"--log={MEMORY / 'engine.log'}",
            f"--environment={ENVIRONMENT}",
            f"--packages={PACKAGES}",
            f"--engine-memory={settings.memory}",
            f"--engine-user={ENGINE_USER}",
            f"--threads={settings.threads}",
            # The machine's own address, so that nothing listens where nobody was told of.
            f"--host={settings.address}",
            f"--port={settings.port}",
            f"--image={settings.image}",
        ]
    )


def _take_courier() -> None:
    """The courier's port becomes standard input and output, where a process has its courier."""
    for port in _PORTS.glob("*"):
        if (port / "name").read_text("ascii", "replace").strip() == handed.COURIER_PORT:
            descriptor = os.open(f"/dev/{port.name}", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(descriptor, 0)
            os.dup2(descriptor, 1)
            os.close(descriptor)
            return
    raise ToolError(f"the machine has no port named {handed.COURIER_PORT}")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of a TPM that never answers must not keep the machine running.
    os._exit(code)
