"""Put a run's results in place: completely or not at all, and without losing what was there.

A finished run stays in `.aicert/finished/RUN` until it is in place, so an error on the way does not
cost the training: the next certify continues from there. New outputs are staged on their final disk
(`outputs/` may be a link, a mount or another disk); the old ones are moved aside and deleted last.
While outputs change there is no certificate, so nobody sees one next to the wrong files. What is
worth keeping is decided in rules.runs.certify.
"""

import errno
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aicert.appraisal.checks.kinds import RESULTS
from aicert.errors import ToolError
from aicert.formats import machine_io
from aicert.formats.machine_io import CERTIFICATE, SIGNATURES, TRAINING_LOG
from rules.host.progress import amount, say
from rules.host.work import RUNS, locked, remove, write_whole
from rules.project.platform_cas import BESIDE
from rules.project.results import certificate_path
from rules.project.sources import OUTPUTS

FINISHED = Path(".aicert") / "finished"
# Replaced results that had passed, and files that no certificate names.
KEPT = Path(".aicert") / "kept"
_STAGING = ".placing"
# With less free space than this, nothing could be written completely.
_FULL = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the results of one run go. `outputs` and `audits` are those in aicert.toml.

    `of_results`: whether it makes results and no model. These lie beside the certificate too, where
    `aicert verify --evidence certificates` looks for them.
    """

    root: Path
    run: str
    outputs: tuple[str, ...]
    audits: tuple[str, ...] = ()
    of_results: bool = False

    @property
    def finished(self) -> Path:
        return self.root / FINISHED / self.run

    @property
    def home(self) -> Path:
        """The real folder of the outputs, behind any link."""
        return (self.root / OUTPUTS / self.run).resolve()

    @property
    def staging(self) -> Path:
        return self.home / _STAGING

    @property
    def certificates(self) -> Path:
        return certificate_path(self.root, self.run).parent

    @property
    def beside(self) -> tuple[str, ...]:
        """The files next to the outputs. The certificate is last: it shows that all others are
        there.
        """
        # This includes the results of audits that the run no longer names, because the new
        # certificate does not name them either.
        older = (path.name for path in self.certificates.glob(machine_io.audit_file("*")))
        audits = sorted({*map(machine_io.audit_file, self.audits), *older})
        signatures = (f"{name}.sig" for name in self.outputs)
        return (*signatures, *audits, RESULTS, TRAINING_LOG, BESIDE, CERTIFICATE)

    def source(self, name: str) -> Path:
        """Return where the finished run has a file of `beside`."""
        if name == RESULTS and self.of_results:
            return self.finished / machine_io.OUTPUTS / self.outputs[0] / name
        return self.finished / (SIGNATURES if name.endswith(".sig") else "") / name


def check(place: Place, needed: int) -> None:
    """Raise ToolError before the training if the result could not be put in place.

    `needed` is the expected size of the outputs in bytes.
    """
    for name in place.outputs:
        target = place.home / name
        if target.is_symlink() or _is_mount(target):
            kind = "a symbolic link" if target.is_symlink() else "a mount point"
            raise ToolError(
                f"{OUTPUTS / place.run / name} is {kind}, but a result replaces the whole folder",
                hint=f"put {OUTPUTS} or {OUTPUTS / place.run} on the other disk instead",
            )
    _check_writable(place)
    free = _free(_existing(place.home))
    if free < needed:
        raise ToolError(
            f"no room for the result: {place.home} has {amount(free, 'B')} left, and weights like "
            f"the base model's take {amount(needed, 'B')}",
            hint=f"df -h {shlex.quote(str(_existing(place.home)))}",
        )


def check_not_full(place: Place, work: Path, failure: str) -> None:
    """Raise ToolError if a run failed on a full disk, which says nothing about the run."""
    if _free(work) < _FULL:
        raise ToolError(
            f"{failure}\nthe disk of {work.relative_to(place.root)} is full; what was in place "
            "stays there",
            hint="./doit clean, then certify again",
        )


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _existing(path: Path) -> Path:
    """Return `path`, or the nearest existing folder above it."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def _is_mount(path: Path) -> bool:
    """Whether it is a mount, including bind mounts on the same disk, which `os.path.ismount`
    misses.
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return os.path.ismount(path)
    # proc(5): the fifth field, with octal escapes.
    points = [line.split(" ")[4] for line in lines.splitlines()]
    return str(path) in {re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), p) for p in points}


def _check_writable(place: Place) -> None:
    """Check that everything in place can be replaced: files that somebody else made, for example
    root, may be readable but not replaceable.
    """
    folders = [place.home, place.certificates]
    folders += [place.root / name / place.run for name in (RUNS, FINISHED, KEPT)]
    files = [each for each in map(_existing, folders) if not each.is_dir()]
    if files:
        raise ToolError(
            f"{files[0]} is a file, but results need a folder there",
            hint=f"mv {shlex.quote(str(files[0]))} {shlex.quote(str(files[0]) + '.old')}",
        )
    stuck = [each for each in map(_existing, folders) if not os.access(each, os.W_OK | os.X_OK)]
    for name in place.outputs:
        for folder, _, _ in os.walk(place.home / name):
            # Moving a folder writes to it, because its `..` changes.
            if not os.access(folder, os.W_OK | os.X_OK):
                stuck.append(Path(folder))
    lock = place.root / RUNS / place.run / "lock"
    if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
        stuck.append(lock)
    if stuck and os.statvfs(stuck[0]).f_flag & os.ST_RDONLY:
        raise ToolError(
            f"cannot write to {stuck[0]}: read-only file system",
            hint="work in a copy of the checkout on a writable disk",
        )
    if stuck:
        owner = f"{os.geteuid()}:{os.getegid()}"
        names = [str(each) for each in dict.fromkeys(stuck)][:5]
        raise ToolError(
            f"cannot replace {stuck[0]}: this user may not write there, so a result would be lost",
            hint=f"sudo chown -R {shlex.join([owner, *names])}",
        )


def finish(place: Place, out: Path) -> None:
    """Move the machine's results to where they outlive the work folder; both are on one disk."""
    place.finished.parent.mkdir(parents=True, exist_ok=True)
    if not (place.finished / CERTIFICATE).exists():
        # Left by an earlier run that was put in place, if its clean-up was interrupted.
        remove(place.finished)
    os.rename(out, place.finished)


