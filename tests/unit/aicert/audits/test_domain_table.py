"""A table of domains: what is counted, which come first, and what no rows have."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aicert.audits import config, domain_table, results
from aicert.audits.domain_table import Domain, Domains
from aicert.audits.run import Audit, canonical
from aicert.errors import EvidenceError
from tests.unit.aicert.audits.test_run import put

KEY = bytes(32)
CONFIG = b'[records]\nkey = "input:k"\n[domains]\ncolumn = "url"\n'
ROWS: list[dict[str, object]] = [
    {"url": "https://small.org/1"},
    {"url": "HTTPS://user@Large.org:8080/2", "text": "x" * 100},
    {"url": "https://www.small.org/3"},
    {"url": "https://small.org./4"},
    {"url": None},
    {"text": "without"},
    {"url": 5},
    {"url": "no url"},
]
LINES = b"".join(canonical(row) + b"\n" for row in ROWS)


def audited(rows: bytes = LINES, splits: int = 1) -> results.Results:
    audit = Audit(config.parse(CONFIG), KEY, {})
    for number in range(splits):
        reading = audit.reading("a", f"train{number:02}")
        for start in range(0, len(rows), 50):
            reading.feed(rows[start : start + 50])
        reading.fact(0)
    return audit.results()


def test_domains_are_counted_by_rows_and_bytes() -> None:
    read = audited()
    fact = read.data[0].domains
    assert fact is not None
    sizes = [len(canonical(row)) for row in ROWS]
    assert fact.largest == (
        Domain(host="large.org", rows=1, bytes=sizes[1]),
        Domain(host="small.org", rows=2, bytes=sizes[0] + sizes[3]),
        Domain(host="www.small.org", rows=1, bytes=sizes[2]),
    )
    assert (fact.column, fact.count, fact.missing, fact.unparsable) == ("url", 3, 2, 2)
    assert results.parse(results.emit(read)) == read


def test_no_table_is_made_unless_the_config_asks() -> None:
    audit = Audit(config.parse(CONFIG.partition(b"[domains]")[0]), KEY, {})
    reading = audit.reading("a", "train")
    reading.feed(LINES)
    assert reading.fact(0).domains is None
    assert b"domains" not in results.emit(audit.results())


def test_only_the_largest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain_table, "SHOWN", 2)
    read = audited()
    fact = read.data[0].domains
    assert fact is not None
    assert ([one.host for one in fact.largest], fact.count) == (["large.org", "small.org"], 3)
    assert results.parse(results.emit(read)) == read


def test_equally_large_domains_are_in_the_order_of_their_names() -> None:
    counts = Domains("url")
    for host in ("c.org", "a.org", "b.org"):
        counts.add({"url": f"https://{host}/"}, 9)
    assert [one.host for one in counts.fact().largest] == ["a.org", "b.org", "c.org"]


def test_too_many_domains_and_too_large_results_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = b"".join(
        canonical({"url": f"https://{'x' * 60}.{'y' * 60}.{number}.example.org"}) + b"\n"
        for number in range(1000)
    )
    with pytest.raises(EvidenceError, match="audit results have more than 4194304 bytes"):
        results.emit(audited(rows, splits=30))
    monkeypatch.setattr(domain_table, "MAX_HOSTS", 2)
    with pytest.raises(EvidenceError, match="column 'url' names more than 2 domains"):
        audited()


Document = dict[str, Any]
TABLE = ("data", 0, "domains")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put(*TABLE, "more", 1), "unknown key"),
        (put(*TABLE, "column", ...), "column is missing"),
        (put(*TABLE, "count", 4), "does not have the number of domains"),
        (put(*TABLE, "count", 2), "does not have the number of domains"),
        (put(*TABLE, "missing", 3), "does not fit the number of rows or bytes"),
        (put(*TABLE, "missing", 1), "does not fit the number of rows or bytes"),
        (put(*TABLE, "largest", 0, "bytes", 1 << 20), "does not fit the number of rows or bytes"),
        (put(*TABLE, "largest", 2, "bytes", 1 << 20), "out of order"),
        (put(*TABLE, "largest", 2, "host", "small.org"), "a domain is given twice"),
        (put(*TABLE, "largest", 2, "host", "WWW.small.org"), "is not a domain"),
        (put(*TABLE, "largest", 2, "host", "a b"), "is not a domain"),
        (put(*TABLE, "largest", 2, "rows", 0), "out of range"),
        (put(*TABLE, "largest", 2, "more", 0), "unknown key"),
    ],
)
def test_tables_that_no_rows_have_are_refused(
    change: Callable[[Document], None], reason: str
) -> None:
    document = json.loads(results.emit(audited()))
    change(document)
    data = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    with pytest.raises(EvidenceError, match=reason):
        results.parse(data.encode())
