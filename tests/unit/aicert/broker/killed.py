"""A broker that is killed at a point of what it does, as a process: for tests of what is left.

`python -m tests.unit.aicert.broker.killed LEDGER NOW POINT WHAT TOKEN`, the body on standard input.
Points: 1 before a transaction is committed, 2 after it, 3 after the generation was written, 4 none.
"""

import os
import signal
import sqlite3
import sys
from pathlib import Path
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


def main(ledger: str, now: str, point: str, what: str, token: str) -> None:
    """Do it, and write the answer, unless killed before."""
    sqlite: Any = sqlite3
    connect = sqlite.connect
    sqlite.connect = lambda path, **more: connect(path, factory=Database, **more)
    broker = Broker(Store(Path(ledger)), enrolment_forge.policy(), keys, now=lambda: int(now))
    data = sys.stdin.buffer.read()
    Database.point = int(point)
    if int(point) == 3:
        record = generation.Held.record

        def recorded(held: generation.Held, number: int) -> None:
            record(held, number)
            die()

        held: Any = generation.Held
        held.record = recorded
    answer = broker.enrol(token, data) if what == "enrol" else broker.receipt(token, data)
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
