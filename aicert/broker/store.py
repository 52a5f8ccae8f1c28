"""The broker's one file: leases, what may be granted of them, and every receipt, in SQLite.

Every change is one transaction, written through to the disk (WAL, synchronous FULL) before anything
is answered: a broker that is killed at any point leaves either the state before it or the state
after it. No secret is in the file: of tokens it holds the SHA-256, and of keys only where they are.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aicert.broker import machine_state as form
from aicert.broker.machine_state import MachineState
from aicert.errors import ConfigError, LockError, ToolError
from aicert.files.bounded import why
from aicert.frozen import dataclass
from aicert.lease import terms as lease_terms
from aicert.lease.terms import Terms

# By this number ("AICB"), the command `file` recognises such a file.
APPLICATION: Final = 0x41494342
VERSION: Final = 1
_BUSY_S: Final = 30
_SCHEMA: Final = f"""
CREATE TABLE leases (
  lease TEXT PRIMARY KEY, terms BLOB NOT NULL, folder TEXT NOT NULL,
  generation INTEGER NOT NULL, revoked_at INTEGER
) STRICT;
CREATE TABLE grants (
  number INTEGER PRIMARY KEY AUTOINCREMENT, lease TEXT NOT NULL REFERENCES leases (lease),
  borrower TEXT NOT NULL, token BLOB NOT NULL UNIQUE, ticks INTEGER NOT NULL,
  advance INTEGER NOT NULL, until INTEGER NOT NULL, granted_at INTEGER NOT NULL,
  closed_at INTEGER, challenge BLOB, enrolment BLOB, enrolled_at INTEGER, blob BLOB, seen BLOB,
  refusal TEXT, refused_at INTEGER
) STRICT;
CREATE TABLE receipts (
  grant_number INTEGER NOT NULL REFERENCES grants (number), place INTEGER NOT NULL,
  at INTEGER NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
  requests INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (grant_number, place)
) STRICT;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease that may be granted. `folder`: where its bundle is, with the keys beside it."""

    terms: Terms
    folder: Path
    generation: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A grant: how much one borrower may use, on one machine.

    `ticks`: of the meter, in total. `advance`: how many ticks a licence runs ahead of the last
    receipt. `until`: seconds since 1970. `closed_at`: when the custodian ended the grant.
    `challenge` to `seen`: None until there is one.
    """

    number: int
    lease: str
    borrower: str
    ticks: int
    advance: int
    until: int
    granted_at: int
    closed_at: int | None = None
    challenge: bytes | None = None
    enrolment: bytes | None = None
    enrolled_at: int | None = None
    blob: bytes | None = None
    seen: bytes | None = None
    refusal: str | None = None
    refused_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReceipt:
    """A receipt's bytes, when it came, and the totals served by then."""

    place: int
    at: int
    tokens_in: int
    tokens_out: int
    requests: int
    data: bytes


_GRANT: Final = (
    "number", "lease", "borrower", "ticks", "advance", "until", "granted_at", "closed_at",
    "challenge", "enrolment", "enrolled_at", "blob", "seen", "refusal", "refused_at",
)  # fmt: skip
_CHANGES: Final = frozenset(_GRANT[7:])


