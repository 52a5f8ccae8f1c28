"""The errors with which a broker refuses, in addition to the checks of leases."""

from aicert.errors import AicertError


class TokenError(AicertError):
    """This token was never issued, or is no longer valid."""

    exit_code = 1


class WaitError(AicertError):
    """The request can be granted in `seconds`, and not earlier."""

    exit_code = 1

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class StaleLedgerError(AicertError):
    """The ledger has forgotten what it gave: only its custodian can say how to continue."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="aicert lease resume LEASE --ledger FILE")
