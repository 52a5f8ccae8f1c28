import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.measurement import (
    SEALED,
    ZERO,
    check_exit_code,
    extend,
    input_event,
    input_events,
    output_events,
    replay,
)

A = Digest("sha256", "a" * 64)
B = Digest("dirHash", "b" * 64)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_extend_is_the_tpms() -> None:
    # TPM 2.0 Part 1, 17.3: PCRnew = H(PCRold || digest).
    assert extend(ZERO, b"event") == sha256(bytes(32) + sha256(b"event"))
    assert extend(b"\1" * 32, b"") == sha256(b"\1" * 32 + sha256(b""))


def test_inputs_are_measured_in_the_given_order() -> None:
    events = input_events(b"LOCK", [("config", A), ("alpaca", B)])
    assert events == [
        b"LOCK",
        b"input config sha256:" + b"a" * 64 + b"\n",
        b"input alpaca dirHash:" + b"b" * 64 + b"\n",
        b"sealed\n",
    ]
    assert input_event("config", A) == events[1]


def test_outputs_are_measured_sorted() -> None:
    assert output_events("0", {"z": A, "a": B}, A) == [
        b"exit 0\n",
        b"output a dirHash:" + b"b" * 64 + b"\n",
        b"output z sha256:" + b"a" * 64 + b"\n",
        b"report sha256:" + b"a" * 64 + b"\n",
        SEALED,
    ]


@given(st.lists(st.binary(max_size=9), max_size=5), st.lists(st.binary(max_size=9), max_size=5))
def test_different_events_never_give_one_value(one: list[bytes], other: list[bytes]) -> None:
    assert (replay(one) == replay(other)) == (one == other)
    assert replay(one + other) != replay(one) or not other


def test_nothing_measured_is_zero() -> None:
    assert replay([]) == ZERO == bytes(32)


@pytest.mark.parametrize(
    "text", ["0", "1", "9", "10", "99", "100", "199", "249", "255", "signal:1", "signal:64"]
)
def test_exit_codes(text: str) -> None:
    check_exit_code(text)


@pytest.mark.parametrize("text", ["timeout", "memory"])
def test_exit_words(text: str) -> None:
    check_exit_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "-1",
        "+1",
        "256",
        "999",
        "0\n",
        " 0",
        "\u0661",
        "signal:",
        "signal:0",
        "signal:100",
        "Timeout",
        "timeout ",
        "0 memory",
        "1signal:9",
    ],
)
def test_other_exit_codes(text: str) -> None:
    with pytest.raises(EvidenceError, match="not an exit code"):
        check_exit_code(text)
    with pytest.raises(EvidenceError, match="not an exit code"):
        output_events(text, {}, A)


def test_the_start_of_what_is_no_exit_code_is_shown() -> None:
    with pytest.raises(EvidenceError) as error:
        check_exit_code("9" * 41)
    assert error.value.message == f"not an exit code: '{'9' * 40}'"
