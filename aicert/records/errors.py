"""Errors for refused rows: they always name a file and a reason, and the row if one is at fault."""

from aicert.errors import LockError

# How many characters a message quotes of a name or value that somebody else chose.
QUOTED = 80


class RowsRefused(LockError):  # noqa: N818 - it says what happened to the rows
    """Raised for rows that cannot be trained on.

    `row` counts from 1; it is None if the whole file is refused.
    """

    def __init__(
        self, file: str, reason: str, *, row: int | None = None, hint: str | None = None
    ) -> None:
        where = f"{file!a}" if row is None else f"{file!a}, row {row}"
        super().__init__(f"{where}: {reason}", hint=hint)
        self.file = file
        self.row = row
        self.reason = reason


class RowRefused(LockError):  # noqa: N818 - it says what happened to the row
    """Raised by code that knows only the row that it refuses; `at` adds file and row number."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason, hint=hint)

    def at(self, file: str, row: int | None) -> RowsRefused:
        """Return this refusal with its file and row."""
        return RowsRefused(file, self.message, row=row, hint=self.hint)


def quoted(text: str) -> str:
    """Quote a name or value that somebody else chose, shortened and in ASCII."""
    return f"{text[:QUOTED]!a}"
