"""A broker that is killed at a point of what it does, as a process: for tests of what is left.

`python -m tests.unit.aicert.broker.killed LEDGER NOW POINT WHAT TOKEN`, the body on standard input.
Points: 1 before a transaction is committed, 2 after it, 3 after the generation was written, 4 none;
from 100 on, before so many lines of the broker's rooms ran, less a hundred. At 4, how many lines
there were is on standard error.
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
    """As the kernel ends a process: nothing more is done."""
    os.kill(os.getpid(), signal.SIGKILL)


class Database(sqlite3.Connection):
    """A connection that ends the process around a COMMIT, once it is armed."""

    point = 0

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.point == 1:
            die()
        done = super().execute(statement, *parameters)
        if statement == "COMMIT" and self.point == 2:
            die()
        return done


class Lines:
    """Counts lines that run of what a broker is, and dies before the one that is wanted."""

    def __init__(self, wanted: int) -> None:
        self.count = 0
        self._wanted = wanted

    def called(self, frame: FrameType, event: str, _: Any) -> Any:
        """For each call: whether its lines count."""
        del event
        return self._line if "/aicert/" in frame.f_code.co_filename else None

    def _line(self, _: FrameType, event: str, __: Any) -> Any:
        if event == "line":
            if self.count == self._wanted:
                die()
            self.count += 1
        return self._line


def main(ledger: str, now: str, point: str, what: str, token: str) -> None:
    """Do it, and write the answer, unless killed before."""
    sqlite: Any = sqlite3
    connect = sqlite.connect
    sqlite.connect = lambda path, **more: connect(path, factory=Database, **more)
    broker = Broker(Store(Path(ledger)), enrolment_forge.policy(), keys, now=lambda: int(now))
    data = sys.stdin.buffer.read()
    Database.point = int(point)
    lines = Lines(int(point) - 100)
    if int(point) == 3:
        record = generation.Held.record

        def recorded(held: generation.Held, number: int) -> None:
            record(held, number)
            die()

        held: Any = generation.Held
        held.record = recorded
    sys.settrace(lines.called)
    answer = broker.enrol(token, data) if what == "enrol" else broker.receipt(token, data)
    sys.settrace(None)
    sys.stderr.write(str(lines.count))
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
