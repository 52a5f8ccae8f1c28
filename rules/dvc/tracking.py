"""Let DVC track what lockfiles and certificates name but git does not hold.

Format: docs/spec/tracking.md. An input's `.dvc` file is next to its lockfile, an output's next to
its certificate; its `meta.aicert` is the digest of the bytes when they were tracked. DVC moves
bytes by MD5 and trusts its remote. Our trust is in the SHA-256 of lockfile and certificate,
compared after every DVC command (`rules.dvc.tampering`).

This is active if the checkout is a git repository with `.dvc/config`. Here only `track` starts DVC.
"""

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from aicert.formats.statement import parse as parse_statement
from rules.dvc.program import exclusive, object_at, objects_of, run_dvc
from rules.host.git import refused
from rules.host.progress import say
from rules.host.work import unread, write_whole
from rules.project import locked, results, sources
from rules.project.config import Input, Project, Run
from rules.project.digests import cached_file, cached_tree

# As DVC writes it: a key of its single output.
_PATH = re.compile(r"^(?:- |  )path: (.+)$", re.MULTILINE)
MD5 = re.compile(r"^[- ] md5: ([0-9a-f]{32}(?:\.dir)?)$", re.MULTILINE)
_OBJECT = re.compile(r"[0-9a-f]{32}")
# DVC breaks this line when it rewrites the file.
_DIGEST = re.compile(r"^  aicert:\s+(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Bytes that DVC moves: where they are, their `.dvc` file, their digest and its source.

    `listing` is the file whose `HEX  PATH` lines show which file is wrong, or None for a single
    file.
    """

    name: str
    path: Path
    file: Path
    digest: Digest
    listing: Path | None

    @property
    def is_recorded(self) -> bool:
        """Whether the `.dvc` file is complete and describes these bytes."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        match = _DIGEST.search(text)
        return match is not None and match[1] == str(self.digest) and MD5.search(text) is not None


def is_on(root: Path) -> bool:
    """Whether this checkout uses DVC at all: an unpacked archive does not."""
    return (root / ".dvc" / "config").is_file() and (root / ".git").exists()


def of_run(root: Path, project: Project, run: Run) -> list[Tracked]:
    """Return what DVC has to track for `run`: its inputs as locked, its output as certified."""
    return [*_not_in_git(root, _inputs(root, project, run)), *_outputs(root, run)]


def _inputs(root: Path, project: Project, run: Run) -> list[Tracked]:
    """Return the inputs that are in the checkout or will be, in git or in DVC."""
    lockfile = locked.parsed(locked.read(root, run.name))
    digests = {item.name: item.digest for item in lockfile.inputs}
    candidates = []
    for item in run.inputs:
        digest = digests.get(item.name)
        path = None if digest is None else _place(root, item, digest)
        if digest is None or path is None:
            continue
        owner, name = _owner(project, run, item)
        folder = root / locked.DIRECTORY / owner
        listing = folder / f"{name}.sha256" if digest.kind == "dirHash" else None
        candidates.append(
            Tracked(
                name=f"input {item.name} of run {run.name}",
                path=path,
                file=folder / f"{name}.dvc",
                digest=digest,
                listing=listing,
            )
        )
    return candidates


def _place(root: Path, item: Input, digest: Digest) -> Path | None:
    """Return where the bytes of an input are or will be; None if another run makes them."""
    if sources.run_of(item.source) is not None:
        return None
    if not sources.is_local(item.source):
        return sources.place(sources.store(root), digest)
    # If only some files of a directory are chosen, the digest is not the directory's.
    whole = item.choice.is_everything
    return root.resolve() / item.source.removeprefix("path:") if whole else None


def _owner(project: Project, run: Run, item: Input) -> tuple[str, str]:
    """Return the run and input whose lockfile the `.dvc` file goes next to: DVC wants one file per
    path.
    """
    wanted = _bytes_of(item)
    return min(
        (other.name, candidate.name)
        for other in (*project.runs.values(), run)
        for candidate in other.inputs
        if _bytes_of(candidate) == wanted
    )


def _bytes_of(item: Input) -> Input:
    """Return the input without the settings that do not affect its bytes."""
    return replace(item, name="", allow_pickle=False, allow_remote_code=False)


def _outputs(root: Path, run: Run) -> Iterator[Tracked]:
    try:
        statement = parse_statement(results.read_certificate(root, run.name).envelope.payload)
    except AicertError:
        return
    for name in run.outputs:
        output = statement.outputs.get(name)
        if output is not None and output.files:
            yield Tracked(
                name=f"output {name} of run {run.name}",
                path=root.resolve() / sources.OUTPUTS / run.name / name,
                file=results.certificate_path(root, run.name).with_name(f"{name}.dvc"),
                digest=output.digest,
                listing=None,
            )


def _not_in_git(root: Path, candidates: Sequence[Tracked]) -> list[Tracked]:
    """Return the candidates that git ignores. If git neither holds nor ignores a file, the user has
    yet to decide.
    """
    home = root.resolve()
    inside = [item for item in candidates if item.path.is_relative_to(home)]
    unknown = [item for item in inside if not item.is_recorded]
    if not unknown:
        return inside if len(inside) == len(candidates) else [i for i in inside if i.is_recorded]
    names = {item.path.relative_to(home).as_posix(): item for item in unknown}
    # A directory with one file in git belongs to git: DVC refuses it.
    held = _git(root, ["ls-files", "-z", "--", *names])
    ignored = set(_git(root, ["check-ignore", "-z", "--stdin"], given=names, ok=(0, 1)))
    tracked = [item for item in inside if item.is_recorded]
    for name, item in names.items():
        if name in ignored and not any(f == name or f.startswith(f"{name}/") for f in held):
            tracked.append(item)
    return tracked


def _git(
    root: Path, arguments: list[str], given: Iterable[str] = (), ok: tuple[int, ...] = (0,)
) -> list[str]:
    asked = b"".join(os.fsencode(name) + b"\0" for name in given)
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, input=asked)
    if done.returncode not in ok:
        raise refused(root, arguments[0], done.stderr)
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def files_of_dvc(root: Path) -> list[str]:
    """Return every DVC file in the checkout, whoever made it, by its path in the repository."""
    patterns = ("*.dvc", "dvc.yaml", "**/dvc.yaml")
    names = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    return [name for name in _git(root, names) if (root / name).is_file()]


