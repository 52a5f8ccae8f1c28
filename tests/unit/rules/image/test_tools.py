"""The tools image: what it adds to the base image, and how its lock follows that one's."""

import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import ImageLock, Package
from aicert.formats.machine_io import TOOLS
from rules.dvc import tracking
from rules.image import build, resolve, share, tools, unpack, wheels
from rules.image.build import Place
from rules.image.debian import Store
from rules.image.place import GPU_LOCK, LOCK, SERVE_LOCK, TRAINERS_LOCK
from rules.image.sandbox import Sandbox
from rules.image.wheels import Requirement

REPOSITORY = Path(__file__).resolve().parents[4]


def wheel(folder: Path, part: str, name: str, files: dict[str, str]) -> tuple[Package, Path]:
    """Make a wheel with these files, and the package that a lock would name."""
    path = folder / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return Package(part=part, name=name, version="1", digest=of_bytes(path.read_bytes())), path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return Store(folder=tmp_path / "store")


def test_each_trainer_has_a_folder_of_its_own(tmp_path: Path, store: Store) -> None:
    wheels_in = [
        wheel(tmp_path, "lm-eval", "lm-eval", {"lm_eval/a.py": "1", "lm_eval/tasks/arc/b.py": "2"}),
        wheel(tmp_path, "engine", "uvicorn", {"uvicorn.py": "3"}),
    ]
    for _, path in wheels_in:
        path.chmod(0o600)
        store.add(path)
    tools.unpack_all(store, [package for package, _ in wheels_in], tmp_path / "tree")
    place = tmp_path / "tree" / "opt/aicert-tools"
    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
    assert files == [place / "lm-eval/lm_eval/a.py"]
    for path in (place, *place.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    "name", ["mergekit-1.data/scripts/run", "../mergekit.py", "a//b.py", "twice.py"]
)
def test_what_an_installer_would_have_to_place_is_refused(name: str, tmp_path: Path) -> None:
    package, path = wheel(tmp_path, "mergekit", "mergekit", {"twice.py": "1"})
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate")
        if (name == "twice.py")
        else pytest.MonkeyPatch.context(),
    ):
        archive.writestr(name, "2")
    with pytest.raises(ToolError, match="cannot unpack the package mergekit as it is"):
        unpack.unpack(package, path, tmp_path / "tree")


def test_a_source_archive_is_refused(tmp_path: Path) -> None:
    package, path = wheel(tmp_path, "mergekit", "mergekit", {"a.py": "1"})
    path.write_bytes(b"\x1f\x8b")
    with pytest.raises(ToolError, match="cannot unpack"):
        unpack.unpack(package, path, tmp_path / "tree")


def test_programs_that_compile_see_the_folder_of_tools(tmp_path: Path) -> None:
    for name, at in (("usr", "/usr"), ("opt", "/opt")):
        before = Sandbox(tree=tmp_path).command(["true"])
        assert at not in before
        (tmp_path / name).mkdir()
        after = Sandbox(tree=tmp_path, system_writable=True).command(["true"])
        assert after[after.index(at) - 2 : after.index(at)] == ["--bind", str(tmp_path / name)]


def lock(path: Path) -> ImageLock:
    return image_lock.parse((REPOSITORY / path).read_bytes())


@pytest.mark.parametrize("path", [SERVE_LOCK, TRAINERS_LOCK])
def test_images_beside_the_base_image_share_its_packages_and_its_training_volume(
    path: Path,
) -> None:
    base, other = lock(LOCK), lock(path)
    added = set(other.packages) - set(base.packages)
    assert set(base.packages) <= set(other.packages)
    assert {each.part for each in added} == (
        {"engine", "gateway"} if path == SERVE_LOCK else set(TOOLS)
    )
    assert base.verity["training"] == other.verity["training"]
    assert base.verity["root"] != other.verity["root"]


def test_the_image_with_gpus_has_the_base_images_packages_but_for_torch() -> None:
    rest = {each for each in lock(LOCK).packages if each.name != "torch"}
    assert rest <= set(lock(GPU_LOCK).packages)


def test_a_lock_without_the_tools_is_no_lock_of_this_image(tmp_path: Path) -> None:
    where = Place(root=tmp_path, cache=tmp_path, makes=False, tools=True)
    with pytest.raises(ToolError, match=f"no package for: .*{min(TOOLS)}") as caught:
        build.build(where, lock(LOCK).packages)
    assert caught.value.hint == "./doit run image_tools_update"


def test_a_lock_is_the_base_images_and_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    where = Place(root=tmp_path, cache=tmp_path, tools=True)
    wanted = {"mergekit": [Requirement(name="immutables", version="1", hashes=("sha256:00",))]}
    with pytest.raises(ToolError, match="made from it"):
        resolve.resolve_besides(where, wanted)
    (tmp_path / "lockfiles").mkdir()
    (tmp_path / LOCK).write_bytes((REPOSITORY / LOCK).read_bytes())
    package, _ = wheel(tmp_path, "mergekit", "immutables", {"a.py": ""})
    monkeypatch.setattr(wheels, "resolve", lambda *_: [package])
    packages = resolve.resolve_besides(where, wanted)
    assert set(packages) - set(lock(LOCK).packages) == {package}
    assert list(packages) == sorted(packages, key=lambda p: (p.part, p.name, p.version))
    assert replace(where, tools=False).lock == LOCK


def test_packages_of_every_image_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "is_on", lambda root: True)
    (tmp_path / "lockfiles").mkdir()
    for path in (LOCK, TRAINERS_LOCK):
        (tmp_path / path).write_bytes((REPOSITORY / path).read_bytes())
    items = {item.path.name: item for item in share._of_locks(tmp_path)}
    assert sorted(items) == ["image", "image-tools"]
    assert items["image-tools"].file == tmp_path / "lockfiles/image-tools.dvc"
    own = [str(each.digest) for each in lock(TRAINERS_LOCK).packages if each.part in TOOLS]
    listed = items["image-tools"].listing
    assert listed is not None
    assert all(digest.removeprefix("sha256:") in listed.read_text() for digest in own)
