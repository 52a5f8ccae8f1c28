"""Grants, revocations, and ledgers that are older than the answers they gave."""

import fcntl
import itertools
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from aicert.broker import custodian, generation
from aicert.broker.custodian import Granted, GrantRequest
from aicert.broker.errors import StaleLedgerError
from aicert.broker.store import Store
from aicert.errors import ConfigError, ToolError
from aicert.frozen import replace
from aicert.lease import terms
from aicert.lease.checks import RefusedError
from aicert.lease.orders import GRANT, REVOKE
from aicert.lease.terms import TPM_ALONE
from tests.unit.aicert.broker.forged import AHEAD, HEARTBEAT, TERMS, Bench, keys


def granted(bench: Bench, **more: int | str | None) -> Granted:
    given = {"borrower": "acme", "budget": 5_000_000, "duration": 60, **more}
    wanted = GrantRequest(**given)  # type: ignore[arg-type]
    return custodian.grant(bench.store, bench.bundle, keys, wanted, now=bench.now)


def test_a_grant_is_written_down_and_its_token_is_not(bench: Bench) -> None:
    given = granted(bench)
    assert (given.ticks, given.advance, given.until) == (5000, 1000, bench.now + 60)
    assert granted(bench, budget=50_000_000).advance == 5000
    assert granted(bench, budget=10_000, advance=4_999).advance == 4
    assert granted(bench, advance=10**9).advance == 5000
    assert given.token not in repr(given)
    data = bench.ledger.read_bytes() + Path(f"{bench.ledger}-wal").read_bytes()
    assert b"acme" in data
    assert given.token.encode() not in data
    assert bytes.fromhex(given.token) not in data
    for path in (bench.ledger, Path(f"{bench.ledger}-wal"), generation.path_of(bench.bundle)):
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_granted(bench: Bench) -> None:
    for budget, advance in ((999, None), (5000, 999)):
        with pytest.raises(ConfigError, match="less than one tick of 1000 tokens"):
            granted(bench, budget=budget, advance=advance)
    for name in ("", "x" * 201):
        with pytest.raises(ConfigError, match="a borrower's name"):
            granted(bench, borrower=name)
    granted(bench)
    path = bench.bundle / "terms.toml"
    path.write_bytes(terms.emit(replace(TERMS, tick_tokens=500)))
    with pytest.raises(ConfigError, match="with different terms"):
        granted(bench)
    path.write_bytes(terms.emit(replace(TERMS, key=TPM_ALONE)))
    with pytest.raises(ConfigError, match="run offline") as offline:
        granted(bench)
    assert offline.value.hint == "aicert lease issue ENROLMENT --offline"
    path.write_bytes(terms.emit(replace(TERMS, custodian="00" * 32)))
    with pytest.raises(ConfigError, match="the keys and the terms are for different leases"):
        granted(bench)


def test_a_revocation_is_for_good(bench: Bench) -> None:
    granted(bench)
    granted(bench, borrower="other")
    with pytest.raises(ConfigError, match="nothing was granted to this borrower"):
        custodian.revoke(bench.store, bench.bundle, now=bench.now, borrower="nobody")
    assert custodian.revoke(bench.store, bench.bundle, now=bench.now, borrower="other") == 1
    # The other grant has ended already.
    assert custodian.revoke(bench.store, bench.bundle, now=bench.now) == 1
    assert custodian.revoke(bench.store, bench.bundle, now=bench.now) == 0
    with pytest.raises(ConfigError, match="the lease is revoked"):
        granted(bench)


def test_one_borrower_is_revoked_and_another_serves_on(bench: Bench) -> None:
    mine = bench.machine(bench.grant(borrower="mine"))
    other = bench.machine(bench.grant(borrower="other"))
    custodian.revoke(bench.store, bench.bundle, now=bench.now, borrower="other")
    assert (mine.beat().kind, other.beat().kind) == (GRANT, REVOKE)


def test_a_bundle_that_moved_is_granted_from_where_it_lies(bench: Bench) -> None:
    token = bench.grant()
    bench.bundle = bench.bundle.rename(bench.folder / "moved")
    for suffix in (".keys", ".generation"):
        (bench.folder / f"bot{suffix}").rename(bench.folder / f"moved{suffix}")
    with pytest.raises(StaleLedgerError, match="is missing"):
        bench.broker.challenge(token)
    bench.grant()
    assert bench.machine(token).beat().kind == GRANT


# --- Row 40: a ledger that was restored from a backup. Row 35: two brokers.


def backup(bench: Bench) -> Path:
    kept = bench.folder / "backup.db"
    with sqlite3.connect(bench.ledger) as source, sqlite3.connect(kept) as copy:
        source.backup(copy)
    source.close()
    copy.close()
    return kept


