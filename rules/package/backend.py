"""Builds the wheel (PEP 517): setuptools, on a copy laid out as it is installed.

Promises: the same files give the same wheel, whatever their times and modes and whatever earlier
builds left behind; the checkout is not written to. A wheel is all that there is: what it holds are
sources. Used by pip alone, with setuptools from pyproject.toml.
"""

import contextlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from setuptools import build_meta

from aicert.cli.init import TOOL, digest_of, tool
from rules.package import contents

# As `SOURCE_DATE_EPOCH` of every build: 1980-01-01, the first that a zip archive can hold.
_EPOCH = "315532800"
_DESCRIBED = ("pyproject.toml", "README.md", "LICENSE")


def build_wheel(
    wheel_directory: str,
    config_settings: object = None,
    metadata_directory: str | None = None,
) -> str:
    """The wheel of the checkout in the current directory; returns its name."""
    code, target = Path.cwd(), os.path.abspath(wheel_directory)
    with tempfile.TemporaryDirectory(prefix="aicert-wheel-") as folder:
        lay_out(code, Path(folder))
        with _inside(Path(folder)):
            return str(build_meta.build_wheel(target, config_settings))


def lay_out(code: Path, target: Path) -> None:
    """Copy what is installed into `target`, and what describes it."""
    places = contents.installed(code) | {name: code / name for name in _DESCRIBED}
    for path, source in places.items():
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        # A checkout's follow its owner's umask, and a wheel keeps them.
        copy.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    home = target / contents.HOME
    version = tomllib.loads((code / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    text = tool(version, digest_of(home))
    (home / TOOL).write_text(text, encoding="ascii")


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
