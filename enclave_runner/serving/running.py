"""Start the engine in its sandbox, give it a model, and end it at once.

An engine is a command that serves the OpenAI routes on a loopback port and reports `usage`. It sees
the model's files, a Python environment and a scratch folder. It has no TPM, no network and no
access to the runner's memory. It is started before there is a model, and imports what it needs
while the machine gets its licence: importing is most of what it does before it serves. `kill`
returns after the engine's process and its whole sandbox are gone.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aicert.errors import ToolError
from aicert.frozen import dataclass, replace
from enclave_runner.sandbox.interpreter import PYTHON, interpreter
from enclave_runner.sandbox.places import PLUGIN, SCRATCH
from enclave_runner.serving import engine_process
from enclave_runner.serving.engine import SOCKET, Engine
from enclave_runner.serving.engine_process import Job

# The path of the model in the engine's sandbox, in a folder that is empty until the model is given,
# and the loopback port that the engine listens on in its own network.
_GIVEN: Final = "/aicert/given"
MODEL: Final = f"{_GIVEN}/model"
PORT: Final = 8000
_BRIDGE: Final = f"{PLUGIN}/bridge.py"
_START: Final = f"{PLUGIN}/engine_start.py"
_POLL_S: Final = 0.05
# How long loading may take: a hundred gigabytes from memory on a slow machine.
_LOADS_S: Final = 1800.0
# Exit takes milliseconds. If the process hangs, the kernel ends the sandbox.
_ENDS_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The settings with which the engine runs.

    `command`: the arguments for the environment's Python. `packages`: folders of extra packages.
    `show`: what else the engine sees, as pairs of place and path.
    """

    environment: Path
    command: tuple[str, ...]
    scratch: Path
    log: Path
    memory_bytes: int
    processes: int = 256
    scratch_bytes: int = 1 << 30
    threads: int = 1
    user: int | None = None
    packages: tuple[Path, ...] = ()
    show: tuple[tuple[str, Path], ...] = ()


def transformers(settings: EngineSettings) -> EngineSettings:
    """`transformers serve`, which loads safetensors without conversion."""
    start = Path(__file__).with_name("engine_start.py")
    return replace(
        settings,
        command=("-P", _START, MODEL, str(PORT)),
        show=(*settings.show, (_START, start)),
    )


class Running:
    """An engine that has been started; `engine` is the client for it."""

    model: str = MODEL

    def __init__(self, settings: EngineSettings, given: Path) -> None:
        """Start it. `given`: an empty folder, in which the engine will find the model."""
        settings.scratch.mkdir(exist_ok=True)
        self._given = given
        self.engine = Engine(settings.scratch)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "enclave_runner.serving.engine_process",
                engine_process.emit(_job(settings, given)),
            ],
            # The pipe is open as long as this process lives; when it closes, the engine's process
            # ends.
            stdin=subprocess.PIPE,
            # Standard output belongs to the courier.
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )

    def give(self, files: Mapping[str, Path]) -> "Running":
        """Show the engine these files, by name in the model, and return it.

        They are linked, so memory holds each of them once. The engine never sees only some of them.
        """
        new = self._given / "new"
        for name, path in files.items():
            place = new / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.hardlink_to(path)
        new.rename(self._given / os.path.basename(MODEL))
        return self

    def await_ready(self, *, seconds: float = _LOADS_S) -> None:
        """Wait until the engine answers. Raises ToolError if it exits or takes too long."""
        until = time.monotonic() + seconds
        while not self.engine.is_there():
            if not self.is_alive():
                raise ToolError("the engine exited before it was ready")
            if time.monotonic() > until:
                raise ToolError(f"the engine was not ready within {seconds:.0f} s")
            time.sleep(_POLL_S)

    def is_alive(self) -> bool:
        """Return whether the engine still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the engine, whatever it is doing. Further calls do nothing."""
        # Both calls do nothing if the process has exited and was waited for.
        self._process.terminate()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def _job(settings: EngineSettings, given: Path) -> Job:
    show = {
        **interpreter(settings.environment),
        _GIVEN: given,
        _BRIDGE: Path(__file__).with_name("bridge.py"),
        **{os.fspath(path): path for path in settings.packages},
        **dict(settings.show),
    }
    return Job(
        command=_command(settings.command),
        show={place: os.fspath(path) for place, path in show.items()},
        scratch=os.fspath(settings.scratch),
        log=os.fspath(settings.log),
        environment=_environment(settings),
        memory_bytes=settings.memory_bytes,
        processes=settings.processes,
        scratch_bytes=settings.scratch_bytes,
        user=settings.user,
    )


def _command(command: Sequence[str]) -> list[str]:
    return [
        PYTHON, "-P", _BRIDGE, f"{SCRATCH}/{SOCKET}", str(PORT), "--", PYTHON, *command,
    ]  # fmt: skip


def _environment(settings: EngineSettings) -> dict[str, str]:
    # No host settings, no look-ups, and one thread count for every library.
    threads = settings.threads
    return {
        "HF_HOME": f"{SCRATCH}/hf",
        "HF_HUB_OFFLINE": "1",
        "HOME": SCRATCH,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": ":".join(map(os.fspath, settings.packages)),
        "TMPDIR": SCRATCH,
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_OFFLINE": "1",
    }
