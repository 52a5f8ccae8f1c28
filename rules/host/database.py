"""doit's database. It is only a cache, so no damage to it may cost an exit code.

Digests decide whether a task is up to date (rules.tasks). doit only records here that a task ran,
and that somebody told it to ignore one. A file that is not a database is created again; one that
cannot be opened, read or written (locked, read-only, removed, full disk) counts as empty.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, SqliteDB

from rules.host.progress import say

_IN_MEMORY = ":memory:"


class Database(SqliteDB):
    """doit's SQLite database, with errors tolerated."""

    def _sqlite3(self, name: str) -> Any:
        """Open the file; create it again if it is not a database."""
        for attempt in (name, name, _IN_MEMORY):
            try:
                return self._opened(attempt)
            except (sqlite3.Error, DatabaseException) as error:
                if attempt != name or not _is_damaged(Path(name)):
                    continue
                say(f"doit's database was damaged and is rebuilt: {_first_line(error)}")
                Path(name).unlink(missing_ok=True)
        return self._opened(_IN_MEMORY)

    def _opened(self, name: str) -> Any:
        connection = super()._sqlite3(name)
        connection.execute("select task_id, task_data from doit limit 1").fetchone()
        return connection

    def _get_task_data(self, task_id: str) -> Any:
        data = self._tried(lambda: super(Database, self)._get_task_data(task_id))
        return data if isinstance(data, dict) else {}

    def in_(self, task_id: str) -> bool:
        return bool(self._tried(lambda: super(Database, self).in_(task_id)))

    def dump(self) -> None:
        self._tried(super().dump)

    def remove(self, task_id: str) -> None:
        self._tried(lambda: super(Database, self).remove(task_id))

    def remove_all(self) -> None:
        self._tried(super().remove_all)

    def _tried(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except (sqlite3.Error, ValueError):
            # A value that is not JSON is damage as well.
            return None


def _is_damaged(path: Path) -> bool:
    """Whether SQLite says that the file is not a database, or an incomplete one."""
    try:
        if not path.is_file():
            return False
        connection = sqlite3.connect(path, timeout=0)
        try:
            result = connection.execute("pragma quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        # Locked, or not ours to read.
        return False
    except sqlite3.DatabaseError:
        return True
    return bool(result != ("ok",))


def _first_line(error: Exception) -> str:
    return str(error).rpartition("Original error:")[2].strip().splitlines()[0]
