"""The attester: measure the inputs, train, measure the outputs, and have the TPM quote both.

Every check that gives a certificate its meaning is made here, not on the host. The host gives the
paths of the inputs, a lockfile, a nonce and limits. Of these only the lockfile and the nonce count,
because the quote covers both. If anything fails before the quote, there is no certificate.
"""

import argparse
import contextlib
import datetime
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from aicert.errors import AicertError, ConfigError, ToolError
from aicert.files.machine_code import code_digest
from aicert.files.tree import read_file
from aicert.formats import gpu, machine_io
from aicert.formats import lockfile as lockfile_form
from aicert.formats import run_report as report_form
from aicert.formats.digest import Digest, FileFact
from aicert.formats.lockfile import Lockfile, input_code
from aicert.formats.run_report import RunReport, Value
from aicert.formats.statement import Dependency, Statement
from aicert.frozen import replace
from enclave_runner import fine_tune, machine_facts, options, outputs
from enclave_runner.attester import attest, gpus
from enclave_runner.attester.tpm import Tpm
from enclave_runner.audit import auditing
from enclave_runner.axolotl import loss_sample, training
from enclave_runner.evaluate import evaluating
from enclave_runner.evaluate import settings as evaluation_settings
from enclave_runner.evaluate.evaluating import Evaluated
from enclave_runner.events import Counter, Events
from enclave_runner.inputs import measure
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.shared_refusals import require_plain_run
from enclave_runner.lm_eval import harness
from enclave_runner.lm_eval import settings as tasks_settings
from enclave_runner.merge import merging, settings
from enclave_runner.mergekit import merging as combining
from enclave_runner.mergekit import settings as mergekit_settings
from enclave_runner.outputs import Machine, Ran

BUILDER_ID = "urn:aicert:machine:"


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
    if lockfile.trainer in machine_io.TOOLS:
        # A machine without the trainer's packages refuses before it measures anything.
        options.overlay(arguments, lockfile.trainer)
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
        outputs.room(arguments),
        arguments.scratch,
        lambda: events.send(machine_io.AUDITING),
    )
    files = outputs.take_results(arguments, lockfile.outputs[0], audited.results)
    report = auditing.report(audited, inputs)
    return outputs.ran(machine, arguments, lockfile, files, report, audited.log)


def _merged(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Merge an adapter into a model. The output is a model, without any training."""
    require_plain_run(settings.TRAINER, lockfile)
    prepared = merging.prepare(
        settings.read(measure.config_of(measured), measure.folders(measured)),
        measured,
        options.beside_scratch(arguments, "models"),
    )
    events.send(machine_io.MERGING)
    result = merging.run(prepared, outputs.room(arguments), arguments.scratch)
    events.send(machine_io.MEASURING)
    report_of = partial(merging.report_of, prepared, result, measured)
    return _merged_model(machine, arguments, lockfile, result, report_of)


def _combined(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Merge whole models into one. The output is a model, without any training."""
    require_plain_run(settings.TRAINER, lockfile)
    prepared = combining.prepare(
        mergekit_settings.read(measure.config_of(measured), measure.folders(measured)),
        measured,
        options.beside_scratch(arguments, "models"),
    )
    tools = options.overlay(arguments, lockfile.trainer)
    events.send(machine_io.MERGING)
    result = combining.run(prepared, outputs.room(arguments), arguments.scratch, tools)
    # mergekit has ended, so nobody could know these bytes while it ran.
    seed = loss_sample.seed(machine.key.nonce, machine.tpm.random(32))
    events.send(machine_io.MEASURING)
    report_of = partial(combining.report_of, prepared, result, measured, seed)
    return _merged_model(machine, arguments, lockfile, result, report_of)


def _merged_model(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    result: training.TrainingResult,
    report_of: Callable[[Mapping[str, FileFact], Path], RunReport],
) -> Ran:
    folder = arguments.out / machine_io.OUTPUTS / lockfile.outputs[0]
    files = training.collect(result, folder)
    # The check comes before the signature: if this is not the requested merge, there is no model.
    report = report_of(files, folder)
    return outputs.ran(machine, arguments, lockfile, files, report, result.log)


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
    room = outputs.room(arguments)
    prepared = evaluating.prepare(
        asked, measured, room, options.beside_scratch(arguments, "models")
    )
    events.send(machine_io.EVALUATING)
    evaluated = evaluating.run(prepared, measured, room, arguments.scratch, arguments.gpu)
    run_report = evaluating.report_of(prepared, evaluated, measured, arguments.training_env)
    return _with_results(machine, arguments, lockfile, evaluated, run_report)


def _evaluated_on_tasks(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    measured: list[MeasuredInput],
    events: Events,
) -> Ran:
    """Evaluate a model on tasks with lm-eval. The output is the results; there is no model."""
    tools = options.overlay(arguments, lockfile.trainer)
    require_plain_run(tasks_settings.TRAINER, lockfile)
    asked = harness.read(measure.config_of(measured), measured)
    events.send(machine_io.READING)
    room = outputs.room(arguments)
    prepared = harness.prepare(asked, measured, room, options.beside_scratch(arguments, "models"))
    events.send(machine_io.EVALUATING)
    evaluated = harness.run(prepared, measured, room, arguments.scratch, tools, arguments.gpu)
    run_report = harness.report_of(prepared, evaluated, measured, arguments.training_env)
    return _with_results(machine, arguments, lockfile, evaluated, run_report)


def _with_results(
    machine: Machine,
    arguments: argparse.Namespace,
    lockfile: Lockfile,
    evaluated: Evaluated,
    run_report: RunReport,
) -> Ran:
    """Write out the results of an evaluation, signed, and complete its report."""
    files = outputs.take_results(arguments, lockfile.outputs[0], evaluated.data)
    return outputs.ran(machine, arguments, lockfile, files, run_report, evaluated.result.log)


# The trainers that this machine can run. The verifier knows each by name.
TRAINERS: Mapping[str, Callable[..., Ran]] = {
    "audit": _audited,
    "axolotl": fine_tune.run,
    "axolotl-evaluate": _evaluated,
    "axolotl-merge": _merged,
    "lm-eval": _evaluated_on_tasks,
    "mergekit": _combined,
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
