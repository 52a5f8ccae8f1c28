"""Certify a run: fail early, execute it on its machine, appraise, and only then put it in place.

A run is up to date if its certificate is for the lockfile and the runner's code here and passes,
with the outputs here, under the machine's own policy. The digest cache knows files that have not
changed since they were read (rules.project.digests).
"""

import errno
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aicert.appraisal.checks.quote import answers
from aicert.appraisal.result import AttestationResult
from aicert.errors import (
    AicertError,
    EvidenceError,
    LockError,
    RejectedError,
    ToolError,
)
from aicert.files.bounded import read_bounded
from aicert.files.machine_code import code_digest
from aicert.formats import machine_io
from aicert.formats.certificate import MAX_BYTES, Certificate, parse
from aicert.formats.lockfile import CONFIG_INPUT, identity
from aicert.formats.machine_io import CERTIFICATE, SIGNATURES, TRAINING_LOG
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from aicert.log.errors import BrokenLogError
from rules.example import example
from rules.host import progress, tool_envs, training_env
from rules.host.places import code_of
from rules.host.reporter import show_error
from rules.host.work import held, reading, work_folder
from rules.machines.machine import Job, implementation, tail
from rules.project import (
    digests,
    fetch,
    lock,
    locked,
    platform_cas,
    relock,
    results,
    sources,
    stale,
)
from rules.project.config import Run
from rules.project.config_check import check_config
from rules.project.input_signatures import check_signers
from rules.project.locked import Lock
from rules.runs import afterwards, exports, failed, logs, placing, time_stamps, unknown_ca, verify
from rules.runs.appraisal import AppraisalRequest, own_request
from rules.runs.verdict import Verdict, appraised

