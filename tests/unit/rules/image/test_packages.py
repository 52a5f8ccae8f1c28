"""Locked packages come by digest, or an error names the one that no source still has."""

import os
import subprocess
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from aicert.errors import ToolError
from aicert.files.machine_code import MACHINE_CODE
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.image_lock import Package
from rules.image import build, debian, place, wheels
from rules.image.build import Place
from rules.image.debian import Apt, GoneError, Store
from tests.unit.code_tree import code_tree

REPOSITORY = Path(__file__).resolve().parents[4]


class Mirror:
    """A stand-in for apt with packages `name=version` → bytes; a missing one fails the call."""

    release = "bookworm"
    name = "the mirror"
    move = "./doit image_update"

    def __init__(self, folder: Path, has: dict[str, bytes]) -> None:
        self.folder = folder
        self.has = has
        self.calls: list[list[str]] = []

    def update(self) -> None:
        self.folder.mkdir(exist_ok=True)

    def download(self, names: Iterable[str]) -> list[Path]:
        asked = list(names)
        self.calls.append(asked)
        paths = []
        for name in asked:
            if name not in self.has:
                raise ToolError(f"E: Version not found: {name}")
            path = self.folder / f"{name}.deb"
            path.write_bytes(self.has[name])
            paths.append(path)
        return paths


def package(name: str, data: bytes) -> Package:
    return Package(part="machine", name=name, version="1", digest=of_bytes(data))


@pytest.mark.parametrize("kind", ["image", "gpu", "serve", "tools"])
def test_packages_that_differ_from_the_environments_are_named(kind: str) -> None:
    gpu, serve, tools = (kind == each for each in ("gpu", "serve", "tools"))
    parts = wheels.wanted(REPOSITORY) | (wheels.wanted_serve(REPOSITORY) if serve else {})
    parts |= wheels.wanted_tools(REPOSITORY) if tools else {}
    if gpu:
        # PyPI's own torch comes instead of the CPU-only one.
        parts["training"] = [item for item in parts["training"] if item.name != "torch"]
        parts["training"] += wheels.wanted_gpu(REPOSITORY)
    parts["builder"] = []
    whole = [
        Package(part=part, name=item.name, version=item.version, digest=Digest.parse(digest))
        for part, items in parts.items()
        for item in items
        for digest in item.hashes[:1]
    ]
    other = package("libc6", b"libc6")

    def unlike(packages: list[Package]) -> list[str]:
        return wheels.unlike(REPOSITORY, packages, gpu=gpu, serve=serve, tools=tools)

    assert unlike([*whole, other]) == []
    numpy = next(each for each in whole if each.name == "numpy")
    rest = [each for each in whole if each is not numpy]
    assert unlike(rest) == ["numpy"]
    assert unlike([*rest, replace(numpy, version="0")]) == ["numpy"]
    assert unlike([*rest, replace(numpy, digest=of_bytes(b"another file"))]) == ["numpy"]
    assert unlike([*whole, replace(numpy, name="more")]) == ["more"]
    assert unlike([*rest, replace(numpy, part="runner")]) == ["numpy"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (place.LOCK, ""),
        (place.GPU_LOCK, "gpu"),
        (place.SERVE_LOCK, "serve"),
        (place.TRAINERS_LOCK, "tools"),
    ],
)
def test_the_locked_images_have_the_packages_of_the_environments(path: Path, kind: str) -> None:
    """A config that `lock` accepts, and a run on `local`, need the same packages there."""
    lock = place.read_lock(REPOSITORY, path)
    assert lock is not None
    kinds = {each: each == kind for each in ("gpu", "serve", "tools")}
    assert wheels.unlike(REPOSITORY, lock.packages, **kinds) == []


def fetch(folder: Path, has: dict[str, bytes], *wanted: Package) -> Mirror:
    mirror = Mirror(folder / "apt", has)
    debian.fetch(Store(folder=folder / "store"), cast(Apt, mirror), wanted)
    return mirror


