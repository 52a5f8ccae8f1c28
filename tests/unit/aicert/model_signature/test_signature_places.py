"""Which files `sign` and `verify-signature` read and write: those that were named, and no other."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.cache import digest_cache
from aicert.files.tree import read_tree
from aicert.formats.listing import listing
from aicert.model_signature.reader import MAX_BYTES
from tests.unit.aicert.model_signature.test_model_signatures import check, run
from tests.unit.signing_keys import Pair, Printed

OTHERS = 65534


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(b"w")
    return root


def test_a_folder_behind_a_link_is_the_one_that_the_system_opens(
    tmp_path: Path, model: Path, keys: Pair, printed: Printed
) -> None:
    assert run("sign", model, "--key", keys.key) == 0
    other = tmp_path / "other" / "model"
    (other.parent / "inside").mkdir(parents=True)
    other.mkdir()
    (other / "weights").write_bytes(b"evil")
    (other / "model.sig").write_bytes((model / "model.sig").read_bytes())
    (tmp_path / "link").symlink_to(other.parent / "inside")
    named = f"{tmp_path}/link/../model"
    assert Path(named, "weights").read_bytes() == b"evil"
    assert run("verify-signature", named, "--key", keys.pub) == 1
    assert "changed   weights" in printed()[0]
    assert run("sign", named, "--key", keys.key) == 0
    assert check(other, keys) == 0
    # Seen from below the link, the folder itself is not a link.
    assert run("verify-signature", f"{tmp_path}/link/..", "--key", keys.pub) == 2
    # Under two names, the signature is still the one in the folder.
    assert check(other, keys, "--signature", f"{named}/model.sig") == 0


def test_no_name_is_no_folder(
    model: Path, keys: Pair, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("sign", model, "--key", keys.key) == 0
    monkeypatch.chdir(model)
    assert run("verify-signature", "", "--key", keys.pub) == 3
    assert run("sign", "", "--key", keys.key) == 3
    assert run("sign", ".", "--key", keys.key, "--signature", "") == 3
    assert run("sign", ".", "--key", keys.key, "--cache", "") == 3
    assert "error: a path is empty" in printed()[1]
    assert run("verify-signature", ".", "--key", keys.pub) == 0


@pytest.mark.parametrize("make", [os.mkfifo, lambda place: place.symlink_to("/dev/zero")])
def test_a_signature_in_the_folder_is_a_regular_file(
    model: Path, keys: Pair, printed: Printed, make: Callable[[Path], None]
) -> None:
    make(model / "model.sig")
    assert check(model, keys) == 2
    assert check(model, keys, "--signature", model / "model.sig") == 2
    assert "is not a regular file" in printed()[1]


def test_a_signature_takes_the_place_of_nothing_that_it_covers(model: Path, keys: Pair) -> None:
    weights = model / "weights"
    assert run("sign", weights, "--key", keys.key, "--signature", weights) == 3
    assert run("sign", model, "--key", keys.key, "--signature", model) == 3
    assert weights.read_bytes() == b"w"


def test_what_a_listing_names_and_is_left_out_is_printed(
    tmp_path: Path, model: Path, keys: Pair, printed: Printed
) -> None:
    for name in (".gitignore", "model.sig", "notes"):
        (model / name).write_bytes(b"x")
    (model / ".github").mkdir()
    (model / ".github" / "run").write_bytes(b"x")
    known = tmp_path / "known"
    known.write_bytes(listing(read_tree(model)))
    assert run("sign", model, "--key", keys.key, "--digests", known, "--ignore", "notes") == 0
    assert [line for line in printed()[0].splitlines() if line.startswith("left out")] == [
        "left out  .github",
        "left out  .gitignore",
        "left out  notes",
    ]
    assert check(model, keys) == 0


def test_a_link_that_waits_for_the_signature_is_not_followed(model: Path, keys: Pair) -> None:
    weights, precious = model / "weights", model.parent / "precious"
    precious.write_bytes(b"precious")
    (model / f".weights.sig.{os.getpid()}").symlink_to(precious)
    assert run("sign", weights, "--key", keys.key) == 0
    assert precious.read_bytes() == b"precious"
    assert not (model / "weights.sig").is_symlink()
    assert check(weights, keys) == 0


def others_may_write(folder: Path, cache: Path) -> None:
    del folder
    cache.chmod(0o666)


def others_may_write_beside(folder: Path, cache: Path) -> None:
    # The journal of a transaction lies beside the cache, and SQLite replays it.
    del cache
    folder.chmod(0o1777)


def a_link_to_where_others_may_write(folder: Path, cache: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    cache.rename(elsewhere / "real")
    cache.symlink_to(elsewhere / "real")
    elsewhere.chmod(0o777)


@pytest.fixture
def poisoned(tmp_path: Path, model: Path) -> Path:
    """Return a cache that holds a wrong digest for a file of the model."""
    cache = tmp_path / "mine" / "cache"
    digest_cache.cached_tree(model, cache=cache)
    (tmp_path / "mine").chmod(0o755)
    status = (model / "weights").stat()
    row = (status.st_dev, status.st_ino, 1, status.st_mtime_ns, status.st_ctime_ns, "11" * 32)
    with sqlite3.connect(cache) as database:
        database.execute("insert or replace into digests values (?, ?, ?, ?, ?, ?)", row)
    database.close()
    return cache


@pytest.mark.parametrize(
    "change",
    [
        others_may_write,
        others_may_write_beside,
        a_link_to_where_others_may_write,
    ],
)
def test_digests_come_from_no_cache_that_others_write(
    model: Path, keys: Pair, printed: Printed, poisoned: Path, change: Callable[[Path, Path], None]
) -> None:
    change(poisoned.parent, poisoned)
    assert run("sign", model, "--key", keys.key, "--cache", poisoned) == 3
    assert "others may write" in printed()[1]
    assert not (model / "model.sig").exists()


def test_digests_come_from_no_cache_of_somebody_else(
    model: Path, keys: Pair, printed: Printed, poisoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(poisoned, OTHERS, OTHERS)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: OTHERS)
    assert run("sign", model, "--key", keys.key, "--cache", poisoned) == 3
    assert "others may write" in printed()[1]


def test_a_file_that_is_no_cache_is_left_alone(model: Path, keys: Pair, printed: Printed) -> None:
    before = keys.key.read_bytes()
    assert run("sign", model, "--key", keys.key, "--cache", keys.key) == 3
    assert "is not a cache" in printed()[1]
    assert keys.key.read_bytes() == before
    assert run("sign", model, "--key", keys.key, "--cache", model) == 3
    assert run("sign", model, "--key", keys.key, "--cache", model.parent / ("x" * 300)) == 3
    assert "cannot use" in printed()[1]


def test_a_cache_is_no_part_of_what_is_signed(model: Path, keys: Pair, printed: Printed) -> None:
    assert run("sign", model, "--key", keys.key, "--cache", model / "cache") == 3
    assert "is inside the directory that is signed" in printed()[1]
    assert run("sign", model, "--key", keys.key, "--cache", model.parent / "new" / "cache") == 0
    assert check(model, keys) == 0


def test_a_current_directory_that_is_gone_is_said_in_words(
    tmp_path: Path, model: Path, keys: Pair, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run("verify-signature", "model", "--key", keys.pub) == 2
    assert "error: the current directory no longer exists" in printed()[1]
    assert run("sign", model, "--key", keys.key) == 0
    assert check(model, keys) == 0


def test_a_signature_that_is_named_replaces_a_signature_or_nothing(
    tmp_path: Path, model: Path, keys: Pair, printed: Printed
) -> None:
    secret = keys.key.read_bytes()
    (tmp_path / "null").symlink_to("/dev/null")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for place in (keys.key, model / "weights", tmp_path / "null", large):
        assert run("sign", model, "--key", keys.key, "--signature", place) == 3
        assert "already exists and is not a signature" in printed()[1]
    assert keys.key.read_bytes() == secret
    assert (model / "weights").read_bytes() == b"w"
    assert (tmp_path / "null").is_symlink()
    place = tmp_path / "sig"
    place.touch()
    for _ in range(2):
        assert run("sign", model, "--key", keys.key, "--signature", place) == 0
    assert check(model, keys, "--signature", place) == 0
