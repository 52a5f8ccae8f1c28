"""One table of `aicert.toml`, read strictly: every key has its type, and unknown keys
are refused.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import cast

from aicert.errors import ConfigError
from aicert.formats.fields import MISSING, Reader
from aicert.formats.lockfile import MAX_PATTERNS, NAME
from rules.host.names import suggestion

FILE = "aicert.toml"

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "s": 1, "min": 60, "h": 3600}
_WORDS: Mapping[type[object], str] = {
    str: "a string",
    int: "a whole number",
    dict: "a table",
    list: "a list",
    bool: "true or false",
}


class Table(Reader):
    """A TOML table while it is read. Call `only` first: a misspelt key is not "missing"."""

    __slots__ = ()
    error = ConfigError

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{FILE}: {where} is not a table")
        super().__init__(value, where)

    def _at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def refusal(self, key: str, kind: type, value: object) -> ConfigError:
        """Return the error for a value of the wrong type, as `Reader.refusal` does."""
        if value is MISSING:
            return ConfigError(f"{FILE}: {self._at(key)} is missing")
        return ConfigError(f"{FILE}: {self._at(key)} is not {_WORDS[kind]}")

    def text(self, key: str, default: str | None = None) -> str:
        return self.take(key, str, default)

    def flag(self, key: str, default: bool) -> bool:
        return self.take(key, bool, default)

    def tables(self, key: str) -> dict[str, "Table"]:
        value: dict[str, object] = self.take(key, dict, {})
        for name in value:
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"{FILE}: {self._at(key)} has the name {name[:80]!a}",
                    hint="a name has up to 63 lowercase letters, digits and -",
                )
        return {name: Table(item, f"{self._at(key)}.{name}") for name, item in value.items()}

    def quantity(self, key: str, form: re.Pattern[str], example: str, default: int) -> int:
        text = self.text(key, "")
        if not text:
            return default
        match = form.fullmatch(text)
        if match is None or not int(match[1]):
            raise ConfigError(
                f"{FILE}: {self._at(key)} is {text[:40]!r}, but should be like {example!r}"
            )
        return int(match[1]) * _UNITS[match[2]]

    def name(self, key: str, form: re.Pattern[str], example: str) -> str:
        text = self.text(key)
        if not form.fullmatch(text):
            raise ConfigError(
                f"{FILE}: {self._at(key)} is {text[:40]!r}, but should be like {example!r}"
            )
        return text

    def price(self, key: str) -> float | None:
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if type(value) not in (int, float) or not 0 <= cast(float, value) < 1e5:
            raise ConfigError(f"{FILE}: {self._at(key)} is not a price like 0.384")
        return float(cast(float, value))

    def count(self, key: str, default: int) -> int:
        value = self.take(key, int, default)
        if value < 1:
            raise ConfigError(f"{FILE}: {self._at(key)} must be at least 1")
        return value

    def patterns(self, key: str, of: str = "file patterns") -> tuple[str, ...]:
        value: list[object] = self.take(key, list, [])
        if len(value) > MAX_PATTERNS or not all(isinstance(item, str) and item for item in value):
            raise ConfigError(f"{FILE}: {self._at(key)} is not a list of {of}")
        return tuple(cast(list[str], value))

    def networks(self, key: str) -> tuple[str, ...]:
        values = self.patterns(key, "networks")
        for value in values:
            try:
                ipaddress.IPv4Network(value)
            except ValueError:
                raise ConfigError(
                    f"{FILE}: {self._at(key)} has {value[:40]!r}, but should have networks like "
                    "'203.0.113.0/24'"
                ) from None
        return values

    def only(self, *valid: str) -> None:
        """Refuse an unknown key, with the nearest valid one."""
        for key in self._left:
            if key not in valid:
                raise ConfigError(f"{FILE}: unknown key {self._at(key)}{suggestion(key, valid)}")
