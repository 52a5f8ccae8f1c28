"""Vectors of audits: `python -m tests.vectors.audits` writes tests/vectors/audit/proofs.json again.

The file has one audit with its results, and proofs about it, honest and forged. Each case records
whether its proof holds; both implementations must agree (tests/unit/aicert/audits/test_proofs.py).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from aicert.audits import config, proofs, results
from aicert.audits.fingerprints import Fingerprints, of_words
from aicert.audits.folding import words
from aicert.audits.merkle import Tree
from aicert.audits.proofs import AbsenceProof, Gap, Neighbour, Proof, RecordProof
from aicert.audits.run import Audit
from aicert.audits.trees import Salts, passage_leaf, row_leaf
from aicert.errors import AicertError
from aicert.frozen import replace
from tests.unit.aicert.audits.texts import text

FILE = Path(__file__).parent / "audit" / "proofs.json"
KEY = bytes(range(32))
CONFIG = b'[records]\nkey = "input:record-key"\n[passages]\nwords = 50\n'
NAME, SPLIT, OTHER = "alpaca", "train", "test"
# 11 rows of 60 words and, as the other split, the first three of them.
ROWS = tuple(json.dumps({"text": text(seed, 60)}).encode() for seed in range(11))
ROWS = tuple(row.replace(b": ", b":") for row in ROWS)
SPLITS = {SPLIT: ROWS, OTHER: ROWS[:3]}
ABSENT = text(99, 200)


def audited() -> results.Results:
    """Return the audit's results."""
    audit = Audit(config.parse(CONFIG), KEY, {})
    for split, rows in SPLITS.items():
        reading = audit.reading(NAME, split)
        reading.feed(b"".join(row + b"\n" for row in rows))
        reading.fact(0)
    # All text here is ASCII, which every Unicode version folds alike.
    return replace(audit.results(), unicode="14.0.0")


def keys(split: str) -> list[int]:
    """Return the fingerprints of a split, in the order of the tree."""
    kept = Fingerprints()
    for row in SPLITS[split]:
        kept.add(of_words(words(json.loads(row)["text"])))
    return list(kept.sorted())


def record(row: int, split: str = SPLIT) -> RecordProof:
    """Return an honest proof of a row, counted from 1."""
    salts = Salts(KEY, NAME, split)
    expected = audited().of(NAME, split).rows
    salt, path = proofs.prove_record(SPLITS[split], row - 1, salts, expected)
    return RecordProof(name=NAME, split=split, row=row, salt=salt, path=path)


def absence(about: str, split: str = SPLIT) -> AbsenceProof:
    """Return an honest proof that a text's passages are absent."""
    expected = audited().of(NAME, split).passages
    assert expected is not None
    gaps = proofs.prove_absence(keys(split), proofs.passages_of(about), expected)
    return AbsenceProof(name=NAME, split=split, gaps=gaps)


def leaf(place: int, listed: list[int]) -> Neighbour:
    """Return a leaf of the tree of these fingerprints, with its path."""
    tree = Tree((place,))
    for key in listed:
        tree.add(passage_leaf(key))
    tree.root()
    return Neighbour(fingerprint=listed[place], path=tuple(tree.paths[place]))


def honest() -> Iterator[tuple[str, Proof, str]]:
    """Yield proofs that hold, with their names and subjects."""
    for row in (1, 2, 8, 9, 11):
        yield f"row {row}", record(row), ROWS[row - 1].decode()
    yield "row 2 of the other split", record(2, OTHER), ROWS[1].decode()
    yield "an absent text", absence(ABSENT), ABSENT
    yield "an absent text of exactly a passage", absence(text(98, 50)), text(98, 50)
    yield "absent from the other split", absence(ABSENT, OTHER), ABSENT


def forged() -> Iterator[tuple[str, Proof, str]]:
    """Yield proofs that do not hold."""
    yield from forged_records()
    yield from forged_absences()


def forged_records() -> Iterator[tuple[str, Proof, str]]:
    """Yield proofs of rows at another place, or of rows that do not exist."""
    row, true = ROWS[1].decode(), record(2)
    yield "another row", true, ROWS[2].decode()
    yield "a byte more", true, row + " "
    yield "another place", replace(true, row=3), row
    yield "behind the last row", replace(true, row=12), row
    yield "another split", replace(true, split=OTHER), row
    yield "an input that was not read", replace(true, name="other"), row
    yield "another salt", replace(true, salt=bytes(16)), row
    yield "the salt of the other split", replace(true, salt=record(2, OTHER).salt), row
    yield "a path too long", replace(true, path=(*true.path, bytes(32))), row
    yield "a path too short", replace(true, path=true.path[:-1]), row
    yield "a path of two in the wrong order", replace(true, path=true.path[::-1]), row
    # A node of the tree, presented as a row.
    yield "no path at all", replace(true, path=()), row


