"""What each trainer's run has: a machine, inputs, one output, and the output's signature."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from aicert.files.tree import read_tree
from aicert.formats import machine_io
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.listing import EMPTY_DIR, dir_digest
from aicert.formats.lockfile import Lockfile, signers
from aicert.formats.run_report import RunReport
from aicert.formats.statement import Output
from aicert.frozen import dataclass, replace
from enclave_runner import options
from enclave_runner.attester import attest
from enclave_runner.attester.tpm import Tpm
from enclave_runner.audit import child
from enclave_runner.axolotl import loss_sample
from enclave_runner.events import Events
from enclave_runner.inputs import measure, rows
from enclave_runner.inputs.measure import MeasuredInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The TPM that attests to this run, and the run's key in it."""

    tpm: Tpm
    key: attest.CertifiedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The result of a trainer: its one output, the run report, and its log."""

    subject: Output
    report: RunReport
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a trainer is given: a lockfile, the inputs as measured, and a machine.

    `arguments`: the command line. `tools`: the folder of the trainer's own packages, if it has any.
    """

    machine: Machine
    arguments: argparse.Namespace
    lockfile: Lockfile
    measured: list[MeasuredInput]
    events: Events
    tools: Path | None = None

    @property
    def config(self) -> bytes:
        """The run's config. Raises ConfigError."""
        return measure.config_of(self.measured)

    @property
    def scratch(self) -> Path:
        """The folder that the trainer's child writes to."""
        scratch: Path = self.arguments.scratch
        return scratch

    @property
    def room(self) -> rows.Room:
        """The folder and limits for children that make rows, and for a trainer's child."""
        return rows.Room(
            folder=self.beside("records"),
            training_env=self.arguments.training_env,
            limits=options.limits(self.arguments),
            user=self.arguments.trainer_user,
        )

    @property
    def output(self) -> Path:
        """The folder of the run's one output, where the host collects it."""
        folder: Path = self.arguments.out / machine_io.OUTPUTS / self.lockfile.outputs[0]
        return folder

    def beside(self, name: str) -> Path:
        """Return a path for the runner's own use, beside `scratch`."""
        return options.beside_scratch(self.arguments, name)

    def draw_seed(self) -> bytes:
        """Draw what chooses a sample. The trainer has ended, so it could not know these bytes."""
        return loss_sample.seed(self.machine.key.nonce, self.machine.tpm.random(32))

    def take_results(self, results: bytes | None) -> Mapping[str, FileFact]:
        """Put results where the host collects them, and hash them. If they are None, do nothing."""
        if results is None:
            return {}
        self.output.mkdir(parents=True)
        (self.output / child.RESULTS).write_bytes(results)
        return read_tree(self.output)

    def ended(self, files: Mapping[str, FileFact], report: RunReport, log: Path) -> Ran:
        """Sign the output, unless it is empty, and complete the report.

        The report gets the signature's digest, and the names of the inputs' signers.
        """
        digest = dir_digest(files) if files else EMPTY_DIR
        return Ran(
            subject=Output(digest=digest, files={path: f.sha256 for path, f in files.items()}),
            report=replace(report, signatures=self._signed(files), signers=signers(self.lockfile)),
            log=log,
        )

    def _signed(self, files: Mapping[str, FileFact]) -> tuple[tuple[str, Digest], ...]:
        if not files:
            return ()
        name = self.lockfile.outputs[0]
        data = attest.sign_output(self.machine.key.run_key, name, files)
        beside = self.arguments.out / machine_io.SIGNATURES
        beside.mkdir()
        (beside / f"{name}.sig").write_bytes(data)
        return ((name, of_bytes(data)),)
