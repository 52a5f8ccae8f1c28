"""`--copy`: what is verified and loaded is a copy in memory that no process can write to.

One file system in memory for each thing that is loaded (`file_system.py`): filled, made read-only,
then verified, and reached by this process alone, through its descriptor. To other processes of the
same user this one is closed, and with it the descriptor. Where the kernel lets nobody make such a
file system, the guard does not start.
"""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aicert.errors import AicertError, ConfigError, ToolError
from aicert.files.bounded import StrPath
from aicert.files.harmless import blob_of, is_lost_and_found, open_in
from aicert.files.tree import open_file
from aicert.frozen import replace
from aicert.guard import file_system
from aicert.guard.judge import UNSEEN, RefusedError, Subject
from aicert.signing.sign import default_signature, located
from aicert.text import safe

# If it is set to anything: `--copy` for the process and its Python children.
VARIABLE = "AICERT_GUARD_COPY"
# Names that exist in this process and its forks only.
_DESCRIPTORS = "/proc/self/fd/"
_PIECE = 1 << 30


class Copies:
    """The copies of one process."""

    def __init__(self) -> None:
        self._places: dict[Subject, str] = {}
        # All copies, including older ones of the same subject, because a file in them may be read
        # late.
        self._all: set[str] = set()
        try:
            file_system.close_to_others()
            with _memory() as descriptor:
                os.fstat(descriptor)
            os.close(descriptor)
        except (ToolError, OSError) as error:
            text = error.message if isinstance(error, AicertError) else error.strerror
            raise ConfigError(
                f"--copy: this system does not let users create a file system in memory: {text}",
                hint="sysctl user.max_user_namespaces kernel.apparmor_restrict_unprivileged_userns",
            ) from None

    def make(self, subject: Subject, verify: Callable[[Subject], None]) -> None:
        """Copy what lies there now, and verify the copy; raises what `verify` raises."""
        root = Path(subject.root)
        try:
            with _memory() as descriptor:
                # Ends as the path does: the revision of a snapshot is read from that.
                place = f"{_DESCRIPTORS}{descriptor}/{root.parent.name or 'root'}/{root.name}"
                os.makedirs(os.path.dirname(place))
                if root.is_dir():
                    _copy_folder(root, "", place)
                else:
                    _copy_file(open_file(root.parent, root.name), place)
                    beside = default_signature(root)
                    _copy_file(open_file(beside.parent, beside.name), f"{place}.sig")
        except OSError as error:
            raise RefusedError(
                f"{safe(subject.root)}: it cannot be copied into memory: {error.strerror}"
            ) from None
        try:
            verify(replace(subject, read_from=place))
        except BaseException:
            os.close(descriptor)
            raise
        self._places[subject] = place
        self._all.add(place)

    def holds(self, path: StrPath) -> bool:
        """Whether a path is in a copy. Copies were verified before anybody got their names."""
        text = os.path.normpath(path)
        own = f"/proc/{os.getpid()}/fd/"
        if text.startswith(own):
            text = _DESCRIPTORS + text.removeprefix(own)
        return any(text == place or text.startswith(f"{place}/") for place in self._all)

    def at(self, subject: Subject, path: StrPath) -> str:
        """Where a path of the subject is in its copy."""
        place = located(path)
        if place.is_dir():
            place = Path(os.path.realpath(place))
        inner = os.path.relpath(place, subject.root)
        return os.path.normpath(os.path.join(self._places[subject], inner))


@contextmanager
def _memory() -> Iterator[int]:
    """A descriptor of an empty folder in a file system that is read-only at the end."""
    # The descriptor's number comes first, because the folder has the name by which it is reached:
    # `os.path.realpath` of that name leads back to it.
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair()
    folder = f"{_DESCRIPTORS}{descriptor}".lstrip("/")
    command = [sys.executable, "-I", "-S", file_system.__file__, str(theirs.fileno()), folder]
    try:
        with ours:
            with theirs:
                helper = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            # Closed first, so that the program ends whatever happens here.
            with helper, ours:
                _receive(ours, descriptor, folder)
                yield descriptor
                ours.send(b"s")
                if ours.recv(32) != b"read-only":
                    raise ToolError("a file system in memory could not be made read-only")
    except BaseException:
        os.close(descriptor)
        raise


def _receive(ours: socket.socket, descriptor: int, folder: str) -> None:
    text, received, _, _ = socket.recv_fds(ours, 200, 1)
    if not received:
        raise ToolError(text.decode(errors="replace") or "the program that makes it ended")
    try:
        inner = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=received[0])
    finally:
        os.close(received[0])
    os.dup2(inner, descriptor, inheritable=False)
    os.close(inner)


def _copy_folder(root: Path, prefix: str, target: str) -> None:
    """All that could be loaded. Links are copied as links, except those of a hub's snapshot."""
    os.mkdir(target)
    with os.scandir(root / prefix) as listing:
        entries = list(listing)
    for entry in entries:
        path = f"{prefix}{entry.name}"
        copied = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if f"{path}/" in UNSEEN or is_lost_and_found(root, f"{path}/"):
                # What is above it may hold nothing else, and would be refused as empty.
                os.mkdir(copied)
                continue
            _copy_folder(root, f"{path}/", copied)
        elif entry.is_symlink() and blob_of(root, path) is None:
            os.symlink(os.readlink(entry.path), copied)
        else:
            _copy_file(open_in(root, path), copied)


def _copy_file(opened: int, target: str) -> None:
    with open(opened, "rb"), open(target, "xb") as copied:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise RefusedError(f"{safe(os.path.basename(target))}: it is no file")
        while os.sendfile(copied.fileno(), opened, None, _PIECE):
            pass
