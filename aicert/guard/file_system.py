"""Create a file system in memory that is mounted nowhere, for the process that asks.

This runs as a separate program, started by its path with a socket's number and a folder's name:
only a process with one thread may enter a namespace, and the guarded process stays in its own. It
sends the descriptor of the file system, waits for a byte, and then makes the file system read-only
for good: no process is left that could undo it. It uses the standard library alone, since it runs
without site-packages.

System calls and their numbers: Linux, `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`, the same on all
architectures.
"""

import ctypes
import os
import socket
import sys

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FLAG, _STRING, _CREATE, _RECONFIGURE = 0, 1, 6, 7
_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_NEW_USER_AND_MOUNTS = 0x10000000 | 0x20000
_SET_DUMPABLE = 4
_LIBC = ctypes.CDLL(None, use_errno=True)


def close_to_others() -> None:
    """Keep unprivileged processes from inspecting this one, even those of the same user."""
    _done(_LIBC.prctl(_SET_DUMPABLE, 0, 0, 0, 0))


def _done(value: int) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def _call(number: int, *words: object) -> int:
    return _done(int(_LIBC.syscall(ctypes.c_long(number), *words)))


def _enter_namespaces() -> None:
    user, group = os.getuid(), os.getgid()
    _done(_LIBC.unshare(_NEW_USER_AND_MOUNTS))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    close_to_others()


def serve(asking: socket.socket, folder: str) -> None:
    """Send a file system that has this folder; make it read-only once a byte has come."""
    _enter_namespaces()
    system = _call(_FSOPEN, b"tmpfs", 1)
    # It has to hold whole models; the kernel's default limit is half of the memory.
    for name, value in ((b"size", b"100%"), (b"mode", b"0700")):
        _call(_FSCONFIG, system, _STRING, name, value, 0)
    _call(_FSCONFIG, system, _CREATE, None, None, 0)
    mounted = _call(_FSMOUNT, system, 1, _NOSUID_NODEV_NOEXEC)
    os.makedirs(f"/proc/self/fd/{mounted}/{folder}", mode=0o700)
    socket.send_fds(asking, [b"made"], [mounted])
    os.close(mounted)
    if asking.recv(1):
        _call(_FSCONFIG, system, _FLAG, b"ro", None, 0)
        _call(_FSCONFIG, system, _RECONFIGURE, None, None, 0)
        asking.send(b"read-only")


def main(words: list[str]) -> int:
    """Serve the process that started this program."""
    with socket.socket(fileno=int(words[1])) as asking:
        try:
            serve(asking, words[2])
        except OSError as error:
            asking.send((error.strerror or "").encode())
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
