"""A verdict of this process, and of which bytes it is: who hands it on need not read them again.

`certify` reads a model where the machine left it. It comes to its place by links and renames, so
its files stay what they are: same device, inode, size and mtime. Where each of them still is, the
verdict is of what lies there. Where one is not (another disk took a copy, DVC put its own there,
somebody wrote to it or added to it), the bytes are read and appraised again. Not compared is ctime,
which links and renames change: until all runs of this process have ended, whoever may write there
can write to a file and set its mtime back, and see a verdict that is not of those bytes. It is the
builder, on a screen of his own. No verdict of anybody else rests on this one: `aicert verify` and
`./doit verify` always read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.appraisal.checks.model import Model
from aicert.appraisal.result import AttestationResult
from aicert.formats.certificate import parse
from aicert.formats.digest import Digest, FileFact
from aicert.formats.lockfile import identity
from aicert.formats.machine_io import CERTIFICATE, OUTPUTS
from rules.host.statuses import Status, statuses
from rules.project import digests, locked, results
from rules.project.config import Run
from rules.project.locked import Lock
from rules.runs.appraisal import Question
from rules.runs.verify import read_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`result`, of a certificate's bytes, of a lockfile and of a model whose files had `files`."""

    result: AttestationResult
    certificate: bytes
    lockfile: Digest
    model: Model
    files: Mapping[str, Status | None]

    @property
    def passes(self) -> bool:
        """Whether it is a pass."""
        return self.result.verdict == "passed"

    def is_of_what_is_in_place(self, root: Path, run: Run) -> bool:
        """Whether certificate, lockfile and model in place are what was appraised."""
        path = results.certificate_path(root, run.name)
        return (
            path.is_file()
            and path.read_bytes() == self.certificate
            and identity(locked.read(root, run.name)) == self.lockfile
            and statuses(results.output_path(root, run)) == self.files
        )

    def hand_on_digests(self, root: Path, run: Run) -> None:
        """Whoever asks for the digests of the output in place need not read it either."""
        facts = {path: fact for path, fact in self.model.items() if isinstance(fact, FileFact)}
        if facts and len(facts) == len(self.model) and self.is_of_what_is_in_place(root, run):
            digests.hand_on(results.output_path(root, run), facts)


def appraised(run: Run, current: Lock, question: Question, out: Path) -> Verdict:
    """Read what a machine left in `out`, and appraise it."""
    data = (out / CERTIFICATE).read_bytes()
    folder = out / OUTPUTS / run.outputs[0]
    before = statuses(folder)
    model = read_model(folder, f"{run.name}: reading the model")
    lockfile = identity(current.data)
    return Verdict(
        result=question.appraise(parse(data), model, lockfile),
        certificate=data,
        lockfile=lockfile,
        model=model,
        files=before,
    )
