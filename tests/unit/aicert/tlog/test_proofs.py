"""Proofs of logs: only the written form is read."""

import base64
import re

import pytest

from aicert.errors import EvidenceError
from aicert.tlog import proofs
from aicert.tlog.encoding import MAX_SIZE
from aicert.tlog.notes import MAX_NOTE
from aicert.tlog.proofs import MAX_PATH, MAX_PROOF, Proof, emit, parse

HASH = bytes(range(32))
CHECKPOINT = b"log.example\n1\nroot\n\nand so on\n"
PROOF = Proof(index=7, path=(HASH, bytes(32)), checkpoint=CHECKPOINT)
TEXT = emit(PROOF)


def test_a_proof_is_lines() -> None:
    zeros = base64.b64encode(bytes(32))
    assert (
        b"c2sp.org/tlog-proof@v1\nindex 7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        + zeros + b"\n\n" + CHECKPOINT
    ) == TEXT  # fmt: skip


@pytest.mark.parametrize(
    "proof",
    [
        PROOF,
        Proof(index=0, path=(), checkpoint=b""),
        Proof(index=MAX_SIZE, path=(HASH,) * MAX_PATH, checkpoint=CHECKPOINT),
    ],
)
def test_what_is_written_is_read(proof: Proof) -> None:
    assert parse(emit(proof)) == proof


def test_extra_data_prove_nothing_and_are_left_out() -> None:
    assert parse(TEXT.replace(b"index", b"extra aGVsbG8=\nindex")) == PROOF
    assert parse(TEXT.replace(b"index", b"extra \nindex")) == PROOF


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "does not begin with"),
        (TEXT[:-len(CHECKPOINT) - 1], "has no checkpoint"),
        (b"\n" + TEXT, "does not begin with"),
        (TEXT.replace(b"@v1", b"@v2"), "does not begin with"),
        (TEXT.replace(b"\n", b"\r\n"), "has no checkpoint"),
        (TEXT.replace(b"index", "inde\u0445".encode()), "is not ASCII"),
        (TEXT.replace(b"index 7\n", b""), "has no index"),
        (b"c2sp.org/tlog-proof@v1\n\n" + CHECKPOINT, "has no index"),
        (b"c2sp.org/tlog-proof@v1\nextra \n\n" + CHECKPOINT, "has no index"),
        (TEXT.replace(b"index", b"extra !\nindex"), "the extra data of a proof is not base64"),
        (TEXT.replace(b"index", b"extra \nextra \nindex"), "has no index"),
        (TEXT.replace(b"index 7", b"index 07"), "the index of a proof is not a decimal number"),
        (TEXT.replace(b"index 7", b"index  7"), "the index of a proof is not a decimal number"),
        (TEXT.replace(b"index 7", b"index -7"), "the index of a proof is not a decimal number"),
        (TEXT.replace(b"index 7", b"index 9223372036854775808"), "the index of a proof is not"),
        (TEXT.replace(b"index 7", b"index " + b"9" * 9000), "the index of a proof is not"),
        (TEXT.replace(b"AAEC", b"AAE"), "a hash of a proof is not a SHA-256"),
        (TEXT.replace(b"h8=", b"h9="), "a hash of a proof is not base64"),
        (TEXT.replace(b"h8=\n", b"h8=\n" * 64), "more than 63 hashes"),
        (TEXT + b"x" * MAX_PROOF, f"larger than {MAX_PROOF} bytes"),
    ],
)  # fmt: skip
def test_what_is_no_proof_is_refused(data: bytes, problem: str) -> None:
    if problem == "more than 63 hashes":
        data = data.replace(
            b"h8=\n", b"h8=\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n" * 63, 1
        )
    with pytest.raises(EvidenceError, match=re.escape(problem)):
        parse(data)


def test_a_certificate_carries_a_proof_in_base64() -> None:
    entry = proofs.encode(TEXT)
    assert entry == "tlog-proof:" + base64.b64encode(TEXT).decode()
    assert proofs.decode(entry) == TEXT
    largest = b"x" * MAX_PROOF
    assert proofs.decode(proofs.encode(largest)) == largest
    assert len(proofs.encode(largest)) < 131_072


def test_a_nonce_is_made_of_a_checkpoint_in_base64() -> None:
    assert proofs.decode_checkpoint(proofs.encode_checkpoint(CHECKPOINT)) == CHECKPOINT
    for text in ("checkpoint:", proofs.encode_checkpoint(b"x" * (MAX_NOTE + 1))):
        with pytest.raises(EvidenceError, match="a time stamp is not checkpoint:BASE64, or too"):
            proofs.decode_checkpoint(text)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("", "a time stamp is not tlog-proof:BASE64, or too long"),
        ("tlog-proof:", "a time stamp is not tlog-proof:BASE64, or too long"),
        ("eHh4", "a time stamp is not tlog-proof:BASE64, or too long"),
        ("tlog-proof:eHh", "tlog-proof is not base64"),
        ("tlog-proof:eHh5\n", "tlog-proof is not base64"),
        ("tlog-proof:e\u00e4h5", "tlog-proof is not base64"),
        ("tlog-proof:" + "A" * (3 * MAX_PROOF), "a time stamp is not tlog-proof:BASE64, or too"),
        (proofs.encode(b"x" * (MAX_PROOF + 1)), "a time stamp is not tlog-proof:BASE64, or too"),
    ],
)
def test_what_carries_no_proof_is_refused(entry: str, problem: str) -> None:
    with pytest.raises(EvidenceError, match=re.escape(problem)):
        proofs.decode(entry)
