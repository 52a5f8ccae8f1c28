"""Proofs: the shared vectors under both implementations, and the form of a proof."""

import base64
import json
from typing import Any

import pytest

from aicert.audits import proofs, results
from aicert.audits.merkle import root_of
from aicert.audits.trees import Salts, row_leaf
from aicert.errors import EvidenceError, LockError, RejectedError, UndecidedError
from aicert.frozen import replace
from tests.second import proofs as second_proofs
from tests.unit.aicert.audits.texts import text
from tests.vectors import audits

VECTORS = json.loads(audits.FILE.read_text())
RESULTS = results.parse(VECTORS["results"].encode())


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_both_implementations_say_what_each_vector_says(case: dict[str, Any]) -> None:
    proof, subject = case["proof"], case["subject"]
    assert audits.verified(RESULTS, proof, subject) is case["holds"]
    assert second_proofs.holds(VECTORS["results"], proof, subject) is case["holds"]


def test_vectors_are_made_again_alike() -> None:
    assert audits.document() == audits.FILE.read_text()


def test_there_are_absences_that_are_forged_in_many_ways() -> None:
    forged = [case for case in VECTORS["cases"] if not case["holds"]]
    assert len([case for case in forged if "gaps" in case["proof"]]) > 12


def test_no_flipped_byte_of_a_proof_holds() -> None:
    case = next(case for case in VECTORS["cases"] if case["name"] == "row 9")
    whole = case["proof"]
    for place in range(len(whole)):
        changed = whole[:place] + chr(ord(whole[place]) ^ 1) + whole[place + 1 :]
        assert not audits.verified(RESULTS, changed, case["subject"]), place


def test_a_proof_is_of_some_seven_hundred_bytes() -> None:
    """For a million rows it has the salt and twenty hashes; base64 adds a third."""
    proof = replace(audits.record(1), path=(bytes(32),) * 20)
    assert len(proof.salt) + sum(map(len, proof.path)) < 700
    assert len(proofs.emit(proof)) < 1024


def test_a_present_text_cannot_be_proven_absent() -> None:
    present = json.loads(audits.ROWS[4])["text"]
    with pytest.raises(RejectedError, match="is in the data"):
        audits.absence(present)


def test_what_is_not_the_audited_data_proves_nothing() -> None:
    expected = RESULTS.of(audits.NAME, audits.SPLIT)
    salts = Salts(audits.KEY, audits.NAME, audits.SPLIT)
    for rows, key in ((audits.ROWS[:-1], salts), (audits.ROWS, Salts(bytes(32), "a", "b"))):
        with pytest.raises(LockError, match="the rows here, or the key"):
            proofs.prove_record(rows, 0, key, expected.rows)
    assert expected.passages is not None
    with pytest.raises(LockError, match="the passages here"):
        proofs.prove_absence([1, 2], [3], expected.passages)


def test_salts_are_of_one_place() -> None:
    salts = {
        Salts(key, name, split).salt(index)
        for key in (bytes(32), audits.KEY)
        for name, split in (("a", "b"), ("a-b", "c"), ("a", "bc"), ("ab", "c"))
        for index in (0, 1, 256)
    }
    assert len(salts) == 24


def test_a_node_is_no_row() -> None:
    """The bytes of an inner node, given as a row, hash to another value than the node."""
    proof = audits.record(1)
    tree = RESULTS.of(audits.NAME, audits.SPLIT).rows
    salts = Salts(audits.KEY, audits.NAME, audits.SPLIT)
    left = row_leaf(salts.salt(0), audits.ROWS[0])
    assert root_of(left + proof.path[0], 0, tree.count, proof.path) != tree.root


def test_texts_without_a_whole_passage_are_not_judged() -> None:
    with pytest.raises(EvidenceError, match="the text has 49 words"):
        proofs.passages_of(text(1, 49))
    with pytest.raises(EvidenceError, match="more than 1000 fingerprints"):
        proofs.passages_of(text(1, 25_000))


