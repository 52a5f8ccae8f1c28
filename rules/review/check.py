"""Checks of a pull request's lockfiles and certificates, by code of the base revision.

`tree` is the change as a folder of files. It is data, and nothing in it is executed. The policy is
the caller's, with the images that the base accepts, never the change's. Certificates are judged
without their models, which are not in git.
"""

import contextlib
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aicert.appraisal.appraise import appraise
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.errors import AicertError, ToolError
from aicert.formats import certificate as certificates
from aicert.formats import image_lock
from aicert.formats import lockfile as form
from aicert.formats.certificate import Certificate
from aicert.verifier import verify
from rules.example import example
from rules.project import config, lock, locked, sources
from rules.project.config import Project, Run
from rules.project.images import LIST
from rules.review import images_list, plain_files
from rules.review.packages import IMAGE, IMAGES
from rules.review.revisions import Checkout, Files

CERTIFICATES = "certificates"
Verdict = Literal["ok", "failed", "-"]
Audits = Sequence[tuple[Certificate, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a change; `-` means that it could not be made. Texts may be hostile."""

    what: str
    verdict: Verdict
    detail: str


def check(
    tree: Path,
    base: Files,
    policy: Policy,
    change: Files | None = None,
    *,
    audits: Audits | None = None,
) -> list[Check]:
    """Check every lockfile of `tree`, and the certificates that are new or different from `base`.

    `change` is the change itself if `tree` is a copy of its plain files. `audits` are those that
    the policy may require; they are not from the change.
    """
    head = Checkout(tree)
    odd = [
        Check(what=path, verdict="failed", detail=f"{kind}: only plain files may be there")
        for path, kind in (change or head).odd()
    ]
    if any(check.what.partition("/")[0] in plain_files.FILES for check in odd):
        return odd
    try:
        project = config.load(tree)
    except AicertError as error:
        return [*odd, Check(what="aicert.toml", verdict="failed", detail=_flat(error.message))]
    example_is_made = _make_example(tree, project)
    lockfiles = [_lockfile(tree, run, example_is_made) for run in project.runs.values()]
    asked = _sources(tree, project)
    locks = _strays(project, head)
    locks += [check for path in IMAGES for check in _image(base, head, path)]
    if (wrong := images_list.problem(head)) is not None:
        locks.append(Check(what=str(LIST), verdict="failed", detail=_flat(wrong)))
    accepting = images_list.accepted_by(base, policy)
    return [*odd, *lockfiles, *asked, *locks, *_certificates(base, head, accepting, audits)]


def _make_example(tree: Path, project: Project) -> bool:
    """Make the example's inputs, which are not stored, unless the change put a link in
    their place.
    """
    if not example.is_of(item.source for run in project.runs.values() for item in run.inputs):
        return True
    parts = [tree / "examples", *(tree / name for name in (example.MODEL, example.DATA))]
    if any(os.path.islink(part) for part in parts):
        return False
    example.make_example(tree)
    return True


def _lockfile(tree: Path, run: Run, example_is_made: bool) -> Check:
    what = f"lockfile of run {run.name}"
    try:
        form.parse(locked.read(tree, run.name))
        missing = [item.name for item in run.inputs if not _is_here(tree, item.source)]
        if missing or not example_is_made:
            names = ", ".join(missing) or "examples"
            return Check(
                what=what, verdict="-", detail=f"canonical; the bytes of {names} are not here"
            )
        lock.current(tree, run)
    except ToolError as error:
        return Check(what=what, verdict="-", detail=_flat(error.message))
    except AicertError as error:
        return Check(what=what, verdict="failed", detail=_flat(error.message))
    return Check(
        what=what, verdict="ok", detail="canonical, and it matches the bytes of this change"
    )


def _is_here(tree: Path, source: str) -> bool:
    return not source.startswith("path:") or os.path.lexists(tree / source.removeprefix("path:"))


def _sources(tree: Path, project: Project) -> list[Check]:
    """Check each remote input at its source, by metadata; nothing is stored."""
    from aicert.sources.compare import compare_all

    checks = []
    for run in project.runs.values():
        try:
            lockfile = form.parse(locked.read(tree, run.name))
        except AicertError:
            # The check of the lockfile itself reports this.
            continue
        if all(sources.is_local(item.source) for item in lockfile.inputs):
            continue
        for one in compare_all(lockfile):
            if one.verdict != "not-applicable":
                verdict: Verdict = one.verdict if one.verdict != "not-checked" else "-"
                what = f"source of input {one.name} of run {run.name}"
                checks.append(Check(what=what, verdict=verdict, detail=_flat(one.detail)))
    return checks


def _strays(project: Project, head: Files) -> list[Check]:
    """Find lockfiles that no run of aicert.toml has: reviewing them would be pointless."""
    checks = []
    for path in head.names(locked.DIRECTORY):
        name = path.removeprefix(f"{locked.DIRECTORY}/")
        run = name.removesuffix(".lock.toml")
        if "/" in name or run == name or path in IMAGES or run in project.runs:
            continue
        checks.append(Check(what=path, verdict="failed", detail="aicert.toml has no such run"))
    return checks


def _image(base: Files, head: Files, path: str) -> list[Check]:
    """Check that a changed image lock is well-formed. Only a build can check its content."""
    data = head.read(path)
    if data is None or data == base.read(path):
        return []
    try:
        image_lock.parse(data)
    except AicertError as error:
        return [Check(what=path, verdict="failed", detail=_flat(error.message))]
    task = path.removeprefix("lockfiles/").removesuffix(".lock.toml").replace("-", "_")
    command = "image_reproduce" if path == IMAGE else f"run {task}_reproduce"
    detail = f"canonical; rebuild it before it is merged: ./doit {command}"
    return [Check(what=path, verdict="-", detail=detail)]


def _certificates(base: Files, head: Files, policy: Policy, audits: Audits | None) -> list[Check]:
    paths = [name for name in head.names(CERTIFICATES) if name.endswith("/certificate.json")]
    checks = []
    for path in paths:
        if head.read(path) == base.read(path):
            continue
        run = path.removeprefix(f"{CERTIFICATES}/").removesuffix("/certificate.json")
        others = _readable(head, [other for other in paths if other != path])
        checks.append(_certificate(path, run, head, policy, others, audits))
    return checks


def _readable(head: Files, paths: Sequence[str]) -> list[Certificate]:
    """Return the certificates at `paths`, for lineages; an unreadable one is reported by its own
    check.
    """
    readable = []
    for data in map(head.read, paths[: verify.MAX_LINEAGE]):
        with contextlib.suppress(AicertError):
            readable.append(certificates.parse(data or b""))
    return readable


def _certificate(
    path: str,
    run: str,
    head: Files,
    policy: Policy,
    others: Sequence[Certificate],
    audits: Audits | None,
) -> Check:
    what = f"certificate of run {run}"
    data = head.read(path)
    lockfile = head.read(f"{locked.DIRECTORY}/{run}.lock.toml")
    if data is None or lockfile is None:
        return Check(
            what=what, verdict="failed", detail="the certificate or its lockfile cannot be read"
        )
    try:
        result = appraise(
            certificates.parse(data),
            None,
            policy,
            at=datetime.datetime.now(datetime.UTC),
            lockfile=lockfile,
            ancestors=others,
            audits=audits,
        )
    except AicertError as error:
        return Check(what=what, verdict="failed", detail=_flat(error.message))
    return Check(what=what, verdict=_verdict(result), detail=_detail(result))


def _flat(message: str) -> str:
    return "; ".join(line.strip() for line in message.splitlines())


def _verdict(result: AttestationResult) -> Verdict:
    if result.certificate_consistent == "yes":
        return "ok"
    return "failed" if result.failed else "-"


def _detail(result: AttestationResult) -> str:
    if result.certificate_consistent == "yes":
        return f"passes policy {result.policy} ({result.tier}); its model was not checked"
    reasons = result.failed or result.undecided
    first = reasons[0]
    return f"policy {result.policy}: {first.id}: {_flat(first.detail)}"
