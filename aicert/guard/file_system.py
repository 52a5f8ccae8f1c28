"""A file system in memory that has no place in any tree: made here, for the process that asks.

Run as a program of its own, by its path, with a socket's number and a folder's name: only a process
with one thread may enter a namespace, and the guarded one stays in its own. Sends the descriptor of
the file system, waits for a byte, and makes the file system read-only for good: no process is left
that could undo it. Standard library alone, since it runs without site-packages.

Calls and numbers: Linux, `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`, the same on all machines.
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
    """No process without privilege may inspect this one, not even one of the same user."""
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
    """Send a file system with this folder in it; once a byte comes, let nobody write to it."""
    _enter_namespaces()
    system = _call(_FSOPEN, b"tmpfs", 1)
    # Whole models: the kernel's own limit is half of the memory.
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
    """Serve the process that started this one."""
    with socket.socket(fileno=int(words[1])) as asking:
        try:
            serve(asking, words[2])
        except OSError as error:
            asking.send((error.strerror or "").encode())
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
