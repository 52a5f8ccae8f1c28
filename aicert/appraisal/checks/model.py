"""Appraise the model on disk against the certified files (subject.files).

The model directory must be one certified output, file for file, and contain nothing that its reader
refused (`verifier/model_directory.py`). Other files are allowed only if their names are in a closed
list (`formats/uncovered_names.py`): they are reported as present, not covered.
"""

from collections.abc import Callable, Mapping

from aicert.appraisal.checklist import Checklist
from aicert.appraisal.checks.run import VerifiedRun
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.digest import Defect, FileFact
from aicert.formats.paths import fold
from aicert.formats.statement import Output
from aicert.formats.uncovered_names import FOLDERS, GIT, may_be_uncovered
from aicert.text import counted

Model = Mapping[str, FileFact | Defect]
# The content of the model directory, or a function that reads it.
GivenModel = Model | Callable[[], Model]
SHOWN = 5


def appraise_model(checklist: Checklist, run: VerifiedRun | None, given: GivenModel | None) -> None:
    """Decide subject.files: the model on disk is exactly one of the certified outputs.

    The model's sender chooses the size of the directory, so it is read only for a verified run.
    """
    verified = run is not None and checklist.is_ok("outputs.pcr8")
    model = (given() if verified else {}) if callable(given) else given

    def files(given: VerifiedRun) -> tuple[str, None]:
        if model is None:
            raise UndecidedError("not checked: you gave no model directory")
        outputs = given.statement.outputs
        differences = {name: _differences(outputs[name], model) for name in outputs}
        for name, paths in differences.items():
            if not paths:
                return _covered(name, outputs[name], model), None
        name = min(differences, key=lambda n: len(differences[n]))
        shown = "\n".join(differences[name][:SHOWN])
        more = len(differences[name]) - SHOWN
        rest = f"\nand {more} more" if more > 0 else ""
        raise EvidenceError(f"the model directory is not output {name}\n{shown}{rest}")

    checklist.step("subject.files", files, run, "statement.form", "outputs.pcr8")


def _differences(output: Output, model: Model) -> list[str]:
    refused, lines, extra = [], [], []
    for path, entry in model.items():
        unread = path not in output.files and path.startswith(FOLDERS)
        if isinstance(entry, Defect) and not unread:
            # A refused path can hold anything; the reason is the reader's own text.
            refused.append(f"refused   {path[:200]!a}: {entry.reason}")
        elif path not in output.files and not may_be_uncovered(path):
            extra.append(f"extra     {path}")
    for path, digest in output.files.items():
        fact = model.get(path)
        if fact is None:
            lines.append(f"missing   {path}")
        elif fold(path).startswith(FOLDERS):
            # On a file system that ignores case, an unread file in one folder replaces one in the
            # other.
            refused.append(f"refused   {path}: some systems put it in a folder that is not read")
        elif isinstance(fact, FileFact) and fact.sha256 != digest:
            lines.append(f"changed   {path}")
    return sorted(refused) + sorted(lines) + sorted(extra)


def _covered(name: str, output: Output, model: Model) -> str:
    uncovered = sorted(path for path in model if path not in output.files)
    covered = (model[path] for path in output.files)
    size = sum(fact.size for fact in covered if isinstance(fact, FileFact))
    text = f"output {name}: {counted(len(output.files), 'file')}, {size} bytes"
    if not uncovered:
        return text
    shown = ", ".join(uncovered[:SHOWN]) + (", …" if len(uncovered) > SHOWN else "")
    text = f"{text}\npresent, not covered: {shown}"
    if any(path.startswith(GIT) for path in uncovered):
        return f"{text}\nsomebody else's {GIT} can make git run programs: remove it"
    return text
