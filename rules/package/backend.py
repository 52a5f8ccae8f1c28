"""Build the wheel (PEP 517) with setuptools, from a copy laid out as it is installed; and the
source distribution, which contains what the wheel is made from, so that it gives the same wheel.

The same files give the same bytes, whatever their times and modes and whatever earlier builds left;
nothing is written to the checkout. Only pip and similar tools use this, with setuptools from
pyproject.toml.
"""

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from setuptools import build_meta

from aicert.cli.init import TOOL, digest_of, tool
from rules.package import contents

# As `SOURCE_DATE_EPOCH` of every build: 1980-01-01, the earliest date in a zip archive.
_EPOCH = "315532800"
_DESCRIBED = ("pyproject.toml", "README.md", "LICENSE")


def build_wheel(
    wheel_directory: str,
    config_settings: object = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel of the checkout in the current directory. Returns its name."""
    code, target = Path.cwd(), os.path.abspath(wheel_directory)
    with tempfile.TemporaryDirectory(prefix="aicert-wheel-") as folder:
        lay_out(code, Path(folder))
        with _inside(Path(folder)):
            return str(build_meta.build_wheel(target, config_settings))


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Build the source distribution of the checkout in the current directory. Returns its name."""
    code, top = Path.cwd(), f"aicert-{_version(Path.cwd())}"
    with tempfile.TemporaryDirectory(prefix="aicert-sdist-") as folder:
        lay_out(code, Path(folder))
        with _inside(Path(folder)):
            info = Path(build_meta.prepare_metadata_for_build_wheel(folder))
        metadata = (Path(folder) / info / "METADATA").read_bytes()
    sources = [*contents.installed(code).values(), *(code / name for name in _DESCRIBED)]
    files = {f"{top}/{source.relative_to(code)}": source for source in sources}
    path = Path(sdist_directory, f"{top}.tar.gz")
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=int(_EPOCH)) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        _add(archive, f"{top}/PKG-INFO", metadata, 0o644)
        for name, source in sorted(files.items()):
            _add(archive, name, source.read_bytes(), _mode(source))
    return path.name


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), mode, int(_EPOCH)
    archive.addfile(member, io.BytesIO(data))


def lay_out(code: Path, target: Path) -> None:
    """Copy what is installed, and the files that describe it, to `target`."""
    places = contents.installed(code) | {name: code / name for name in _DESCRIBED}
    for path, source in places.items():
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        # A checkout's modes depend on its owner's umask, and a wheel keeps them.
        copy.chmod(_mode(source))
    home = target / contents.HOME
    text = tool(_version(code), digest_of(home))
    (home / TOOL).write_text(text, encoding="ascii")


def _mode(source: Path) -> int:
    return 0o755 if source.stat().st_mode & 0o100 else 0o644


def _version(code: Path) -> str:
    project = tomllib.loads((code / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["version"])


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before, epoch = Path.cwd(), os.environ.get("SOURCE_DATE_EPOCH")
    os.chdir(folder)
    os.environ["SOURCE_DATE_EPOCH"] = _EPOCH
    try:
        yield
    finally:
        os.chdir(before)
        del os.environ["SOURCE_DATE_EPOCH"]
        if epoch is not None:
            os.environ["SOURCE_DATE_EPOCH"] = epoch
