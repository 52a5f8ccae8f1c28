"""The digest cache never returns the digest of other bytes, and reads no file twice."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicert.cache import digest_cache as digests
from aicert.cache.tree_status import look
from aicert.errors import EvidenceError
from aicert.files.tree import read_file, read_tree
from aicert.formats.listing import listing

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "state" / "digests.sqlite"


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all files look as if they were written long ago, so that none is too young to cache."""
    monkeypatch.setattr(digests, "GUARD", -3600 * 10**9)


def tree(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"a")
    (folder / "inner/b.bin").write_bytes(b"b" * 300_000)
    return folder


def listed(folder: Path) -> digests.Listed:
    """Return the listing of `folder`, computed without a cache."""
    files = read_tree(folder)
    size = sum(fact.size for fact in files.values())
    return digests.Listed(size=size, listing=listing(files))


def is_kept(folder: Path, cache: Path) -> bool:
    """Return whether the cache has the listing of `folder` as it is now."""
    seen = look(folder)
    with digests._open(cache) as opened:
        return seen is not None and opened.find_tree(folder, seen) is not None


def reads(path: Path, cache: Path) -> int:
    """Return how many bytes a cached reading of `path` really reads."""
    counted: list[int] = []
    if path.is_dir():
        digests.cached_tree(path, cache=cache, on_bytes=counted.append)
    else:
        digests.cached_file(path, cache=cache, on_bytes=counted.append)
    return sum(counted)


def test_a_second_reading_reads_nothing(tmp_path: Path, cache: Path, aged: None) -> None:
    folder = tree(tmp_path / "t")
    assert digests.cached_tree(folder, cache=cache) == read_tree(folder)
    assert reads(folder, cache) == 0
    assert digests.cached_tree(folder, cache=cache) == read_tree(folder)
    assert reads(folder / "a.txt", cache) == 0
    assert digests.cached_file(folder / "a.txt", cache=cache) == read_file(folder / "a.txt")


def test_a_file_by_itself_is_kept_too(tmp_path: Path, cache: Path, aged: None) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert reads(tmp_path / "f", cache) == 5
    assert reads(tmp_path / "f", cache) == 0


def test_young_files_are_not_kept(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert reads(tmp_path / "f", cache) == 5
    assert reads(tmp_path / "f", cache) == 5


def test_edited_bytes_with_the_mtime_put_back_are_noticed(
    tmp_path: Path, cache: Path, aged: None
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")
    digests.cached_file(path, cache=cache)
    status = path.stat()
    # Kernel time passes in ticks; the guard exists for edits within one.
    while time.clock_gettime_ns(5) == status.st_ctime_ns:  # CLOCK_REALTIME_COARSE
        pass
    path.write_bytes(b"after!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert digests.cached_file(path, cache=cache) == read_file(path)


def test_touching_is_not_a_change(tmp_path: Path, cache: Path, aged: None) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"same")
    before = digests.cached_file(path, cache=cache)
    os.utime(path, ns=(1, 1))
    assert digests.cached_file(path, cache=cache) == before


def test_a_file_put_in_anothers_place_is_noticed(tmp_path: Path, cache: Path, aged: None) -> None:
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    digests.cached_file(path, cache=cache)
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert digests.cached_file(path, cache=cache) == read_file(path)


def test_links_and_absent_files_are_refused_as_without_cache(
    tmp_path: Path, cache: Path, aged: None
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to("f")
    digests.cached_file(tmp_path / "f", cache=cache)
    for name in ("link", "absent"):
        with pytest.raises(EvidenceError):
            digests.cached_file(tmp_path / name, cache=cache)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "append", "restore", "touch", "replace", "remove", "read"]),
            st.sampled_from(["a", "b", "d/c"]),
            st.binary(min_size=1, max_size=3),
        ),
        max_size=12,
    )
)
def test_any_history_of_edits_gives_true_digests(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]
) -> None:
    # With the real guard: files here are always young, which is where a cache could be wrong.
    base = tmp_path_factory.mktemp("history")
    folder, cache = tree(base / "t"), base / "digests.sqlite"
    for action, name, data in steps:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        apply(action, path, data)
        if action == "read":
            assert digests.cached_tree(folder, cache=cache) == read_tree(folder)
            assert digests.cached_listing(folder, cache=cache) == listed(folder)
    for path in folder.glob("d"):
        if not any(path.iterdir()):
            path.rmdir()
    assert digests.cached_tree(folder, cache=cache) == read_tree(folder)
    assert digests.cached_listing(folder, cache=cache) == listed(folder)


def apply(action: str, path: Path, data: bytes) -> None:
    exists = path.exists()
    if action == "write" or (action == "append" and not exists):
        path.write_bytes(data)
    elif action == "append":
        path.write_bytes(path.read_bytes() + data)
    elif action == "restore" and exists:
        status = path.stat()
        path.write_bytes(data.ljust(status.st_size, b"\0")[: status.st_size])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif action == "touch" and exists:
        path.touch()
    elif action == "replace":
        beside = path.with_name("beside")
        beside.write_bytes(data)
        beside.replace(path)
    elif action == "remove":
        path.unlink(missing_ok=True)
    if path.parent.name == "d" and not any(path.parent.iterdir()):
        path.parent.rmdir()


