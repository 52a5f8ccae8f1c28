"""The runner's check of its inputs: it notices changes while a run reads them."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.errors import ConfigError, EvidenceError
from aicert.files.tree import read_tree
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput, Lockfile
from enclave_runner.inputs import measure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/a.json", "data/sub/b.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "config").write_bytes(b"x: 1\n")
    for path in tmp_path.rglob("*"):
        # Before Linux 6.13 file times advance in ticks: a change in the tick of creation would not
        # show.
        os.utime(path, (0, 0))
    return tmp_path


def measured(folder: Path) -> list[measure.MeasuredInput]:
    files = read_tree(folder / "data")
    size = sum(fact.size for fact in files.values())
    lockfile = Lockfile(
        run="r",
        trainer="axolotl",
        outputs=("model",),
        inputs=(
            _locked("config", 5, of_bytes(b"x: 1\n")),
            _locked("data", size, dir_digest(files)),
        ),
    )
    paths = {name: folder / name for name in ("config", "data")}
    return measure.measure(lockfile, paths, lambda _: None)


def _locked(name: str, size: int, digest: Digest) -> LockedInput:
    return LockedInput(name=name, source="path:x", uri="path:x", size=size, digest=digest)


def test_inputs_that_nobody_touches_are_unchanged(folder: Path) -> None:
    measure.check_unchanged(measured(folder))


def test_an_input_that_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(EvidenceError, match=r"cannot read '.'"):
        list(measure._folders(folder / "none"))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "config").write_bytes(b"x: 1\n"),
        lambda f: (f / "data/sub/b.json").write_text("other"),
        lambda f: (f / "data/a.json").unlink(),
        lambda f: (f / "data/adapter_config.json").write_text("{}"),
        lambda f: (f / "data/sub/adapter_config.json").symlink_to("/etc/hostname"),
        lambda f: (
            (f / "data/sub/b.json").rename(f / "data/sub/c.json").rename(f / "data/sub/b.json")
        ),
        lambda f: (f / "data/sub").rename(f / "data/other"),
    ],
)
def test_whatever_is_written_added_or_removed_is_noticed(
    folder: Path, change: Callable[[Path], object]
) -> None:
    before = measured(folder)
    change(folder)
    with pytest.raises(EvidenceError, match=r"changed while the run was reading|went away"):
        measure.check_unchanged(before)


NOBODY = 65534


def deny_by_owner(path: Path) -> None:
    """Let everybody read the file except its owner."""
    os.chown(path, NOBODY, 0)
    path.chmod(0o044)


def deny_by_list(path: Path) -> None:
    """Set an access list (uapi/linux/posix_acl_xattr.h) that denies NOBODY alone."""
    entries = [(0x01, 6, 0xFFFFFFFF), (0x02, 0, NOBODY), (0x04, 4, 0xFFFFFFFF)]
    entries += [(0x10, 4, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]
    listed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + listed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(
    ("hide", "named"),
    [
        (lambda f: (f / "data/a.json").chmod(0o600), "a.json"),
        (lambda f: (f / "data/sub").chmod(0o311), "sub/"),
        (lambda f: (f / "data/sub").chmod(0o344), "sub/b.json"),
        (lambda f: (f / "data").chmod(0o700), "data"),
        (lambda f: (f / "config").chmod(0o640), "config"),
        (lambda f: deny_by_owner(f / "data/a.json"), "a.json"),
        (lambda f: deny_by_list(f / "data/a.json"), "a.json"),
    ],
)  # fmt: skip
def test_what_the_runner_hashed_and_the_trainer_cannot_read_is_refused(
    folder: Path, hide: Callable[[Path], object], named: str
) -> None:
    """On a hostile volume the digest is right, and a loader would take the file for absent."""
    for place in folder.parents:
        if place != Path("/"):
            place.chmod(place.stat().st_mode | 0o001)
    folder.chmod(0o755)
    measure.check_readable(measured(folder), NOBODY)
    hide(folder)
    hidden = measured(folder)
    with pytest.raises(EvidenceError, match=f"the trainer cannot read '{named}'"):
        measure.check_readable(hidden, NOBODY)
    assert os.geteuid() == 0
    measure.check_readable(hidden, None)


def test_a_config_is_read_as_it_was_hashed_and_up_to_a_limit(folder: Path) -> None:
    item = measured(folder)[0]
    assert measure.config_bytes(item, 5) == b"x: 1\n"
    with pytest.raises(ConfigError, match="the config is larger than 4 bytes"):
        measure.config_bytes(item, 4)
    (folder / "config").write_bytes(b"x: 2\n")
    with pytest.raises(ConfigError, match="the config changed while it was read"):
        measure.config_bytes(item, 5)
