"""The attester: check, measure, train, measure, quote. It makes one run and ends.

Every refusal that gives a certificate its meaning is made here, not on the host. The host gives
paths of inputs, a lockfile, a nonce and limits; only the lockfile and the nonce are believed, since
the quote covers both. Whatever fails before the quote ends without a certificate.
"""

import argparse
import contextlib
import datetime
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aicert.errors import AicertError, ConfigError, ToolError
from aicert.files.machine_code import code_digest
from aicert.files.tree import read_file, read_tree
from aicert.formats import gpu, machine_io
from aicert.formats import lockfile as lockfile_form
from aicert.formats import run_report as report_form
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.listing import EMPTY_DIR, dir_digest
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, input_code, signers
from aicert.formats.run_report import RunReport, Value
from aicert.formats.run_report_facts import Loss
from aicert.formats.statement import Dependency, Output, Statement
from aicert.frozen import dataclass, replace
from enclave_runner import machine_facts, options
from enclave_runner.attester import attest, gpus
from enclave_runner.attester.tpm import RunKey, Tpm
from enclave_runner.audit import auditing, child, gate
from enclave_runner.audit.gate import Gate
from enclave_runner.axolotl import (
    adapter_base,
    config,
    loss,
    loss_sample,
    report,
    texts,
    token_columns,
    training,
)
from enclave_runner.axolotl.adapter_base import Base
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.evaluate import evaluating
from enclave_runner.evaluate import settings as evaluation_settings
from enclave_runner.events import Counter, Events
from enclave_runner.inputs import measure, model_files, reportable, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_files import ModelFiles
from enclave_runner.inputs.references import Text
from enclave_runner.inputs.shared_refusals import require_plain_run
from enclave_runner.merge import merging, settings
from enclave_runner.sandbox.places import INPUTS, REMOTE_CODE

BUILDER_ID = "urn:aicert:machine:"
# The reason in the report for which no loss is measured if an input's code may run.
OWN_CODE = "an input's code may run while the model is loaded, so it could decide what is measured"


def main(argv: list[str] | None = None) -> int:
    """Make the run that the command line describes; return 0 if a certificate was written."""
    arguments = options.parse(argv, __doc__)
    events = Events(arguments.events_fd)
    signal.signal(signal.SIGTERM, _stopped)
    try:
        _run(arguments, events)
    except AicertError as error:
        events.error(error.message, error.hint, error.exit_code)
        return error.exit_code
    except OSError as error:
        # For example a full disk, which is the host's problem and no defect of ours.
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
        # The run key comes first: the TPM's own clock measures the time from here to the quote.
        key = attest.make_run_key(tpm, nonce)
        devices = _ask_gpus(arguments, key)
        units = machine_facts.units(arguments.gpu)
        measured = _measure_inputs(arguments, lockfile, events)
        attest.measure_inputs(tpm, data, measured)
        ran = _trainer(lockfile)(Machine(tpm=tpm, key=key), arguments, lockfile, measured, events)
        # The inputs are compared last, since the outputs were compared with them too.
        measure.check_unchanged(measured)
        run_report = _with_units(ran.report, units, lockfile)
        log = _keep_log(ran.log, arguments.out / machine_io.TRAINING_LOG)
        statement = Statement(
            run=lockfile.run,
            trainer=lockfile.trainer,
            lockfile=lockfile_form.identity(data),
            dependencies=tuple(
                Dependency(name=i.name, uri=i.uri, digest=i.digest) for i in lockfile.inputs
            ),
            outputs={lockfile.outputs[0]: ran.subject},
            builder_id=BUILDER_ID + ("measured" if arguments.builder else "local"),
            # The kernel command line of a measured machine names the code that it runs. Elsewhere
            # this code digest is only a claim.
            builder=attest.with_gpus(
                arguments.builder or {"runner": code_digest(Path(__file__).parents[1])}, devices
            ),
            nonce=nonce,
            started=started,
            finished=_now(),
            report=report_form.emit(run_report),
            log=log,
        )
        certificate = attest.attest(tpm, key, statement, run_report, data, devices)
        key.run_key.flush()
    (arguments.out / machine_io.CERTIFICATE).write_bytes(certificate)
    events.send(machine_io.DONE, exitCode=run_report.exit_code)


def _with_units(run_report: RunReport, units: Mapping[str, Value], lockfile: Lockfile) -> RunReport:
    """Return the report, completed with the processors that the run could compute on."""
    whole = replace(run_report, values={**run_report.values, **units})
    return whole.self_reported if input_code(lockfile) else whole


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


