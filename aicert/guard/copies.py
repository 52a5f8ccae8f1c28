"""`--copy`: verify and load from a copy in memory that no process can write to.

Each thing that is loaded gets its own file system in memory (`file_system.py`), which is filled,
made read-only, and then verified. Only this process reaches it, through a file descriptor. The
process is closed to other processes of the same user, and so is the descriptor. If the kernel does
not let users create such a file system, the guard does not start.
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

# If this is set to any value, `--copy` holds for the process and its Python children.
VARIABLE = "AICERT_GUARD_COPY"
# Paths below this exist only in this process and its forks.
_DESCRIPTORS = "/proc/self/fd/"
_PIECE = 1 << 30


class Copies:
    """The copies of one process."""

    def __init__(self) -> None:
        self._places: dict[Subject, str] = {}
        # All copies, with older ones of the same subject, because a file in them may still be read
        # later.
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
        """Copy the subject as it is now, and verify the copy; raises what `verify` raises."""
        root = Path(subject.root)
        try:
            with _memory() as descriptor:
                # The place ends as the path does, since a snapshot's revision is read from its
                # path.
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
        """Return whether a path is in a copy. Copies were verified before their paths were given
        out.
        """
        text = os.path.normpath(path)
        own = f"/proc/{os.getpid()}/fd/"
        if text.startswith(own):
            text = _DESCRIPTORS + text.removeprefix(own)
        return any(text == place or text.startswith(f"{place}/") for place in self._all)

    def at(self, subject: Subject, path: StrPath) -> str:
        """Return where in the copy of the subject a path is."""
        place = located(path)
        if place.is_dir():
            place = Path(os.path.realpath(place))
        inner = os.path.relpath(place, subject.root)
        return os.path.normpath(os.path.join(self._places[subject], inner))


@contextmanager
def _memory() -> Iterator[int]:
    """Yield a descriptor of an empty folder in a new file system, which is read-only at the end."""
    # The descriptor gets its number first, because the folder is named after the path by which it
    # is reached: `os.path.realpath` of that path leads back to it.
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair()
    folder = f"{_DESCRIPTORS}{descriptor}".lstrip("/")
    command = [sys.executable, "-I", "-S", file_system.__file__, str(theirs.fileno()), folder]
    try:
        with ours:
            with theirs:
                helper = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            # The socket is closed first, so that the program ends whatever happens here.
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
    """Copy everything that could be loaded. Links stay links, except in a snapshot of the hub's
    cache.
    """
    os.mkdir(target)
    with os.scandir(root / prefix) as listing:
        entries = list(listing)
    for entry in entries:
        path = f"{prefix}{entry.name}"
        copied = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if f"{path}/" in UNSEEN or is_lost_and_found(root, f"{path}/"):
                # The rest of the folder may hold nothing else, and an empty folder would be
                # refused.
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