def forged_absences() -> Iterator[tuple[str, Proof, str]]:
    """Yield proofs that a present row's passage is absent.

    Its fingerprints are neither the first nor the last of the tree.
    """
    listed = keys(SPLIT)
    texts = (json.loads(row)["text"] for row in ROWS)
    present = next(text for text in texts if 1 < listed.index(smallest(text)) < len(listed) - 2)
    wanted = sorted(of_words(words(present)))
    gaps = [gap_beside(listed.index(key), listed) for key in wanted]

    def changed(gap: Gap) -> AbsenceProof:
        return AbsenceProof(name=NAME, split=SPLIT, gaps=(gap, *gaps[1:]))

    place, count = listed.index(wanted[0]), len(listed)
    before, itself, after = (leaf(place + step, listed) for step in (-1, 0, 1))
    yield "a leaf left out", changed(Gap(index=place, left=before, right=after)), present
    yield "its own leaf as neighbour", changed(Gap(index=place, left=before, right=itself)), present
    yield "only one neighbour", changed(Gap(index=place, left=before, right=None)), present
    yield "no neighbour", changed(Gap(index=place, left=None, right=None)), present
    first, last = leaf(0, listed), leaf(count - 1, listed)
    yield "before the first", changed(Gap(index=0, left=None, right=first)), present
    yield "behind the last", changed(Gap(index=count, left=last, right=None)), present
    yield "outside", changed(Gap(index=count + 1, left=last, right=None)), present
    beside = Gap(index=place + 1, left=itself, right=after)
    yield "the gap behind it", changed(beside), present
    cut = listed[:place]
    smaller = changed(Gap(index=place, left=leaf(place - 1, cut), right=None))
    yield "a tree that ends before it", smaller, present
    without = [key for key in listed if key not in wanted]
    gap = Gap(index=place, left=leaf(place - 1, without), right=leaf(place, without))
    yield "a tree without it", changed(gap), present
    yield "the tree of the other split", replace(absence(ABSENT, OTHER), split=SPLIT), ABSENT
    yield "the proof of another text", absence(ABSENT), present
    true = absence(ABSENT)
    yield "a fingerprint less", replace(true, gaps=true.gaps[1:]), ABSENT
    yield "in another order", replace(true, gaps=true.gaps[::-1]), ABSENT
    yield "of a text too short", replace(true, gaps=()), text(97, 49)
    yield "a leaf of the rows' tree", changed(row_gap(place, before)), present


def smallest(present: str) -> int:
    """Return the first fingerprint of a text."""
    return min(of_words(words(present)))


def gap_beside(place: int, listed: list[int]) -> Gap:
    """Return the gap before a leaf."""
    left = leaf(place - 1, listed) if place else None
    return Gap(index=place, left=left, right=leaf(place, listed))


def row_gap(place: int, before: Neighbour) -> Gap:
    """Return a gap with a neighbour whose path is in the tree of rows."""
    tree = Tree((0,))
    salts = Salts(KEY, NAME, SPLIT)
    for row in ROWS:
        tree.add(row_leaf(salts.salt(tree.count), row))
    tree.root()
    other = Neighbour(fingerprint=2**64 - 1, path=tuple(tree.paths[0]))
    return Gap(index=place, left=before, right=other)


def document() -> str:
    """Return the file's text."""
    cases = [
        {"holds": holds, "name": name, "proof": proofs.emit(proof).decode(), "subject": subject}
        for holds, listed in ((True, honest()), (False, forged()))
        for name, proof, subject in listed
    ]
    whole = {"cases": cases, "results": results.emit(audited()).decode()}
    return json.dumps(whole, indent=1) + "\n"


def verified(data: results.Results, proof: str, subject: str) -> bool:
    """Return whether a proof holds, by the code behind `aicert verify-proof`."""
    try:
        read = proofs.parse(proof.encode())
        if isinstance(read, RecordProof):
            proofs.check_record(read, subject.encode(), data)
        else:
            proofs.check_absence(read, subject, data)
    except AicertError:
        return False
    return True


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(document())
