"""What each trainer's run has: a machine, one output, and the output's signature."""

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
from enclave_runner.attester.tpm import RunKey, Tpm
from enclave_runner.audit import child
from enclave_runner.inputs import rows


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


def take_results(
    arguments: argparse.Namespace, name: str, results: bytes | None
) -> Mapping[str, FileFact]:
    """Put results where the host collects them, and hash them. If `results` is None, do nothing."""
    if results is None:
        return {}
    folder = arguments.out / machine_io.OUTPUTS / name
    folder.mkdir(parents=True)
    (folder / child.RESULTS).write_bytes(results)
    return read_tree(folder)


def room(arguments: argparse.Namespace) -> rows.Room:
    """Return the folder and limits for children that make rows, and for a trainer's child."""
    return rows.Room(
        folder=options.beside_scratch(arguments, "records"),
        training_env=arguments.training_env,
        limits=options.limits(arguments),
        user=arguments.trainer_user,
    )


def subject(files: Mapping[str, FileFact]) -> Output:
    """Return an output of these files as the statement describes it."""
    digest = dir_digest(files) if files else EMPTY_DIR
    return Output(digest=digest, files={path: fact.sha256 for path, fact in files.items()})


def ran(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    files: Mapping[str, FileFact],
    report: RunReport,
    log: Path,
) -> Ran:
    """Sign the run's one output, and complete its report with that and with the inputs' signers."""
    signatures = signed(arguments, lockfile.outputs[0], files, machine.key.run_key)
    whole = replace(report, signatures=tuple(signatures.items()), signers=signers(lockfile))
    return Ran(subject=subject(files), report=whole, log=log)


def signed(
    arguments: argparse.Namespace, name: str, files: Mapping[str, FileFact], run_key: RunKey
) -> dict[str, Digest]:
    """Sign an output unless it is empty. Return its name with the digest of the signature."""
    if not files:
        return {}
    data = attest.sign_output(run_key, name, files)
    beside = arguments.out / machine_io.SIGNATURES
    beside.mkdir()
    (beside / f"{name}.sig").write_bytes(data)
    return {name: of_bytes(data)}
