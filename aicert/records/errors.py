"""Why rows are refused: always a file and a reason, and the row if one is to blame."""

from aicert.errors import LockError

# How much a message quotes of a name or value that somebody else chose.
QUOTED = 80


class RowsRefused(LockError):  # noqa: N818 - it says what happened to the rows
    """Rows that cannot be trained on. `row` counts from 1; None if the whole file is meant."""

    def __init__(
        self, file: str, reason: str, *, row: int | None = None, hint: str | None = None
    ) -> None:
        where = f"{file!a}" if row is None else f"{file!a}, row {row}"
        super().__init__(f"{where}: {reason}", hint=hint)
        self.file = file
        self.row = row
        self.reason = reason


class RowRefused(LockError):  # noqa: N818 - it says what happened to the row
    """The same, from code that knows only the row; `at` adds file and number."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason, hint=hint)

    def at(self, file: str, row: int | None) -> RowsRefused:
        """This refusal with its place."""
        return RowsRefused(file, self.message, row=row, hint=self.hint)


def quoted(text: str) -> str:
    """A name or value that somebody else chose, short and in ASCII."""
    return f"{text[:QUOTED]!a}"
