"""The attester: check, measure, train, measure, quote. One run, then it ends.

Everything that gives a certificate meaning is refused here, not on the host. The host gives paths
of inputs, a lockfile, a nonce and limits; of these only the lockfile and the nonce are believed,
and both are measured or bound by the quote. Whatever fails before the quote ends without a
certificate.
"""

import argparse
import contextlib
import datetime
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from aicert.errors import AicertError, ConfigError, ToolError
from aicert.files.machine_code import code_digest
from aicert.files.tree import read_file, read_tree
from aicert.formats import lockfile as lockfile_form
from aicert.formats import machine_io
from aicert.formats import run_report as report_form
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.listing import EMPTY_DIR, dir_digest
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, signers
from aicert.formats.run_report import Value
from aicert.formats.statement import Dependency, Output, Statement
from aicert.frozen import replace
from enclave_runner.attester import attest
from enclave_runner.attester.tpm import RunKey, Tpm
from enclave_runner.axolotl import config, loss, loss_sample, report, texts, training
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.events import Counter, Events
from enclave_runner.inputs import measure, model_files, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_files import ModelFiles
from enclave_runner.sandbox.containment import Limits
from enclave_runner.sandbox.places import INPUTS

BUILDER_ID = "urn:aicert:machine:"
# The input is one YAML document that people review; Axolotl's own examples have some 3 kB.
MAX_CONFIG = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Run as the command line says; the exit code is 0 when a certificate was written."""
    arguments = _arguments(argv)
    events = Events(arguments.events_fd)
    signal.signal(signal.SIGTERM, _stopped)
    try:
        _run(arguments, events)
    except AicertError as error:
        events.error(error.message, error.hint, error.exit_code)
        return error.exit_code
    except OSError as error:
        # A full disk, say: the host's doing, and no defect of ours.
        where = f": {os.fspath(error.filename)!a}" if error.filename else ""
        events.error(f"{error.strerror}{where}", "df -h .", ToolError.exit_code)
        return ToolError.exit_code
    return 0


def _stopped(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _run(arguments: argparse.Namespace, events: Events) -> None:
    started = _now()
    nonce = bytes.fromhex(arguments.nonce)
    data = arguments.lockfile.read_bytes()
    lockfile = lockfile_form.parse(data)
    with Tpm(arguments.tcti) as tpm:
        attest.check_registers(tpm)
        # First of all: from here to the quote the TPM's own clock counts.
        key = attest.make_run_key(tpm, nonce)
        measured = _measure_inputs(lockfile, arguments.input, events)
        measure.check_readable(measured, arguments.trainer_user)
        attest.measure_inputs(tpm, data, measured)
        effective = _prepare(lockfile, measured)
        models = _models(arguments, lockfile, effective, measured)
        read = _read_rows(arguments, effective, measured, events)
        report.check_told(read.records, models.removed)
        shown = {f"{INPUTS}/{n}": path for n, path in models.shown.items()} | dict(read.shown)
        result = _train(arguments, effective, shown, read.copied, events)
        # The trainer is gone: before that nobody could know these bytes.
        seed = loss_sample.seed(nonce, tpm.random(32))
        events.send(machine_io.MEASURING)
        name = lockfile.outputs[0]
        target = arguments.out / machine_io.OUTPUTS / name
        files = _collect(result, target)
        signatures = _sign(key.run_key, name, files, arguments.out / machine_io.SIGNATURES)
        run_report = replace(
            report.build(effective, read, result, measured, files, target, signatures),
            signers=signers(lockfile),
            removed=models.removed,
            texts=_texts(arguments, effective, measured),
        )
        if files:
            output = {path: target / path for path in files}
            seconds = result.wall_seconds
            found = _measure_loss(arguments, effective, shown, output, seed, seconds)
            values = {
                "lossCpuSeconds": Value("measured", round(found.cpu_seconds, 3)),
                "lossSeed": Value("measured", seed.hex()),
            }
            run_report = replace(
                run_report, loss=found.loss, values={**run_report.values, **values}
            )
        # Last: the outputs were compared with the inputs, too.
        measure.check_unchanged(measured)
        statement = Statement(
            run=lockfile.run,
            trainer=lockfile.trainer,
            lockfile=lockfile_form.identity(data),
            dependencies=tuple(
                Dependency(name=i.name, uri=i.uri, digest=i.digest) for i in lockfile.inputs
            ),
            outputs={name: _output(files)},
            builder_id=BUILDER_ID + ("measured" if arguments.builder else "local"),
            # A measured machine is what its command line names; elsewhere this code is a claim.
            builder=arguments.builder or {"runner": code_digest(Path(__file__).parents[1])},
            nonce=nonce,
            started=started,
            finished=_now(),
            report=report_form.emit(run_report),
            log=_keep_log(result.log, arguments.out / machine_io.TRAINING_LOG),
        )
        certificate = attest.attest(tpm, key, statement, run_report, data)
        key.run_key.flush()
    (arguments.out / machine_io.CERTIFICATE).write_bytes(certificate)
    events.send(machine_io.DONE, exitCode=run_report.exit_code)


def _measure_inputs(
    lockfile: Lockfile, paths: Mapping[str, Path], events: Events
) -> list[MeasuredInput]:
    counter = Counter(events, machine_io.HASHING, sum(item.size for item in lockfile.inputs))
    measured = measure.measure(lockfile, paths, counter.add)
    for item, found in zip(lockfile.inputs, measured, strict=True):
        measure.check_signer(item, found)
    return measured


def _prepare(lockfile: Lockfile, measured: list[MeasuredInput]) -> config.Effective:
    if lockfile.trainer != "axolotl":
        raise ConfigError(f"this machine has no trainer named {lockfile.trainer}")
    if len(lockfile.outputs) != 1:
        raise ConfigError("the axolotl trainer makes exactly one output")
    found = next(item for item in measured if item.name == CONFIG_INPUT)
    with found.path.open("rb") as file:
        data = file.read(MAX_CONFIG + 1)
    # What is parsed must be what was hashed: the path may have been written to in between.
    if hashlib.sha256(data).hexdigest() != found.digest.hex:
        raise ConfigError(
            f"the config is larger than {MAX_CONFIG} bytes or changed while it was read"
        )
    views = {
        item.name: config.InputView(
            is_file=item.is_file, files=frozenset(path for path in item.files if path)
        )
        for item in measured
        if item.name != CONFIG_INPUT
    }
    return config.resolve(data, views)


def _models(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    effective: config.Effective,
    measured: list[MeasuredInput],
) -> ModelFiles:
    """The files of models that the trainer sees; copies lie beside its scratch."""
    scratch: Path = arguments.scratch
    return model_files.prepare(
        effective.references,
        measured,
        frozenset(item.name for item in lockfile.inputs if item.allow_pickle),
        scratch.with_name(scratch.name + "-models"),
        model_types=axolotl_keys().model_types,
    )


def _read_rows(
    arguments: argparse.Namespace,
    effective: config.Effective,
    measured: list[MeasuredInput],
    events: Events,
) -> rows.Rows:
    events.send(machine_io.READING)
    scratch: Path = arguments.scratch
    room = rows.Room(
        folder=scratch.with_name(scratch.name + "-records"),
        training_env=arguments.training_env,
        limits=_limits(arguments),
        user=arguments.trainer_user,
    )
    return rows.prepare(effective.selections, {item.name: item for item in measured}, room)


def _train(
    arguments: argparse.Namespace,
    effective: config.Effective,
    shown: Mapping[str, Path],
    copied: int,
    events: Events,
) -> training.TrainingResult:
    events.send(machine_io.TRAINING, step=0)
    limits = _limits(arguments)
    return training.train(
        effective,
        shown,
        arguments.scratch,
        arguments.training_env,
        # Copies of rows are on the same disk, or in the same memory.
        replace(limits, scratch_bytes=limits.scratch_bytes - copied),
        lambda at: events.send(machine_io.TRAINING, step=at.step, total=at.total, loss=at.loss),
        user=arguments.trainer_user,
        gpus=arguments.gpu,
    )


def _measure_loss(
    arguments: argparse.Namespace,
    effective: config.Effective,
    shown: Mapping[str, Path],
    output: Mapping[str, Path],
    seed: bytes,
    trained_seconds: float,
) -> loss.Measured:
    scratch: Path = arguments.scratch
    room = loss.Room(
        folder=scratch.with_name(scratch.name + "-loss"),
        training_env=arguments.training_env,
        limits=_limits(arguments),
        user=arguments.trainer_user,
        gpus=arguments.gpu,
    )
    return loss.measure(
        effective.config, shown, output, room, seed=seed, trained_seconds=trained_seconds
    )


def _texts(
    arguments: argparse.Namespace, effective: config.Effective, measured: list[MeasuredInput]
) -> texts.Texts:
    return texts.name_texts(
        effective.config,
        effective.references,
        {item.name: item for item in measured},
        arguments.training_env,
    )


def _collect(result: training.TrainingResult, target: Path) -> dict[str, FileFact]:
    """Move the output to `target` and hash it there. A failed training gives nothing, and so does
    one that put a link in the place of its output: it would lead out of the sandbox.
    """
    output = result.output
    if result.exit_code != "0" or output.is_symlink() or not output.is_dir():
        return {}
    if not any(output.iterdir()):
        return {}
    target.parent.mkdir(parents=True, exist_ok=True)
    output.rename(target)
    files = read_tree(target)
    # Trainers write weights that their own user alone can read; a result is for everybody to check.
    for folder, _, names in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: S103  # a published model is for everybody to read
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)
    return files


def _sign(
    run_key: RunKey, name: str, files: Mapping[str, FileFact], folder: Path
) -> dict[str, Digest]:
    """Write the model signature of the output; an empty one has none."""
    if not files:
        return {}
    data = attest.sign_output(run_key, name, files)
    folder.mkdir()
    (folder / f"{name}.sig").write_bytes(data)
    return {name: of_bytes(data)}


def _output(files: Mapping[str, FileFact]) -> Output:
    digest = dir_digest(files) if files else EMPTY_DIR
    return Output(digest=digest, files={path: fact.sha256 for path, fact in files.items()})


def _keep_log(log: Path, target: Path) -> Digest:
    shutil.move(log, target)
    return Digest("sha256", read_file(target).sha256)


def _limits(arguments: argparse.Namespace) -> Limits:
    return Limits(
        seconds=arguments.time_limit,
        memory_bytes=arguments.memory,
        processes=arguments.processes,
        scratch_bytes=arguments.scratch_limit,
        threads=arguments.threads,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="enclave_runner", description=__doc__)
    parser.add_argument("--tcti", required=True)
    parser.add_argument("--nonce", required=True)
    parser.add_argument("--lockfile", required=True, type=Path)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--builder", action="append", default=[], metavar="NAME=DIGEST")
    parser.add_argument("--scratch", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--training-env", required=True, type=Path)
    parser.add_argument("--events-fd", required=True, type=int)
    parser.add_argument("--trainer-user", type=int)
    parser.add_argument("--gpu", action="append", default=[], type=Path, metavar="NODE")
    for limit in machine_io.LIMITS:
        parser.add_argument(f"--{limit}", required=True, type=int)
    arguments = parser.parse_args(argv)
    pairs = [item.partition("=") for item in arguments.input]
    arguments.input = {name: Path(path) for name, _, path in pairs}
    pairs = [item.partition("=") for item in arguments.builder]
    arguments.builder = {name: Digest.parse(digest) for name, _, digest in pairs}
    return arguments


if __name__ == "__main__":
    code = main()
    with contextlib.suppress(OSError):
        # Its file may lie on a full disk: what matters has been sent by then.
        sys.stderr.flush()
    # Threads of a TPM that never answers must not keep the process alive.
    os._exit(code)
