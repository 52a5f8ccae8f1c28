"""A verdict of this process, and the bytes it is about, so that they need not be read again.

`certify` reads a model where the machine left it. The files then move into place by links and
renames and keep their device, inode, size and mtime. If all of these still match, the verdict is
about what is in place. If not (another disk got a copy, DVC put its own file there, somebody wrote
or added a file), the bytes are read and appraised again. ctime is not compared, because links and
renames change it. So until all runs of this process have ended, whoever can write there can change
a file, set its mtime back, and see a verdict that does not apply to those bytes. That is the
builder, looking at their own screen. Nobody else's verdict depends on this one: `aicert verify` and
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
from rules.runs.appraisal import AppraisalRequest
from rules.runs.verify import read_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A `result`, and what it is about: a certificate's bytes, a lockfile, and a model whose files
    had the status `files`.
    """

    result: AttestationResult
    certificate: bytes
    lockfile: Digest
    model: Model
    files: Mapping[str, Status | None]

    @property
    def passes(self) -> bool:
        """Whether the verdict is PASSED."""
        return self.result.verdict == "passed"

    def is_of_what_is_in_place(self, root: Path, run: Run) -> bool:
        """Whether certificate, lockfile and model in place are the ones that were appraised."""
        path = results.certificate_path(root, run.name)
        return (
            path.is_file()
            and path.read_bytes() == self.certificate
            and identity(locked.read(root, run.name)) == self.lockfile
            and statuses(results.output_path(root, run)) == self.files
        )

    def hand_on_digests(self, root: Path, run: Run) -> None:
        """Pass on the digests of the output in place, so that nobody needs to read it again."""
        facts = {path: fact for path, fact in self.model.items() if isinstance(fact, FileFact)}
        if facts and len(facts) == len(self.model) and self.is_of_what_is_in_place(root, run):
            digests.hand_on(results.output_path(root, run), facts)


def appraised(run: Run, current: Lock, request: AppraisalRequest, out: Path) -> Verdict:
    """Read a machine's results in `out`, and appraise them."""
    data = (out / CERTIFICATE).read_bytes()
    folder = out / OUTPUTS / run.outputs[0]
    before = statuses(folder)
    model = read_model(folder, f"{run.name}: reading the model")
    lockfile = identity(current.data)
    return Verdict(
        result=request.appraise(parse(data), model, lockfile),
        certificate=data,
        lockfile=lockfile,
        model=model,
        files=before,
    )
