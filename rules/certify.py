"""Certify a run: refuse early, execute it on its machine, appraise, and only then put in place.

Up to date means verified (design section 9): the certificate at hand is of the lockfile at hand
and of the runner's code at hand, and passes under the machine's own policy with the outputs at
hand. No timestamp and no database decides.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from aicert.certificate import Certificate, parse
from aicert.errors import (
    AicertError,
    EvidenceError,
    LockError,
    RejectedError,
)
from aicert.lockfile import identity
from aicert.lockfile import parse as parse_lockfile
from aicert.report_form import parse as parse_report
from aicert.result import AttestationResult
from aicert.statement import parse as parse_statement
from aicert.tree import code_digest
from rules import (
    azure,
    digests,
    exports,
    fetch,
    image_tasks,
    local,
    lock,
    lock_command,
    qemu,
    sources,
    verify,
)
from rules.config import Run
from rules.config_check import check_config
from rules.environment import training_environment
from rules.lock import Lock
from rules.signers import check_signers
from rules.work import exchange, held, reading, remove, work_folder

DRIVERS = {"local": local.execute, "qemu": qemu.execute, "azure": azure.execute}
# Where the model that passed last goes when a later run fails.
KEPT = Path(".aicert") / "kept"
# enclave_runner.containment's names of limits → keys of a machine in aicert.toml.
LIMIT_KEYS: Mapping[object, str] = {
    "time": "time-limit",
    "memory": "memory",
    "processes": "processes",
    "scratch": "scratch",
}
# Failures that a certificate exists to tell: such a certificate is put in place, and never passes.
TELLING = ("outputs.exit", "outputs.nonempty", "outputs.trained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a run is not up to date: certify runs it, or stops there until somebody acts."""

    stops: bool
    text: str
    hint: str | None = None


def is_current(root: Path, run: Run, nonce: bytes | None) -> bool:
    """Whether nothing needs to be done. Errors of any kind mean that something does."""
    return why(root, run, nonce) is None


def why(root: Path, run: Run, nonce: bytes | None) -> Reason | None:
    """The first reason for which `run` is not up to date, with its digests; None where it is."""
    try:
        current = lock.current(root, run)
    except AicertError as error:
        return Reason(stops=True, text=error.message, hint=error.hint)
    try:
        certificate = verify.read_certificate(root, run.name)
        reason = _other_lockfile(certificate, current)
        if reason is None and nonce is not None and certificate.evidence.nonce != nonce:
            reason = "another nonce is asked for than the certificate answers"
        if reason is None:
            question = verify.own_question(root, run, nonce)
            output = verify.output_path(root, run)
            # After a training that failed there may be none: the certificate says why.
            model = digests.cached_tree(output) if verify.has_files(output) else {}
            result = question.appraise(certificate, model, identity(current.data))
            reason = _not_passed(result) or _other_runner(root, run, certificate)
        folder = verify.certificate_path(root, run.name).parent
        if reason is None and not exports.has_signatures(certificate, folder):
            reason = "a model signature that the certificate names is missing beside it"
    except AicertError as error:
        reason = error.message
    return None if reason is None else Reason(stops=False, text=reason)


def _other_lockfile(certificate: Certificate, current: Lock) -> str | None:
    if certificate.lockfile == current.data:
        return None
    try:
        differs = lock.difference(parse_lockfile(certificate.lockfile), current.lockfile)
    except AicertError:
        differs = "it cannot be read"
    found, wanted = identity(certificate.lockfile), identity(current.data)
    return f"the certificate is of another lockfile\n  was   {found}\n  here  {wanted}\n{differs}"


def _not_passed(result: AttestationResult) -> str | None:
    if result.verdict == "passed":
        return None
    first = (result.failed or result.undecided)[0]
    return f"the certificate does not pass: {first.id}: {first.detail}"


def _other_runner(root: Path, run: Run, certificate: Certificate) -> str | None:
    if run.machine.driver != "local":
        # Its code is in the image, and the policy has compared that with the image's lock.
        current = image_tasks.is_current(root, gpu=run.machine.gpu)
        return None if current else "the image is of other code than is here"
    made, here = verify.runner_of(certificate), code_digest(root)
    return None if made == here else f"the runner's code differs\n  was   {made}\n  here  {here}"


def certify(
    root: Path, run: Run, nonce: bytes | None, *, accept: bool = False, keep: bool = False
) -> None:
    """Execute and certify `run`; RejectedError if what was put in place does not pass."""
    current = _locked(root, run, accept)
    fetch.fetch_inputs(root, current)
    check_config(root, current)
    check_signers(root, current)
    with executed(root, run, current, nonce, keep=keep) as (out, work):
        question = verify.own_question(root, run, nonce)
        passes = _accept(run, current, question, out)
        kept = None if passes else _keep(root, run, question)
        _place(root, run, out, work)
    exports.write(verify.certificate_path(root, run.name))
    result = verify.verify(root, run, question)
    if result.verdict != "passed":
        raise _refused(root, run, result, kept)


