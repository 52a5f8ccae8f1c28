"""The cost of searching a transparency log, checking it and proving one of its entries.

Entries are random: 1 kB each, from runs with three inputs out of about a thousand data sets.
Seconds are CPU seconds in this process, the least of several tries, because other work on this
computer only adds.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

from aicert.formats.digest import Digest, Kind
from aicert.log import check, find, writer
from aicert.tlog.entry import Entry, Item, emit
from aicert.tlog.notes import VerifierKey

ENTRIES, TRIES = 50_000, 5
DATA_SETS, MODELS = 1000, 50
# Entries per second (the project's promise); milliseconds to prove one.
FIND_RATE, PROVE_MS = 270_000, 20


def entries(count: int) -> tuple[list[bytes], Digest]:
    """Return `count` entries, the same each time, and the digest of one of their data sets."""
    chance = random.Random(21)  # noqa: S311  # the same entries on every machine

    def digest(kind: Kind = "dirHash") -> Digest:
        return Digest(kind, chance.randbytes(32).hex())

    data_sets = [digest() for _ in range(DATA_SETS)]
    models = [digest() for _ in range(MODELS)]
    runner, image = digest(), digest("sha256")
    drawn = [
        emit(
            Entry(
                certificate=digest("sha256"),
                lockfile=digest("sha256"),
                run=f"run-{number}",
                trainer="axolotl",
                builder="urn:aicert:machine:measured",
                code=(Item(name="image", digest=image), Item(name="runner", digest=runner)),
                inputs=(
                    Item(name="config", digest=digest("sha256"), uri="path:config.yml"),
                    Item(name="model", digest=chance.choice(models), uri="hf:org/base"),
                    Item(name="rows", digest=chance.choice(data_sets), uri="hf:datasets/org/rows"),
                ),
                outputs=(Item(name="model", digest=digest()),),
                base="model",
            )
        )
        for number in range(count)
    ]
    return drawn, data_sets[7]


def measure(folder: Path) -> tuple[float, float, float, float]:
    """Measure a log in `folder`. Return how many entries a second are searched (which also checks
    the log) and checked with every tile; the milliseconds to prove one entry, and the microseconds
    to append one of many at once.
    """
    lines, wanted = entries(ENTRIES)
    log = folder / "log"
    key_file = writer.key_path(log)
    key = writer.start(log, "log.example/bench", key_file).public
    appending = _taken(lambda: writer.append(log, key_file, lines))
    searching = min(_taken(lambda: _search(log, key, wanted)) for _ in range(TRIES))
    checking = min(_taken(lambda: check.check(log, key)) for _ in range(TRIES))
    proving = min(_taken(lambda: check.prove(log, key, lines[-1])) for _ in range(TRIES))
    return ENTRIES / searching, ENTRIES / checking, proving * 1000, appending * 1e6 / ENTRIES


def _search(log: Path, key: VerifierKey, wanted: Digest) -> None:
    result = find.find(log, key, find.Criteria(input=str(wanted)), {})
    if not result.hits or result.signed.checkpoint.size != ENTRIES:
        raise RuntimeError("the search missed its entry")


def _taken(work: Callable[[], object]) -> float:
    """Return the CPU seconds that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started
