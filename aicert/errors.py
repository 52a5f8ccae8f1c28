"""The errors of aicert: one base, one exit code each.

A message is lower case and has no full stop; `hint` is a command to paste or the next thing to do.
Exit code 1 means "the evidence says no", 2 means "no verdict", and 3 means "bad configuration or
command line". No code has two meanings.
"""


class AicertError(Exception):
    """Base of every error that a user, a file or the machine can cause."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(AicertError):
    """`aicert.toml`, a policy or the command line is wrong."""

    exit_code = 3


class LockError(AicertError):
    """A lockfile is malformed, not canonical, stale, or differs from the bytes at hand."""


class EvidenceError(AicertError):
    """A certificate, quote, statement or model cannot be read as what it claims to be."""


class UndecidedError(EvidenceError):
    """Evidence that this program cannot judge: its kind, version or algorithm is unknown, or
    something that it needs is missing. A reader refuses it, but no check has been made and failed.
    """


class ToolError(AicertError):
    """Something that we depend on (a TPM, a program, a file system) failed."""


class RejectedError(AicertError):
    """The evidence was read, and a check failed. `result` is the whole AttestationResult."""

    exit_code = 1

    def __init__(self, message: str, result: object, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result
