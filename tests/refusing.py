"""Run a program for which some system calls fail, as they do on poorer file systems.

    python refusing.py ERRNO CALL[,CALL…] PROGRAM…

By seccomp(2), so that every process which the program starts meets the same.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# Numbers of x86-64 and aarch64 (asm/unistd.h); the second has no `symlink`.
CALLS = {
    "x86_64": {"symlink": 88, "symlinkat": 266, "flock": 73, "unshare": 272},
    "aarch64": {"symlinkat": 36, "flock": 32, "unshare": 97},
}
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2


def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def refuse(names: list[str], error: int) -> None:
    numbers = CALLS[platform.machine()]
    steps = [step(LOAD, 0)]
    for number in (numbers[name] for name in names if name in numbers):
        steps += [step(EQUAL, number, 0, 1), step(RETURN, FAIL | error)]
    steps.append(step(RETURN, ALLOW))
    array = ctypes.create_string_buffer(b"".join(steps), 8 * len(steps))
    # struct sock_fprog: a count, and after padding a pointer.
    program = struct.pack("@HP", len(steps), ctypes.addressof(array))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SET_SECCOMP, FILTER, program)):
        if libc.prctl(*words) != 0:
            sys.exit(os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    refuse(sys.argv[2].split(","), getattr(errno, sys.argv[1]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606  # the program that the caller names
