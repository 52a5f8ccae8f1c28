"""A package index of our own in the form of PEP 503: folders that hold only what a test adds."""

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEWER = "99999.0"
# The time in an archive: the same wheel has the same digest each time.
_DATE = (2020, 1, 1, 0, 0, 0)
_LOCKED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^ \n;]+)", re.MULTILINE)


def locked(lock: Path) -> dict[str, str]:
    """Return the locked version of each name."""
    return dict(_LOCKED.findall(lock.read_text(encoding="ascii")))


def wheel(folder: Path, name: str, version: str, requires: Iterable[str] = ()) -> str:
    """Put a wheel with one module into `folder`, and return its SHA-256."""
    plain = re.sub(r"[-.]+", "_", name)
    info = f"{plain}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {
        f"{plain}_module.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        record += f"{path},sha256={digest.decode().rstrip('=')},{len(text)}\n"
    files[f"{info}/RECORD"] = record
    place = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, _DATE), text)
    return hashlib.sha256(place.read_bytes()).hexdigest()


def sdist(folder: Path, name: str, version: str, code: str = "") -> str:
    """Put a source archive with nothing but a `setup.py` into `folder`, and return its SHA-256.

    `code` runs whenever `setup.py` does.
    """
    plain = re.sub(r"[-.]+", "_", name)
    setup = f"from setuptools import setup\n{code}\n"
    setup += f"setup(name={name!r}, version={version!r}, py_modules=[{plain + '_module'!r}])\n"
    files = {
        "setup.py": setup,
        f"{plain}_module.py": f"VERSION = {version!r}\n",
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    place = folder / f"{plain}-{version}.tar.gz"
    with tarfile.open(place, "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{plain}-{version}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(place.read_bytes()).hexdigest()


def project(index: Path, name: str) -> Path:
    """Return the folder of one project of the index."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def list_files(index: Path) -> None:
    """Write each project's page, with the digest of every file as indexes state it."""
    for folder in sorted(index.iterdir()):
        files = sorted(path for path in folder.iterdir() if path.name != "index.html")
        links = [
            f'<a href="{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">'
            f"{path.name}</a>\n"
            for path in files
        ]
        (folder / "index.html").write_text("<!DOCTYPE html>\n" + "".join(links))


def every_lock() -> list[Path]:
    """Return the hashed locks of this repository."""
    tops = (ROOT / top for top in ("rules", "tests", "enclave_runner"))
    return sorted(path for top in tops for path in top.rglob("*.lock"))
