import pytest

from aicert.errors import (
    AicertError,
    ConfigError,
    EvidenceError,
    LockError,
    RejectedError,
    ToolError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(AicertError, 2), (ConfigError, 3), (LockError, 2), (EvidenceError, 2), (ToolError, 2)],
)
def test_each_error_has_its_exit_code_message_and_hint(kind: type[AicertError], code: int) -> None:
    error = kind("it is so", hint="do that")
    assert isinstance(error, AicertError)
    assert (error.exit_code, error.message, error.hint, str(error)) == (
        code,
        "it is so",
        "do that",
        "it is so",
    )
    assert kind("it is so").hint is None


def test_a_rejection_carries_its_result() -> None:
    result = object()
    error = RejectedError("no", result, hint="look")
    assert (error.exit_code, error.result, error.hint) == (1, result, "look")
