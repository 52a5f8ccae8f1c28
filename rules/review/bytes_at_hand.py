"""Find the bytes of a locked file on this computer, for a reviewer's orientation; fetch nothing.

It looks in the revision's own files, the checkout and its outputs, the last commit, the store of
fetched inputs and DVC's cache. A file is used only if it has the locked SHA-256.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from aicert.errors import AicertError
from aicert.formats.digest import is_hex
from aicert.formats.lockfile import RUN_SCHEME, LockedInput
from rules.dvc.program import object_at, own_objects
from rules.project.locked import DIRECTORY
from rules.project.sources import store
from rules.review.revisions import MAX_BYTES, Checkout, Files, Revision

_OUT = re.compile(r"^[- ] md5: ([0-9a-f]{32})(\.dir)?$", re.MULTILINE)
_MD5 = re.compile(r"[0-9a-f]{32}")


class Finder:
    """Finds files of inputs that are locked in `files` (a revision or the checkout)."""

    def __init__(self, root: Path, files: Files) -> None:
        self._root = root
        self._files = files
        self._checkout = Checkout(root)
        self._head: Revision | None = None
        self._tracked: dict[tuple[str, str], dict[str, str]] = {}

    def find(self, run: str, item: LockedInput, path: str, sha256: str) -> bytes | None:
        """Return the bytes of file `path` of an input; `path` is empty if the input is a single
        file.
        """
        if not is_hex(sha256):
            return None
        stored = store(self._root).file(sha256)
        candidates: list[Callable[[], bytes | None]] = [lambda: _small(stored)]
        if item.source.startswith("path:"):
            name = "/".join(filter(None, (item.source.removeprefix("path:"), path)))
            candidates += [lambda: self._files.read(name), lambda: self._checkout.read(name)]
            # If the file was edited here, the last commit still has the old one.
            candidates.append(lambda: self._committed(name))
        if item.source.startswith(RUN_SCHEME):
            output = "/".join(("outputs", item.source.removeprefix(RUN_SCHEME), path))
            candidates.append(lambda: self._checkout.read(output))
        candidates.append(lambda: self._dvc(run, item.name, path))
        for candidate in candidates:
            data = candidate()
            if data is not None and hashlib.sha256(data).hexdigest() == sha256:
                return data
        return None

    def _committed(self, name: str) -> bytes | None:
        try:
            self._head = self._head or Revision(self._root, "HEAD")
            return self._head.read(name)
        except (AicertError, OSError):
            # No git, or nothing committed yet.
            return None

    def _dvc(self, run: str, name: str, path: str) -> bytes | None:
        key = (run, name)
        if key not in self._tracked:
            self._tracked[key] = self._objects(run, name)
        md5 = self._tracked[key].get(path)
        return None if md5 is None else self._object(md5)

    def _objects(self, run: str, name: str) -> dict[str, str]:
        """Return the MD5 by path of what the `.dvc` file next to the lockfile tracks, as far as
        that is known here.
        """
        text = self._files.read(f"{DIRECTORY}/{run}/{name}.dvc") or b""
        out = _OUT.search(text.decode("utf-8", "replace"))
        if out is None:
            return {}
        if out[2] is None:
            return {"": out[1]}
        listing = self._object(out[1] + out[2])
        objects: dict[str, str] = {}
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            for entry in json.loads(listing or b"[]"):
                if _MD5.fullmatch(entry["md5"]):
                    objects[str(entry["relpath"])] = entry["md5"]
        return objects

    def _object(self, md5: str) -> bytes | None:
        return _small(object_at(own_objects(self._root), md5))


def _small(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError:
        return None
