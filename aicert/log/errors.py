"""Errors of logs."""

from aicert.errors import AicertError


class BrokenLogError(AicertError):
    """A log was read and is wrong: forked, rolled back, cut short, or not the expected one."""

    exit_code = 1