def test_another_unicode_cannot_judge_what_it_may_fold_otherwise() -> None:
    other = replace(RESULTS, unicode="1.0.0")
    proofs.check_absence(audits.absence(audits.ABSENT), audits.ABSENT, other)
    with pytest.raises(UndecidedError, match=r"Unicode 1\.0\.0"):
        proofs.check_absence(audits.absence(audits.ABSENT), audits.ABSENT + " é", other)


def test_an_audit_without_a_tree_of_passages_cannot_be_asked() -> None:
    (fact, _) = RESULTS.data
    without = replace(RESULTS, data=(replace(fact, passages=None),))
    proof = replace(audits.absence(audits.ABSENT, fact.split), split=fact.split)
    with pytest.raises(EvidenceError, match="no tree of passages"):
        proofs.check_absence(proof, audits.ABSENT, without)


def test_in_data_without_passages_every_text_is_absent() -> None:
    empty = proofs.prove_absence([], [5], audited_nothing())
    assert empty == (proofs.Gap(index=0, left=None, right=None),)


def audited_nothing() -> results.TreeFact:
    return results.TreeFact(
        count=0,
        root=bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    )


RECORD = json.loads(proofs.emit(audits.record(3)))
ABSENCE = json.loads(proofs.emit(audits.absence(audits.ABSENT)))


@pytest.mark.parametrize(
    ("proof", "change", "reason"),
    [
        (RECORD, {"version": 2}, "version"),
        (RECORD, {"kind": "record/v2"}, "unknown kind"),
        (RECORD, {"name": "A B"}, "is not a name"),
        (RECORD, {"row": 0}, "out of range"),
        (RECORD, {"salt": base64.b64encode(bytes(15)).decode()}, "does not have 16 bytes"),
        (RECORD, {"salt": base64.b64encode(bytes(17)).decode()}, "longer than 16 bytes"),
        (RECORD, {"salt": "AAAA AAAA"}, "not base64"),
        (RECORD, {"path": "é"}, "not base64"),
        (RECORD, {"path": base64.b64encode(bytes(31)).decode()}, "whole number of hashes"),
        (RECORD, {"path": base64.b64encode(bytes(32 * 50)).decode()}, "longer than"),
        (RECORD, {"more": 1}, "unknown key"),
        (ABSENCE, {"gaps": [{}]}, "index is missing"),
        (ABSENCE, {"gaps": [{"index": 1, "more": 1}]}, "unknown key"),
        (ABSENCE, {"gaps": [{"index": 0, "right": {"fingerprint": "x", "path": ""}}]}, "not hexa"),
        (ABSENCE, {"gaps": [{"index": 0, "right": {"fingerprint": "0A", "path": ""}}]}, "canonic"),
        (ABSENCE, {"gaps": [{"index": 0, "left": {"fingerprint": "", "path": "", "x": 1}}]},
         "unknown key"),
    ],
)  # fmt: skip
def test_a_proof_has_one_form(proof: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    data = json.dumps(proof | change, sort_keys=True, separators=(",", ":")) + "\n"
    with pytest.raises(EvidenceError, match=reason):
        proofs.parse(data.encode())


def test_another_spelling_of_a_proof_is_refused() -> None:
    with pytest.raises(EvidenceError, match="not in canonical form"):
        proofs.parse(json.dumps(RECORD).encode())


def test_the_fingerprints_of_a_text_are_its_own() -> None:
    """A proof whose neighbours leave room for its key, but which lies outside the tree."""
    fact = RESULTS.of(audits.NAME, audits.SPLIT).passages
    assert fact is not None
    gap = proofs.Gap(index=fact.count + 1, left=None, right=None)
    proof = proofs.AbsenceProof(name=audits.NAME, split=audits.SPLIT, gaps=(gap,))
    with pytest.raises(RejectedError, match="outside the tree"):
        proofs.check_absence(proof, text(98, 50), RESULTS)
