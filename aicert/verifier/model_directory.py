"""Read a model directory for its appraisal: what every file is, and what must not be there.

A link, a special file, an empty directory, a name that another system or a terminal could take for
something else, and a safetensors file with a bad header are facts about the model, not errors: each
is returned as a Defect, and `subject.files` fails. Only what cannot be read is an error. The
folders in which no loader looks are not read. A snapshot in the hub's cache, whose files are links
into that cache, is read as the files to which they point (`files/harmless.py`).
"""

import os
from collections.abc import Callable
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.files.harmless import blob_of, is_lost_and_found
from aicert.files.tensors import check_named
from aicert.files.tree import open_file, read_file, read_tree
from aicert.formats.digest import Defect, FileFact
from aicert.formats.paths import check_paths
from aicert.formats.uncovered_names import FOLDERS


def read_model(
    root: Path, on_bytes: Callable[[int], None] | None = None
) -> dict[str, FileFact | Defect]:
    """Return `{relative path: FileFact | Defect}`; `.` stands for the directory as a whole."""
    defects: dict[str, Defect] = {}

    blobs: dict[str, Path] = {}

    def refused(path: str, error: EvidenceError) -> None:
        blob = blob_of(root, path)
        if blob is None:
            defects[path] = Defect(error.message)
        else:
            blobs[path] = blob

    def skip(path: str) -> bool:
        if path not in FOLDERS:
            return is_lost_and_found(root, path)
        defects[path] = Defect("not read")
        return True

    files = read_tree(root, on_bytes=on_bytes, skip=skip, look=check_named, refused=refused)
    for path, blob in blobs.items():
        try:
            files[path] = _read_blob(path, blob, on_bytes)
        except EvidenceError as error:
            defects[path] = Defect(error.message)
    try:
        check_paths(files if blobs else ())
    except EvidenceError as error:
        defects["."] = Defect(error.message)
    return {**files, **defects}


def _read_blob(path: str, blob: Path, on_bytes: Callable[[int], None] | None) -> FileFact:
    fact = read_file(blob, on_bytes=on_bytes)
    descriptor = open_file(blob.parent, blob.name)
    try:
        check_named(path, descriptor, fact.size)
    finally:
        os.close(descriptor)
    return fact
