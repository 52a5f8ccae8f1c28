"""Search a log: every entry is read, so that the tree is checked with the search.

What an entry says is a claim of whoever logged it. It counts as verified only where a certificate
is at hand that passes the caller's policy and whose entry it is, byte for byte. And a log has what
was logged: that nothing was found shows nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.formats.strict_json import dumps
from aicert.frozen import dataclass
from aicert.log.check import Seen, check
from aicert.tlog.entry import Entry, parse
from aicert.tlog.notes import VerifierKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an entry must have; None asks for nothing. Digests as `KIND:HEX`.

    `builder`: the machine's kind, or the digest of its image or another part of its code. `named`:
    a part of the name that the builder gives an input's source.
    """

    certificate: str | None = None
    lockfile: str | None = None
    input: str | None = None
    output: str | None = None
    base: str | None = None
    builder: str | None = None
    named: str | None = None

    def texts(self) -> list[bytes]:
        """Texts that every matching entry contains."""
        wanted = (
            self.certificate, self.lockfile, self.input, self.output, self.base, self.builder,
            self.named,
        )  # fmt: skip
        return [dumps(text)[1:-1] for text in wanted if text is not None]

    def fits(self, entry: Entry) -> bool:
        """Whether the entry has all of it, in the right places."""
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
    """An entry that matches. `verified`: the policy that its certificate passed; None: a claim."""

    index: int
    entry: Entry
    verified: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`unreadable`: how many with the wanted texts are not entries of this kind."""

    hits: tuple[Hit, ...]
    unreadable: int
    seen: Seen


def find(folder: Path, key: VerifierKey, wanted: Wanted, verified: Mapping[bytes, str]) -> Found:
    """Search the whole log, which must be intact. `verified`: entries of certificates that passed,
    each with the policy's name.
    """
    search = _Search(wanted, verified)
    seen = check(folder, key, compare=False, visit=search.visit)
    return Found(hits=tuple(search.hits), unreadable=search.unreadable, seen=seen)


class _Search:
    def __init__(self, wanted: Wanted, verified: Mapping[bytes, str]) -> None:
        self._wanted, self._texts, self._verified = wanted, wanted.texts(), verified
        self.hits: list[Hit] = []
        self.unreadable = 0

    def visit(self, first: int, entries: Sequence[bytes]) -> None:
        """Look at the entries from index `first`; only those that contain the texts are read."""
        # The whole bundle first, since nearly every bundle contains none of them.
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
