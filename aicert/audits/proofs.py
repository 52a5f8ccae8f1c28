"""Proofs about one row or one text, against the results of an audit.

A proof says nothing by itself: the root, the number of leaves, the kind and its parameters come
from results whose digest a certificate names, and the verifier computes leaves and fingerprints
from the row or text in question. A proof is canonical JSON; the hashes of a path are joined and
written in base64.
"""

import base64
import binascii
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, Protocol

from aicert.audits.fingerprints import HASH_BYTES as KEY_BYTES
from aicert.audits.fingerprints import PASSAGE, of_words
from aicert.audits.folding import UNICODE, words
from aicert.audits.merkle import HASH_BYTES, MAX_LEAVES, Tree, root_of
from aicert.audits.results import Results, TreeFact
from aicert.audits.trees import SALT_BYTES, Salts, passage_leaf, row_leaf
from aicert.errors import EvidenceError, LockError, RejectedError, UndecidedError
from aicert.formats.lockfile import NAME
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass

VERSION: Final = 1
WHAT: Final = "proof"
RECORD: Final = "record/v1"
ABSENCE: Final = "passage-absence/v1"
MAX_BYTES: Final = 1 << 23
# The most fingerprints that a text may have (about 20,000 words have that many). Each of them takes
# two paths.
MAX_FINGERPRINTS: Final = 1000
_MAX_PATH: Final = MAX_LEAVES.bit_length()
_MAX_PATH_TEXT: Final = 4 * (_MAX_PATH * HASH_BYTES // 3 + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """Proves that a row was in input `name`, split `split`, as row `row`, counted from 1."""

    name: str
    split: str
    row: int
    salt: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A fingerprint that is in the tree, and its inclusion path."""

    fingerprint: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The place, before leaf `index`, where an absent fingerprint would be in the tree.

    `left` and `right`: the leaves beside it; None at an end of the tree.
    """

    index: int
    left: Neighbour | None
    right: Neighbour | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsenceProof:
    """Proves that no fingerprint of a text is in the tree of passages.

    `gaps`: one for each fingerprint, in the order of the fingerprints.
    """

    name: str
    split: str
    gaps: tuple[Gap, ...]


Proof = RecordProof | AbsenceProof


class Keys(Protocol):
    """The fingerprints that a tree's leaves hold, in order."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int: ...


def prove_record(
    rows: Iterable[bytes], index: int, salts: Salts, expected: TreeFact
) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the salt and the path of row `index`, counted from 0. This hashes all rows.

    LockError if the rows are not those of the results.
    """
    tree = Tree((index,))
    for row in rows:
        tree.add(row_leaf(salts.salt(tree.count), row))
    _check_same(tree, expected, "rows")
    return salts.salt(index), tuple(tree.paths[index])


def prove_absence(
    fingerprints: Iterable[int], wanted: Iterable[int], expected: TreeFact
) -> tuple[Gap, ...]:
    """Return the gap among `fingerprints` for each fingerprint in `wanted`, in order.

    `fingerprints`: those of the data, sorted, each once. LockError if they are not the ones in the
    results; RejectedError if one of `wanted` is among them.
    """
    keys = array("Q", fingerprints)
    wanted = sorted(set(wanted))
    gaps = [bisect_left(keys, fingerprint) for fingerprint in wanted]
    tree = Tree(place for gap in gaps for place in (gap - 1, gap) if 0 <= place < len(keys))
    for key in keys:
        tree.add(passage_leaf(key))
    _check_same(tree, expected, "passages")
    return gaps_among(keys, wanted, tree.paths.__getitem__)


def gaps_among(
    keys: Keys,
    wanted: Iterable[int],
    path_of: Callable[[int], Sequence[bytes]],
) -> tuple[Gap, ...]:
    """As `prove_absence`, from a tree that is there already.

    `path_of`: returns the path of a leaf.
    """
    count = len(keys)

    def neighbour(place: int) -> Neighbour | None:
        if not 0 <= place < count:
            return None
        return Neighbour(fingerprint=keys[place], path=tuple(path_of(place)))

    gaps = []
    for fingerprint in sorted(set(wanted)):
        place = bisect_left(keys, fingerprint)
        if place < count and keys[place] == fingerprint:
            raise RejectedError("a passage of this text is in the data", fingerprint)
        gaps.append(Gap(index=place, left=neighbour(place - 1), right=neighbour(place)))
    return tuple(gaps)


def _check_same(tree: Tree, expected: TreeFact, what: str) -> None:
    if (tree.count, tree.root()) != (expected.count, expected.root):
        raise LockError(f"the {what} here, or the key, are not those of the audit results")


def passages_of(text: str) -> list[int]:
    """Return the fingerprints of a text that a proof of absence covers, in order.

    EvidenceError if the text has no whole passage: nothing can be said about it.
    """
    listed = words(text)
    if len(listed) < PASSAGE:
        raise EvidenceError(
            f"the text has {len(listed)} words, but a passage has {PASSAGE}: "
            "shorter texts cannot be searched for"
        )
    fingerprints = sorted(of_words(listed))
    if len(fingerprints) > MAX_FINGERPRINTS:
        raise EvidenceError(f"the text has more than {MAX_FINGERPRINTS} fingerprints: shorten it")
    return fingerprints


def check_record(proof: RecordProof, row: bytes, results: Results) -> None:
    """Raise RejectedError unless the row, given without line feed, is where the proof says."""
    tree = results.of(proof.name, proof.split).rows
    root = root_of(row_leaf(proof.salt, row), proof.row - 1, tree.count, proof.path)
    if root != tree.root:
        raise RejectedError(
            f"the proof does not lead from this row to the root of input {proof.name}",
            proof,
            hint="aicert records DATA --canonical ROWS writes rows in the form that was hashed",
        )


def check_absence(proof: AbsenceProof, text: str, results: Results) -> None:
    """Raise RejectedError unless the proof shows that the data has no passage of the text."""
    if not text.isascii() and results.unicode != UNICODE:
        raise UndecidedError(
            f"the audit folded texts with Unicode {results.unicode}, but this Python has {UNICODE}",
            hint="verify it with a Python that has that version of Unicode",
        )
    tree = results.of(proof.name, proof.split).passages
    if tree is None:
        raise EvidenceError(f"the audit built no tree of passages for input {proof.name}")
    fingerprints = passages_of(text)
    if len(fingerprints) != len(proof.gaps):
        raise RejectedError("the proof is not about the fingerprints of this text", proof)
    for fingerprint, gap in zip(fingerprints, proof.gaps, strict=True):
        _check_gap(fingerprint, gap, tree)


def _check_gap(fingerprint: int, gap: Gap, tree: TreeFact) -> None:
    """Check that two adjacent leaves, or the ends of the tree, leave no place for `fingerprint`."""
    if gap.index > tree.count:
        raise RejectedError("a gap lies outside the tree", gap)
    if (gap.left is None) != (gap.index == 0) or (gap.right is None) != (gap.index == tree.count):
        raise RejectedError("a gap has too few neighbours, or too many", gap)
    below = -1 if gap.left is None else gap.left.fingerprint
    above = 1 << 8 * KEY_BYTES if gap.right is None else gap.right.fingerprint
    if not below < fingerprint < above:
        raise RejectedError("a fingerprint does not lie in its gap", gap)
    for place, neighbour in ((gap.index - 1, gap.left), (gap.index, gap.right)):
        if neighbour is not None:
            leaf = passage_leaf(neighbour.fingerprint)
            if root_of(leaf, place, tree.count, neighbour.path) != tree.root:
                raise RejectedError("a neighbour does not stand where the gap says", gap)


def emit(proof: Proof) -> bytes:
    """Return the proof in canonical form, with a line feed."""
    document: dict[str, object] = {
        "name": proof.name,
        "split": proof.split,
        "version": VERSION,
    }
    if isinstance(proof, RecordProof):
        document |= {"kind": RECORD, "row": proof.row, "salt": _text(proof.salt)}
        document["path"] = _text(b"".join(proof.path))
    else:
        document |= {"kind": ABSENCE, "gaps": [_gap_json(gap) for gap in proof.gaps]}
    return dumps(document) + b"\n"


def parse(data: bytes) -> Proof:
    """Read exactly what `emit` writes. Raises EvidenceError."""
    fields = Fields(loads(data, what=WHAT, max_bytes=MAX_BYTES), WHAT)
    fields.const("version", VERSION)
    kind = fields.text("kind", max_length=32)
    name, split = fields.text("name", max_length=64), fields.text("split", max_length=64)
    if not NAME.fullmatch(name):
        raise EvidenceError(f"{WHAT}.name is not a name: {name!a}")
    proof: Proof
    if kind == RECORD:
        proof = RecordProof(
            name=name,
            split=split,
            row=fields.integer("row", low=1, high=MAX_LEAVES),
            salt=_bytes(fields, "salt", SALT_BYTES),
            path=_path(fields),
        )
        if len(proof.salt) != SALT_BYTES:
            raise EvidenceError(f"{WHAT}.salt does not have {SALT_BYTES} bytes")
    elif kind == ABSENCE:
        gaps = fields.items("gaps", _read_gap, max_items=MAX_FINGERPRINTS)
        proof = AbsenceProof(name=name, split=split, gaps=gaps)
    else:
        raise UndecidedError(f"{WHAT} is of an unknown kind: {kind!a}")
    fields.done()
    if emit(proof) != data:
        raise EvidenceError(f"{WHAT} is not in canonical form")
    return proof


def _gap_json(gap: Gap) -> dict[str, object]:
    document: dict[str, object] = {"index": gap.index}
    sides: Sequence[tuple[Literal["left", "right"], Neighbour | None]]
    sides = (("left", gap.left), ("right", gap.right))
    for side, neighbour in sides:
        if neighbour is not None:
            document[side] = {
                "fingerprint": f"{neighbour.fingerprint:016x}",
                "path": _text(b"".join(neighbour.path)),
            }
    return document


def _read_gap(value: object, where: str) -> Gap:
    fields = Fields(value, where)
    gap = Gap(
        index=fields.integer("index", high=MAX_LEAVES),
        left=_read_neighbour(fields.fields("left")) if fields.has("left") else None,
        right=_read_neighbour(fields.fields("right")) if fields.has("right") else None,
    )
    fields.done()
    return gap


def _read_neighbour(fields: Fields) -> Neighbour:
    digits = fields.text("fingerprint", max_length=2 * KEY_BYTES)
    try:
        fingerprint = int.from_bytes(bytes.fromhex(digits), "big")
    except ValueError:
        raise EvidenceError(f"{fields.where}.fingerprint is not hexadecimal") from None
    neighbour = Neighbour(fingerprint=fingerprint, path=_path(fields))
    fields.done()
    return neighbour


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _path(fields: Fields) -> tuple[bytes, ...]:
    data = _bytes(fields, "path", _MAX_PATH * HASH_BYTES)
    if len(data) % HASH_BYTES:
        raise EvidenceError(f"{fields.where}.path is not a whole number of hashes")
    return tuple(data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))


def _bytes(fields: Fields, key: str, most: int) -> bytes:
    try:
        data = base64.b64decode(fields.text(key, max_length=_MAX_PATH_TEXT), validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceError(f"{fields.where}.{key} is not base64") from None
    if len(data) > most:
        raise EvidenceError(f"{fields.where}.{key} is longer than {most} bytes")
    return data