def test_all_are_asked_for_in_one_go_and_only_what_is_missing(tmp_path: Path) -> None:
    wanted = [package(name, name.encode()) for name in "abc"]
    has = {f"{name}=1": name.encode() for name in "abc"}
    assert fetch(tmp_path, has, *wanted).calls == [["a=1", "b=1", "c=1"]]
    assert fetch(tmp_path, has, *wanted).calls == []
    changed = next((tmp_path / "store" / wanted[1].digest.hex).iterdir())
    changed.write_bytes(b"tampered")
    assert fetch(tmp_path, has, *wanted).calls == [["b=1"]]


def test_the_one_that_is_gone_is_named(tmp_path: Path) -> None:
    has = {"a=1": b"a", "c=1": b"c"}
    wanted = [package(name, name.encode()) for name in "abc"]
    with pytest.raises(GoneError, match=r"no longer has b 1 \(bookworm\)") as caught:
        fetch(tmp_path, has, *wanted)
    assert caught.value.hint == "./doit image_update"


def test_other_bytes_under_the_same_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GoneError, match="has different bytes for a 1"):
        fetch(tmp_path, {"a=1": b"another a"}, package("a", b"a"))


def test_parts_may_want_two_versions_of_one_python_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def download(requirements: list[wheels.Requirement], target: Path) -> Path:
        asked.append([f"{item.name}=={item.version}" for item in requirements])
        target.mkdir(exist_ok=True)
        for item in requirements:
            (target / f"{item.name}-{item.version}.whl").write_bytes(item.version.encode())
        return target

    monkeypatch.setattr(wheels, "_download", download)
    wanted = [
        Package(part=part, name="packaging", version=version, digest=of_bytes(version.encode()))
        for part, version in (("runner", "1"), ("training", "2"))
    ]
    wheels.fetch(Store(folder=tmp_path / "store"), wanted, tmp_path / "work")
    assert asked == [["packaging==1"], ["packaging==2"]]


@pytest.mark.parametrize(
    ("pip_error", "kind"),
    [
        ("ERROR: No matching distribution found for idna==3.20", GoneError),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", GoneError),
        ("ERROR: Could not connect", ToolError),
    ],
)
def test_a_python_package_that_is_gone_is_told_from_a_source_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip_error: str, kind: type
) -> None:
    def pip(*_: object) -> None:
        raise ToolError(f"python failed with exit code 1\n{pip_error}")

    monkeypatch.setattr(wheels, "_pip", pip)
    wanted = Package(part="runner", name="idna", version="3.20", digest=of_bytes(b"x"))
    with pytest.raises(ToolError, match=pip_error[:40]) as caught:
        wheels.fetch(Store(folder=tmp_path / "store"), [wanted], tmp_path / "work")
    assert type(caught.value) is kind


def test_old_layers_go_and_those_in_use_stay(tmp_path: Path) -> None:
    where = Place(root=tmp_path, cache=tmp_path)
    layers = [tmp_path / f"{kind}-{n}" for kind in ("image", "training") for n in range(5)]
    for layer in layers:
        layer.mkdir()
    used = {tmp_path / "image-0", tmp_path / "training-0"}
    with build.in_use(where):
        build._forget_old(where, used)
    assert all(layer.is_dir() for layer in layers)
    build._forget_old(where, used)
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert {"image-0", "training-0"} <= left
    assert sorted(name.partition("-")[0] for name in left) == ["image"] * 4 + ["training"] * 2


def test_code_in_the_image_has_permissions_of_its_own(tmp_path: Path) -> None:
    from rules.image import trees

    code = code_tree(tmp_path / "source")
    subprocess.run(["chmod", "-R", "go-rwx", tmp_path / "source"], check=True)
    trees._copy_code(tmp_path / "source", tmp_path / "target", MACHINE_CODE)
    copied = list((tmp_path / "target").rglob("*"))
    for path in copied:
        assert os.stat(path).st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    # Nothing else is copied: no command, no byte code.
    files = {str(path.relative_to(tmp_path / "target")) for path in copied if path.is_file()}
    assert files == code


