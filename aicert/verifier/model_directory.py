"""Read a model directory for its appraisal: what every file is, and what must not be there.

A link, a special file, an empty directory, a name that another system or a terminal could take for
something else, and a safetensors file with a bad header are facts about the model, not errors: they
come back as a Defect each, and `subject.files` says no. Only what cannot be read is an error. The
folders in which no loader looks are not read.
"""

from collections.abc import Callable
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.files.tensors import check_named
from aicert.files.tree import read_tree
from aicert.formats.digest import Defect, FileFact
from aicert.formats.uncovered_names import FOLDERS


def read_model(
    root: Path, on_bytes: Callable[[int], None] | None = None
) -> dict[str, FileFact | Defect]:
    """`{relative path: FileFact | Defect}`; `.` stands for the directory as a whole."""
    defects: dict[str, Defect] = {}

    def refused(path: str, error: EvidenceError) -> None:
        defects[path] = Defect(error.message)

    def skip(path: str) -> bool:
        if path not in FOLDERS:
            return False
        defects[path] = Defect("not read")
        return True

    files = read_tree(root, on_bytes=on_bytes, skip=skip, look=check_named, refused=refused)
    return {**files, **defects}