def restore(bench: Bench, kept: Path) -> None:
    bench.store.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{bench.ledger}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(kept, bench.ledger)
    bench.store = bench.opened()
    bench.broker = bench.started()


def test_an_older_ledger_gives_nothing_until_its_custodian_says_so(bench: Bench) -> None:
    machine = bench.machine()
    unused = bench.grant()
    machine.beat()
    kept = backup(bench)
    machine.serve(5000)
    machine.beat()
    restore(bench, kept)
    for ask in (machine.ask, lambda: bench.broker.challenge(unused), bench.grant):
        with pytest.raises(StaleLedgerError, match="the ledger is older") as stale:
            ask()
    assert stale.value.hint == "aicert lease resume LEASE --ledger FILE"
    # It can revoke, and the ledger still counts as an older one.
    custodian.revoke(bench.store, bench.bundle, now=bench.now, borrower="acme")
    with pytest.raises(StaleLedgerError):
        machine.ask()
    assert custodian.resume(bench.store, bench.bundle, now=bench.now) == 0
    # A grant that the ledger forgot is not given again, to the machine or to the token.
    with pytest.raises(RefusedError, match=r"^ledger\.successor"):
        machine.beat()
    with pytest.raises(RefusedError, match=r"^ledger\.state"):
        bench.broker.challenge(unused)
    bench.now += AHEAD
    again = bench.machine()
    assert again.beat().generation > 8


def test_a_ledger_whose_generations_were_lost_gives_nothing_either(bench: Bench) -> None:
    """A new disk has ledger and keys from the backup, which holds no generations.

    Only `resume` writes a generation file from what that ledger knows.
    """
    machine = bench.machine()
    machine.beat()
    kept = backup(bench)
    machine.serve(5000)
    machine.beat()
    restore(bench, kept)
    generation.path_of(bench.bundle).unlink()
    assert custodian.revoke(bench.store, bench.bundle, now=bench.now, borrower="acme") == 1
    for ask in (machine.ask, lambda: bench.grant(borrower="other")):
        with pytest.raises(StaleLedgerError, match="is missing"):
            ask()
    assert not generation.path_of(bench.bundle).exists()
    # The revocation is in the resumed ledger.
    assert custodian.resume(bench.store, bench.bundle, now=bench.now) == 0
    bench.grant(borrower="other")


def test_a_copy_of_a_bundle_makes_no_older_ledger_a_newer_one(bench: Bench) -> None:
    """The broker reads the generations beside the bundle that it uses."""
    machine = bench.machine()
    machine.beat()
    kept = backup(bench)
    for _ in range(2):
        machine.serve(1000)
        machine.beat()
    restore(bench, kept)
    copy = bench.folder / "copy"
    shutil.copytree(bench.bundle, copy)
    for _ in range(4):
        custodian.revoke(bench.store, copy, now=bench.now)
    with pytest.raises(StaleLedgerError, match="the ledger is older"):
        machine.ask()


def test_resuming_ends_what_was_open(bench: Bench) -> None:
    machine = bench.machine()
    machine.beat()
    assert custodian.resume(bench.store, bench.bundle, now=bench.now) == 1
    assert machine.beat().kind == REVOKE


def test_a_new_ledger_for_an_old_lease_is_an_older_one(bench: Bench) -> None:
    bench.machine().beat()
    other = Store(bench.folder / "other.db", create=True)
    with pytest.raises(StaleLedgerError):
        custodian.grant(
            other, bench.bundle, keys, GrantRequest(borrower="x", budget=1000, duration=60),
            now=bench.now,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="the ledger has no such lease"):
        custodian.revoke(other, bench.bundle, now=bench.now)
    assert custodian.resume(other, bench.bundle, now=bench.now) == 0
    custodian.grant(
        other,
        bench.bundle,
        keys,
        GrantRequest(borrower="x", budget=1000, duration=60),
        now=bench.now,
    )
    # Now the first ledger is stale.
    with pytest.raises(StaleLedgerError):
        bench.grant()
    other.close()


def test_two_brokers_on_one_ledger_are_one(bench: Bench) -> None:
    machine = bench.machine()
    first = bench.broker
    bench.store = bench.opened()
    second = bench.started()
    data = machine.sign(first.nonce(machine.token, machine.boot).nonce)
    answer = second.receipt(machine.token, data)
    assert first.receipt(machine.token, data) == answer
    order = machine.accepted(answer, data)
    bench.now += HEARTBEAT
    data = machine.sign(second.nonce(machine.token, machine.boot).nonce)
    later = machine.accepted(first.receipt(machine.token, data), data)
    assert later.generation > order.generation