def is_tracked(root: Path, project: Project, run: Run) -> bool:
    """Whether there is nothing to do. An error means that there is."""
    try:
        return not is_on(root) or all(i.is_recorded for i in of_run(root, project, run))
    except AicertError:
        return False


def track(
    root: Path, project: Project, *, again: bool = False, more: Sequence[Tracked] = ()
) -> list[Tracked]:
    """Hand DVC what it does not have yet, linked rather than copied if possible. Returns the items.

    `again` includes items that are recorded but missing from DVC's cache, as after a clone. While a
    machine reads inputs nothing is done; the last of several parallel runs comes here when it has
    ended. `more`: items that belong to no run, the images' packages.
    """
    if not is_on(root):
        return []
    with unread(root) as free:
        if not free:
            say("not tracked yet: a run is still reading its inputs; tracking happens when it ends")
            return []
        return _track(root, _todo(root, project, again, more))


def _todo(
    root: Path, project: Project, again: bool, more: Sequence[Tracked]
) -> dict[Path, Tracked]:
    """Items by `.dvc` file. Bytes that differ from the lock wait for `./doit lock`."""
    objects = objects_of(root) if again else None
    items = list(more)
    for run in project.runs.values():
        # A LockError here means no lockfile, or one that certify will complain about. A failing git
        # is different: an empty answer does not mean that there is nothing to do.
        with contextlib.suppress(LockError):
            items += of_run(root, project, run)
    todo = {}
    for item in items:
        if item.is_recorded and objects is None:
            continue
        right = _is_right(item)
        has = objects is not None and item.is_recorded and _is_cached(objects, item, right)
        if right and not has:
            todo[item.file] = item
    return todo


def _is_right(item: Tracked) -> bool:
    try:
        if item.digest.kind == "sha256":
            return cached_file(item.path).sha256 == item.digest.hex
        return dir_digest(cached_tree(item.path)) == item.digest
    except AicertError:
        return False