def put_aside(place: Place) -> Path | None:
    """Keep a finished run that is no longer wanted. Returns its new path, or None if
    there is none.
    """
    if not place.finished.exists():
        return None
    target = next_kept(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(place.finished, target)
    return target


def next_kept(place: Place) -> Path:
    """Return an unused path below `.aicert/kept`."""
    folder = place.root / KEPT
    names = [place.run, *(f"{place.run}.{number}" for number in range(2, 10_000))]
    return next(folder / name for name in names if not os.path.lexists(folder / name))


def in_place(place: Place, *, keep: Path | None) -> None:
    """Replace what is in place with the finished run.

    `keep` is a new folder for what is replaced, or None to delete it. Raises ToolError if the
    results cannot be placed; then nothing has changed, and the finished run is still there.
    """
    with _worded(place):
        restore(place)
        remove(place.staging)
        old = keep or place.staging / "old"
        for name in place.outputs:
            _stage(place.finished / machine_io.OUTPUTS / name, place.staging / "new" / name)
        _save_beside(place, old)
        try:
            (place.certificates / place.beside[-1]).unlink(missing_ok=True)
            for name in place.outputs:
                if os.path.lexists(place.home / name):
                    (old / machine_io.OUTPUTS).mkdir(parents=True, exist_ok=True)
                    _move(place.home / name, old / machine_io.OUTPUTS / name)
                os.rename(place.staging / "new" / name, place.home / name)
            _write_beside(place, _results(place))
        except BaseException:
            _bring_back(place, old)
            raise
    _clear_up(place)


def _clear_up(place: Place) -> None:
    """Remove leftovers. The results are in place, so a failure here is no failure of the run."""
    try:
        (place.finished / CERTIFICATE).unlink()
        remove(place.staging)
        remove(place.finished)
    except OSError as error:
        say(f"left behind  {error.filename or place.staging}: {error.strerror}")


def restore(place: Place) -> None:
    """Undo an interrupted replacement: if there is no certificate, the old results come back."""
    old = place.staging / "old"
    if old.exists() and not certificate_path(place.root, place.run).exists():
        _bring_back(place, old)


def sweep(place: Place) -> None:
    """Remove what a placing left if it was interrupted after its last step."""
    if place.staging.exists():
        with locked(place.root, place.run) as home:
            if home is not None and certificate_path(place.root, place.run).exists():
                remove(place.staging)


@contextmanager
def _worded(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise ToolError(
            f"run {place.run} finished but cannot be put in place: {error.strerror}{where}\n"
            f"it is kept in {place.finished.relative_to(place.root)}, and what was there before "
            "stays",
            hint=f"free some space or let this user write there, then ./doit certify {place.run}: "
            "it will not train again",
        ) from None


def _stage(source: Path, target: Path) -> None:
    """Make the same tree at `target`, on its disk: hard-linked if possible, otherwise copied."""
    target.mkdir(parents=True)
    for folder, folders, files in os.walk(source):
        inside = target / os.path.relpath(folder, source)
        for name in folders:
            (inside / name).mkdir()
        for name in files:
            try:
                os.link(Path(folder, name), inside / name)
            except OSError as error:
                # The last one: file systems without links.
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                    raise
                _copy(Path(folder, name), inside / name)


def _copy(source: Path, target: Path) -> None:
    shutil.copy2(source, target)
    with target.open("rb") as file:
        # Some disks report only now that they are full.
        os.fsync(file.fileno())


def _move(source: Path, target: Path) -> None:
    """Move a folder, file by file if the disk cannot rename it: an overlay file system cannot
    rename its lower layers, and `target` may be on another disk. Existing files are kept.
    """
    if not target.exists():
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return
    target.mkdir(exist_ok=True)
    for name in os.listdir(source):
        each, moved = source / name, target / name
        if each.is_dir() and not each.is_symlink():
            _move(each, moved)
            continue
        try:
            os.rename(each, moved)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            if each.is_symlink():
                moved.symlink_to(os.readlink(each))
            else:
                _copy(each, moved)
            each.unlink()
    source.rmdir()


def _results(place: Place) -> Iterator[tuple[str, Path]]:
    for name in place.beside:
        yield name, place.source(name)


def _write_beside(place: Place, results: Iterable[tuple[str, Path]]) -> None:
    """Write each file in the given order; remove files that the result does not have."""
    for name, source in results:
        if source.exists():
            write_whole(place.certificates / name, source.read_bytes())
        else:
            (place.certificates / name).unlink(missing_ok=True)


def _save_beside(place: Place, old: Path) -> None:
    """Copy the files next to the outputs to a new folder `old`: all of them or none."""
    saving = old.with_name(f"{old.name}.part")
    remove(saving)
    saving.mkdir(parents=True)
    for name in place.beside:
        source = place.certificates / name
        if source.exists():
            write_whole(saving / name, source.read_bytes())
    os.rename(saving, old)


def _bring_back(place: Place, old: Path) -> None:
    """Restore outputs and certificate from `old`. New outputs are removed; they are also in
    `finished`.
    """
    for name in place.outputs:
        saved, target = old / machine_io.OUTPUTS / name, place.home / name
        is_new = os.path.lexists(target) and not (place.staging / "new" / name).exists()
        if saved.exists():
            if is_new:
                remove(target)
            _move(saved, target)
        elif is_new and not (old / machine_io.OUTPUTS).exists():
            # There was nothing to bring back.
            remove(target)
    _write_beside(place, ((name, old / name) for name in place.beside))
    remove(old)
