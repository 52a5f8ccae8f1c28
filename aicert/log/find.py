"""Search a log. The search reads every entry, so it checks the tree as well.

What an entry says is a claim of whoever logged it. It counts as verified only if the caller has a
certificate that passes the caller's policy and has exactly this entry, byte for byte. A log holds
only what was logged: an empty result proves nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.formats.strict_json import dumps
from aicert.frozen import dataclass
from aicert.log.check import SignedCheckpoint, check
from aicert.tlog.entry import Entry, parse
from aicert.tlog.notes import VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """The criteria of a search; a criterion that is None matches everything.

    Digests are written as `KIND:HEX`. `builder`: the machine's kind, or the digest of its image or
    of another part of its code. `named`: a part of the name that the builder gives an input's
    source.
    """

    certificate: str | None = None
    lockfile: str | None = None
    input: str | None = None
    output: str | None = None
    base: str | None = None
    builder: str | None = None
    named: str | None = None

    def texts(self) -> list[bytes]:
        """Return texts that every matching entry contains."""
        wanted = (
            self.certificate, self.lockfile, self.input, self.output, self.base, self.builder,
            self.named,
        )  # fmt: skip
        return [dumps(text)[1:-1] for text in wanted if text is not None]

    def fits(self, entry: Entry) -> bool:
        """Return whether the entry meets every criterion, each in the right field."""
        inputs = {str(item.digest) for item in entry.inputs}
        base = {str(item.digest) for item in entry.inputs if item.name == entry.base}
        outputs = {str(item.digest) for item in entry.outputs}
        builder = {entry.builder, *(str(item.digest) for item in entry.code)}
        uris = [item.uri for item in entry.inputs if item.uri is not None]
        return (
            self.certificate in (None, str(entry.certificate))
            and self.lockfile in (None, str(entry.lockfile))
            and (self.input is None or self.input in inputs)
            and (self.output is None or self.output in outputs)
            and (self.base is None or self.base in base)
            and (self.builder is None or self.builder in builder)
            and (self.named is None or any(self.named in uri for uri in uris))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A matching entry. `verified` is the policy that its certificate passed; None for a mere
    claim.
    """

    index: int
    entry: Entry
    verified: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The result of a search.

    `unreadable` counts the entries that contain the wanted texts but cannot be parsed as
    certificate entries.
    """

    hits: tuple[Hit, ...]
    unreadable: int
    signed: SignedCheckpoint


def find(
    folder: Path, key: VerifierKey, wanted: Criteria, verified: Mapping[bytes, str]
) -> SearchResult:
    """Search the whole log, which must be intact.

    `verified` maps the entries of certificates that passed to the name of the policy.
    """
    search = _Search(wanted, verified)
    signed = check(folder, key, compare=False, visit=search.visit)
    return SearchResult(hits=tuple(search.hits), unreadable=search.unreadable, signed=signed)


class _Search:
    def __init__(self, wanted: Criteria, verified: Mapping[bytes, str]) -> None:
        self._wanted, self._texts, self._verified = wanted, wanted.texts(), verified
        self.hits: list[Hit] = []
        self.unreadable = 0

    def visit(self, first: int, entries: Sequence[bytes]) -> None:
        """Search entries, the first of which has index `first`; parse only those with the wanted
        texts.
        """
        # Search the whole bundle at once first, since nearly every bundle contains none of the
        # texts.
        together = b"\n".join(entries)
        if not all(text in together for text in self._texts):
            return
        for index, data in enumerate(entries, first):
            if all(text in data for text in self._texts):
                self._read(index, data)

    def _read(self, index: int, data: bytes) -> None:
        try:
            entry = parse(data)
        except EvidenceError:
            self.unreadable += 1
            return
        if self._wanted.fits(entry):
            policy = self._verified.get(data)
            self.hits.append(Hit(index=index, entry=entry, verified=policy))
