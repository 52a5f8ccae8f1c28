"""`./doit reproduce RUN [--machine NAME]`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from aicert.appraisal.ak_chain import Root
from aicert.appraisal.evidence import reproductions
from aicert.appraisal.evidence.reproductions import Side as Execution
from aicert.appraisal.result import AttestationResult
from aicert.errors import ConfigError, EvidenceError, RejectedError
from aicert.formats.certificate import parse
from aicert.formats.lockfile import identity
from aicert.formats.machine_io import CERTIFICATE, OUTPUTS, TRAINING_LOG
from aicert.text import safe
from rules.commands.base import Command
from rules.project import config, fetch, lock, results
from rules.project.config_check import check_config
from rules.runs import certify, failed, reproduce, verify
from rules.runs.appraisal import own_request
from rules.runs.reproduce import Side


class Reproduce(Command):
    """Run a certified run once more, and compare."""

    name = "reproduce"
    doc_purpose = "run a certified run once more and compare outputs byte for byte"
    doc_usage = "RUN"
    doc_description = """\
Verifies the certificate here, runs the same lockfile on the run's machine or on another machine
of aicert.toml, and compares the outputs: file by file, and tensor by tensor if weights differ.
Certificate and outputs stay as they are. If all bytes are equal, the
second run's certificate stays in reproductions/RUN/MACHINE/, for `aicert verify --evidence`. Two
runs by one party only show that the training is deterministic. They show more if the second is
another operator's, from a checkout of their own, on a machine with another image
(docs/spec/compute.md, "Epochs").

  ./doit reproduce tiny-alpaca
  ./doit reproduce tiny-alpaca --machine measured
  aicert verify CERT MODEL --evidence reproductions/tiny-alpaca

Exit codes: 0 the same bytes, 1 different bytes or a failed run, 2 nothing to compare.
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "machine",
            "short": "",
            "long": "machine",
            "type": str,
            "default": "",
            "help": "a machine of aicert.toml (default: the run's own)",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Reproduce one run."""
        root = Path.cwd()
        project = config.load(root)
        if len(args) != 1:
            first = next(iter(project.runs))
            raise ConfigError("reproduce takes one run", hint=f"./doit reproduce {first}")
        run = project.run(args[0])
        name = params["machine"]
        again = replace(run, machine=project.machine(name)) if name else run
        return _reproduce(root, run, again)


def _reproduce(root: Path, run: config.Run, again: config.Run) -> int:
    asked = own_request(root, run, None)
    result = verify.verify(root, run, asked)
    if result.verdict != "passed":
        check = (result.failed or result.undecided)[0]
        raise EvidenceError(
            f"run {run.name} has no certificate that passes: {check.id}: {check.detail}",
            hint=f"./doit certify {run.name}",
        )
    current = lock.current(root, run)
    fetch.fetch_inputs(root, current)
    check_config(root, current)
    first = Side(
        certificate=results.read_certificate(root, run.name), model=results.output_path(root, run)
    )
    with certify.executed(root, again, current, None) as (out, _):
        model = out / OUTPUTS / run.outputs[0]
        certificate = parse((out / CERTIFICATE).read_bytes())
        # The first run on a machine creates the CA that vouches for it.
        request = own_request(root, again, None)
        repeated = request.appraise(
            certificate, verify.read_model(model, f"{run.name}: reading"), identity(current.data)
        )
        if repeated.verdict != "passed":
            raise _refused(root, again, repeated, out / TRAINING_LOG)
        compared = reproduce.compare(first, Side(certificate=certificate, model=model))
        placed = reproduce.leave(root, again, out) if compared.equal else None
    print(
        f"certified  {first.statement.finished}, run {run.name}, lockfile {identity(current.data)}"
    )
    print(f"again      on {again.machine.name} ({again.machine.driver.name}), tier {repeated.tier}")
    for line in compared.lines:
        print("\n".join(safe(each, 400) for each in line.split("\n")))
    if placed is None:
        return RejectedError.exit_code
    print(f"\ncertificate  {placed.relative_to(root)}")
    executions = (
        reproductions.Side(certificate=first.certificate, verdict=result),
        reproductions.Side(certificate=certificate, verdict=repeated),
    )
    _show_worth(*executions, roots=(*asked.policy.roots, *request.policy.roots))
    return 0


def _refused(root: Path, run: config.Run, result: AttestationResult, log: Path) -> RejectedError:
    """Return the error for a second run that does not pass, with the trainer's last error if it is
    the trainer that failed.
    """
    check = (result.failed or result.undecided)[0]
    lines = [f"the repeated run failed: {check.id}: {check.detail}"]
    kept = failed.keep_log(root, run, log) if check.id in certify.TELLING else None
    if kept is not None:
        lines += [safe(line) for line in failed.last_error(root / kept)]
    return RejectedError("\n".join(lines), result, hint=f"less {kept}" if kept else None)


def _show_worth(first: Execution, again: Execution, roots: Sequence[Root]) -> None:
    """Print what the second certificate adds to the first."""
    shown = reproductions.compared(first, again, roots)
    if shown.lacks:
        print(f"This only shows that the training is deterministic: {'; '.join(shown.lacks)}.")
    else:
        print("These inputs give these bytes, whatever either machine did.")