def recorded_objects(objects: Path, item: Tracked) -> dict[str, str]:
    """Return the MD5, by path, of what the `.dvc` file records; "" is the file itself, or the
    listing. A directory's files are included if its listing is in DVC's cache and readable.
    """
    recorded = MD5.search(item.file.read_text(encoding="utf-8"))
    by_path = {"": recorded[1]} if recorded else {}
    if recorded and recorded[1].endswith(".dir"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            for entry in json.loads(object_at(objects, recorded[1]).read_bytes()):
                if _OBJECT.fullmatch(entry["md5"]):
                    by_path[str(entry["relpath"])] = entry["md5"]
    return by_path


def _is_cached(objects: Path, item: Tracked, right: bool) -> bool:
    """Whether DVC's cache has all of it. A copy with other bytes is removed, because DVC trusts its
    cache.

    The copy is usually a link to the file in the checkout, so it changes with it. `right`: that
    file has the locked bytes, so what is linked to it need not be read.
    """
    by_path = recorded_objects(objects, item)
    whole = bool(by_path)
    for name, md5 in by_path.items():
        cached, here = object_at(objects, md5), item.path / name if name else item.path
        try:
            if right and here.is_file() and cached.samefile(here):
                continue
            with cached.open("rb") as file:
                same = hashlib.file_digest(file, "md5").hexdigest() == md5.removesuffix(".dir")
        except FileNotFoundError:
            whole = False
            continue
        if not same:
            cached.unlink()
            whole = False
    return whole


def _track(root: Path, todo: dict[Path, Tracked]) -> list[Tracked]:
    if not todo:
        return []
    with exclusive(root):
        before = {file: file.read_bytes() if file.exists() else None for file in todo}
        for item in todo.values():
            write_whole(item.file, _unfinished(root, item))
        files = [str(file.relative_to(root)) for file in todo]
        try:
            run_dvc(root, ["commit", "--force", *files])
        except ToolError:
            for file, data in before.items():
                file.unlink() if data is None else write_whole(file, data)
            raise
        run_dvc(root, ["checkout", "--relink", *files])
        _drop_others(root, todo)
    return list(todo.values())


def _drop_others(root: Path, todo: dict[Path, Tracked]) -> None:
    """Drop the `.dvc` file of another run that shares the input but now comes later by name."""
    paths = {item.path: item.file for item in todo.values()}
    for file in (root / locked.DIRECTORY).glob("*/*.dvc"):
        match = None if file in todo else _PATH.search(file.read_text(encoding="utf-8"))
        now = paths.get(root.resolve() / match[1].strip("\"'")) if match else None
        if now is not None:
            file.unlink()
            say(f"moved  {file.relative_to(root)} to {now.relative_to(root)}: runs share the input")


def hand_over(root: Path, project: Project, files: Iterable[Path]) -> dict[Path, Path]:
    """Rename those `.dvc` files of removed runs whose bytes another run now tracks. The bytes need
    not be here. Returns the new path of each.
    """
    if not is_on(root):
        return {}
    wanted: dict[Path, Tracked] = {}
    for run in project.runs.values():
        with contextlib.suppress(LockError):
            wanted |= {item.path: item for item in _inputs(root, project, run)}
    moved: dict[Path, Path] = {}
    for file in files:
        match = _PATH.search(file.read_text(encoding="utf-8"))
        item = wanted.get(root.resolve() / match[1].strip("\"'")) if match else None
        if item is None or item.is_recorded or not replace(item, file=file).is_recorded:
            continue
        item.file.parent.mkdir(parents=True, exist_ok=True)
        # Both are two folders below the root, which is what they contain.
        file.rename(item.file)
        moved[file] = item.file
    return moved


def _unfinished(root: Path, item: Tracked) -> bytes:
    """Return a `.dvc` file to which `dvc commit` adds MD5 and size."""
    home = root.resolve()
    up = os.path.relpath(root, item.file.parent)
    path = json.dumps(item.path.relative_to(home).as_posix())
    return f"wdir: {up}\nouts:\n- path: {path}\nmeta:\n  aicert: {item.digest}\n".encode()
