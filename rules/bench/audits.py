"""The cost of an audit of a million rows, and of proofs about them.

Rows are random: about a hundred words from a vocabulary of 50,000 by Zipf's law, a URL, and
sometimes an address. What each question costs is extrapolated from 20,000 rows, in CPU seconds of
this process: the least of several tries for each part of the rows, because other work on this
computer only adds. Then `aicert audit` asks all questions at once about a file of a million rows,
and proofs are made from that file: each in a process of its own, whose CPU time and peak memory
count.
"""

import itertools
import json
import os
import random
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aicert.audits import config, lists, proofs
from aicert.audits import results as forms
from aicert.audits.run import Audit, GivenList
from aicert.audits.trees import Salts
from aicert.cli import kept_tree
from aicert.errors import ToolError
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
MOST_MEMORY = 400
# A row that is proven to have been there; where it stands does not matter.
_ROW = MILLION // 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a process took: CPU seconds, and the peak of its memory in MB."""

    seconds: float
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An audit of a million rows with all questions at once, and two proofs about them.

    `size`: of the rows, in MB. `proof`: the bytes of the proof that a row was there. `again`: for
    each kind of proof the milliseconds of a further one, from the tree that the first one kept.
    """

    size: float
    audit: Process
    record: Process
    absence: Process
    proof: int
    again: dict[str, float]


def rows(count: int) -> Iterator[bytes]:
    """Yield `count` rows in canonical form, the same each time."""
    chance = random.Random(20)  # noqa: S311  # the same rows on every machine
    words = [
        "".join(chance.choices(string.ascii_lowercase, k=3 + n % 8)) for n in range(VOCABULARY)
    ]
    by_rank = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    for number in range(count):
        length = min(800, max(5, int(chance.lognormvariate(4.3, 0.8))))
        text = " ".join(chance.choices(words, cum_weights=by_rank, k=length))
        if number % 200 == 0:
            text += f" jane{number}@example.org or +49 170 {MILLION + number}"
        url = f"https://www.site{int(chance.paretovariate(0.3)) % DOMAINS}.co.uk/p/{number}"
        row = {"id": number, "url": url, "text": text}
        yield json.dumps(row, separators=(",", ":")).encode() + b"\n"


def whole(folder: Path) -> Whole:
    """Audit a file of a million rows in `folder`, and make proofs about them."""
    data, key, results = (folder / name for name in ("rows.jsonl", "key", "results.json"))
    with data.open("wb") as file:
        file.writelines(rows(MILLION))
    key.write_bytes(KEY)
    (folder / "domains").write_bytes(_listed())
    first, *others = (text for text, _ in QUESTIONS.values())
    second_name = [text.replace('name = "a"', 'name = "b"') for text in others]
    (folder / "audit.toml").write_text("".join([_HEAD, first, *second_name]))
    # A text of which no passage is in the rows: none of its words is.
    (folder / "text").write_text(" ".join(f"{number}x" for number in range(100)))
    given = {NAME: data, "key": key, "domains": folder / "domains"}
    inputs = [f"--input={name}={path}" for name, path in given.items()]
    about = [str(data), "--name", NAME, "--results", str(results)]
    proof, trees = folder / "proof.json", (folder / "rows.tree", folder / "passages.tree")
    of_row = ("prove-record", *about, f"--key={key}", f"--row={_ROW}", f"--tree={trees[0]}")
    of_text = ("prove-absence", *about, f"--text={folder / 'text'}", f"--tree={trees[1]}")
    return Whole(
        size=data.stat().st_size / 1e6,
        audit=_process(results, "audit", str(folder / "audit.toml"), *inputs),
        record=_process(proof, *of_row),
        absence=_process(folder / "absence.json", *of_text),
        proof=proof.stat().st_size,
        again=_again(results, (folder / "text").read_text(), *trees),
    )


def _again(results: Path, text: str, of_rows: Path, of_passages: Path) -> dict[str, float]:
    """Make both proofs from kept trees; return the milliseconds of CPU of each.

    A text has many fingerprints, and each takes two paths; one of them counts.
    """
    fact = forms.parse(results.read_bytes()).of(NAME, SPLIT)
    salts = Salts(KEY, NAME, SPLIT)
    wanted = proofs.passages_of(text)[:1]
    passages = fact.passages
    if passages is None:
        raise ToolError("the audit made no tree of passages")

    def record() -> None:
        with kept_tree.opened(of_rows, fact.rows, ()) as tree:
            proofs.emit(proofs.RecordProof(
                name=NAME, split=SPLIT, row=_ROW, salt=salts.salt(_ROW - 1),
                path=tree.path_of(_ROW - 1),
            ))  # fmt: skip

    def absence() -> None:
        with kept_tree.opened(of_passages, passages, (), ()) as tree:
            gaps = proofs.gaps_among(tree, wanted, tree.path_of)
            proofs.emit(proofs.AbsenceProof(name=NAME, split=SPLIT, gaps=gaps))

    taken = {"row": record, "passage": absence}
    return {name: min(_taken(one) for _ in range(20)) * 1000 for name, one in taken.items()}


def _process(output: Path, *arguments: str) -> Process:
    """Run `aicert`, and write what it prints to `output`."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "aicert", *arguments], stdin=subprocess.DEVNULL, stdout=file
        )
        # wait4 reports the resources of this child alone.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ToolError(f"aicert {arguments[0]} ended with exit code {process.returncode}")
    return Process(seconds=usage.ru_utime + usage.ru_stime, memory=usage.ru_maxrss * 1024 / 1e6)


def measure() -> tuple[float, dict[str, float], float, float]:
    """Measure an audit of a million rows. Return the seconds for the tree, for each question on top
    of it, and for sorting passages into their tree; and the milliseconds to verify a proof.
    """
    lines = list(rows(ROWS))
    parts = [b"".join(lines[start : start + PART]) for start in range(0, ROWS, PART)]
    tree = _seconds("", parts)
    beside = {name: _seconds(text, parts) - tree for name, (text, _) in QUESTIONS.items()}
    whole = _audit(QUESTIONS["passages, with their tree"][0])
    reading = whole.reading(NAME, SPLIT)
    reading.feed(b"".join(lines))
    sorting = _taken(partial(reading.fact, 0)) * MILLION / ROWS
    return tree, beside, sorting, _verifying(lines, whole) * 1000


def _audit(text: str) -> Audit:
    given = {"domains": GivenList(digest=of_bytes(b""), entries=lists.domains(_listed()))}
    return Audit(config.parse(f"{_HEAD}{text}".encode()), KEY, given)


def _listed() -> bytes:
    """Return the list of domains: one in nine of those in the rows."""
    return b"".join(b"site%d.co.uk\n" % number for number in range(0, DOMAINS, 9))


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
