"""Fuzz targets of audits: configs, lists, results, proofs, and whole audits of rows."""

import json
from collections.abc import Callable

from aicert.audits import config, lists, proofs, results
from aicert.audits.run import Audit, GivenList, canonical
from aicert.errors import EvidenceError
from aicert.formats.digest import of_bytes
from aicert.records.reader import Checker
from aicert.records.schema import Schema
from tests.second import proofs as second_proofs
from tests.vectors import audits

CONFIG = b"""\
[records]
key = "input:record-key"

[domains]
column = "url"

[passages]
words = 50

[[check]]
name = "opt-out"
kind = "domains/v1"
column = "url"
list = "input:opt-out"

[[check]]
name = "pii"
kind = "patterns/v1"
"""
SCHEMA = Schema((("url", "string"), ("text", "string")))
DOMAINS = GivenList(digest=of_bytes(b""), entries=lists.domains(b"example.org\n"))
VECTORS = json.loads(audits.FILE.read_text())
RESULTS = results.parse(VECTORS["results"].encode())


class DisagreementError(Exception):
    """An accepted input has a second form, or another reader disagrees about it."""


def _same(one: object, other: object) -> None:
    if one != other:
        raise DisagreementError(f"{one!r:.200} is not {other!r:.200}")


def _results(data: bytes) -> None:
    _same(results.emit(results.parse(data)), data)


def _proof(data: bytes) -> None:
    """Accept a proof of a vector's subject only if it is a vector; both verifiers must agree."""
    read = proofs.parse(data)
    _same(proofs.emit(read), data)
    for case in VECTORS["cases"]:
        holds = audits.verified(RESULTS, data.decode(), case["subject"])
        _same(second_proofs.holds(VECTORS["results"], data.decode(), case["subject"]), holds)


def _exact(data: bytes) -> None:
    read = lists.exact(data)
    _same(read.entries, data.count(b"\n") - 1)


def _audited(data: bytes) -> None:
    """Audit rows that the strict reader accepts; the results must be readable."""
    checker = Checker(SCHEMA)
    checker.feed(data)
    if not checker.fact().rows:
        raise EvidenceError("there are no rows")
    audit = Audit(config.parse(CONFIG), audits.KEY, {"opt-out": DOMAINS})
    reading = audit.reading("rows", "train")
    reading.feed(data)
    fact = reading.fact(0)
    _same((fact.rows.count, fact.bytes, fact.digest), (*_counted(checker),))
    _same(results.parse(results.emit(audit.results())), audit.results())


def _counted(checker: Checker) -> tuple[object, ...]:
    fact = checker.fact()
    return fact.rows, fact.bytes, fact.digest


TARGETS: dict[str, Callable[[bytes], None]] = {
    "audit-config": lambda data: _same(config.parse(data).key, config.parse(data).key),
    "audit-exact": _exact,
    "audit-proof": _proof,
    "audit-results": _results,
    "audit-rows": _audited,
}


def seeds() -> dict[str, tuple[bytes, ...]]:
    """Return valid inputs of each target."""
    rows = (
        {"url": "https://user@www.Bücher.example:80/%20?q", "text": audits.ABSENT},
        {"url": "\\\\example.org", "text": "a@b.org +49 170 1234567 DE89370400440532013000"},
        {"url": None, "text": "ｐ\u0430y\u200bpal 吾輩は猫 ٣٤ \ud7a3\u1100 4111-1111-1111-1111"},
    )
    digest = f"{of_bytes(b'x').hex}\n{'f' * 64}\n"
    holding = [case["proof"].encode() for case in VECTORS["cases"] if case["holds"]]
    return {
        "audit-config": (CONFIG, b'[records]\nkey = "input:k"\n[domains]\ncolumn = "url"\n'),
        "audit-exact": (f"salt {'0a' * 32}\n{digest}".encode(),),
        "audit-proof": (holding[0], holding[-1], holding[-2]),
        "audit-results": (VECTORS["results"].encode(),),
        "audit-rows": (
            b"".join(canonical(row) + b"\n" for row in rows),
            canonical(rows[1]) + b"\n",
        ),
    }