@contextmanager
def executed(
    root: Path, run: Run, current: Lock, nonce: bytes | None, *, keep: bool = False
) -> Iterator[tuple[Path, Path]]:
    """Execute `current` on the run's machine: the folder of results, in a folder of work that is
    gone afterwards.
    """
    # A measured machine has its own, in the image.
    environment = training_environment(root) if run.machine.driver == "local" else None
    marker = nullcontext() if environment is None else held(environment / "complete")
    with marker, work_folder(root, run.name) as work, reading(root):
        job = local.Job(
            root=root,
            run=run,
            lock=current,
            nonce=nonce or secrets.token_bytes(32),
            training_env=environment,
            work=work,
            keep=keep,
        )
        yield DRIVERS[run.machine.driver](job), work


def show(root: Path, run: Run, nonce: bytes | None) -> None:
    """The check table of what is in place, and where it lies."""
    verify.show(verify.verify(root, run, verify.own_question(root, run, nonce)))
    path = verify.certificate_path(root, run.name).relative_to(root)
    print(f"\ncertificate  {path}", flush=True)


def file_of(root: Path, run: Run) -> tuple[int, int] | None:
    """Which file the run's certificate is now: another one has been put in place if it changes."""
    try:
        found = verify.certificate_path(root, run.name).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _locked(root: Path, run: Run, accept: bool) -> Lock:
    """The current lock; one of a run that builds on another is written here the first time."""
    chained = any(sources.run_of(item.source) for item in run.inputs)
    if not chained or lock.path_of(root, run.name).exists():
        return lock.current(root, run)
    lock_command.write_lock(root, run)
    path = lock.path_of(root, run.name).relative_to(root)
    if not accept:
        raise LockError(
            f"run {run.name} was locked for the first time, by what it builds on: review {path}",
            hint=f"git add {lock.DIRECTORY} && ./doit certify {run.name}, or --accept next time",
        )
    return lock.current(root, run)


def _accept(run: Run, current: Lock, question: verify.Question, out: Path) -> bool:
    """Refuse to place what fails for another reason than a training that failed; whether it
    passes.
    """
    certificate = parse((out / "certificate.json").read_bytes())
    model = verify.read_model(out / "outputs" / run.outputs[0], f"{run.name}: reading the model")
    result = question.appraise(certificate, model, identity(current.data))
    exports.require_signatures(certificate, out / "signatures")
    if result.verdict == "passed" or (result.failed and result.failed[0].id in TELLING):
        return result.verdict == "passed"
    check = (result.failed or result.undecided)[0]
    message = f"the machine's evidence was refused at {check.id}: {check.detail}"
    if result.failed:
        raise RejectedError(message, result)
    raise EvidenceError(message)


def _keep(root: Path, run: Run, question: verify.Question) -> Path | None:
    """Move what is in place aside, if it passes for the lockfile that it was made from.

    The nonce and the lockfile that are wanted now say nothing against it. A cut in the middle
    leaves it in pieces, some here and some there: nothing is lost.
    """
    path = verify.certificate_path(root, run.name)
    try:
        certificate = verify.read_certificate(root, run.name)
        asked = verify.Question(policy=question.policy, nonce=None)
        model = digests.cached_tree(verify.output_path(root, run))
        result = asked.appraise(certificate, model, identity(certificate.lockfile))
    except AicertError:
        return None
    if result.verdict != "passed":
        return None
    aside = root / KEPT / run.name
    remove(aside)
    aside.mkdir(parents=True)
    (root / "outputs" / run.name).rename(aside / "outputs")
    for name in (*(f"{output}.sig" for output in run.outputs), "training.log", path.name):
        if path.with_name(name).exists():
            os.replace(path.with_name(name), aside / name)
    return aside


def _refused(root: Path, run: Run, result: AttestationResult, kept: Path | None) -> RejectedError:
    log = verify.certificate_path(root, run.name).with_name("training.log")
    check = result.failed[0]
    key = LIMIT_KEYS.get(_limit_hit(root, run))
    lines = [f"run {run.name} was certified as failed: {check.id}: {check.detail}", local.tail(log)]
    if kept is not None:
        lines.append(f"the model that passed before is kept in {kept.relative_to(root)}")
    hint = f"less {log.relative_to(root)}"
    if key is not None:
        where = f"machines.{run.machine.name}.{key}"
        lines.append(f"it reached the limit {where} of aicert.toml")
        hint = f"raise {where} in aicert.toml, then ./doit certify {run.name}"
    return RejectedError("\n".join(line.rstrip() for line in lines if line), result, hint=hint)


def _limit_hit(root: Path, run: Run) -> object:
    """The limit that ended the run in place, by the runner's report; None where none did."""
    statement = parse_statement(verify.read_certificate(root, run.name).envelope.payload)
    value = parse_report(statement.report).values.get("limitHit")
    return None if value is None else value.data


def _place(root: Path, run: Run, out: Path, work: Path) -> None:
    """Outputs first, the certificate last: a cut in between leaves outputs without one."""
    certificate = verify.certificate_path(root, run.name)
    certificate.unlink(missing_ok=True)
    (out / "outputs" / run.outputs[0]).mkdir(parents=True, exist_ok=True)
    exchange(out / "outputs", root / "outputs" / run.name, work / "replaced")
    certificate.parent.mkdir(parents=True, exist_ok=True)
    for name in run.outputs:
        signature = out / "signatures" / f"{name}.sig"
        (certificate.parent / signature.name).unlink(missing_ok=True)
        if signature.exists():
            os.replace(signature, certificate.parent / signature.name)
    for name in ("training.log", "certificate.json"):
        os.replace(out / name, certificate.parent / name)
