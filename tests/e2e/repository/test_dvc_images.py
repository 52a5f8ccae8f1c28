"""The image's packages are shared with the real DVC, and accepted only by their SHA-256."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import Package
from rules.dvc import environment
from rules.image import share
from rules.image.place import LOCK, Place
from tests.e2e.repository.dvc_clone import Clone, lay_out

pytestmark = pytest.mark.slow
FILES = {"a": b"the bytes of a", "b": b"the bytes of b" * 1000}
PACKAGES = tuple(
    Package(part="machine", name=name, version="1", digest=of_bytes(data))
    for name, data in FILES.items()
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `origin`, whose packages were pushed, and `remote`, which has them."""
    environment.program()
    folder = tmp_path_factory.mktemp("shared")
    origin = Clone(root=folder / "origin")
    lay_out(origin.root)
    (origin.root / LOCK).parent.mkdir(exist_ok=True)
    data = image_lock.emit(
        name="m", disk=of_bytes(b"disk"), pcrs={i: bytes(32) for i in (4, 11, 12, 13)}, verity={},
        packages=PACKAGES,
    )  # fmt: skip
    (origin.root / LOCK).write_bytes(data)
    origin.done("git", "init", "--quiet", "--initial-branch=main")
    assert origin.doit("lock").returncode == 0
    origin.commit("locked")
    (folder / "remote").mkdir()
    assert origin.doit("dvc", "remote", "add", "-d", "team", "../remote").returncode == 0
    # One of two packages is here. DVC gets nothing unless all of a lock's packages are here.
    packages = origin.root / share.FOLDER / "image"
    packages.mkdir(parents=True)
    (packages / PACKAGES[0].digest.hex).write_bytes(FILES["a"])
    pushed = origin.doit("dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    assert not (origin.root / "lockfiles/image.dvc").exists()
    (packages / PACKAGES[1].digest.hex).write_bytes(FILES["b"])
    pushed = origin.doit("dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    assert "tracked  lockfiles/image.dvc" in pushed.stderr
    origin.commit("shared")
    return folder


@pytest.fixture
def clone(shared: Path, tmp_path: Path) -> Clone:
    """Return another person's checkout, with its own remote that a test may damage."""
    cloned = Clone(root=tmp_path / "clone")
    origin = Clone(root=shared / "origin")
    origin.done("git", "clone", "--quiet", ".", str(cloned.root))
    (cloned.root / ".venv").symlink_to(Path(sys.prefix).resolve())
    shutil.copytree(shared / "remote", tmp_path / "remote")
    return cloned


def place(clone: Clone, folder: Path) -> Place:
    (folder / "cache").mkdir()
    return Place(root=clone.root, cache=folder / "cache")


def spoil(remote: Path) -> None:
    for path in remote.rglob("*"):
        if path.is_file() and path.read_bytes() == FILES["a"]:
            path.chmod(0o644)
            path.write_bytes(FILES["a"][::-1])


def test_a_build_takes_what_it_lacks_from_the_remote(clone: Clone, tmp_path: Path) -> None:
    where = place(clone, tmp_path)
    assert share.bring(where, PACKAGES) == "DVC's remote"
    for package in PACKAGES:
        path = where.store.find(package.digest)
        assert path is not None
        assert path.read_bytes() == FILES[package.name]
    # Nothing was put into the checkout, and packages that are here are not requested again.
    assert not (clone.root / share.FOLDER / "image").exists()
    shutil.rmtree(where.store.folder)
    assert share.bring(where, PACKAGES) == "DVC's cache"


def test_other_bytes_of_a_remote_are_not_taken_and_its_words_are_told(
    clone: Clone, tmp_path: Path
) -> None:
    spoil(tmp_path / "remote")
    where = place(clone, tmp_path)
    assert share.bring(where, PACKAGES).startswith("DVC's remote")
    is_stored = [where.store.find(package.digest) is not None for package in PACKAGES]
    assert is_stored == [False, True]


def test_a_pull_brings_them_and_compares_them_by_sha_256(clone: Clone, tmp_path: Path) -> None:
    pulled = clone.doit("dvc", "pull", "lockfiles/image.dvc")
    assert pulled.returncode == 0, pulled.stderr
    where = place(clone, tmp_path)
    # A lock other than the one that the packages were pushed for needs one of them.
    assert share.bring(where, PACKAGES[:1]) == "DVC's cache"
    assert where.store.find(PACKAGES[0].digest) is not None
    wrong = clone.root / share.FOLDER / "image" / PACKAGES[0].digest.hex
    wrong.unlink()
    wrong.write_bytes(b"other bytes")
    compared = clone.doit("dvc", "checkout", "lockfiles/again")
    assert compared.returncode == 2
    assert "packages of lockfiles/image.lock.toml" in compared.stderr


def test_a_checkout_without_a_remote_or_a_record_says_so(clone: Clone, tmp_path: Path) -> None:
    where = place(clone, tmp_path)
    (clone.root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    assert share.bring(where, PACKAGES) == "DVC's cache (no remote is configured)"
    (clone.root / "lockfiles/image.dvc").unlink()
    assert "no packages are tracked" in share.bring(where, PACKAGES)
    other = replace(PACKAGES[0], digest=of_bytes(b"of no lock"))
    assert "no packages are tracked" in share.bring(where, [other])
