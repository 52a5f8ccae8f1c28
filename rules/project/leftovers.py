"""Files in the repository that belong to runs no longer in aicert.toml: lockfiles, `.dvc` files,
certificates and reproductions.

Only files that these commands write count: a folder needs a lockfile's listing, a `.dvc` file or a
certificate. Outputs are not in the repository; `./doit clean outputs` removes them.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from rules.project.config import Project
from rules.project.locked import DIRECTORY
from rules.project.results import CERTIFICATES, REPRODUCTIONS

SUFFIX = ".lock.toml"
# Locks of the machine's images belong to no run.
IMAGES = ("image", "image-gpu", "image-serve", "image-tools")


def of(root: Path, project: Project) -> dict[str, list[Path]]:
    """Return the files of removed runs, by run. Links are not followed."""
    by_run: dict[str, list[Path]] = {}
    for lockfile in sorted((root / DIRECTORY).glob(f"*{SUFFIX}")):
        by_run.setdefault(lockfile.name.removesuffix(SUFFIX), []).append(lockfile)
    for base, marks in ((root / DIRECTORY, (".sha256", ".dvc")), (root / CERTIFICATES, (".dvc",))):
        for folder in sorted(base.iterdir()) if base.is_dir() else ():
            files = _files(folder)
            if any(file.suffix in marks or file.name == "certificate.json" for file in files):
                by_run.setdefault(folder.name, []).extend(files)
    for second in sorted((root / REPRODUCTIONS).glob("*/*/certificate.json")):
        if not second.parents[1].is_symlink():
            by_run.setdefault(second.parents[1].name, []).extend(_files(second.parent))
    present = {*project.runs, *IMAGES}
    return {run: files for run, files in sorted(by_run.items()) if run not in present}


def _files(folder: Path) -> list[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_dir() or path.is_symlink())


def remove(files: Iterable[Path]) -> None:
    """Remove these files, and each folder that is then empty."""
    gone = list(files)
    for path in gone:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in gone}:
        if folder.name != DIRECTORY and folder.is_dir() and not any(folder.iterdir()):
            shutil.rmtree(folder)
        above = folder.parent
        if above.parent.name == REPRODUCTIONS.name and above.is_dir() and not any(above.iterdir()):
            above.rmdir()
