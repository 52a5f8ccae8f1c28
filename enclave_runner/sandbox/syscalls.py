"""Contain what namespaces do not: filter system calls, and give the sandbox its own keyring.

AF_VSOCK reaches the hypervisor from every network namespace (vsock(7)); keyrings are inherited and
outlive a run (keyrings(7)); io_uring makes sockets past any filter of `socket`. The filter is a
program for seccomp(2): calls of another architecture end the process, the calls listed here fail,
and sockets must be of families that a network namespace contains. Every other call is allowed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass

from aicert.errors import ToolError

_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _EAFNOSUPPORT = 0x00050001, 0x00050061
# Classic BPF: load a word, compare, return (linux/bpf_common.h); offsets in struct seccomp_data.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
# On x86-64, calls from this number on are the same calls with pointers of 32 bits; on other
# architectures no call has such a number.
_X32 = 0x40000000
_FAMILIES = {"unix": 1, "inet": 2, "inet6": 10, "netlink": 16}
_JOIN_SESSION_KEYRING = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Numbers:
    """The number of an architecture in audit.h, and the numbers of its calls in unistd.h."""

    architecture: int
    socket: int
    keyctl: int
    refused: tuple[int, ...]


# Refused, in this order: add_key, request_key, keyctl, io_uring_setup, ptrace, process_vm_readv,
# process_vm_writev, pidfd_getfd, bpf, perf_event_open, userfaultfd.
_TABLE = {
    "x86_64": _Numbers(
        architecture=0xC000003E,
        socket=41,
        keyctl=250,
        refused=(248, 249, 250, 425, 101, 310, 311, 438, 321, 298, 323),
    ),
    "aarch64": _Numbers(
        architecture=0xC00000B7,
        socket=198,
        keyctl=219,
        refused=(217, 218, 219, 425, 117, 270, 271, 438, 280, 241, 282),
    ),
}


def _numbers(machine: str) -> _Numbers:
    try:
        return _TABLE[machine]
    except KeyError:
        raise ToolError(
            f"training needs a system call filter, but there is none for {machine}"
        ) from None


def program(machine: str) -> bytes:
    """Return the filter as `bwrap --seccomp` reads it: an array of struct sock_filter."""
    numbers = _numbers(machine)
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, numbers.architecture, 1)]
    steps += [_step(_RETURN, _KILL), _step(_LOAD, _NUMBER)]
    steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _EPERM)]
    for number in numbers.refused:
        steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _EPERM)]
    steps += [_step(_EQUAL, numbers.socket, 1), _step(_RETURN, _ALLOW)]
    steps.append(_step(_LOAD, _FIRST_ARGUMENT))
    for family in _FAMILIES.values():
        steps += [_step(_EQUAL, family, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*steps, _step(_RETURN, _EAFNOSUPPORT)])


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """Encode one instruction; a comparison skips the next `yes` or `no` instructions."""
    return struct.pack("=HBBI", code, yes, no, value)


def open_program() -> int:
    """Return a descriptor from which this machine's filter can be read."""
    fd = os.memfd_create("seccomp")
    os.write(fd, program(platform.machine()))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def leave_session_keyring() -> None:
    """Give this thread, and what it starts, a session keyring without the user's keys.

    If the call is refused (as in most containers), children cannot reach a keyring either: their
    calls are refused for the same reason, and by the filter.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_numbers(platform.machine()).keyctl, _JOIN_SESSION_KEYRING, None)
