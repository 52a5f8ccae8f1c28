"""Locking `path:` inputs: what is written, what counts as stale, what is refused."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked

TOML = """
[runs.tiny]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.tiny.inputs]
data = "path:data"
[machines.here]
driver = "local"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    (tmp_path / "tiny.yml").write_text("a: 1\n")
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "b.txt").write_text("b")
    (tmp_path / "data" / "sub" / "a.txt").write_text("a")
    (tmp_path / ".aicert").mkdir()
    return tmp_path


def the_run(root: Path) -> config.Run:
    return config.load(root).run("tiny")


def lock_tiny(root: Path) -> bytes:
    lock.write(root, lock.resolve(root, the_run(root)))
    return locked.read(root, "tiny")


def test_a_lockfile_is_canonical_and_its_listing_is_checked_by_sha256sum(root: Path) -> None:
    data = lock_tiny(root)
    assert form.emit(form.parse(data)) == data
    listing = root / "lockfiles" / "tiny" / "data.sha256"
    subprocess.run(["sha256sum", "--strict", "-c", listing], cwd=root / "data", check=True)
    digest = form.parse(data).input("data").digest
    assert digest.hex == hashlib.sha256(listing.read_bytes()).hexdigest()
    assert lock.current(root, the_run(root)).data == data


def test_locking_again_changes_nothing(root: Path) -> None:
    lock_tiny(root)
    assert lock.write(root, lock.resolve(root, the_run(root))) is False


def test_what_a_killed_writer_left_goes_with_the_next_write(root: Path) -> None:
    lock_tiny(root)
    left, living = (
        root / "lockfiles" / f".tiny.lock.toml.{pid}" for pid in (99999999, os.getppid())
    )
    for path in (left, living):
        path.write_bytes(b"half")
    (root / "data" / "b.txt").write_text("other")
    lock_tiny(root)
    assert (left.exists(), living.exists()) == (False, True)


def test_edited_bytes_are_stale_even_with_the_time_put_back(root: Path) -> None:
    lock_tiny(root)
    path = root / "data" / "b.txt"
    before = path.stat()
    path.write_text("c")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(LockError, match="input data") as caught:
        lock.current(root, the_run(root))
    assert caught.value.hint is not None
    assert caught.value.hint == "./doit lock tiny && git diff lockfiles/"


def test_touching_is_not_a_change(root: Path) -> None:
    data = lock_tiny(root)
    os.utime(root / "data" / "b.txt", (1, 1))
    assert lock.current(root, the_run(root)).data == data


def test_empty_inputs_and_files_that_are_never_empty_are_refused(root: Path) -> None:
    (root / "data" / "__init__.py").write_bytes(b"")
    lock_tiny(root)
    (root / "data" / "sub" / "w.safetensors").write_bytes(b"")
    with pytest.raises(LockError, match=r"input data: 'sub/w\.safetensors' is empty: 0 bytes"):
        lock_tiny(root)
    (root / "data" / "sub" / "w.safetensors").unlink()
    for path in ("b.txt", "sub/a.txt"):
        (root / "data" / path).write_bytes(b"")
    with pytest.raises(LockError, match="input data: path:data is empty: 0 bytes"):
        lock_tiny(root)


def test_a_file_more_or_less_is_stale(root: Path) -> None:
    lock_tiny(root)
    (root / "data" / "new").write_text("")
    with pytest.raises(LockError, match="stale"):
        lock.current(root, the_run(root))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('data = "path:data"', 'data = "path:data/sub"', "input data"),
        ('data = "path:data"', "", "no longer in aicert.toml"),
        ('data = "path:data"', 'data = "path:data"\nmore = "path:tiny.yml"', "not locked"),
        ('["model"]', '["adapter"]', "outputs"),
    ],
)
def test_what_differs_is_said(root: Path, old: str, new: str, words: str) -> None:
    lock_tiny(root)
    (root / "aicert.toml").write_text(TOML.replace(old, new))
    with pytest.raises(LockError, match=words):
        lock.current(root, the_run(root))


def test_a_comment_in_aicert_toml_changes_nothing(root: Path) -> None:
    data = lock_tiny(root)
    (root / "aicert.toml").write_text("# a comment\n" + TOML)
    assert lock.current(root, the_run(root)).data == data


def test_no_lockfile_and_a_listing_that_was_edited(root: Path) -> None:
    with pytest.raises(LockError, match="no lockfile"):
        lock.current(root, the_run(root))
    lock_tiny(root)
    (root / "lockfiles" / "tiny" / "data.sha256").write_text("x")
    with pytest.raises(LockError, match="does not match its lockfile"):
        lock.current(root, the_run(root))


def test_a_missing_input(root: Path) -> None:
    (root / "tiny.yml").unlink()
    with pytest.raises(LockError, match=r"path:tiny\.yml does not exist"):
        lock.resolve(root, the_run(root))


def test_a_link_on_the_way_to_an_input(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "f").write_text("x")
    (root / "data").rename(root / "moved")
    (root / "data").symlink_to(elsewhere)
    with pytest.raises(LockError, match="symbolic link"):
        lock.resolve(root, the_run(root))


def test_a_link_out_of_an_input(root: Path) -> None:
    (root / "data" / "link").symlink_to("/etc/hostname")
    with pytest.raises(LockError, match="input data: 'link' is a symbolic link"):
        lock.resolve(root, the_run(root))


def test_the_listing_of_an_input_that_went_is_removed(root: Path) -> None:
    lock_tiny(root)
    (root / "aicert.toml").write_text(TOML.replace('data = "path:data"', ""))
    lock_tiny(root)
    assert not (root / "lockfiles" / "tiny").exists()


def test_code_of_an_input_needs_words_in_the_lockfile(root: Path) -> None:
    lock.write(root, lock.resolve(root, the_run(root)))
    toml = root / "aicert.toml"
    allowed = '{ from = "path:data", allow-remote-code = true }'
    toml.write_text(toml.read_text().replace('data = "path:data"', f"data = {allowed}"))
    with pytest.raises(LockError, match=r"(?s)stale: input data.*, allow-remote-code"):
        lock.current(root, the_run(root))
    lock.write(root, lock.resolve(root, the_run(root)))
    assert b"allow-remote-code = true\nuri = " in locked.read(root, "tiny")
    assert lock.current(root, the_run(root)).lockfile.input("data").allow_remote_code


def test_the_number_of_processes_is_locked_where_it_is_above_one(root: Path) -> None:
    lock.write(root, lock.resolve(root, the_run(root)))
    alone = locked.read(root, "tiny")
    assert b"ranks" not in alone
    toml = root / "aicert.toml"
    toml.write_text(toml.read_text().replace('["model"]\n', '["model"]\nranks = 2\n'))
    with pytest.raises(LockError, match=r"stale: ranks\n  locked      1\n  aicert.toml 2"):
        lock.current(root, the_run(root))
    lock.write(root, lock.resolve(root, the_run(root)))
    assert b'outputs = ["model"]\nranks = 2\n' in locked.read(root, "tiny")
    assert lock.current(root, the_run(root)).lockfile.ranks == 2