# The name of a limit in a run report → its key of a machine in aicert.toml.
LIMIT_KEYS: Mapping[object, str] = {
    machine_io.TIME: "time-limit",
    machine_io.MEMORY: "memory",
    machine_io.PROCESSES: "processes",
    machine_io.SCRATCH: "scratch",
}
# Read errors about the files themselves: one is missing, or has the wrong type.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
# Failures that a certificate documents: it is put in place, but never passes.
TELLING = (
    "outputs.exit", "outputs.nonempty", "outputs.trained", "outputs.derived", "outputs.results",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a run is not up to date. Certify runs it, or stops until somebody acts."""

    stops: bool
    text: str
    hint: str | None = None
    # There is a certificate for this state; it is kept, but gives no verdict.
    kept: bool = False


def is_current(root: Path, run: Run, nonce: bytes | None) -> bool:
    """Whether nothing needs to be done. An error of any kind means that something does."""
    return why(root, run, nonce) is None


def why(root: Path, run: Run, nonce: bytes | None) -> Reason | None:
    """Return the first reason why `run` is not up to date, with digests; None if it is."""
    if example.is_needed(root, (item.source for item in run.inputs)):
        return Reason(stops=False, text="the example's inputs do not exist yet; certify makes them")
    try:
        current = lock.current(root, run)
    except AicertError as error:
        return Reason(stops=True, text=error.message, hint=error.hint)
    try:
        certificate = results.read_certificate(root, run.name)
        reason = _other_lockfile(certificate, current)
        if reason is None and nonce is not None and not answers(certificate, nonce):
            reason = "the certificate does not answer the nonce that you gave"
        if reason is None:
            request = own_request(root, run, nonce)
            output = results.output_path(root, run)
            # A failed training may leave none; the certificate says why.
            model = digests.cached_tree(output) if results.has_files(output) else {}
            lockfile = identity(current.data)
            result = request.appraise(certificate, model, lockfile)
            evidence = unknown_ca.Appraised(certificate, model, lockfile, result)
            unknown = unknown_ca.unknown(root, run, request, evidence)
            if unknown is not None:
                text = f"{unknown.text}; it is kept"
                return Reason(stops=True, text=text, hint=unknown.hint, kept=True)
            reason = _not_passed(result) or _other_runner(root, run, certificate)
        folder = results.certificate_path(root, run.name).parent
        if reason is None and not exports.has_signatures(certificate, folder):
            reason = "a model signature that the certificate names is missing next to it"
    except AicertError as error:
        reason = error.message
    return None if reason is None else Reason(stops=False, text=reason)


def _other_lockfile(certificate: Certificate, current: Lock) -> str | None:
    if certificate.lockfile == current.data:
        return None
    try:
        differs = stale.difference(locked.parsed(certificate.lockfile), current.lockfile)
    except AicertError:
        differs = "it cannot be read"
    theirs, ours = identity(certificate.lockfile), identity(current.data)
    return (
        f"the certificate is for a different lockfile\n  was   {theirs}\n  here  {ours}\n{differs}"
    )


def _not_passed(result: AttestationResult) -> str | None:
    if result.verdict == "passed":
        return None
    first = (result.failed or result.undecided)[0]
    return f"the certificate does not pass: {first.id}: {first.detail}"


def _other_runner(root: Path, run: Run, certificate: Certificate) -> str | None:
    if run.machine.driver.in_image:
        # The runner's code is in the image that the policy accepts: a run stays valid when the
        # image changes.
        return None
    theirs, ours = verify.runner_of(certificate), code_digest(code_of(root))
    return (
        None if theirs == ours else f"the runner's code differs\n  was   {theirs}\n  here  {ours}"
    )


def certify(
    root: Path,
    run: Run,
    nonce: bytes | None,
    *,
    accept: bool = False,
    keep: bool = False,
    again: bool = False,
    named: bool = True,
    on_verdict: Callable[[Verdict], None] = lambda _: None,
) -> None:
    """Execute and certify `run`. Raises RejectedError if the result in place does not pass, and
    BrokenLogError if it passes, but the log that it was to be in is wrong.

    A certificate that fails only because this checkout does not know who vouches for it is kept
    (EvidenceError), unless `again` is set, which also repeats a run that is up to date. A failed
    run is not repeated unless it is `named` or something has changed. `on_verdict` gets the verdict
    on the result in place.
    """
    reason = None if again else why(root, run, nonce)
    if reason is not None and reason.kept:
        raise EvidenceError(f"run {run.name}: no verdict: {reason.text}", hint=reason.hint)
    current = _locked(root, run, accept)
    if not (again or named) and failed.is_known(root, run, current):
        result = _of_what_is_in_place(root, run, nonce, None)
        if result.failed:
            raise failed.refusal(run, _refused(root, run, result, None))
    fetch.fetch_inputs(root, current)
    check_config(root, current, machine=run.machine)
    check_signers(root, current)
    place = placing.Place(
        root=root,
        run=run.name,
        outputs=run.outputs,
        audits=run.audits,
        of_results=run.makes_results,
    )
    placing.check(place, _foreseen(current))
    with work_folder(root, run.name) as work:
        if not again and is_current(root, run, nonce):
            # Another process certified it while we waited.
            return
        verdict = _finished_earlier(root, run, current, nonce, place)
        broken: BrokenLogError | None = None
        if verdict is None:
            answer = time_stamps.before(run, current.data, nonce)
            answered = nonce if answer is None else answer.nonce
            try:
                out = _execute(root, run, current, answered, work, keep=keep)
            except ToolError as error:
                placing.check_not_full(place, work, error.message)
                raise
            _put_ca(root, run, out)
            time_stamps.add_answer(out / CERTIFICATE, answer)
            placing.finish(place, out)
            placed = results.certificate_path(root, run.name).relative_to(root)
            time_stamps.add_token(run, place.finished / CERTIFICATE, placed)
            try:
                logs.add_proof(run, place.finished / CERTIFICATE, placed)
            except BrokenLogError as error:
                # It says nothing about the run, which is put in place first. If that fails, this
                # is printed all the same.
                show_error(error)
                broken = error
            request = own_request(root, run, nonce)
            verdict = _accepted(run, current, request, place.finished)
        if not verdict.passes:
            placing.check_not_full(place, work, "the run failed")
        kept = _worth_keeping(root, place, run, passes=verdict.passes)
        placing.in_place(place, keep=kept)
        verdict.hand_on_digests(root, run)
    on_verdict(verdict)
    certificate = results.certificate_path(root, run.name)
    afterwards.attempt(run.name, "exported", exports.write, certificate)
    result = _of_what_is_in_place(root, run, nonce, verdict)
    if result.verdict != "passed":
        failed.remember(root, run, current)
        raise _refused(root, run, result, kept)
    if kept is not None:
        progress.say(f"kept  {kept.relative_to(root)}: the old results had uncertified files")
    if broken is not None:
        message = f"run {run.name} passed and is in place, but its log is not in order (see above)"
        raise BrokenLogError(message, hint=broken.hint)


def _of_what_is_in_place(
    root: Path, run: Run, nonce: bytes | None, verdict: Verdict | None
) -> AttestationResult:
    """Return the existing verdict if it still describes what is in place; otherwise read and
    appraise everything.
    """
    if verdict is not None and verdict.is_of_what_is_in_place(root, run):
        return verdict.result
    return verify.verify(root, run, own_request(root, run, nonce))


@contextmanager
def executed(
    root: Path, run: Run, current: Lock, nonce: bytes | None, *, keep: bool = False
) -> Iterator[tuple[Path, Path]]:
    """Execute `current` on the run's machine. Yields the folder of results, which is in a work
    folder that is removed afterwards.
    """
    with work_folder(root, run.name) as work:
        yield _execute(root, run, current, nonce, work, keep=keep), work


def _execute(
    root: Path, run: Run, current: Lock, nonce: bytes | None, work: Path, *, keep: bool
) -> Path:
    # A measured machine has its own environment, in the image.
    environment = None if run.machine.driver.in_image else training_env.ensure_shown(root)
    tools = None
    if environment is not None and run.trainer in machine_io.TOOLS:
        tools = tool_envs.ensure_shown(root, run.trainer)
    with ExitStack() as stack:
        for folder in (environment, tools):
            if folder is not None:
                stack.enter_context(held(folder / "complete"))
        stack.enter_context(reading(root))
        job = Job(
            root=root,
            run=run.name,
            machine=run.machine,
            lockfile=current.data,
            inputs=current.paths,
            nonce=nonce or secrets.token_bytes(32),
            training_env=environment,
            tools=tools,
            work=work,
            keep=keep,
        )
        return implementation(run.machine.driver).execute(job)


def _put_ca(root: Path, run: Run, out: Path) -> None:
    """Add the CA of the simulated platform: whoever gets the certificate needs it for the
    appraisal.
    """
    ca = platform_cas.own(root, run.machine.driver.policy)
    if ca is not None:
        (out / platform_cas.BESIDE).write_bytes(ca.pem)


def show(root: Path, run: Run, nonce: bytes | None, verdict: Verdict | None) -> None:
    """Print the check table of what is in place, and where that is. `verdict` is from this process.
    After a failed training, also print the trainer's last lines.
    """
    result = _of_what_is_in_place(root, run, nonce, verdict)
    path = results.certificate_path(root, run.name)
    if result.failed and all(check.id in TELLING for check in result.failed):
        # A reached limit has been reported already, and the log knows nothing about it.
        if _limit_hit(root, run) is None:
            failed.say_last_words(root, run, path.with_name(TRAINING_LOG))
        return
    verify.show(result)
    print(f"\ncertificate  {path.relative_to(root)}", flush=True)


def file_of(root: Path, run: Run) -> tuple[int, int] | None:
    """Return the identity of the run's certificate file: it changes when another one is put in
    place.
    """
    try:
        status = results.certificate_path(root, run.name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns


def _locked(root: Path, run: Run, accept: bool) -> Lock:
    """Return the current lock. If the run builds on another run, its first lock is written here."""
    chained = any(sources.run_of(item.source) for item in run.inputs)
    if not chained or locked.path_of(root, run.name).exists():
        return lock.current(root, run)
    relock.write_lock(root, run)
    path = locked.path_of(root, run.name).relative_to(root)
    if not accept:
        raise LockError(
            f"run {run.name} now has its first lockfile, since its inputs exist: review {path}",
            hint=f"git add {locked.DIRECTORY} && ./doit certify {run.name}, or --accept next time",
        )
    return lock.current(root, run)


def _accepted(run: Run, current: Lock, request: AppraisalRequest, out: Path) -> Verdict:
    """Return the verdict on a machine's results. If it fails for any reason other than a failed
    training, raise an error, so that nothing is put in place.
    """
    verdict = appraised(run, current, request, out)
    exports.require_signatures(parse(verdict.certificate), out / SIGNATURES)
    result = verdict.result
    if verdict.passes or (result.failed and all(one.id in TELLING for one in result.failed)):
        return verdict
    other = [one for one in result.failed if one.id not in TELLING]
    check = (other or result.undecided)[0]
    message = f"the machine's evidence failed {check.id}: {check.detail}"
    if result.failed:
        raise RejectedError(message, result)
    raise EvidenceError(message)


def _foreseen(current: Lock) -> int:
    """Estimate the size of the outputs. A fine-tune writes weights as large as its base model's; an
    adapter is far smaller.
    """
    sizes = {item.name: item.size for item in current.lockfile.inputs}
    config = current.paths[CONFIG_INPUT]
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    if re.search(r"^adapter:[ \t]*[a-z]", text, re.MULTILINE):
        return 0
    return max((size for name, size in sizes.items() if name != CONFIG_INPUT), default=0)


def _finished_earlier(
    root: Path, run: Run, current: Lock, nonce: bytes | None, place: placing.Place
) -> Verdict | None:
    """Return the verdict on a run that finished but was never put in place, if it matches the
    current request: it is appraised as if it had just ended. Otherwise it is moved aside. Raises
    ToolError if it cannot be read now, because it may match, and repeating the training costs more.
    """
    if not (place.finished / CERTIFICATE).is_file():
        return None
    request = own_request(root, run, nonce)
    verdict = None
    try:
        certificate = parse(read_bounded(place.finished / CERTIFICATE, MAX_BYTES, "certificate"))
        if certificate.lockfile == current.data:
            accepted = _accepted(run, current, request, place.finished)
            verdict = accepted if _other_runner(root, run, certificate) is None else None
    except AicertError as error:
        _require_readable(place, error)
    if verdict is not None:
        progress.say(f"{run.name}: putting an earlier finished run in place")
        return verdict
    aside = placing.put_aside(place)
    if aside is not None:
        progress.say(
            f"kept  {aside.relative_to(root)}: a finished run that does not match this request"
        )
    return None


def _require_readable(place: placing.Place, error: AicertError) -> None:
    """Raise ToolError if `error` is about a disk or a permission, not about the run."""
    cause = error.__context__
    if isinstance(cause, OSError) and cause.errno not in _NOT_THERE:
        folder = placing.FINISHED / place.run
        raise ToolError(
            f"an earlier finished run cannot be read, so it is kept: {error.message}",
            hint=f"ls -lR {folder}    # or, to train again: mv {folder} {folder}.old",
        ) from error


def _worth_keeping(root: Path, place: placing.Place, run: Run, *, passes: bool) -> Path | None:
    """Return where the replaced result goes, if it is worth keeping.

    It is kept if it is a model that passes while the new result does not (whatever the current
    nonce and lockfile are), or if it contains files that no certificate names, because somebody put
    them there.
    """
    output = results.output_path(root, run)
    if not results.has_files(output):
        return None
    try:
        certificate = results.read_certificate(root, run.name)
        asked = own_request(root, run, None)
        model = digests.cached_tree(output)
        result = asked.appraise(certificate, model, identity(certificate.lockfile))
        named = parse_statement(certificate.envelope.payload).outputs[run.outputs[0]].files
    except (AicertError, KeyError):
        return placing.next_kept(place)
    strange = any(named.get(path) != fact.sha256 for path, fact in model.items())
    passing_is_lost = result.verdict == "passed" and not passes
    return placing.next_kept(place) if strange or passing_is_lost else None


def _refused(root: Path, run: Run, result: AttestationResult, kept: Path | None) -> RejectedError:
    log = results.certificate_path(root, run.name).with_name(TRAINING_LOG)
    check = result.failed[0]
    key = LIMIT_KEYS.get(_limit_hit(root, run))
    lines = [f"run {run.name} is certified as failed: {check.id}: {check.detail}", tail(log)]
    if kept is not None:
        lines.append(f"the previous model, which passed, is kept in {kept.relative_to(root)}")
    hint = f"less {log.relative_to(root)}"
    if key is not None:
        where = f"machines.{run.machine.name}.{key}"
        lines.append(f"it reached the limit {where} of aicert.toml")
        hint = f"raise {where} in aicert.toml, then ./doit certify {run.name}"
    return RejectedError("\n".join(line.rstrip() for line in lines if line), result, hint=hint)


def _limit_hit(root: Path, run: Run) -> object:
    """Return the limit that ended the run in place, according to the runner; None if none did."""
    statement = parse_statement(results.read_certificate(root, run.name).envelope.payload)
    value = parse_report(statement.report).values.get("limitHit")
    return None if value is None else value.data
