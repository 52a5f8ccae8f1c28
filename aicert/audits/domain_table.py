"""A table of the domains that the URLs in a column name: how many rows, and how large they are.

Summaries of training content ask which domains data come from, the largest first. The table has at
most SHOWN of them, and says how many there are in all (docs/spec/audit.md).
"""

import heapq
from typing import Final

from aicert.audits.domains import MAX_HOST, folded_host, host_of
from aicert.errors import EvidenceError
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass

SHOWN: Final = 1000
# A million hosts take some 200 MB.
MAX_HOSTS: Final = 1_000_000
# Rows and bytes of a host are counted in one number, which takes less memory than two.
_SHIFT: Final = 64
_BYTES: Final = (1 << _SHIFT) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A domain: how many rows name it, and how many bytes these rows have without line feeds."""

    host: str
    rows: int
    bytes: int

    @property
    def place(self) -> tuple[int, str]:
        """What tables are sorted by: the most bytes first."""
        return -self.bytes, self.host


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFact:
    """The largest domains of one split, and the number of all of them.

    `missing`: rows whose column is absent or null. `unparsable`: rows whose value is no URL.
    """

    column: str
    count: int
    missing: int
    unparsable: int
    largest: tuple[Domain, ...]


class Domains:
    """Running counts of the domains in rows."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._sizes: dict[str, int] = {}
        self._missing = self._unparsable = 0

    def add(self, row: dict[str, object], size: int) -> None:
        """Count a row of `size` bytes. Raises EvidenceError if there are too many domains."""
        value = row.get(self._column)
        if value is None:
            self._missing += 1
            return
        host = host_of(value) if type(value) is str else None
        if host is None:
            self._unparsable += 1
            return
        self._sizes[host] = self._sizes.get(host, 0) + (1 << _SHIFT) + size
        if len(self._sizes) > MAX_HOSTS:
            raise EvidenceError(f"column {self._column!a} names more than {MAX_HOSTS} domains")

    def fact(self) -> DomainFact:
        """Return the table."""
        # One at a time: all at once would take more memory than the counts.
        domains = (
            Domain(host=host, rows=number >> _SHIFT, bytes=number & _BYTES)
            for host, number in self._sizes.items()
        )
        return DomainFact(
            column=self._column,
            count=len(self._sizes),
            missing=self._missing,
            unparsable=self._unparsable,
            largest=tuple(heapq.nsmallest(SHOWN, domains, key=lambda one: one.place)),
        )


def to_json(fact: DomainFact) -> dict[str, object]:
    """Return the table as JSON-ready values."""
    return {
        "column": fact.column,
        "count": fact.count,
        "largest": [
            {"bytes": one.bytes, "host": one.host, "rows": one.rows} for one in fact.largest
        ],
        "missing": fact.missing,
        "unparsable": fact.unparsable,
    }


def read(fields: Fields, rows: int, size: int, max_column: int) -> DomainFact:
    """Read a table for `rows` rows that have `size` bytes with their line feeds.

    Raises EvidenceError for one that no such rows have.
    """
    fact = DomainFact(
        column=fields.text("column", max_length=max_column),
        count=fields.integer("count", high=MAX_HOSTS),
        missing=fields.integer("missing"),
        unparsable=fields.integer("unparsable"),
        largest=fields.items("largest", _read_domain, max_items=SHOWN),
    )
    fields.done()
    places = [one.place for one in fact.largest]
    if places != sorted(places) or len({one.host for one in fact.largest}) < len(places):
        raise EvidenceError(f"{fields.where}.largest: out of order, or a domain is given twice")
    if len(places) != min(fact.count, SHOWN):
        raise EvidenceError(f"{fields.where}.largest does not have the number of domains")
    # Each domain that is not shown has a row of its own.
    least = fact.missing + fact.unparsable + sum(one.rows for one in fact.largest)
    least += fact.count - len(places)
    is_whole = fact.count == len(places)
    if least > rows or (is_whole and least != rows) or sum(x.bytes for x in fact.largest) > size:
        raise EvidenceError(f"{fields.where} does not fit the number of rows or bytes")
    return fact


def _read_domain(value: object, where: str) -> Domain:
    fields = Fields(value, where)
    domain = Domain(
        host=fields.text("host", max_length=MAX_HOST),
        rows=fields.integer("rows", low=1),
        bytes=fields.integer("bytes", low=1),
    )
    fields.done()
    if folded_host(domain.host) != domain.host:
        raise EvidenceError(f"{where}.host is not a domain: {domain.host!a}")
    return domain
