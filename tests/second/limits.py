"""The limits that docs/spec/ states, read from its tables."""

import re
from pathlib import Path

SPEC = Path(__file__).parents[2] / "docs" / "spec"
HEAD = "| limit | at most |\n| --- | --- |\n"
_UNITS = {"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_POWER = re.compile("([0-9]+)([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)( \u2212 1)?")
_DIGITS = str.maketrans(
    "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", "0123456789"
)


def limits(page: str) -> dict[str, int]:
    """Return the limits in a page's tables: what is limited, and the largest accepted number."""
    text = (SPEC / page).read_text(encoding="utf-8")
    by_name: dict[str, int] = {}
    for table in text.split(HEAD)[1:]:
        for row in table.split("\n\n", 1)[0].splitlines():
            name, value = (cell.strip() for cell in row.strip("|").split("|"))
            if name in by_name:
                raise ValueError(f"{page} limits {name} twice")
            by_name[name] = _number(value)
    return by_name


def _number(value: str) -> int:
    power = _POWER.fullmatch(value)
    if power is not None:
        base, exponent = int(power[1]), int(power[2].translate(_DIGITS))
        return int(base**exponent) - bool(power[3])
    number, _, unit = value.partition(" ")
    return int(number.replace(",", "")) * _UNITS[unit]
