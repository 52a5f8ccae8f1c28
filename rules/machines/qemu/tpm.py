"""The software TPM of a qemu machine: prepared as a platform would, then handed to the firmware.

`rules.machines.swtpm` prepares the attestation key and its certificate. It runs once on a TPM of
its own, whose stored state becomes the state of the machine's TPM, and the firmware then starts
that from zero. There is no protection: whoever owns a software TPM can copy its state, and forge.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from aicert.errors import ToolError
from rules.machines.ca import Ca
from rules.machines.swtpm import make_state

CONTROL = "tpm.ctrl"
_START_S = 30.0


@contextlib.contextmanager
def machine_tpm(work: Path, ca: Ca) -> Iterator[str]:
    """Start a TPM that waits for a machine. Yields its control socket's name, relative
    to `work`.
    """
    with kept_tpm(work, work / "tpm", ca) as control:
        yield control


@contextlib.contextmanager
def kept_tpm(work: Path, state: Path, ca: Ca) -> Iterator[str]:
    """Start such a TPM with a persistent state in `state`, which is created if missing."""
    make_state(work, state, ca)
    process = _start(work, state)
    try:
        _await(process, work)
        yield CONTROL
    finally:
        process.kill()
        process.wait()


def _start(work: Path, state: Path) -> "subprocess.Popen[bytes]":
    command = ["setpriv", "--pdeathsig", "KILL", "swtpm", "socket", "--tpm2"]
    command += ["--ctrl", f"type=unixio,path={CONTROL},mode=0600"]
    # Passed in the environment, because a comma in an option would end the path.
    environment = {**os.environ, "TPM_PATH": str(state.resolve())}
    with (work / "tpm.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip


def _await(process: "subprocess.Popen[bytes]", work: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not (work / CONTROL).exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.002)
        if process.returncode is not None or time.monotonic() > deadline:
            log = (work / "tpm.log").read_text(errors="replace")[-300:]
            raise ToolError(f"the machine's software TPM did not start\n{log}".rstrip())
