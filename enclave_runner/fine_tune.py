"""The trainer `axolotl`: check a training, make it in the sandbox, measure the loss."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from aicert.errors import ConfigError
from aicert.formats import machine_io
from aicert.formats.digest import Digest, FileFact
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, input_code, signers
from aicert.formats.run_report import RunReport, Value
from aicert.formats.run_report_facts import Loss
from aicert.formats.statement import Output
from aicert.frozen import dataclass, replace
from enclave_runner import options, outputs
from enclave_runner.attester.tpm import RunKey
from enclave_runner.audit import gate
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
from enclave_runner.events import Events
from enclave_runner.inputs import measure, model_files, reportable, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_files import ModelFiles
from enclave_runner.inputs.references import Text
from enclave_runner.outputs import Machine, Ran
from enclave_runner.sandbox.places import INPUTS, REMOTE_CODE

# The reason in the report for which no loss is measured if an input's code may run.
OWN_CODE = "an input's code may run while the model is loaded, so it could decide what is measured"


def run(
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
        outputs.room(arguments),
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
    return Ran(subject=outputs.subject({}), report=run_report, log=log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training that passed every check: its config, and everything that the trainer will see.

    `shown`: place in the trainer's sandbox → file or folder here.
    """

    effective: config.Effective
    models: ModelFiles
    rows: rows.Rows
    shown: Mapping[str, Path]
    audits: Sequence[gate.AuditRequest]


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
    read = rows.prepare(effective.selections, inputs, outputs.room(arguments))
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
class ModelOutput:
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
        return outputs.subject(self.files)


def _take_output(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    result: training.TrainingResult,
    base: Base,
    run_key: RunKey,
) -> ModelOutput:
    """Put the output where the host collects it, hash it, and sign it unless it is empty."""
    name = lockfile.outputs[0]
    folder = arguments.out / machine_io.OUTPUTS / name
    files = training.collect(result, folder)
    renamed = adapter_base.rename(folder, files, base)
    files |= renamed
    return ModelOutput(
        name=name,
        folder=folder,
        files=files,
        signatures=outputs.signed(arguments, name, files, run_key),
        base=base,
        renamed=sorted(renamed),
    )


def _report(
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    prepared: Prepared,
    result: training.TrainingResult,
    output: ModelOutput,
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
    output: ModelOutput,
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
