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
from collections.abc import Mapping
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.files.machine_code import code_digest
from aicert.files.tree import read_file
from aicert.formats import gpu, machine_io
from aicert.formats import lockfile as lockfile_form
from aicert.formats import run_report as report_form
from aicert.formats.digest import Digest
from aicert.formats.lockfile import Lockfile, input_code
from aicert.formats.run_report import RunReport, Value
from aicert.formats.statement import Dependency, Statement
from aicert.frozen import replace
from enclave_runner import machine_facts, options
from enclave_runner.attester import attest, gpus
from enclave_runner.attester.tpm import Tpm
from enclave_runner.events import Counter, Events
from enclave_runner.inputs import measure
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.outputs import Machine, Run
from enclave_runner.trainers import trainer_of

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
    # A machine without the trainer's packages refuses before it measures anything.
    tools = options.tools_of(arguments, lockfile.trainer)
    with Tpm(arguments.tcti) as tpm:
        attest.check_registers(tpm)
        # The run key comes first: the TPM's own clock measures the time from here to the quote.
        key = attest.make_run_key(tpm, nonce)
        devices = _ask_gpus(arguments, key)
        units = machine_facts.units(arguments.gpu)
        measured = _measure_inputs(arguments, lockfile, events)
        attest.measure_inputs(tpm, data, measured)
        ran = trainer_of(lockfile)(
            Run(
                machine=Machine(tpm=tpm, key=key),
                arguments=arguments,
                lockfile=lockfile,
                measured=measured,
                events=events,
                tools=tools,
            )
        )
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
