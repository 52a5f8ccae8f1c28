"""The trainer `axolotl`: check a training, make it in the sandbox, measure the loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aicert.errors import ConfigError
from aicert.formats import machine_io
from aicert.formats.digest import FileFact
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, input_code
from aicert.formats.run_report import RunReport, Value
from aicert.formats.run_report_facts import Loss
from aicert.frozen import dataclass, replace
from enclave_runner.audit import gate
from enclave_runner.audit.gate import Gate
from enclave_runner.axolotl import (
    adapter_base,
    config,
    loss,
    report,
    texts,
    token_columns,
    training,
)
from enclave_runner.axolotl.adapter_base import Base
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.inputs import measure, model_files, reportable, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_files import ModelFiles
from enclave_runner.inputs.references import Text
from enclave_runner.outputs import Ran, Run
from enclave_runner.sandbox.places import INPUTS, REMOTE_CODE

# The reason in the report for which no loss is measured if an input's code may run.
OWN_CODE = "an input's code may run while the model is loaded, so it could decide what is measured"


def train(run: Run) -> Ran:
    """Train a model with Axolotl, and measure how well it fits the rows."""
    lockfile = run.lockfile
    prepared = _prepare(run)
    audits = _gate(run, prepared)
    if audits.exit_code != "0":
        return _not_begun(run, prepared, audits)
    result = _train(run, prepared)
    seed = run.draw_seed()
    run.events.send(machine_io.MEASURING)
    base = adapter_base.base_of(prepared.effective.references, lockfile)
    output = _take_output(run, result, base)
    run_report = _report(run, prepared, result, output)
    if output.files and input_code(lockfile):
        run_report = replace(run_report, loss=Loss(state="no-loss", reason=OWN_CODE))
    elif output.files:
        run_report = _with_loss(run, prepared, result, output, seed, run_report)
    return run.ended(output.files, replace(run_report, audits=audits.named), result.log)


def _gate(run: Run, prepared: "Prepared") -> Gate:
    """Run the audits that have to hold before the training, and write out their results."""
    if prepared.audits:
        run.events.send(machine_io.AUDITING)
    audits = gate.run(
        prepared.audits,
        prepared.rows,
        prepared.effective.selections,
        _texts(run, prepared),
        run.room,
        run.scratch,
    )
    for name, data in audits.results.items():
        if data is not None:
            (run.arguments.out / machine_io.audit_file(name)).write_bytes(data)
    return audits


def _texts(run: Run, prepared: "Prepared") -> list[tuple[str, Text]]:
    """Return the texts that come from no row. The report names them, and audits read the same."""
    return texts.read_texts(
        prepared.effective.config,
        prepared.effective.references,
        {item.name: item for item in run.measured},
        run.arguments.training_env,
        prepared.shown,
    )


def _not_begun(run: Run, prepared: "Prepared", audits: Gate) -> Ran:
    """Return the result of a training that did not begin because an audit does not hold."""
    log = run.beside("gate.log")
    log.write_text("".join(f"{line}\n" for line in audits.lines), encoding="utf-8")
    return run.ended({}, gate.report(audits, prepared.rows, run.measured), log)


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


def _prepare(run: Run) -> Prepared:
    """Refuse what a certified run cannot do, and prepare the rest for the trainer."""
    arguments, lockfile, measured = run.arguments, run.lockfile, run.measured
    kernels = bool(arguments.gpu) and training.has_kernels(arguments.training_env)
    effective, views = _resolve(lockfile, measured, kernels=kernels)
    audits = gate.read(lockfile, measured)
    models = model_files.prepare(
        effective.references,
        measured,
        frozenset(item.name for item in lockfile.inputs if item.allow_pickle),
        run.beside("models"),
        model_types=axolotl_keys().model_types,
        allow_code=effective.code_of(views),
    )
    run.events.send(machine_io.READING)
    inputs = {item.name: item for item in measured}
    read = rows.prepare(effective.selections, inputs, run.room)
    token_columns.check(effective.config, read.columns)
    reportable.check_reportable(read.records, models.removed)
    if audits:
        gate.check_rows(read)
    shown = {f"{INPUTS}/{name}": path for name, path in models.shown.items()}
    shown |= effective.show_templates(run.beside("templates"))
    if models.code:
        admitted = run.beside("remote-code")
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


def _train(run: Run, prepared: Prepared) -> training.TrainingResult:
    run.events.send(machine_io.TRAINING, step=0)
    arguments, limits = run.arguments, run.room.limits
    return training.train(
        prepared.effective,
        prepared.shown,
        run.scratch,
        arguments.training_env,
        # Copies of rows take space on the same disk, or in the same memory.
        replace(limits, scratch_bytes=limits.scratch_bytes - prepared.rows.copied),
        lambda at: run.events.send(machine_io.TRAINING, step=at.step, total=at.total, loss=at.loss),
        ranks=run.lockfile.ranks,
        user=arguments.trainer_user,
        gpus=arguments.gpu,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutput:
    """The files of the run's one output; there are none if the training failed.

    `renamed`: the adapter configs into which the runner wrote the name of `base`.
    """

    files: Mapping[str, FileFact]
    base: Base
    renamed: Sequence[str]


def _take_output(run: Run, result: training.TrainingResult, base: Base) -> ModelOutput:
    """Put the output where the host collects it, and hash it."""
    files = training.collect(result, run.output)
    renamed = adapter_base.rename(run.output, files, base)
    return ModelOutput(files=files | renamed, base=base, renamed=sorted(renamed))


def _report(
    run: Run, prepared: Prepared, result: training.TrainingResult, output: ModelOutput
) -> RunReport:
    effective, lockfile, measured = prepared.effective, run.lockfile, run.measured
    built = report.build(effective, prepared.rows, result, measured, output.files, run.output)
    values = {
        **built.values,
        **report.of_base(output.base, output.renamed),
        **report.of_weights(prepared.models.shown),
    }
    if lockfile.ranks > 1:
        values["ranks"] = Value("measured", lockfile.ranks)
    return replace(
        built,
        values=values,
        removed=prepared.models.removed,
        texts=texts.named(_texts(run, prepared)),
    )


def _with_loss(
    run: Run,
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
        folder=run.beside("loss"),
        training_env=run.room.training_env,
        limits=run.room.limits,
        user=run.room.user,
        gpus=run.arguments.gpu,
    )
    measured = loss.measure(
        prepared.effective.config,
        prepared.shown,
        {path: run.output / path for path in output.files},
        room,
        seed=seed,
        trained_seconds=result.wall_seconds,
    )
    values = {
        "lossCpuSeconds": Value("measured", round(measured.cpu_seconds, 3)),
        "lossSeed": Value("measured", seed.hex()),
    }
    return replace(run_report, loss=measured.loss, values={**run_report.values, **values})