def test_a_store_whose_bytes_changed_says_whose(tmp_path: Path) -> None:
    store = Store(folder=tmp_path / "store")
    (tmp_path / "a_1.deb").write_bytes(b"a")
    package = Package(part="machine", name="a", version="1", digest=store.add(tmp_path / "a_1.deb"))
    assert store.get(package).read_bytes() == b"a"
    store.get(package).write_bytes(b"other")
    with pytest.raises(ToolError, match="the store no longer has a 1") as caught:
        store.get(package)
    assert caught.value.hint == "./doit image"


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        (["py3-none-any"], "a_b-1.0+cpu-py3-none-any.whl"),
        (
            ["cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"],
            "a_b-1.0+cpu-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        ),
    ],
)
def test_a_wheel_that_came_by_digest_alone_gets_the_name_that_its_tags_give(
    tmp_path: Path, tags: list[str], name: str
) -> None:
    path = tmp_path / "package"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a_b-1.0.dist-info/WHEEL", "".join(f"Tag: {tag}\n" for tag in tags))
    package = Package(part="runner", name="a-b", version="1.0+cpu", digest=of_bytes(b""))
    assert wheels.file_name(package, path) == name
    store = Store(folder=tmp_path / "store")
    package = replace(package, digest=store.add(path))
    text = wheels.place(store, [package], tmp_path / "wheels")
    assert text == f"a-b==1.0+cpu --hash={package.digest}\n"
    assert [entry.name for entry in (tmp_path / "wheels").iterdir()] == [name]


def test_what_is_no_wheel_is_a_source_archive_and_a_name_of_its_own_stays(tmp_path: Path) -> None:
    package = Package(part="runner", name="tpm2-pytss", version="2.3", digest=of_bytes(b""))
    (tmp_path / "package").write_bytes(b"\x1f\x8b")
    assert wheels.file_name(package, tmp_path / "package") == "tpm2_pytss-2.3.tar.gz"
    for own in ("x-1-py3-none-any.whl", "tpm2-pytss-2.3.tar.gz"):
        assert wheels.file_name(package, tmp_path / own) == own


def test_python_packages_beside_one_that_is_gone_are_fetched_and_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip(requirements: list[wheels.Requirement], target: Path) -> None:
        if any(item.name == "b" for item in requirements):
            raise ToolError("ERROR: No matching distribution found for b==1")
        for item in requirements:
            (target / f"{item.name}-1.whl").write_bytes(item.name.encode())

    monkeypatch.setattr(wheels, "_pip", pip)
    store = Store(folder=tmp_path / "store")
    wanted = [
        Package(part="training", name=name, version="1", digest=of_bytes(name.encode()))
        for name in "abc"
    ]
    (missing,) = wheels.obtain(store, wanted, tmp_path / "work")
    assert missing.package.name == "b"
    assert "no source has the locked file of b==1" in missing.reason
    assert [store.find(each.digest) is not None for each in wanted] == [True, False, True]


@pytest.fixture
def torch_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Make pip see PyTorch's index with its content; pip's own sources are empty."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    nothing, index = tmp_path / "nothing" / "simple", tmp_path / "index"
    (nothing / "torch").mkdir(parents=True)
    (nothing / "torch" / "index.html").write_text("<!DOCTYPE html>")
    monkeypatch.setenv("PIP_INDEX_URL", nothing.as_uri())
    wheel = index / "torch" / "torch-1.0+cpu-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("torch-1.0+cpu.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(
            "torch-1.0+cpu.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: torch\nVersion: 1.0+cpu\n",
        )
        archive.writestr("torch-1.0+cpu.dist-info/RECORD", "")
    link = f'<!DOCTYPE html><a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>'
    (wheel.parent / "index.html").write_text(link)
    monkeypatch.setattr(wheels, "TORCH_INDEX", index.as_uri())
    digest = of_bytes(wheel.read_bytes())
    return Package(part="training", name="torch", version="1.0+cpu", digest=digest)


def test_torch_for_cpu_only_comes_from_pytorch_where_pip_has_none(
    tmp_path: Path, torch_index: Package
) -> None:
    store = Store(folder=tmp_path / "store")
    wheels.fetch(store, [torch_index], tmp_path / "work")
    assert of_bytes(store.get(torch_index).read_bytes()) == torch_index.digest


def test_the_locks_hash_decides_what_pytorch_has(tmp_path: Path, torch_index: Package) -> None:
    wanted = replace(torch_index, digest=of_bytes(b"another"))
    with pytest.raises(ToolError, match=r"neither a source .* nor file:.* has torch 1.0\+cpu"):
        wheels.fetch(Store(folder=tmp_path / "store"), [wanted], tmp_path / "work")
