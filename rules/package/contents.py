"""Which files are installed, and where.

`aicert/` is the verifier. `aicert_build/` is the code of `./doit` in the layout of a checkout, with
another copy of `aicert/` in it. So the digests of the machine's code and the keys of its images
equal those of a checkout, and these two are our only top-level names. Caches, byte code and hidden
files are left out.
"""

import os
from pathlib import Path

VERIFIER = "aicert"
HOME = "aicert_build"
FOLDERS = ("aicert", "docs", "enclave_runner", "image", "rules", "terraform")
FILES = (
    "doit",
    "pyproject.toml",
    "lockfiles/image.lock.toml",
    "lockfiles/image-gpu.lock.toml",
    "lockfiles/image-serve.lock.toml",
    "lockfiles/image-tools.lock.toml",
)
_BYTE_CODE = "__pycache__"


def installed(code: Path) -> dict[str, Path]:
    """Return where each file of the checkout at `code` is installed, by its path among the
    packages.
    """
    parts = {f"{folder}/{name}" for folder in FOLDERS for name in _files(code / folder)}
    parts.update(FILES)
    by_path = {f"{HOME}/{path}": code / path for path in sorted(parts)}
    by_path |= {f"{VERIFIER}/{name}": code / VERIFIER / name for name in _files(code / VERIFIER)}
    return by_path


def _files(folder: Path) -> list[str]:
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _BYTE_CODE and not name.startswith(".")]
        inside = os.path.relpath(place, folder)
        names += [os.path.normpath(os.path.join(inside, name)) for name in files
                  if not name.startswith(".") and not name.endswith(".pyc")]  # fmt: skip
    if not names:
        raise FileNotFoundError(f"there is nothing to install in {folder}")
    return sorted(names)
