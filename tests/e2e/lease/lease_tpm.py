"""A borrower's software TPM: its owner's authorisation, its power switch, and tools to query it.

Unlike the platform of a run (`rules/machines/swtpm.py`) it can lose power, start again and be
restored from a copy.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tpm2_pytss as tss

from enclave_runner.attester.tpm import Tpm

# A busy computer needs seconds to start it.
STARTS_S = 60
POLL_S = 0.02


class BorrowersTpm:
    """A TPM that can be switched `on` any number of times; its state is in `folder`/state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self.folder}/tpm"

    @contextlib.contextmanager
    def on(
        self, startup: str = "startup-clear", end: int | None = tss.TPM2_SU.CLEAR
    ) -> Iterator[Tpm]:
        """Switch on until the block ends, then send TPM2_Shutdown(`end`); None cuts the power."""
        with self.powered(startup), Tpm(self.tcti) as tpm:
            yield tpm
            if end is not None:
                tpm.ask("shut down", lambda esapi: esapi.shutdown(tss.TPM2_SU(end)))

    @contextlib.contextmanager
    def powered(self, startup: str = "startup-clear") -> Iterator[None]:
        """Switch on, with no connection to it; cut the power at the end of the block."""
        for name in ("tpm", "tpm.ctrl"):
            (self.folder / name).unlink(missing_ok=True)
        process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}",
             "--flags", f"not-need-init,{startup}",
             "--server", f"type=unixio,path={self.folder}/tpm",
             "--ctrl", f"type=unixio,path={self.folder}/tpm.ctrl"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._await(process)
            self._process = process
            yield
        finally:
            self._process = None
            process.kill()
            process.wait()

    def cut(self) -> None:
        """Cut the power now, whoever is connected."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it until the block ends: commands wait for an answer, and its clock goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + STARTS_S
        for name in ("tpm", "tpm.ctrl"):
            while not connects(self.folder / name):
                assert time.monotonic() < deadline, "swtpm did not start"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
                assert process.returncode is None, "swtpm ended"

    def keep(self, name: str) -> None:
        """Copy the state to a folder `name`, while the power is off."""
        shutil.copytree(self.state, self.folder / name)

    def put_back(self, name: str) -> None:
        """Replace the state with that copy."""
        shutil.rmtree(self.state)
        shutil.copytree(self.folder / name, self.state)

    def tool(self, *words: str) -> str:
        """Return the output of a program of tpm2-tools, run in `folder`."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, "TPM2TOOLS_TCTI": self.tcti, "TSS2_LOG": "all+none"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@contextlib.contextmanager
def borrowers_tpm() -> Iterator[BorrowersTpm]:
    """Yield a factory-new TPM, in a directory whose name is short enough for its sockets."""
    with tempfile.TemporaryDirectory(prefix="aicert-tpm-") as name:
        yield BorrowersTpm(Path(name))


def trial(esapi: Any) -> Any:
    """Start a session that only computes the digest of a policy."""
    nobody = tss.ESYS_TR.NONE
    return esapi.start_auth_session(nobody, nobody, tss.TPM2_SE.TRIAL, "null", tss.TPM2_ALG.SHA256)
