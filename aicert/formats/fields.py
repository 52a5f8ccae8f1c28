"""Read one object of JSON or one table of TOML: each key once, by its exact type, none left over.

The one reader of certificates, statements and reports (`strict_json.Fields`), and of locks and
policy files (`Table`). `done` refuses what nobody asked for, so that no unknown field is
carried or believed. Nothing is coerced: `true` is not an integer.
"""

from collections.abc import Mapping
from typing import TypeVar, cast

from aicert.errors import AicertError, EvidenceError, LockError
from aicert.formats.digest import is_hex

# Sizes and counters fit 63 bits; nothing of ours is larger.
MAX_INT = 2**63 - 1
MISSING = object()
_KINDS: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
# The only truth value in our TOML is true: absent means false.
_TABLE_KINDS: Mapping[type, str] = {**_KINDS, bool: "true", dict: "a table"}

T = TypeVar("T")


class Reader:
    """The fields of one object or table that were not read yet; errors name its place, `where`."""

    __slots__ = ("_left", "where")
    error: type[AicertError] = EvidenceError
    # What stands in errors before a key's name.
    between = "."

    def __init__(self, value: Mapping[str, object], where: str) -> None:
        self._left = dict(value)
        self.where = where

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Return the value of `key`, which must have exactly that type.

        `default`: the value if the key is absent; without it, an absent key is an error.
        """
        value = self._left.pop(key, MISSING)
        # bool is a subclass of int: compare the exact type, as a verifier must not coerce.
        if type(value) is kind:
            return value
        if value is MISSING and default is not None:
            return default
        raise self.refusal(key, kind, value)

    def hex(self, key: str, digits: int = 64) -> str:
        """A string of exactly so many lowercase hexadecimal digits."""
        text = self.take(key, str)
        if not is_hex(text, digits):
            raise self.error(f"{self.where}{self.between}{key} is not {digits} hexadecimal digits")
        return text

    def refusal(self, key: str, kind: type, value: object) -> AicertError:
        """Return the error for a value of another type, or for an absent one (MISSING)."""
        if value is MISSING:
            return self.error(f"{self.where}.{key} is missing")
        return self.error(f"{self.where}.{key}: expected {_KINDS[kind]}, found {shown(value)}")

    def has(self, key: str) -> bool:
        """Return whether the field is present and not taken yet."""
        return key in self._left

    def rest(self) -> dict[str, object]:
        """Return every field not taken yet; for objects whose keys are data."""
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        """Refuse unknown keys: what no check reads must not be displayed or carried."""
        for key in self._left:
            raise self.error(f"{self.where} has an unknown key {key[:80]!a}", hint=self.near(key))

    def near(self, key: str) -> str | None:
        """Return the hint for a key that nobody asked for."""
        return None


def shown(value: object) -> str:
    """Return a short description of any value, for errors."""
    if isinstance(value, dict | list | str):
        return {dict: "an object", list: "a list"}.get(type(value), "a string")
    return repr(value)[:40]


class Table(Reader):
    """One table of TOML."""

    __slots__ = ("_asked",)
    error: type[AicertError] = LockError

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise self.error(f"{where}: expected a table")
        super().__init__(cast("dict[str, object]", value), where)
        self._asked: list[str] = []

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        """Like `Reader.take`, but remember which keys were asked for: those have a meaning."""
        self._asked.append(key)
        return super().take(key, kind, default)

    def has(self, key: str) -> bool:
        """Like `Reader.has`; a key that is looked for has a meaning too."""
        self._asked.append(key)
        return super().has(key)

    def wrong(self, key: str, wanted: str) -> AicertError:
        """Return the error for an unwanted value; `wanted` reads like `expected a string`."""
        return self.error(f"{self.where}{self.between}{key}: {wanted}")

    def refusal(self, key: str, kind: type, value: object) -> AicertError:
        """Like `Reader.refusal`, but an absent value gives the error of one of another type."""
        return self.wrong(key, f"expected {_TABLE_KINDS[kind]}")

    def text(self, key: str) -> str:
        """Return a string."""
        return self.take(key, str)

    def texts(self, key: str, limit: int) -> tuple[str, ...]:
        """Return a list of at most `limit` strings."""
        wanted = "expected a list of strings"
        values = self._list(key, limit, wanted)
        if not all(type(one) is str for one in values):
            raise self.wrong(key, wanted)
        return tuple(cast("list[str]", values))

    def tables(self, key: str, limit: int, wanted: str) -> list[object]:
        """Return a list of at most `limit` tables, empty if absent; reading an item shows whether
        it is a table. `wanted`: the message for anything else.
        """
        return self._list(key, limit, wanted) if self.has(key) else []

    def _list(self, key: str, limit: int, wanted: str) -> list[object]:
        self._asked.append(key)
        value = self._left.pop(key, None)
        # The list that `[[NAME]]` headers make may have a type of its own (`canonical_toml`).
        if not isinstance(value, list) or len(value) > limit:
            raise self.wrong(key, wanted)
        return value
