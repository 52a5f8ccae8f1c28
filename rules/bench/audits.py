"""The cost of an audit of a million rows, extrapolated from fewer rows of the same kind.

Rows are random: about a hundred words from a vocabulary of 50,000 by Zipf's law, a URL, and
sometimes an address. Seconds are CPU seconds in this process, the least of several tries for each
part of the rows, because other work on this computer only adds.
"""

import itertools
import json
import random
import string
import time
from collections.abc import Callable, Sequence
from functools import partial

from aicert.audits import config, lists, proofs
from aicert.audits.run import Audit, GivenList
from aicert.audits.trees import Salts
from aicert.formats.digest import of_bytes

ROWS, PART, TRIES = 20_000, 1000, 3
MILLION = 1_000_000
NAME, SPLIT, KEY = "rows", "train", bytes(32)
VOCABULARY, DOMAINS = 50_000, 20_000
_HEAD = '[records]\nkey = "input:key"\n'
# Each question: its configuration, and the most seconds that it may add for a million rows.
QUESTIONS = {
    "domains/v1": (
        '[[check]]\nname = "a"\nkind = "domains/v1"\ncolumn = "url"\nlist = "input:domains"\n',
        5.0,
    ),
    "patterns/v1": ('[[check]]\nname = "a"\nkind = "patterns/v1"\n', 15.0),
    "passages, with their tree": ("[passages]\nwords = 50\n", 100.0),
}
TREE_SECONDS = 6.0


def rows(count: int) -> list[bytes]:
    """Return `count` rows in canonical form, the same each time."""
    chance = random.Random(20)  # noqa: S311  # the same rows on every machine
    words = [
        "".join(chance.choices(string.ascii_lowercase, k=3 + n % 8)) for n in range(VOCABULARY)
    ]
    by_rank = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    lines = []
    for number in range(count):
        length = min(800, max(5, int(chance.lognormvariate(4.3, 0.8))))
        text = " ".join(chance.choices(words, cum_weights=by_rank, k=length))
        if number % 200 == 0:
            text += f" jane{number}@example.org or +49 170 {MILLION + number}"
        url = f"https://www.site{int(chance.paretovariate(0.3)) % DOMAINS}.co.uk/p/{number}"
        row = {"id": number, "url": url, "text": text}
        lines.append(json.dumps(row, separators=(",", ":")).encode() + b"\n")
    return lines


def measure() -> tuple[float, dict[str, float], float, float]:
    """Measure an audit of a million rows. Return the seconds for the tree, for each question on top
    of it, and for sorting passages into their tree; and the milliseconds to verify a proof.
    """
    lines = rows(ROWS)
    parts = [b"".join(lines[start : start + PART]) for start in range(0, ROWS, PART)]
    tree = _seconds("", parts)
    beside = {name: _seconds(text, parts) - tree for name, (text, _) in QUESTIONS.items()}
    whole = _audit(QUESTIONS["passages, with their tree"][0])
    reading = whole.reading(NAME, SPLIT)
    reading.feed(b"".join(lines))
    sorting = _taken(partial(reading.fact, 0)) * MILLION / ROWS
    return tree, beside, sorting, _verifying(lines, whole) * 1000


def _audit(text: str) -> Audit:
    entries = lists.domains(b"".join(b"site%d.co.uk\n" % n for n in range(0, DOMAINS, 9)))
    given = {"domains": GivenList(digest=of_bytes(b""), entries=entries)}
    return Audit(config.parse(f"{_HEAD}{text}".encode()), KEY, given)


def _seconds(text: str, parts: Sequence[bytes]) -> float:
    total = 0.0
    for part in parts:
        audit = _audit(text)
        # Splits can be read only once, so each try gets its own.
        readings = [audit.reading(NAME, f"{SPLIT}{number}") for number in range(TRIES)]
        total += min(_taken(partial(reading.feed, part)) for reading in readings)
    return total * MILLION / ROWS


def _taken(work: Callable[[], object]) -> float:
    """Return the CPU seconds that `work` takes."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _verifying(lines: Sequence[bytes], audit: Audit) -> float:
    """Return the CPU seconds to verify the proof that a row was in the data."""
    results = audit.results()
    plain = [line.rstrip(b"\n") for line in lines]
    salts = Salts(KEY, NAME, SPLIT)
    salt, path = proofs.prove_record(iter(plain), 7, salts, results.of(NAME, SPLIT).rows)
    proof = proofs.RecordProof(name=NAME, split=SPLIT, row=8, salt=salt, path=path)
    verify = partial(proofs.check_record, proof, plain[7], results)
    return min(_taken(verify) for _ in range(20))