def test_a_listing_is_kept_and_given_only_for_the_same_files(
    tmp_path: Path, cache: Path, aged: None
) -> None:
    folder = tree(tmp_path / "t")
    for _ in range(2):
        assert digests.cached_listing(folder, cache=cache) == listed(folder)
    assert is_kept(folder, cache)
    assert digests.cached_listing(folder, cache=cache).names == ["a.txt", "inner/b.bin"]
    path = folder / "a.txt"
    status = path.stat()

    def restored() -> None:
        # Kernel time passes in ticks; the guard exists for edits within one.
        while time.clock_gettime_ns(5) == status.st_ctime_ns:  # CLOCK_REALTIME_COARSE
            pass
        path.write_bytes(b"A")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    edits = (
        restored,
        lambda: path.rename(folder / "b.txt"),
        lambda: (folder / "b.txt").rename(path),
        lambda: (folder / "new").write_bytes(b"n"),
        (folder / "new").unlink,
        path.unlink,
    )
    for edit in edits:
        edit()
        assert digests.cached_listing(folder, cache=cache) == listed(folder)
        if path.exists():
            assert is_kept(folder, cache)


def test_a_listing_with_young_files_or_from_a_damaged_row_is_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path / "t")
    digests.cached_listing(folder, cache=cache)
    assert not is_kept(folder, cache)
    monkeypatch.setattr(digests, "GUARD", -3600 * 10**9)
    digests.cached_listing(folder, cache=cache)
    assert is_kept(folder, cache)
    database = sqlite3.connect(cache)
    with database:
        database.execute("update trees set listing = x'6162'")
    database.close()
    assert digests.cached_listing(folder, cache=cache) == listed(folder)


def test_a_listing_of_what_cannot_be_certified_is_refused_as_without_cache(
    tmp_path: Path, cache: Path, aged: None
) -> None:
    folder = tree(tmp_path / "t")
    digests.cached_listing(folder, cache=cache)
    (folder / "link").symlink_to("a.txt")
    with pytest.raises(EvidenceError, match="symbolic link"):
        digests.cached_listing(folder, cache=cache)
    (folder / "link").unlink()
    (folder / "empty").mkdir()
    with pytest.raises(EvidenceError, match="empty directory"):
        digests.cached_listing(folder, cache=cache)
    with pytest.raises(EvidenceError):
        digests.cached_listing(tmp_path / "absent", cache=cache)


def test_many_directories_start_over(
    tmp_path: Path, cache: Path, aged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MAX_TREES", 1)
    for name in ("one", "two"):
        digests.cached_listing(tree(tmp_path / name), cache=cache)
    assert [is_kept(tmp_path / name, cache) for name in ("one", "two")] == [False, True]


def test_what_was_read_before_an_interruption_is_not_read_again(
    tmp_path: Path, cache: Path, aged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    for name in ("1", "2", "3"):
        (folder / name).write_bytes(name.encode() * (1 << 20))
    monkeypatch.setattr(digests, "SAVE_EVERY", -1.0)
    read: list[int] = []

    def interrupt(count: int) -> None:
        read.append(count)
        if sum(read) > 2 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        digests.cached_listing(folder, cache=cache, on_bytes=interrupt)
    assert reads(folder, cache) == 1 << 20


def test_old_files_survive_many_readers_at_once(tmp_path: Path, cache: Path, aged: None) -> None:
    folder = tree(tmp_path / "t")
    expected = read_tree(folder)
    agreed: list[bool] = []

    def read() -> None:
        agreed.extend(digests.cached_tree(folder, cache=cache) == expected for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agreed == [True] * 80


def test_two_processes_share_it(tmp_path: Path, cache: Path, aged: None) -> None:
    folder = tree(tmp_path / "t")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from aicert.cache import digest_cache as digests\ndigests.GUARD = -(10**13)\n"
        "for _ in range(10): digests.cached_tree(Path(sys.argv[1]), cache=Path(sys.argv[2]))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(cache)], cwd=ROOT)
        for _ in range(3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert reads(folder, cache) == 0


@pytest.mark.parametrize("content", [b"", b"no database " * 100, b"SQLite format 3\0" + b"x" * 99])
def test_a_damaged_cache_knows_nothing_and_is_made_anew(
    tmp_path: Path, cache: Path, aged: None, content: bytes
) -> None:
    folder = tree(tmp_path / "t")
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert digests.cached_tree(folder, cache=cache) == read_tree(folder)
    assert reads(folder, cache) == 0


def test_a_cache_in_no_place_to_write_is_done_without(tmp_path: Path, aged: None) -> None:
    folder = tree(tmp_path / "t")
    (tmp_path / "file").touch()
    assert digests.cached_tree(folder, cache=tmp_path / "file/digests.sqlite") == read_tree(folder)


def test_a_locked_cache_is_done_without_and_left_alone(
    tmp_path: Path, cache: Path, aged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path / "t")
    digests.cached_tree(folder, cache=cache)
    (folder / "a.txt").write_bytes(b"new")
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, timeout, **more: connect(path, 0.01, **more)
    )
    holder = connect(cache)
    try:
        holder.execute("begin exclusive")
        assert digests.cached_tree(folder, cache=cache) == read_tree(folder)
    finally:
        holder.close()
    assert reads(folder, cache) == 3


def test_a_full_cache_starts_over(
    tmp_path: Path, cache: Path, aged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MAX_ROWS", 3)
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    digests.cached_tree(one, cache=cache)
    digests.cached_tree(two, cache=cache)
    assert reads(two, cache) == 0
    assert reads(one, cache) > 0


def test_a_digest_that_is_none_is_not_believed(tmp_path: Path, cache: Path, aged: None) -> None:
    (tmp_path / "f").write_bytes(b"x")
    digests.cached_file(tmp_path / "f", cache=cache)
    database = sqlite3.connect(cache)
    with database:
        database.execute("update digests set sha256 = 'zz'")
    database.close()
    assert digests.cached_file(tmp_path / "f", cache=cache) == read_file(tmp_path / "f")
