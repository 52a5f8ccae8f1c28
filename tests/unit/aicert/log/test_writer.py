"""A log has one writer at a time, and wherever a writer is killed the log stays whole."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.log import check, durable, keys, writer
from aicert.log.errors import BrokenLogError
from aicert.tlog.checkpoints import Checkpoint
from aicert.tlog.notes import COSIGNATURE, ED25519
from tests.unit.aicert.log.logs import ORIGIN, Bench

ROOT = Path(__file__).resolve().parents[4]


def test_what_is_logged_twice_is_one_entry(bench: Bench) -> None:
    assert bench.append(b"a", b"b", b"a").indices == (0, 1, 0)
    again = bench.append(b"b", b"c")
    assert (again.indices, again.added, again.checkpoint.size) == ((1, 2), 1, 3)
    assert bench.append(b"a").added == 0
    assert check.check(bench.folder, bench.key).checkpoint.size == 3


def test_old_parts_of_a_tile_go_once_it_is_full(bench: Bench) -> None:
    for count in (1, 2, 252, 1):
        bench.grow(count)
    parts = sorted(str(path.relative_to(bench.folder)) for path in bench.folder.rglob("*.p"))
    assert parts == ["tile/1/000.p"]
    mine = bench.part("tile/0/001.p/mine")
    mine.parent.mkdir()
    mine.write_bytes(b"of somebody else")
    bench.grow(256)
    assert mine.read_bytes() == b"of somebody else"


def run(bench: Bench, point: int, count: int) -> int:
    first = len(bench.entries)
    words = ["-m", "tests.unit.aicert.log.killed", str(bench.folder), str(bench.key_file)]
    numbers = [str(number) for number in (point, first, count)]
    done = subprocess.run([sys.executable, *words, *numbers], cwd=ROOT, capture_output=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def test_wherever_an_append_is_killed_the_log_is_whole(bench: Bench) -> None:
    bench.grow(200)
    before = check.check(bench.folder, bench.key).checkpoint
    point, outcomes = 0, []
    while run(bench, point, 100):
        here = check.check(bench.folder, bench.key).checkpoint
        assert here == before or here.size == 300
        outcomes.append(here.size)
        # Another append continues, with other entries: there is no fork.
        bench.entries = [b"entry %d" % index for index in range(here.size)]
        appended = bench.append(b"after %d" % point)
        # A signed checkpoint counts as logged, although the folder did not show it yet.
        assert appended.checkpoint.size in (here.size + 1, here.size + 101)
        older = bench.part("older")
        older.write_bytes(bench.part("checkpoint").read_bytes())
        check.check(bench.folder, bench.key, against=older)
        # Restore the log for the next point.
        for path in sorted(bench.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        bench.folder.rmdir()
        bench.key_file.unlink()
        bench.key_file.with_name("log.key.last").unlink()
        bench.__init__(bench.folder.parent)  # type: ignore[misc]
        bench.grow(200)
        before = check.check(bench.folder, bench.key).checkpoint
        point += 1
    assert outcomes[0] == 200
    assert outcomes[-1] == 300
    assert len(outcomes) >= 14


def test_two_appends_at_once_are_one_after_the_other(bench: Bench) -> None:
    threads = [
        threading.Thread(target=writer.append, args=(bench.folder, bench.key_file, [name]))
        for name in (b"one", b"two", b"three")
    ]
    with durable.alone(bench.folder):
        for thread in threads:
            thread.start()
        assert bench.part("checkpoint").read_text().split("\n")[1] == "0"
    for thread in threads:
        thread.join()
    assert check.check(bench.folder, bench.key).checkpoint.size == 3


def test_copies_of_a_folder_do_not_sign_a_fork_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.grow(3)
    twin = bench.folder.with_name("twin")
    shutil.copytree(bench.folder, twin)
    refused: list[BrokenLogError] = []

    def append() -> None:
        try:
            writer.append(twin, bench.key_file, [b"another"])
        except BrokenLogError as error:
            refused.append(error)

    thread, signing = threading.Thread(target=append), writer._publish

    def publish(*arguments: Any) -> None:
        if not thread.ident:
            thread.start()
            # If the thread does not wait, it ends before this one signs.
            thread.join(0.2)
        signing(*arguments)

    monkeypatch.setattr(writer, "_publish", publish)
    bench.append(b"one")
    thread.join()
    assert "would be a fork" in refused[0].message


def test_a_folder_from_a_backup_is_not_appended_to(bench: Bench) -> None:
    bench.grow(3)
    old = {path: path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()}
    bench.grow(2)
    for path in list(bench.folder.rglob("*")):
        if path.is_file() and path not in old:
            path.unlink()
    for path, data in old.items():
        path.write_bytes(data)
    with pytest.raises(BrokenLogError, match="would be a fork"):
        bench.append(b"another")
    # In a folder with all tiles only the checkpoint is older: the signed entries are still there.


def test_an_older_checkpoint_over_newer_tiles_is_brought_up(bench: Bench) -> None:
    bench.grow(3)
    old = bench.part("checkpoint").read_bytes()
    bench.grow(2)
    bench.part("checkpoint").write_bytes(old)
    assert bench.append(b"more").checkpoint.size == 6


def signed(bench: Bench, checkpoint: Checkpoint) -> bytes:
    from aicert.tlog.notes import signature_line

    text = checkpoint.text()
    return text + b"\n" + signature_line(bench.key, bench.private.sign(text))


@pytest.mark.parametrize(("size", "root"), [(5, 1), (6, 1), (4, 1)])
def test_a_checkpoint_that_its_key_did_not_sign_last_is_refused(
    bench: Bench, size: int, root: int
) -> None:
    bench.grow(5)
    other = Checkpoint(origin=ORIGIN, size=size, root=bytes([root] * 32))
    bench.part("checkpoint").write_bytes(signed(bench, other))
    with pytest.raises(BrokenLogError, match=r"not the same log|missing"):
        bench.append(b"more")


def test_without_what_was_signed_last_nothing_is_signed(bench: Bench) -> None:
    bench.grow(1)
    bench.key_file.with_name("log.key.last").unlink()
    with pytest.raises(EvidenceError, match="is unknown what the key signed last") as caught:
        bench.append(b"more")
    assert caught.value.hint is not None
    assert "cp " in caught.value.hint


def test_broken_tiles_are_not_built_on(bench: Bench) -> None:
    bench.grow(3)
    tile = bench.part("tile/0/000.p/3")
    good = tile.read_bytes()
    tile.write_bytes(bytes(96))
    with pytest.raises(BrokenLogError, match="do not give the root"):
        bench.append(b"more")
    tile.write_bytes(good)
    bundle = bench.part("tile/entries/000.p/3")
    bundle.write_bytes(bundle.read_bytes().replace(b"entry 1", b"entry 7"))
    with pytest.raises(BrokenLogError, match="not those of its tiles"):
        bench.append(b"more")


def test_a_key_lies_beside_the_folder_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log/tile").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "log")
    assert writer.key_path(Path("x/log")) == Path("x/log.key")
    for name in (".", "tile/..", "../log/."):
        assert writer.key_path(Path(name)).resolve() == tmp_path / "log.key"
    with pytest.raises(ConfigError, match="nothing lies beside"):
        writer.key_path(Path("/"))


def test_a_log_is_made_once(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="already"):
        writer.start(bench.folder, ORIGIN, bench.key_file)
    bench.grow(1)
    with pytest.raises(ConfigError, match="has already signed a log"):
        writer.start(bench.folder.with_name("other"), ORIGIN, bench.key_file)


def test_a_log_whose_making_was_killed_is_made(tmp_path: Path) -> None:
    key = keys.create(tmp_path / "k", ORIGIN, ED25519)
    with pytest.raises(ConfigError, match="is the key of"):
        writer.start(tmp_path / "log", "another.example", tmp_path / "k")
    for lost in (None, "checkpoint", "log.vkey"):
        if lost is not None:
            (tmp_path / "log" / "checkpoint").unlink()
            (tmp_path / "log" / lost).unlink(missing_ok=True)
        assert writer.start(tmp_path / "log", ORIGIN, tmp_path / "k") == key
        assert check.check(tmp_path / "log", key.public).checkpoint.size == 0


@pytest.mark.parametrize("place", ["log/k", "log/keys/k", "link/k", "to-log"])
def test_no_key_lies_in_the_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "log/keys").mkdir(parents=True)
    (tmp_path / "link").symlink_to("log/keys")
    (tmp_path / "to-log").symlink_to("log/k")
    with pytest.raises(ConfigError, match="which is public"):
        writer.start(tmp_path / "log", ORIGIN, tmp_path / place)
    with pytest.raises(ConfigError, match="which is public"):
        writer.append(tmp_path / "log", tmp_path / place, [])


def test_keys_are_their_owners_alone(bench: Bench) -> None:
    assert bench.key_file.stat().st_mode & 0o777 == 0o600
    bench.key_file.chmod(0o640)
    with pytest.raises(ConfigError, match="other users may read"):
        bench.append(b"a")


SEED = "A" * 43


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PRIVATE+KEY+",
        "PUBLIC+KEY+a+00000000+AAAA",
        "PRIVATE+KEY+a+00000000+",
        "PRIVATE+KEY+a+00000000+AQ==",
        "PRIVATE+KEY+a+00000000+!",
        f"PRIVATE+KEY+a+00000000+AQ{SEED[2:]}A",
        f"PRIVATE+KEY++00000000+AQ{SEED[2:]}A",
        f"PRIVATE+KEY+a+00000000+Bw{SEED[2:]}A",
    ],
)
def test_other_texts_are_no_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a key"):
        keys.read(path, ED25519)


def test_a_key_has_one_use(tmp_path: Path) -> None:
    key = keys.create(tmp_path / "k", "w.example", COSIGNATURE)
    assert keys.read(tmp_path / "k", COSIGNATURE) == key
    with pytest.raises(ConfigError, match="a witness's key"):
        keys.read(tmp_path / "k", ED25519)
    with pytest.raises(ToolError, match="cannot write"):
        keys.create(tmp_path / "k", "w.example", COSIGNATURE)
    with pytest.raises(ConfigError, match="name"):
        keys.create(tmp_path / "other", "with space", COSIGNATURE)


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ToolError, match="cannot write"):
        durable.write(tmp_path / "file/below", b"")
    with pytest.raises(ToolError, match="cannot make"):
        durable.make(tmp_path / "file/below")
    with pytest.raises(ToolError, match="cannot open"), durable.alone(tmp_path / "file"):
        pass
    # A link that somebody put beside the file is not followed.
    (tmp_path / ".x.new").symlink_to(tmp_path / "file")
    with pytest.raises(ToolError, match="cannot write"):
        durable.write(tmp_path / "x", b"data")
    assert (tmp_path / "file").read_bytes() == b""