def _trained(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Train a model with Axolotl, and measure how well it fits the rows."""
    prepared = _prepare(arguments, lockfile, measured, events)
    audits = _gate(arguments, measured, prepared, events)
    if audits.exit_code != "0":
        return _not_begun(arguments, lockfile, measured, prepared, audits)
    result = _train(arguments, lockfile, prepared, events)
    # The trainer has ended, so nobody could know these bytes while it ran.
    seed = loss_sample.seed(machine.key.nonce, machine.tpm.random(32))
    events.send(machine_io.MEASURING)
    base = adapter_base.base_of(prepared.effective.references, lockfile)
    output = _take_output(arguments, lockfile, result, base, machine.key.run_key)
    run_report = _report(arguments, lockfile, measured, prepared, result, output)
    if output.files and input_code(lockfile):
        run_report = replace(run_report, loss=Loss(state="no-loss", reason=OWN_CODE))
    elif output.files:
        run_report = _with_loss(arguments, prepared, result, output, seed, run_report)
    run_report = replace(run_report, audits=audits.named)
    return Ran(subject=output.subject, report=run_report, log=result.log)


def _gate(
    arguments: argparse.Namespace,
    measured: list[MeasuredInput],
    prepared: "Prepared",
    events: Events,
) -> Gate:
    """Run the audits that have to hold before the training, and write out their results."""
    if prepared.audits:
        events.send(machine_io.AUDITING)
    audits = gate.run(
        prepared.audits,
        prepared.rows,
        prepared.effective.selections,
        _texts(arguments, measured, prepared),
        _room(arguments),
        arguments.scratch,
    )
    for name, data in audits.results.items():
        if data is not None:
            (arguments.out / machine_io.audit_file(name)).write_bytes(data)
    return audits


def _texts(
    arguments: argparse.Namespace, measured: list[MeasuredInput], prepared: "Prepared"
) -> list[tuple[str, Text]]:
    """Return the texts that come from no row. The report names them, and audits read the same."""
    return texts.read_texts(
        prepared.effective.config,
        prepared.effective.references,
        {item.name: item for item in measured},
        arguments.training_env,
        prepared.shown,
    )


def _not_begun(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    prepared: "Prepared",
    audits: Gate,
) -> Ran:
    """Return the result of a training that did not begin because an audit does not hold."""
    log = options.beside_scratch(arguments, "gate.log")
    log.write_text("".join(f"{line}\n" for line in audits.lines), encoding="utf-8")
    run_report = replace(gate.report(audits, prepared.rows, measured), signers=signers(lockfile))
    return Ran(subject=_subject({}), report=run_report, log=log)


def _audited(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Audit rows. The output is the results; there is no model."""
    require_plain_run("an audit", lockfile)
    inputs = {item.name: item for item in measured}
    asked = auditing.read_config(measure.config_of(measured), inputs)
    events.send(machine_io.READING)
    audited = auditing.run(
        asked,
        inputs,
        _room(arguments),
        arguments.scratch,
        lambda: events.send(machine_io.AUDITING),
    )
    name = lockfile.outputs[0]
    files = _take_results(arguments, name, audited.results)
    run_report = replace(
        auditing.report(audited, inputs),
        signatures=tuple(_signed(arguments, name, files, machine.key.run_key).items()),
        signers=signers(lockfile),
    )
    return Ran(subject=_subject(files), report=run_report, log=audited.log)


def _merged(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Merge an adapter into a model. The output is a model, without any training."""
    require_plain_run(settings.TRAINER, lockfile)
    named = settings.read(
        measure.config_of(measured), {item.name: not item.is_file for item in measured}
    )
    prepared = merging.prepare(named, measured, options.beside_scratch(arguments, "models"))
    events.send(machine_io.MERGING)
    result = merging.run(prepared, _room(arguments), arguments.scratch)
    events.send(machine_io.MEASURING)
    name = lockfile.outputs[0]
    folder = arguments.out / machine_io.OUTPUTS / name
    files = training.collect(result, folder)
    # The check comes before the signature: if this is not the requested merge, there is no model.
    merged = merging.report_of(prepared, result, measured, files, folder)
    run_report = replace(
        merged,
        signatures=tuple(_signed(arguments, name, files, machine.key.run_key).items()),
        signers=signers(lockfile),
    )
    return Ran(subject=_subject(files), report=run_report, log=result.log)


def _take_results(
    arguments: argparse.Namespace, name: str, results: bytes | None
) -> Mapping[str, FileFact]:
    """Put results where the host collects them, and hash them. If `results` is None, do nothing."""
    if results is None:
        return {}
    folder = arguments.out / machine_io.OUTPUTS / name
    folder.mkdir(parents=True)
    (folder / child.RESULTS).write_bytes(results)
    return read_tree(folder)


def _evaluated(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Evaluate a model on rows. The output is the results; there is no model."""
    require_plain_run(evaluation_settings.TRAINER, lockfile)
    asked = evaluation_settings.read(measure.config_of(measured), evaluating.views(measured))
    events.send(machine_io.READING)
    room = _room(arguments)
    prepared = evaluating.prepare(
        asked, measured, room, options.beside_scratch(arguments, "models")
    )
    events.send(machine_io.EVALUATING)
    evaluated = evaluating.run(prepared, measured, room, arguments.scratch, arguments.gpu)
    name = lockfile.outputs[0]
    files = _take_results(arguments, name, evaluated.data)
    run_report = replace(
        evaluating.report_of(prepared, evaluated, measured, arguments.training_env),
        signatures=tuple(_signed(arguments, name, files, machine.key.run_key).items()),
        signers=signers(lockfile),
    )
    return Ran(subject=_subject(files), report=run_report, log=evaluated.result.log)


# The trainers that this machine can run. The verifier knows each by name.
TRAINERS: Mapping[str, Callable[..., Ran]] = {
    "audit": _audited,
    "axolotl": _trained,
    "axolotl-evaluate": _evaluated,
    "axolotl-merge": _merged,
}


def _trainer(lockfile: Lockfile) -> Callable[..., Ran]:
    if lockfile.trainer not in TRAINERS:
        raise ConfigError(f"this machine has no trainer named {lockfile.trainer}")
    if lockfile.audits and lockfile.trainer != "axolotl":
        raise ConfigError(f"a run of trainer {lockfile.trainer} reads no rows that audits could")
    return TRAINERS[lockfile.trainer]


def _ask_gpus(
    arguments: argparse.Namespace, key: attest.CertifiedKey
) -> tuple[gpu.DeviceReport, ...]:
    """Return the reports of a measured machine's GPUs, made before anything runs on them."""
    if not arguments.gpu:
        return ()
    return gpus.ask(gpus.load(), gpu.nonce(key.nonce, key.run_key.name))


def _measure_inputs(
    arguments: argparse.Namespace, lockfile: Lockfile, events: Events
) -> list[MeasuredInput]:
    """Hash every input; check that each has the digest and the signer that the lockfile names."""
    counter = Counter(events, machine_io.HASHING, sum(item.size for item in lockfile.inputs))
    measured = measure.measure(lockfile, arguments.input, counter.add)
    for item, own in zip(lockfile.inputs, measured, strict=True):
        measure.check_signer(item, own)
    measure.check_readable(measured, arguments.trainer_user)
    return measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training that passed every check: its config, and everything that the trainer will see.

    `shown`: place in the trainer's sandbox → file or folder here.
    """

    effective: config.Effective
    models: ModelFiles
    rows: rows.Rows
    shown: Mapping[str, Path]
    audits: Sequence[gate.Asked]


def _prepare(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Prepared:
    """Refuse what a certified run cannot do, and prepare the rest for the trainer."""
    kernels = bool(arguments.gpu) and training.has_kernels(arguments.training_env)
    effective, views = _resolve(lockfile, measured, kernels=kernels)
    audits = gate.read(lockfile, measured)
    models = model_files.prepare(
        effective.references,
        measured,
        frozenset(item.name for item in lockfile.inputs if item.allow_pickle),
        options.beside_scratch(arguments, "models"),
        model_types=axolotl_keys().model_types,
        allow_code=effective.code_of(views),
    )
    events.send(machine_io.READING)
    inputs = {item.name: item for item in measured}
    read = rows.prepare(effective.selections, inputs, _room(arguments))
    token_columns.check(effective.config, read.columns)
    reportable.check_reportable(read.records, models.removed)
    if audits:
        gate.check_rows(read)
    shown = {f"{INPUTS}/{name}": path for name, path in models.shown.items()}
    shown |= effective.show_templates(options.beside_scratch(arguments, "templates"))
    if models.code:
        admitted = options.beside_scratch(arguments, "remote-code")
        admitted.write_text("".join(f"{digest}\n" for digest in models.code))
        shown[REMOTE_CODE] = admitted
    shown |= read.shown
    return Prepared(effective=effective, models=models, rows=read, shown=shown, audits=audits)


def _resolve(
    lockfile: Lockfile, measured: list[MeasuredInput], *, kernels: bool
) -> tuple[config.Effective, Mapping[str, config.InputView]]:
    if len(lockfile.outputs) != 1:
        raise ConfigError("the axolotl trainer makes exactly one output")
    views = {
        item.name: config.InputView(
            is_file=item.is_file,
            files=frozenset(path for path in item.files if path),
            code=lockfile.input(item.name).allow_remote_code,
        )
        for item in measured
        if item.name != CONFIG_INPUT
    }
    return config.resolve(measure.config_of(measured), views, kernels=kernels), views


def _room(arguments: argparse.Namespace) -> rows.Room:
    return rows.Room(
        folder=options.beside_scratch(arguments, "records"),
        training_env=arguments.training_env,
        limits=options.limits(arguments),
        user=arguments.trainer_user,
    )


def _train(
    arguments: argparse.Namespace, lockfile: Lockfile, prepared: Prepared, events: Events
) -> training.TrainingResult:
    events.send(machine_io.TRAINING, step=0)
    limits = options.limits(arguments)
    return training.train(
        prepared.effective,
        prepared.shown,
        arguments.scratch,
        arguments.training_env,
        # Copies of rows take space on the same disk, or in the same memory.
        replace(limits, scratch_bytes=limits.scratch_bytes - prepared.rows.copied),
        lambda at: events.send(machine_io.TRAINING, step=at.step, total=at.total, loss=at.loss),
        ranks=lockfile.ranks,
        user=arguments.trainer_user,
        gpus=arguments.gpu,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The run's one output: `files` below `folder`; there are none if the training failed.

    `renamed`: the adapter configs into which the runner wrote the name of `base`.
    """

    name: str
    folder: Path
    files: Mapping[str, FileFact]
    signatures: Mapping[str, Digest]
    base: Base
    renamed: Sequence[str]

    @property
    def subject(self) -> Output:
        """The output as the statement describes it."""
        return _subject(self.files)


def _subject(files: Mapping[str, FileFact]) -> Output:
    digest = dir_digest(files) if files else EMPTY_DIR
    return Output(digest=digest, files={path: fact.sha256 for path, fact in files.items()})


def _take_output(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    result: training.TrainingResult,
    base: Base,
    run_key: RunKey,
) -> Made:
    """Put the output where the host collects it, hash it, and sign it unless it is empty."""
    name = lockfile.outputs[0]
    folder = arguments.out / machine_io.OUTPUTS / name
    files = training.collect(result, folder)
    renamed = adapter_base.rename(folder, files, base)
    files |= renamed
    return Made(
        name=name,
        folder=folder,
        files=files,
        signatures=_signed(arguments, name, files, run_key),
        base=base,
        renamed=sorted(renamed),
    )


def _signed(
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


def _report(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    prepared: Prepared,
    result: training.TrainingResult,
    output: Made,
) -> RunReport:
    effective, folder = prepared.effective, output.folder
    built = report.build(
        effective, prepared.rows, result, measured, output.files, folder, output.signatures
    )
    values = {
        **built.values,
        **report.of_base(output.base, output.renamed),
        **report.of_weights(prepared.models.shown),
    }
    if lockfile.ranks > 1:
        values["ranks"] = Value("measured", lockfile.ranks)
    whole = replace(
        built,
        values=values,
        signers=signers(lockfile),
        removed=prepared.models.removed,
        texts=texts.named(_texts(arguments, measured, prepared)),
    )
    return whole.self_reported if input_code(lockfile) else whole


def _with_loss(
    arguments: argparse.Namespace,
    prepared: Prepared,
    result: training.TrainingResult,
    output: Made,
    seed: bytes,
    run_report: RunReport,
) -> RunReport:
    """Return the report, completed with the losses of base and output on a sample of the rows.

    `seed` decides which rows are drawn.
    """
    room = loss.Room(
        folder=options.beside_scratch(arguments, "loss"),
        training_env=arguments.training_env,
        limits=options.limits(arguments),
        user=arguments.trainer_user,
        gpus=arguments.gpu,
    )
    measured = loss.measure(
        prepared.effective.config,
        prepared.shown,
        {path: output.folder / path for path in output.files},
        room,
        seed=seed,
        trained_seconds=result.wall_seconds,
    )
    values = {
        "lossCpuSeconds": Value("measured", round(measured.cpu_seconds, 3)),
        "lossSeed": Value("measured", seed.hex()),
    }
    return replace(run_report, loss=measured.loss, values={**run_report.values, **values})


def _keep_log(log: Path, target: Path) -> Digest:
    shutil.move(log, target)
    return Digest("sha256", read_file(target).sha256)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    code = main()
    with contextlib.suppress(OSError):
        # Standard error may be a file on a full disk. Everything that matters has been sent by now.
        sys.stderr.flush()
    # Threads of a TPM that never answers must not keep the process alive.
    os._exit(code)
