"""A log that is not what it must be."""

from aicert.errors import AicertError


class BrokenLogError(AicertError):
    """A log was read and says no: forked, rolled back, cut short, or another than was asked for."""

    exit_code = 1
