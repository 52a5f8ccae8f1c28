"""Recognise what may be in a model's directory although a plain walk refuses it: it hides nothing.

A file of a snapshot in the hub's cache is a link into `blobs/` of the same cache folder
(huggingface_hub, "Understand caching"), so it is read there. No other link is followed.
`lost+found` at the top belongs to the file system if it is empty or only root may look into it.
"""

import os
import re
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.files.tree import open_file
from aicert.formats.paths import check_path

_CACHE = re.compile(r"(?:models|datasets|spaces)--[A-Za-z0-9._-]{1,255}")
# A blob has the name of its ETag: git's SHA-1, or SHA-256.
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
LOST = "lost+found/"


def blob_of(root: Path, path: str) -> Path | None:
    """Return the file that the link at `path` of the snapshot `root` stands for.

    None if it is not a link of a snapshot.
    """
    snapshot = Path(os.path.abspath(root))
    cache = snapshot.parents[1] if len(snapshot.parents) > 1 else snapshot
    blobs = cache / "blobs"
    if snapshot.parent.name != "snapshots" or not _CACHE.fullmatch(cache.name):
        return None
    try:
        check_path(path)
        target = os.readlink(snapshot / path)
    except (EvidenceError, OSError):
        return None
    name = target.rpartition("/")[2]
    inside = target == f"{'../' * (path.count('/') + 2)}blobs/{name}"
    plain = inside and _BLOB.fullmatch(name) and not blobs.is_symlink()
    return blobs / name if plain else None


def open_in(root: Path, path: str) -> int:
    """Return a descriptor of the file at `path`, which may be a link of a snapshot."""
    blob = blob_of(root, path)
    return open_file(root, path) if blob is None else open_file(blob.parent, blob.name)


def is_lost_and_found(root: Path, path: str) -> bool:
    """Return whether the folder at `path`, which ends in a slash, belongs to the file system and
    holds nothing that could be loaded.
    """
    if path != LOST or (root / LOST).is_symlink():
        return False
    try:
        with os.scandir(root / LOST) as entries:
            return next(entries, None) is None
    except PermissionError:
        return True
    except OSError:
        return False
