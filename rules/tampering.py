"""After DVC moved bytes: compare them by SHA-256 with lockfiles and certificates.

DVC names objects by MD5 and, unless a remote has `verify = true`, does not even compare that. What
is wrong is removed from the checkout and from DVC's cache, so that nobody uses it and a pull from a
better remote brings the right bytes.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from aicert.digest import FileFact, dir_digest, parse_listing
from aicert.errors import AicertError, LockError
from aicert.statement import parse as parse_statement
from rules import tracking, verify
from rules.config import Project, Run
from rules.digests import cached_file, cached_tree
from rules.dvc_program import object_at, objects_of
from rules.tracking import Tracked

SHOWN = 5


def compare(root: Path, project: Project, more: Iterable[Tracked] = ()) -> int:
    """Compare everything that is tracked and at hand; returns how many. Raises LockError.

    `more`: what no run has; each has a listing.
    """
    problems: list[str] = []
    seen: set[Path] = set()
    items: list[tuple[Run | None, Tracked]] = [(None, item) for item in more if item.is_recorded]
    for run in project.runs.values():
        items += [(run, item) for item in _recorded(root, project, run)]
    for owner, item in items:
        if item.path in seen or not item.path.exists():
            continue
        seen.add(item.path)
        problem = _problem(root, owner, item)
        if problem is not None:
            problems.append(problem)
    if problems:
        raise LockError(
            "\n".join(problems), hint="./doit dvc pull, from a remote that has the right bytes"
        )
    return len(seen)


def _recorded(root: Path, project: Project, run: Run) -> list[Tracked]:
    """What is tracked as lockfile and certificate have it: older bytes are no tampering."""
    try:
        return [item for item in tracking.of_run(root, project, run) if item.is_recorded]
    except AicertError:
        # No lockfile, or one that certify will refuse with its own words.
        return []


def _problem(root: Path, run: Run | None, item: Tracked) -> str | None:
    try:
        if item.digest.kind == "sha256":
            if cached_file(item.path).sha256 == item.digest.hex:
                return None
            bad = [""]
        else:
            found = cached_tree(item.path)
            if dir_digest(found) == item.digest:
                return None
            bad = _bad(found, _wanted(root, run, item))
    except AicertError as error:
        return f"{item.name}: {error.message}"
    _remove(root, item, bad)
    shown = "".join(f"\n  {name}" for name in bad[:SHOWN] if name)
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return (
        f"{item.name}: DVC brought other bytes than {item.digest}; they were removed{shown}{more}"
    )


def _wanted(root: Path, run: Run | None, item: Tracked) -> dict[str, str]:
    """The right SHA-256 of every file, where a listing or the certificate has it."""
    if item.listing is not None or run is None:
        with contextlib.suppress(OSError, AicertError):
            return parse_listing(item.listing.read_bytes() if item.listing is not None else b"")
        return {}
    statement = parse_statement(verify.read_certificate(root, run.name).envelope.payload)
    return dict(statement.outputs[item.path.name].files)


def _bad(found: dict[str, FileFact], wanted: dict[str, str]) -> list[str]:
    return sorted(path for path, fact in found.items() if wanted.get(path) != fact.sha256) or [""]


def _remove(root: Path, item: Tracked, bad: list[str]) -> None:
    """Remove files from the checkout and their objects from DVC's cache."""
    objects_here = objects_of(root)
    objects = tracking.recorded_objects(objects_here, item)
    for name in bad:
        wrong = item.path / name if name else item.path
        if not wrong.is_dir():
            wrong.unlink(missing_ok=True)
        if name in objects:
            object_at(objects_here, objects[name]).unlink(missing_ok=True)
    if "" in objects:
        # It lists what was wrong; fetching it again is one small file.
        object_at(objects_here, objects[""]).unlink(missing_ok=True)
