"""Lists that data is compared with: lists of domains, of digests of values, and of texts.

A list is an input of the audit, named by digest. Entries that cannot match anything are counted as
unusable, so that an empty list is noticed.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from aicert.audits.domains import folded_host
from aicert.audits.fingerprints import PASSAGE, of_words
from aicert.audits.folding import words
from aicert.errors import EvidenceError
from aicert.formats.digest import is_hex
from aicert.frozen import dataclass

# Two million domains take some 300 MB; no public list has as many.
MAX_ENTRIES: Final = 2_000_000
MAX_BYTES: Final = 1 << 28
SALT_DIGITS: Final = 64
_SALT: Final = "salt "
_EXACT: Final = b"aicert exact v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainList:
    """A list of folded hosts, each of which also stands for its subdomains."""

    domains: frozenset[str]
    entries: int
    unusable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactList:
    """A list of digests of values, computed with the list's own salt."""

    salt: bytes
    digests: frozenset[bytes]
    entries: int
    unusable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextList:
    """The fingerprints of a list of texts.

    A text of fewer than PASSAGE words counts as unusable, although it may still match.
    """

    fingerprints: frozenset[int]
    entries: int
    unusable: int


AnyList = DomainList | ExactList | TextList


def domains(data: bytes) -> DomainList:
    """Read a list of domains: one per line, `#` for comments. EvidenceError if it is not text."""
    entries = [line.partition("#")[0].strip() for line in _lines(data, "list of domains")]
    hosts = [folded_host(entry) for entry in entries if entry]
    usable = frozenset(host for host in hosts if host is not None)
    return DomainList(domains=usable, entries=len(hosts), unusable=hosts.count(None))


def exact(data: bytes) -> ExactList:
    """Read a list of digests: `salt HEX`, then one SHA-256 per line, sorted, without duplicates."""
    what = "list of digests"
    lines = _lines(data, what)
    first, *digests = lines[:-1] or [""]
    salt = first.removeprefix(_SALT)
    if lines[-1] or first != f"{_SALT}{salt}" or not is_hex(salt, SALT_DIGITS):
        raise EvidenceError(f"{what}: expected `salt` and {SALT_DIGITS} digits, then digests")
    if not all(map(is_hex, digests)) or digests != sorted(set(digests)):
        raise EvidenceError(f"{what}: expected sorted SHA-256 in hex, one a line, no duplicates")
    known = frozenset(map(bytes.fromhex, digests))
    return ExactList(salt=bytes.fromhex(salt), digests=known, entries=len(digests))


def exact_digest(salt: bytes, value: bytes) -> bytes:
    """Return the digest that stands for `value` in a list of digests with this salt."""
    return hashlib.sha256(_EXACT + salt + value).digest()


def texts(entries: Iterable[str]) -> TextList:
    """Make a list from texts. EvidenceError if they are too many."""
    fingerprints: set[int] = set()
    count = unusable = 0
    for entry in entries:
        listed = words(entry)
        count += 1
        unusable += len(listed) < PASSAGE
        fingerprints |= of_words(listed)
        _check_count(max(count, len(fingerprints)), "list of texts")
    return TextList(fingerprints=frozenset(fingerprints), entries=count, unusable=unusable)


def _lines(data: bytes, what: str) -> list[str]:
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"{what} is larger than {MAX_BYTES} bytes")
    _check_count(data.count(b"\n"), what)
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise EvidenceError(f"{what} is not UTF-8") from None


def _check_count(count: int, what: str) -> None:
    if count > MAX_ENTRIES:
        raise EvidenceError(f"{what} has more than {MAX_ENTRIES} entries or fingerprints")
