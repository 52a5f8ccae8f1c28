"""Logs for tests: small ones in a folder, with entries of uncertified runs."""

import hashlib
from pathlib import Path

from aicert.formats.digest import Digest
from aicert.log import writer
from aicert.log.keys import PrivateKey
from aicert.tlog.entry import Entry, Item, emit

ORIGIN = "log.example/models"


def digest(word: str, kind: str = "dirHash") -> Digest:
    """Return a digest that stands for a word."""
    return Digest.parse(f"{kind}:{hashlib.sha256(word.encode()).hexdigest()}")


def entry(
    run: str, *, reads: str = "rows", base: str | None = "base", uri: str = "hf:datasets/org/rows"
) -> bytes:
    """Return the entry of a run, which reads rows, starts from `base`, and writes `RUN/model`."""
    inputs = [Item(name="rows", digest=digest(reads), uri=uri)]
    if base is not None:
        inputs.insert(0, Item(name="model", digest=digest(base)))
    return emit(
        Entry(
            certificate=digest(run, "sha256"),
            lockfile=digest(f"{run} lockfile", "sha256"),
            run=run,
            trainer="axolotl",
            builder="urn:aicert:machine:local",
            code=(Item(name="runner", digest=digest("runner")),),
            inputs=tuple(inputs),
            outputs=(Item(name="model", digest=digest(f"{run}/model")),),
            base=None if base is None else "model",
        )
    )


class Bench:
    """A log in a test's folder, with its key."""

    def __init__(self, place: Path, origin: str = ORIGIN) -> None:
        self.folder = place / "log"
        self.key_file = writer.key_path(self.folder)
        self.private: PrivateKey = writer.start(self.folder, origin, self.key_file)
        self.key = self.private.public
        self.entries: list[bytes] = []

    def append(self, *entries: bytes) -> writer.Appended:
        """Append entries to the log."""
        appended = writer.append(self.folder, self.key_file, entries)
        self.entries += [one for one in dict.fromkeys(entries) if one not in self.entries]
        return appended

    def grow(self, count: int) -> writer.Appended:
        """Append `count` more entries of a few bytes each."""
        first = len(self.entries)
        return self.append(*(b"entry %d" % index for index in range(first, first + count)))

    def part(self, path: str) -> Path:
        """Return the path of a file in the log."""
        return self.folder / path