def test_generations_only_rise(tmp_path: Path) -> None:
    folder = tmp_path / "bot"
    with pytest.raises(StaleLedgerError, match="is missing"):
        with generation.held(folder):
            pass
    for number, after in ((0, 0), (5, 5), (3, 5)):
        with generation.held(folder, create=True) as held:
            held.record(number)
            assert held.number == after
    with generation.held(folder) as held:
        held.check(5)
        with pytest.raises(StaleLedgerError, match="the ledger is older"):
            held.check(4)
    # Nothing else is left in that folder.
    path = generation.path_of(folder)
    assert list(tmp_path.iterdir()) == [path]
    # An empty file is damaged too: it would let the oldest ledger grant everything again.
    for damaged in (b"", b"5\n", b"x" * 21, b"0" * 22):
        path.write_bytes(damaged)
        with generation.held(folder, create=True) as held:
            for use in (held.check, held.record):
                with pytest.raises(StaleLedgerError, match="is damaged: delete it before"):
                    use(1)
    path.unlink()
    path.mkdir()
    with pytest.raises(ToolError, match="cannot use"):
        with generation.held(folder):
            pass


@pytest.mark.parametrize("name", ["pread", "pwrite"])
def test_a_file_of_generations_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with generation.held(tmp_path / "bot", create=True) as held:
        monkeypatch.setattr(os, name, fails)
        with pytest.raises(ToolError, match="Input/output error"):
            held.record(1)


def test_a_file_of_generations_that_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(ToolError, match="No locks available"):
        with generation.held(tmp_path / "bot", create=True):
            pass


def test_the_file_is_locked_from_the_look_at_it_to_the_new_number(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two copies of a ledger, asked at once, would both answer."""
    steps: list[tuple[str, generation.GenerationFile]] = []

    def is_locked() -> bool:
        with generation.path_of(bench.bundle).open("rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def watched(name: str) -> None:
        step = getattr(generation.GenerationFile, name)

        def watching(held: generation.GenerationFile, number: int) -> None:
            assert is_locked()
            steps.append((name, held))
            step(held, number)

        monkeypatch.setattr(generation.GenerationFile, name, watching)

    watched("check")
    watched("record")
    machine = bench.machine()
    for give in (
        machine.beat,
        lambda: custodian.revoke(bench.store, bench.bundle, now=bench.now),
        lambda: custodian.resume(bench.store, bench.bundle, now=bench.now),
    ):
        give()
        assert steps[-1][0] == "record"
        assert not is_locked()
    # Each check read the file that was then written, under one lock.
    for (before, looked), (after, wrote) in itertools.pairwise(steps):
        if before == "check":
            assert (after, looked is wrote) == ("record", True)


def test_a_disk_that_is_full_when_the_generation_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has the receipt but sent no answer: the same receipt gets its answer later."""
    machine = bench.machine()
    data = machine.sign(machine.ask())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        with pytest.raises(ToolError, match="No space left"):
            bench.broker.receipt(machine.token, data)
    assert machine.accepted(bench.broker.receipt(machine.token, data), data).kind == GRANT


# --- The file.


def test_what_only_reads_lets_no_broker_wait(bench: Bench) -> None:
    """`status` of a year's receipts takes time, and a machine's deadline does not wait for it."""
    machine = bench.machine()
    machine.beat()
    other = Store(bench.ledger)
    with other.transaction(reads=True) as rows:
        (grant,) = rows.grants(TERMS.lease)
        before = len(list(rows.receipts(grant.number)))
        assert machine.beat().kind == GRANT
        # It also sees the ledger as it was when it began.
        assert len(list(rows.receipts(grant.number))) == before == 1
    with other.transaction() as rows:
        assert [kept.place for kept in rows.receipts(grant.number)] == [1, 2]
    other.close()


def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no ledger") as absent:
        Store(tmp_path / "none.db")
    assert absent.value.hint is not None
    (tmp_path / "text").write_text("not a database, and longer than its header would be\n" * 9)
    with pytest.raises(ToolError, match="file is not a database"):
        Store(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE x (y)")
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(ConfigError, match="is not a ledger of this version"):
        Store(tmp_path / "other.db")
    # Not even the journal of the ledger changed.
    assert (tmp_path / "other.db").read_bytes() == before
    with pytest.raises(ToolError, match="cannot open ledger"):
        Store(tmp_path / "nowhere/ledger.db", create=True)


def test_a_ledger_with_other_terms_than_it_had(bench: Bench) -> None:
    token = bench.grant()
    with bench.store.transaction() as rows:
        rows._db.execute("UPDATE leases SET terms = ?", (b"x",))
    with pytest.raises(ToolError, match="the ledger is damaged"):
        bench.broker.challenge(token)


def test_only_columns_that_change_are_changed(bench: Bench) -> None:
    bench.grant()
    with bench.store.transaction() as rows, pytest.raises(ValueError, match="no column"):
        rows.change(1, budget=5)
