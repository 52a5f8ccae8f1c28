"""After DVC has moved bytes, compare them by SHA-256 with lockfiles and certificates.

DVC names objects by MD5 and does not even compare that unless a remote has `verify = true`. If this
call fetched wrong bytes, they are removed, so that nobody uses them and a pull from a better remote
can fetch the right ones: files in the checkout that it wrote, and objects in its cache that it
fetched and whose bytes do not match their names. Everything else is reported and left alone,
because a file that was there before may be somebody's only copy.
"""

import hashlib
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aicert.errors import AicertError, LockError
from aicert.formats.listing import parse_listing
from aicert.formats.statement import parse as parse_statement
from rules.dvc import tracking
from rules.dvc.program import object_at, objects_of
from rules.dvc.tracking import Tracked
from rules.host.progress import say
from rules.host.statuses import Status, files, status_of
from rules.project import results
from rules.project.config import Project, Run
from rules.project.digests import cached_file, cached_tree

SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What existed before DVC started: the status of tracked files and of objects."""

    objects: Path
    seen: Mapping[str, Status]

    def had(self, path: Path) -> bool:
        """Whether this very file was there already."""
        status = status_of(path)
        return status is not None and self.seen.get(str(path)) == status


def look(root: Path, project: Project, more: Iterable[Tracked] = ()) -> Before:
    """Record what is there, without reading any of it. `more`: files that belong to no run."""
    objects = objects_of(root)
    folders = {item.path for _, item in _all_recorded(root, project, more)}
    paths = (each for folder in (objects, *folders) for each in files(folder))
    seen = {str(path): status for path in paths if (status := status_of(path)) is not None}
    return Before(objects=objects, seen=seen)


def compare(
    root: Path, project: Project, before: Before, more: Iterable[Tracked] = (), *, failed: bool
) -> int:
    """Compare everything that is tracked and present. Returns how many match. Raises LockError if
    DVC fetched other bytes, after removing them. If DVC `failed`, nothing is removed.
    """
    problems: list[str] = []
    right = 0
    seen: set[Path] = set()
    for owner, item in _all_recorded(root, project, more):
        if item.path in seen:
            continue
        seen.add(item.path)
        judgement = _judge(root, owner, item, before)
        if not failed:
            _remove(judgement.brought)
        problems += _words(item, judgement, removed=not failed)
        for line in _own_words(root, item, judgement):
            say(line)
        right += judgement.is_right
    if problems:
        raise LockError(
            "\n".join(problems), hint="./doit dvc pull, from a remote that has the right bytes"
        )
    return right


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """What differs in one tracked input or output: file names, or why it cannot be read."""

    is_right: bool = False
    brought: Mapping[str, Path] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    stale_objects: tuple[Path, ...] = ()
    unreadable: str | None = None


def _judge(root: Path, run: Run | None, item: Tracked, before: Before) -> _Judgement:
    try:
        wanted = _wanted(root, run, item)
        here = _here(item)
    except AicertError as error:
        return _Judgement(unreadable=error.message)
    bad = [name for name, sha256 in here.items() if wanted.get(name) != sha256]
    brought = {name: _at(item, name) for name in bad if not before.had(_at(item, name))}
    objects = tracking.recorded_objects(before.objects, item)
    cached = {name: object_at(before.objects, md5) for name, md5 in objects.items()}
    # Do not read what was there before and is not in use: it may be hundreds of gigabytes.
    new = {n: path for n, path in cached.items() if n in brought or not before.had(path)}
    wrong = {name: path for name, path in new.items() if path.is_file() and not _is_own(path)}
    fetched = {name: path for name, path in wrong.items() if not before.had(path)}
    removable = {f"{name} in DVC's cache": path for name, path in fetched.items()}
    return _Judgement(
        is_right=bool(here) and here.keys() == wanted.keys() and not bad,
        brought=brought | removable,
        names=tuple(sorted({*brought, *fetched})),
        own=tuple(sorted(set(bad) - set(brought))),
        stale_objects=tuple(path for name, path in wrong.items() if name not in fetched),
    )


def _at(item: Tracked, name: str) -> Path:
    return item.path / name if name else item.path


def _here(item: Tracked) -> dict[str, str]:
    """Return the SHA-256 of the files in the checkout, by path; "" is the path of an input that is
    a file.
    """
    if not item.path.exists():
        return {}
    if item.digest.kind == "sha256":
        return {"": cached_file(item.path).sha256}
    return {path: fact.sha256 for path, fact in cached_tree(item.path).items()}


def _is_own(path: Path) -> bool:
    """Whether an object in DVC's cache has the MD5 in its name."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    return f"{path.parent.name}{path.name}".removesuffix(".dir") == digest


def _remove(wrong: Mapping[str, Path]) -> None:
    for path in wrong.values():
        path.unlink(missing_ok=True)


def _words(item: Tracked, judgement: _Judgement, *, removed: bool) -> list[str]:
    if judgement.unreadable is not None:
        return [f"{item.name}: {judgement.unreadable}"]
    if not judgement.names:
        return []
    ending = "they were removed" if removed else "they were not removed, because DVC failed"
    return [
        f"{item.name}: DVC fetched bytes that do not match {item.digest}; {ending}"
        + _shown(judgement.names)
    ]


def _own_words(root: Path, item: Tracked, judgement: _Judgement) -> Iterator[str]:
    place = os.path.relpath(item.path, root)
    if judgement.own:
        yield f"{item.name} differs from what is locked, but DVC did not write it: left alone"
        yield from (f"  {line}" for line in _shown(judgement.own).splitlines() if line)
        yield f"  to keep the change: ./doit lock   to drop it: ./doit dvc checkout --force {place}"
    for path in judgement.stale_objects:
        yield f"DVC's cache already contained bytes that do not match their name: {path}"
        yield f"  if nobody needs them: rm -f {shlex.quote(str(path))}"


def _shown(names: tuple[str, ...]) -> str:
    shown = "".join(f"\n  {name}" for name in names[:SHOWN] if name)
    return shown + (f"\n  and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _all_recorded(
    root: Path, project: Project, more: Iterable[Tracked]
) -> Iterator[tuple[Run | None, Tracked]]:
    """Yield all tracked items, each with its run; those of no run have a listing of their own."""
    yield from ((None, item) for item in more if item.is_recorded)
    for run in project.runs.values():
        yield from ((run, item) for item in _recorded(root, project, run))


def _recorded(root: Path, project: Project, run: Run) -> list[Tracked]:
    """Return what is tracked according to lockfile and certificate: older bytes are no
    tampering.
    """
    try:
        return [item for item in tracking.of_run(root, project, run) if item.is_recorded]
    except AicertError:
        # There is no lockfile, or certify will report what is wrong with it.
        return []


def _wanted(root: Path, run: Run | None, item: Tracked) -> dict[str, str]:
    """Return the right SHA-256 of every file, from a listing or the certificate."""
    if item.digest.kind == "sha256":
        return {"": item.digest.hex}
    if item.listing is not None or run is None:
        if item.listing is None:
            raise LockError(f"nothing lists the files of {item.name}")
        try:
            data = item.listing.read_bytes()
        except OSError as error:
            raise LockError(f"cannot read {item.listing}: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != item.digest.hex:
            raise LockError(f"{item.listing} does not match its lockfile")
        return parse_listing(data)
    statement = parse_statement(results.read_certificate(root, run.name).envelope.payload)
    return dict(statement.outputs[item.path.name].files)
