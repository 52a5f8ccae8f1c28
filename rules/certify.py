"""Certify a run: refuse early, execute it on its machine, appraise, and only then put in place.

Up to date means verified (design section 9): the certificate at hand is of the lockfile at hand
and of the runner's code at hand, and passes under the machine's own policy with the outputs at
hand. No timestamp and no database decides.
"""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from aicert.certificate import parse
from aicert.errors import AicertError, ConfigError, EvidenceError, RejectedError, ToolError
from aicert.lockfile import identity
from aicert.result import AttestationResult
from aicert.tree import code_digest
from rules import digests, exports, local, lock, verify
from rules.config import Run
from rules.environment import training_environment
from rules.lock import Lock
from rules.work import exchange, work_folder

DRIVERS = {"local": local.execute}
# Failures that a certificate exists to tell: such a certificate is put in place, and never passes.
TELLING = ("outputs.exit", "outputs.nonempty", "outputs.trained")


def is_current(root: Path, run: Run, nonce: bytes | None) -> bool:
    """Whether nothing needs to be done. Errors of any kind mean that something does."""
    try:
        current = lock.current(root, run)
        certificate = verify.read_certificate(root, run.name)
        if certificate.lockfile != current.data:
            return False
        if nonce is not None and certificate.evidence.nonce != nonce:
            return False
        question = verify.own_question(root, run, nonce)
        model = digests.cached_tree(verify.output_path(root, run))
        result = question.appraise(certificate, model, identity(current.data))
    except AicertError:
        return False
    if result.verdict != "passed" or verify.runner_of(certificate) != code_digest(root):
        return False
    place = verify.certificate_path(root, run.name)
    return exports.has_signatures(certificate, place.parent)


def certify(root: Path, run: Run, nonce: bytes | None) -> None:
    """Execute and certify `run`. Prints the check table; RejectedError if it does not pass."""
    current = lock.current(root, run)
    check_config(root, run, current)
    environment = training_environment(root)
    with work_folder(root, run.name) as work:
        job = local.Job(
            root=root,
            run=run,
            lock=current,
            nonce=nonce or secrets.token_bytes(32),
            training_env=environment,
            work=work,
        )
        out = DRIVERS[run.machine.driver](job)
        question = verify.own_question(root, run, nonce)
        _accept(run, current, question, out)
        _place(root, run, out, work)
    exports.write(verify.certificate_path(root, run.name))
    result = verify.verify(root, run, question)
    verify.show(result)
    print(f"\ncertificate  {verify.certificate_path(root, run.name).relative_to(root)}")
    if result.verdict != "passed":
        raise _refused(root, run, result)


def check_config(root: Path, run: Run, current: Lock) -> None:
    """The runner's refusals of the config, before anything is started. The runner decides again."""
    command = [sys.executable, "-P", "-m", "enclave_runner.check"]
    command.append(f"--config={current.paths['config']}")
    command += [f"--input={n}={p}" for n, p in current.paths.items() if n != "config"]
    environment = {"PYTHONPATH": str(root), "PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        return
    try:
        told = json.loads(done.stdout)
        message, hint = told["message"], told["hint"]
    except (ValueError, KeyError, TypeError):
        raise ToolError(f"the config could not be checked\n{done.stderr[-2000:]}") from None
    where = current.paths["config"].relative_to(root.resolve())
    raise ConfigError(f"run {run.name}: {where}: {message}", hint=hint)


def _accept(run: Run, current: Lock, question: verify.Question, out: Path) -> None:
    """Refuse to place what fails for another reason than a training that failed."""
    certificate = parse((out / "certificate.json").read_bytes())
    model = verify.read_model(out / "outputs" / run.outputs[0], f"{run.name}: reading the model")
    result = question.appraise(certificate, model, identity(current.data))
    exports.require_signatures(certificate, out / "signatures")
    if result.verdict == "passed" or (result.failed and result.failed[0].id in TELLING):
        return
    check = (result.failed or result.undecided)[0]
    message = f"the machine's evidence was refused at {check.id}: {check.detail}"
    if result.failed:
        raise RejectedError(message, result)
    raise EvidenceError(message)


def _refused(root: Path, run: Run, result: AttestationResult) -> RejectedError:
    log = verify.certificate_path(root, run.name).with_name("training.log")
    check = result.failed[0]
    return RejectedError(
        f"run {run.name} was certified as failed: {check.id}: {check.detail}\n{local.tail(log)}",
        result,
        hint=f"less {log.relative_to(root)}",
    )


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