class Store:
    """An open ledger file. One thread at a time works with it; others wait."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.is_file():
            hint = "aicert lease grant LEASE --budget 5M --until 30d --borrower NAME"
            raise ConfigError(f"there is no ledger at {str(path)!a}", hint=hint)
        self._path = path
        self._lock = threading.Lock()
        try:
            # SQLite gives the files beside the ledger the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ToolError(f"cannot open ledger {str(path)!a}: {why(error)}") from None
        with self._failing():
            self._db = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._set_up()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file, which is complete even without this."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self, *, reads: bool = False) -> Iterator["Rows"]:
        """Open a transaction: all that happens inside takes effect, or nothing does.

        A transaction that only `reads` sees the ledger as it was when it began, and does not make a
        broker wait.
        """
        with self._lock, self._failing():
            self._db.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
            try:
                yield Rows(self._db)
                self._db.execute("COMMIT")
            finally:
                # Roll back whatever went wrong, even a full disk at the end.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _set_up(self) -> None:
        one = self._db.execute
        one("PRAGMA trusted_schema = OFF")
        # Check before anything is written, so that a file that is not a ledger stays as it is.
        one("BEGIN")
        self._is_empty()
        one("COMMIT")
        one("PRAGMA journal_mode = WAL")
        one("PRAGMA synchronous = FULL")
        one("PRAGMA foreign_keys = ON")
        one("BEGIN IMMEDIATE")
        if self._is_empty():
            for statement in _SCHEMA.split(";"):
                one(statement)
        one("COMMIT")

    def _is_empty(self) -> bool:
        """Return whether the file must still be set up.

        Raises ConfigError if it is neither empty nor a ledger.
        """
        one = self._db.execute
        kind = (*one("PRAGMA application_id").fetchone(), *one("PRAGMA user_version").fetchone())
        if kind == (APPLICATION, VERSION):
            return False
        if kind != (0, 0) or one("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
            raise ConfigError(
                f"{str(self._path)!a} is not a ledger of this version",
                hint="name the file that `aicert lease grant --ledger` wrote, or a new one",
            )
        return True

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # SQLite's message names tables and files, but never a value.
            raise ToolError(f"the ledger {str(self._path)!a} fails: {error}") from None


class Rows:
    """The rows of the ledger, inside a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def lease(self, lease: str) -> Lease | None:
        """Return the lease with this id, None if there is none."""
        row = self._db.execute(
            "SELECT terms, folder, generation, revoked_at FROM leases WHERE lease = ?", (lease,)
        ).fetchone()
        if row is None:
            return None
        data, folder, generation, revoked_at = row
        try:
            terms = lease_terms.parse(data)
        except LockError as error:
            raise ToolError(f"the ledger is damaged: {error.message}") from None
        return Lease(
            terms=terms,
            folder=Path(folder),
            generation=generation,
            revoked_at=revoked_at,
        )

    def leases(self) -> list[Lease]:
        """Return every lease."""
        names = self._db.execute("SELECT lease FROM leases ORDER BY lease").fetchall()
        every = (self.lease(name) for (name,) in names)
        return [lease for lease in every if lease is not None]

    def add_lease(self, terms: Terms, folder: Path) -> None:
        """Add a lease that has not been granted yet."""
        self._db.execute(
            "INSERT INTO leases VALUES (?, ?, ?, 0, NULL)",
            (terms.lease, lease_terms.emit(terms), os.fspath(folder)),
        )

    def move_lease(self, lease: str, folder: Path) -> None:
        """Record that the lease's bundle is now at `folder`."""
        self._db.execute("UPDATE leases SET folder = ? WHERE lease = ?", (os.fspath(folder), lease))

    def revoke(self, lease: str, at: int) -> None:
        """Record that the lease is over for everybody, for good."""
        self._db.execute(
            "UPDATE leases SET revoked_at = coalesce(revoked_at, ?) WHERE lease = ?", (at, lease)
        )

    def raise_generation(self, lease: str, least: int = 0) -> int:
        """Raise the lease's generation to the next number above `least`, and return it."""
        self._db.execute(
            "UPDATE leases SET generation = max(generation, ?) + 1 WHERE lease = ?", (least, lease)
        )
        (number,) = self._db.execute(
            "SELECT generation FROM leases WHERE lease = ?", (lease,)
        ).fetchone()
        return int(number)

    def add_grant(self, token: bytes, **values: Any) -> int:
        """Add a grant and return its number.

        `token`: the SHA-256 of the token that the borrower got.
        """
        names = ", ".join(("token", *values))
        marks = ", ".join("?" * (len(values) + 1))
        done = self._db.execute(
            f"INSERT INTO grants ({names}) VALUES ({marks})",  # noqa: S608 - our own names
            (token, *values.values()),
        )
        return int(done.lastrowid or 0)

    def grant_of(self, token: bytes) -> Grant | None:
        """Return the grant of a token, by its SHA-256; None if there is none."""
        return next(iter(self._grants("token = ?", token)), None)

    def grants(self, lease: str) -> list[Grant]:
        """Return every grant of a lease, in the order in which they were made."""
        return self._grants("lease = ?", lease)

    def _grants(self, which: str, value: object) -> list[Grant]:
        listed = self._db.execute(
            f"SELECT {', '.join(_GRANT)} FROM grants WHERE {which} ORDER BY number",  # noqa: S608
            (value,),
        )
        return [Grant(**dict(zip(_GRANT, row, strict=True))) for row in listed]

    def change(self, number: int, **values: Any) -> None:
        """Change some columns of a grant."""
        if unknown := values.keys() - _CHANGES:
            raise ValueError(f"no column of a grant that changes: {unknown}")
        names = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(
            f"UPDATE grants SET {names} WHERE number = ?",  # noqa: S608 - our own names
            (*values.values(), number),
        )

    def put_seen(self, number: int, seen: MachineState) -> None:
        """Record what was seen of the machine of a grant."""
        self.change(number, seen=form.emit(seen))

    def newest(self) -> int:
        """Return the time of the ledger's newest entry, by the clock at that time; 0 if it has
        none.
        """
        (at,) = self._db.execute(
            "SELECT max(max(granted_at, coalesce(enrolled_at, 0), coalesce((SELECT at FROM receipts"
            " WHERE grant_number = number ORDER BY place DESC LIMIT 1), 0))) FROM grants"
        ).fetchone()
        return at or 0

    def keep(self, number: int, at: int, data: bytes, seen: MachineState) -> None:
        """Add a receipt from the grant's machine."""
        total = seen.ledger.total
        self._db.execute(
            "INSERT INTO receipts SELECT ?, coalesce(max(place), 0) + 1, ?, ?, ?, ?, ?"
            " FROM receipts WHERE grant_number = ?",
            (number, at, total.tokens_in, total.tokens_out, total.requests, data, number),
        )

    def receipts(self, number: int) -> Iterator[StoredReceipt]:
        """Yield the receipts of a grant's machine, in the order in which they came."""
        listed = self._db.execute(
            "SELECT place, at, tokens_in, tokens_out, requests, data FROM receipts"
            " WHERE grant_number = ? ORDER BY place",
            (number,),
        )
        for place, at, tokens_in, tokens_out, requests, data in listed:
            yield StoredReceipt(
                place=place, at=at, tokens_in=tokens_in, tokens_out=tokens_out,
                requests=requests, data=data,
            )  # fmt: skip
