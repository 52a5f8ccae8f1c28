"""A table of a policy file: typed values, and errors that name the file, the key and a near one."""

from aicert.errors import ConfigError
from aicert.formats.fields import MAX_INT, Table

# The largest policy file, in bytes; a large company's policy has some hundred lines.
MAX_POLICY = 1 << 17


class PolicyTable(Table):
    """A table of a policy file; its strings must not be empty, and its lists may be left out."""

    __slots__ = ()
    error = ConfigError
    between = ": "

    def __init__(self, value: object, path: str, where: str) -> None:
        super().__init__(value, f"{path}: {where}")

    def text(self, key: str, default: str | None = None) -> str:
        """Take a string; without a default it must be present."""
        given = self.has(key)
        value = self.take(key, str, default)
        if given and not value:
            raise self.wrong(key, "expected a string")
        return value

    def texts(self, key: str, limit: int = MAX_POLICY) -> tuple[str, ...]:
        """Take a list of strings, empty if absent."""
        values = super().texts(key, limit) if self.has(key) else ()
        if not all(values):
            raise self.wrong(key, "expected a list of strings")
        return values

    def sections(self, key: str) -> list[object]:
        """Take a list of tables, empty if absent."""
        wanted = f"expected [[{key}]] tables"
        values = self.tables(key, MAX_POLICY, wanted)
        if not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, wanted)
        return values

    def table(self, key: str) -> dict[str, object]:
        """Take a table, empty if absent."""
        return self.take(key, dict, {})

    def integer(self, key: str) -> int | None:
        """Take an integer, None if absent."""
        return self._in_63_bits(key, self.take(key, int)) if self.has(key) else None

    def number(self, key: str) -> float | None:
        """Take a number, None if absent. NaN is refused: it would be a bound that nothing
        violates.
        """
        if not self.has(key):
            return None
        value = self._left.pop(key)
        if type(value) is int:
            return self._in_63_bits(key, value)
        if type(value) is not float or value != value:
            raise self.wrong(key, "expected a number")
        return value

    def _in_63_bits(self, key: str, value: int) -> int:
        # In hexadecimal, TOML has integers that are too long for Python to print.
        if abs(value) > MAX_INT:
            raise self.wrong(key, "expected an integer of 63 bits")
        return value

    def near(self, key: str) -> str | None:
        """Return text that names the nearest valid key; None if there is none."""
        import difflib

        near = difflib.get_close_matches(key, self._asked, n=1, cutoff=0)
        return f"the nearest key is {near[0]!r}" if near else None
