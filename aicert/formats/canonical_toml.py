"""Read the narrow TOML that both kinds of lock are written in (docs/spec/lockfile.md, image.md).

A line is empty, a header (`[NAME]`, `[[NAME]]`) or `KEY = VALUE`; a value is a text without
escapes, a list of such texts, an integer or `true`. Everything that `read` accepts is TOML and
means there what it means here; all other TOML is refused, by its line. Reading takes linear time,
which readers of the whole language do not. Whether the form is canonical is for the caller to
check, by writing it again.
"""

import re
from typing import Final

from aicert.errors import LockError

_TEXT: Final = r'"[ !#-\[\]-~]*+"'
_LINE: Final = (
    rf"(?:\[(?:([a-z]{{1,20}})|\[([a-z]{{1,20}})\])\]|([a-z0-9-]{{1,20}}) = "
    rf"(?:({_TEXT})|\[((?:{_TEXT}(?:, {_TEXT})*+)?+)\]|(0|[1-9][0-9]{{0,18}})|true))"
)


def read(text: str, what: str, hint: str) -> dict[str, object]:
    """Return what `tomllib` would give for `text`.

    Raises LockError, with `what` and `hint`, for a line that is not in this form.
    """
    line_form = re.compile(_LINE)
    document: dict[str, object] = {}
    table = document
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            continue
        parts = line_form.fullmatch(line)
        opened = None if parts is None else _open(document, parts[1], parts[2])
        if parts is None or (opened is None and (not parts[3] or parts[3] in table)):
            raise LockError(
                f"{what} is not in canonical form: line {number} was edited by hand or written by "
                "another tool",
                hint=hint,
            )
        if opened is None:
            table[parts[3]] = _value(parts[4], parts[5], parts[6])
        else:
            table = opened
    return document


def _open(document: dict[str, object], single: str, repeated: str) -> dict[str, object] | None:
    """Return the table that a header begins; None if there is no header, or its name is taken."""
    table: dict[str, object] = {}
    if single and single not in document:
        document[single] = table
        return table
    if repeated:
        tables = document.setdefault(repeated, _Tables())
        if isinstance(tables, _Tables):
            tables.append(table)
            return table
    return None


class _Tables(list[dict[str, object]]):
    """The tables of `[[NAME]]` headers; no header may add to a list that a line gave as a value."""


def _value(text: str | None, texts: str | None, integer: str | None) -> object:
    if text is not None:
        return text[1:-1]
    if texts is not None:
        return [item[1:-1] for item in re.findall(_TEXT, texts)]
    return True if integer is None else int(integer)
