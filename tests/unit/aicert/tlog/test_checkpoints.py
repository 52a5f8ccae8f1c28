"""Checkpoints and cosignatures: who signed them, for which log, and when."""

import re

import pytest

from aicert.errors import EvidenceError, UndecidedError
from aicert.tlog import notes
from aicert.tlog.checkpoints import (
    Checkpoint,
    checkpoint_of,
    cosignature,
    cosigned_at,
    cosigned_text,
    open_checkpoint,
)
from aicert.tlog.encoding import MAX_SIZE
from aicert.tlog.notes import COSIGNATURE, ED25519, Note, VerifierKey, signature_line

LOG_SEED, WITNESS_SEED = b"l" * 32, b"w" * 32
LOG = VerifierKey(name="log.example/one", algorithm=ED25519, public=notes.public_of(LOG_SEED))
WITNESS = VerifierKey(
    name="witness.example", algorithm=COSIGNATURE, public=notes.public_of(WITNESS_SEED)
)
CHECKPOINT = Checkpoint(origin=LOG.name, size=1000, root=bytes(range(32)))
TEXT = CHECKPOINT.text()


def signed(text: bytes = TEXT, key: VerifierKey = LOG, seed: bytes = LOG_SEED) -> bytes:
    return text + b"\n" + signature_line(key, notes.sign(seed, text))


def cosigned(time: int, text: bytes = TEXT, stated: int | None = None) -> bytes:
    stated_time = time if stated is None else stated
    signature = notes.sign(WITNESS_SEED, cosigned_text(text, time))
    return signature_line(WITNESS, cosignature(stated_time, signature))


def test_a_checkpoint_is_what_its_log_signed() -> None:
    assert open_checkpoint(signed(), LOG) == CHECKPOINT
    # Further lines are signed and not interpreted.
    assert open_checkpoint(signed(TEXT + b"more of it\n"), LOG) == CHECKPOINT


def test_a_checkpoint_that_nobody_or_another_signed_is_none() -> None:
    other = VerifierKey(name=LOG.name, algorithm=ED25519, public=WITNESS.public)
    with pytest.raises(UndecidedError, match=r"no signature of log\.example/one"):
        open_checkpoint(signed(key=other, seed=WITNESS_SEED), LOG)
    with pytest.raises(EvidenceError, match="was not made by its key"):
        open_checkpoint(signed(seed=WITNESS_SEED), LOG)


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    text = TEXT.replace(b"one", b"two")
    with pytest.raises(
        EvidenceError, match=r"of another log\nfound     'log\.example/two'\nexpected"
    ):
        open_checkpoint(signed(text), LOG)


def test_a_witnesss_key_signs_no_checkpoint_and_a_logs_no_cosignature() -> None:
    note = Note.parse(signed() + cosigned(1))
    with pytest.raises(EvidenceError, match="is a witness's, not a log's"):
        checkpoint_of(note, WITNESS)
    with pytest.raises(EvidenceError, match="is a log's, not a witness's"):
        cosigned_at(note, LOG)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"log.example/one\n1000\n", "not three lines"),
        (TEXT.replace(b"1000\n", b"\n"), "not three lines"),
        (b"\n" + TEXT, "not three lines"),
        (TEXT + b"\nmore\n", "not three lines"),
        (TEXT.replace(b"log.", b"log "), "a key's name is empty, too long, or has a space"),
        (TEXT.replace(b"1000", b"01000"), "the size of a checkpoint is not a decimal number"),
        (TEXT.replace(b"1000", b"+1000"), "the size of a checkpoint is not a decimal number"),
        (TEXT.replace(b"1000", b"-1"), "the size of a checkpoint is not a decimal number"),
        (TEXT.replace(b"1000", "\u0661".encode()), "the size of a checkpoint is not a decimal"),
        (TEXT.replace(b"1000", b"1" * 5000), "the size of a checkpoint is not a decimal number"),
        (TEXT.replace(b"1000", b"%d" % (MAX_SIZE + 1)), "the size of a checkpoint is not a dec"),
        (TEXT.replace(b"AAEC", b"AAE"), "the root of a checkpoint is not a SHA-256 in base64"),
        (TEXT.replace(b"AAEC", b"AA!C"), "the root of a checkpoint is not base64"),
        (TEXT.replace(b"8=\n", b"9=\n"), "the root of a checkpoint is not base64"),
        (TEXT.replace(b"8=\n", b"8=A\n"), "the root of a checkpoint is not a SHA-256 in base64"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(EvidenceError, match=re.escape(problem)):
        open_checkpoint(signed(text), LOG)


@pytest.mark.parametrize("size", [0, 1, MAX_SIZE])
def test_sizes_from_nothing_to_the_greatest_are_read(size: int) -> None:
    checkpoint = Checkpoint(origin=LOG.name, size=size, root=bytes(32))
    assert open_checkpoint(signed(checkpoint.text()), LOG) == checkpoint


def test_a_witness_says_when() -> None:
    assert cosigned_at(Note.parse(signed() + cosigned(1_786_000_000)), WITNESS) == (1_786_000_000,)
    # A repeated cosignature: each counts as a time, and the witness counts once.
    note = Note.parse(signed() + cosigned(9) + cosigned(7) + cosigned(MAX_SIZE))
    assert cosigned_at(note, WITNESS) == (7, 9, MAX_SIZE)


def test_a_cosignature_of_another_checkpoint_or_time_is_refused() -> None:
    other = TEXT.replace(b"one", b"two")
    for line in (cosigned(7, text=other), cosigned(7, stated=8), cosigned(8) + cosigned(7, other)):
        with pytest.raises(EvidenceError, match="was not made by its key"):
            cosigned_at(Note.parse(signed() + line), WITNESS)
    with pytest.raises(UndecidedError, match=r"no signature of witness\.example"):
        cosigned_at(Note.parse(signed()), WITNESS)


@pytest.mark.parametrize(
    "data", [b"x", bytes(71), bytes(73), (MAX_SIZE + 1).to_bytes(8) + bytes(64)]
)
def test_what_is_no_time_and_signature_is_refused(data: bytes) -> None:
    note = Note.parse(signed() + signature_line(WITNESS, data))
    with pytest.raises(EvidenceError, match="is not a time and a signature"):
        cosigned_at(note, WITNESS)
