"""The parent of the engine's sandbox: it exits when the last process in the sandbox has exited.

`python -m enclave_runner.serving.engine_process JOB`, where JOB is a JSON object. It is a process
of its own because a sandbox dies with the thread that made it, and because it polls resource use.
It stops on SIGTERM, and when its parent closes the other end of its standard input. After a SIGKILL
the kernel still ends the sandbox, a moment later.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from aicert.errors import AicertError
from aicert.frozen import dataclass
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Limits, Sandbox

_PR_SET_CHILD_SUBREAPER: Final = 36
# Longer than any lease: this limit is not meant to end serving.
_SECONDS: Final = 20 * 366 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The command to run and its sandbox. `show` maps places in the sandbox to paths outside."""

    command: list[str]
    show: Mapping[str, str]
    scratch: str
    log: str
    environment: Mapping[str, str]
    memory_bytes: int
    processes: int
    scratch_bytes: int
    user: int | None


def emit(job: Job) -> str:
    """Return the job as a command-line argument."""
    return json.dumps(asdict(job))


def main(arguments: list[str]) -> int:
    """Run the job to its end. Returns the sandbox's exit code, or 1 if there is no sandbox."""
    job = Job(**json.loads(arguments[0]))
    try:
        return _run(job)
    finally:
        _end_children()


def _run(job: Job) -> int:
    signal.signal(signal.SIGTERM, _stopped)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        ended = containment.run(
            job.command,
            Sandbox(
                read_only={place: Path(path) for place, path in job.show.items()},
                scratch=Path(job.scratch),
                environment=job.environment,
                user=job.user,
            ),
            Limits(
                seconds=_SECONDS,
                memory_bytes=job.memory_bytes,
                processes=job.processes,
                scratch_bytes=job.scratch_bytes,
            ),
            Path(job.log),
            lambda _: None,
        )
    except AicertError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(f"the engine ended: {ended.exit_code}", file=sys.stderr)
    return 1


def _stopped(number: int, frame: object) -> None:
    # The exception makes the main thread end the sandbox, and wait until nothing is left of it.
    raise SystemExit(1)


def _end_children() -> None:
    """End a sandbox that was just being started when this process was told to stop.

    Its two halves wait for each other, so one would wait for ever once the other is gone.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
            # Orphans are re-parented to this process.
            os.waitpid(child, 0)


def _end_with_parent() -> None:
    """Stop when the parent exits: nobody writes to standard input, so it ends only then."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
