"""The process whose child is the engine's sandbox: it ends when the last process in there is gone.

`python -m enclave_runner.serving.engine_process JOB`, with a JSON object as JOB. A process of its
own, because a sandbox ends with the thread that made it, and polls what it uses. SIGTERM ends it,
and so does its parent's end, who holds the other end of its input. After SIGKILL the kernel ends
the sandbox, but a moment later.
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
# As long as a lease may be, and then some: what ends serving is not this limit.
_SECONDS: Final = 20 * 366 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What runs. `show`: place in the sandbox → path outside."""

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
    """For the command line."""
    return json.dumps(asdict(job))


def main(arguments: list[str]) -> int:
    """Run the job to its end: the sandbox's exit code, or 1 where there is no sandbox."""
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
    # Where the sandbox is waited for, this ends it and waits until nothing of it is left.
    raise SystemExit(1)


def _end_children() -> None:
    """What was being started when this process was told to end: a sandbox that nobody has heard of
    yet waits for its other half for ever, once that is gone.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for child in map(int, children):
            os.kill(child, signal.SIGKILL)
            # Its children are this process's then.
            os.waitpid(child, 0)


def _end_with_parent() -> None:
    """Nothing is ever written there: it ends when nobody holds it any more."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
