"""What is installed: everything that `./doit` needs, under one name, the same in every build."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from aicert.cli.init import TOOL, digest_of
from aicert.files.machine_code import code_digest
from rules.image import cache_key
from rules.package import contents

ROOT = Path(__file__).resolve().parents[4]
NAME = f"aicert-{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"


def tracked(folder: str) -> set[str]:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", folder]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def build(code: Path, target: Path) -> Path:
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    words += ["--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(target), str(code)]
    subprocess.run(words, check=True)
    return next(target.glob("aicert-*.whl"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout, with files that must not be installed and another umask."""
    root = tmp_path_factory.mktemp("checkout")
    names = set().union(*map(tracked, (*contents.FOLDERS, *contents.FILES)))
    for name in (*names, "README.md", "LICENSE"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
        os.chmod(root / name, 0o700 if (ROOT / name).stat().st_mode & 0o100 else 0o600)
    for name in ("rules/__pycache__/x.pyc", "rules/old.pyc", "image/.swp", "aicert/.cache/x",
                 "build/lib/aicert/gone.py", "rules.egg-info/x"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_what_git_tracks_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    parts = set().union(*map(tracked, (*contents.FOLDERS, *contents.FILES)))
    hidden = {name for name in parts if "/." in name}
    expected = {f"{contents.HOME}/{name}" for name in parts - hidden}
    assert names == expected | tracked("aicert") | {f"{contents.HOME}/{TOOL}"}


def test_nothing_of_ours_is_a_top_level_name_but_two(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"aicert", "aicert_build"}


def test_it_is_built_the_same_from_files_with_other_times_and_modes(
    wheel: Path, checkout: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        os.chmod(path, path.stat().st_mode | 0o044)
    before = sorted(path for path in copy.rglob("*"))
    assert build(copy, tmp_path / "wheel").read_bytes() == wheel.read_bytes()
    left = [path for path in copy.rglob("*") if "__pycache__" not in path.parts]
    assert sorted(left) == [path for path in before if "__pycache__" not in path.parts]


def test_a_source_distribution_gives_the_same_wheel(
    wheel: Path, checkout: Path, tmp_path: Path
) -> None:
    words = (
        "from rules.package import backend; print(backend.build_sdist(*__import__('sys').argv[1:]))"
    )
    archives: list[bytes] = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        subprocess.run([sys.executable, "-c", words, tmp_path / folder], cwd=checkout, check=True)
        archives.append((tmp_path / folder / f"{NAME}.tar.gz").read_bytes())
    assert archives[0] == archives[1]
    assert build(tmp_path / "first" / f"{NAME}.tar.gz", tmp_path).read_bytes() == wheel.read_bytes()
    unpacking = ["tar", "-xzOf", str(tmp_path / "first" / f"{NAME}.tar.gz"), f"{NAME}/PKG-INFO"]
    metadata = subprocess.run(unpacking, check=True, capture_output=True).stdout
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{NAME}.dist-info/METADATA") == metadata


def test_what_the_machine_runs_has_one_digest_wherever_it_lies(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    home = tmp_path / contents.HOME
    assert code_digest(home) == code_digest(ROOT)
    assert cache_key.code_facts(home) == cache_key.code_facts(ROOT)
    for folder in ("image/tools", "image/machine", "image/driver"):
        assert cache_key.file_facts(home / folder) == cache_key.file_facts(ROOT / folder)
    makers = (home / "rules/image", ROOT / "rules/image")
    assert cache_key.file_facts(makers[0], "*.py") == cache_key.file_facts(makers[1], "*.py")
    assert f'digest = "{digest_of(home)}"' in (home / TOOL).read_text()
    for name in sorted(path.relative_to(tmp_path) for path in (tmp_path / "aicert").rglob("*")):
        if (tmp_path / name).is_file():
            assert (tmp_path / name).read_bytes() == (home / name).read_bytes()


def test_scripts_can_be_run_after_it_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        modes = {item.filename: item.external_attr >> 16 & 0o777 for item in archive.infolist()}
    assert modes["aicert_build/image/machine/mkosi.build.chroot"] == 0o755
    assert modes["aicert_build/rules/tasks.py"] == 0o644


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is nothing to install"):
        contents.installed(tmp_path)
