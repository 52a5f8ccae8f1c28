"""Times in certificates (RFC 5280, 4.1.2.5): only UTC, to the second."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from browser.crypto import der


@dataclass(frozen=True, slots=True)
class Time:
    """A point in time. DER has a year 0 and Python does not, so it is parsed in two steps."""

    year: int
    rest: tuple[int, int, int, int, int]

    def value(self) -> datetime:
        """Return the time. Raises ValueError for the year 0."""
        month, day, hour, minute, second = self.rest
        return datetime(self.year, month, day, hour, minute, second, tzinfo=UTC)


def read(reader: der.Reader) -> Time:
    """Read the next element: UTCTime or GeneralizedTime."""
    tag, content, _ = reader.element()
    if tag.is_octet(der.UTC_TIME):
        # RFC 5280, 4.1.2.5.1: years 1950 to 2049.
        century = b"20" if content[:2] < b"50" else b"19"
        return generalized_time(century + content)
    if tag.is_octet(der.GENERALIZED_TIME):
        return generalized_time(content)
    raise der.unexpected(tag)


def generalized_time(content: bytes) -> Time:
    """Parse `YYYYMMDDHHMMSSZ`. Raises ParseError."""
    digits = content[:-1]
    # `bytes.isdigit` accepts only the ten ASCII digits.
    if len(content) != 15 or content[-1:] != b"Z" or not digits.isdigit():
        raise der.ParseError(der.INVALID_VALUE)
    year = int(digits[:4])
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    try:
        # The year 0 would have been a leap year, as 2000 was, so its dates are checked as those of
        # 2000.
        date(year or 2000, month, day)
        datetime(2000, 1, 1, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise der.ParseError(der.INVALID_VALUE) from None
    return Time(year, (month, day, hour, minute, second))
