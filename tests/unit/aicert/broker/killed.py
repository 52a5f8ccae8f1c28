"""A broker process that is killed at a chosen point, for tests of what it leaves behind.

`python -m tests.unit.aicert.broker.killed LEDGER NOW POINT WHAT TOKEN` reads the body from standard
input. POINT is 1 before a transaction is committed, 2 after it, 3 after the generation was written,
and 4 for none; from 100 on, the process dies before line POINT - 100 of the broker's rooms. At 4 it
writes the number of lines that ran to standard error.
"""

import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from aicert.broker import generation
from aicert.broker.broker import Broker
from aicert.broker.store import Store
from tests.adversarial import enrolment_forge
from tests.unit.aicert.broker.forged import keys


def die(*_: object) -> None:
    """End the process as the kernel does, with SIGKILL: no clean-up runs."""
    os.kill(os.getpid(), signal.SIGKILL)


class Database(sqlite3.Connection):
    """A database connection that kills the process before or after a COMMIT, as `point` says."""

    point = 0

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.point == 1:
            die()
        done = super().execute(statement, *parameters)
        if statement == "COMMIT" and self.point == 2:
            die()
        return done


class Lines:
    """A tracer that counts the broker's lines as they run, and dies before the wanted one."""

    def __init__(self, wanted: int) -> None:
        self.count = 0
        self._wanted = wanted

    def called(self, frame: FrameType, event: str, _: Any) -> Any:
        """Trace the lines of a call if its code belongs to `aicert`."""
        del event
        return self._line if "/aicert/" in frame.f_code.co_filename else None

    def _line(self, _: FrameType, event: str, __: Any) -> Any:
        if event == "line":
            if self.count == self._wanted:
                die()
            self.count += 1
        return self._line


def main(ledger: str, now: str, point: str, what: str, token: str) -> None:
    """Run the action and write its answer, unless the process is killed first."""
    sqlite: Any = sqlite3
    connect = sqlite.connect
    sqlite.connect = lambda path, **more: connect(path, factory=Database, **more)
    broker = Broker(Store(Path(ledger)), enrolment_forge.policy(), keys, now=lambda: int(now))
    data = sys.stdin.buffer.read()
    Database.point = int(point)
    lines = Lines(int(point) - 100)
    if int(point) == 3:
        record = generation.GenerationFile.record

        def recorded(held: generation.GenerationFile, number: int) -> None:
            record(held, number)
            die()

        held: Any = generation.GenerationFile
        held.record = recorded
    sys.settrace(lines.called)
    answer = broker.enrol(token, data) if what == "enrol" else broker.receipt(token, data)
    sys.settrace(None)
    sys.stderr.write(str(lines.count))
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
