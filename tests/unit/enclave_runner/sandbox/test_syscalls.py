"""The system call filter, run as the kernel runs it."""

import struct

import pytest

from aicert.errors import ToolError
from enclave_runner.sandbox import syscalls

ALLOW, KILL, EPERM, EAFNOSUPPORT = 0x7FFF0000, 0x80000000, 0x50001, 0x50061
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386 = 0x40000003


def judged(machine: str, number: int, first: int = 0, architecture: int | None = None) -> int:
    """Return the filter's verdict on a call: classic BPF over struct seccomp_data."""
    given = architecture or ARCHITECTURES[machine]
    data = struct.pack("=iIQQ", number, given, 0, first)
    steps = list(struct.iter_unpack("=HBBI", syscalls.program(machine)))
    at = word = 0
    while True:
        code, yes, no, value = steps[at]
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (word,) = struct.unpack_from("=I", data, value)
        else:
            at += yes if (word == value if code == 0x15 else word >= value) else no
        at += 1


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_what_is_refused_and_what_is_not(machine: str) -> None:
    numbers = syscalls._numbers(machine)
    assert {judged(machine, number) for number in numbers.refused} == {EPERM}
    plain = set(range(500)) - {*numbers.refused, numbers.socket}
    assert {judged(machine, number) for number in plain} == {ALLOW}
    allowed = {n for n in range(64) if judged(machine, numbers.socket, n) == ALLOW}
    assert allowed == {1, 2, 10, 16}
    assert judged(machine, numbers.socket, 40) == EAFNOSUPPORT
    assert judged(machine, 0x40000000 + 39) == EPERM
    assert judged(machine, 20, architecture=I386) == KILL


def test_another_machine_trains_nothing() -> None:
    with pytest.raises(ToolError, match="none for riscv64"):
        syscalls.program("riscv64")
