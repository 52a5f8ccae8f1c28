"""Signed notes have one reading, and no signature counts by its name or key id alone."""

import base64
import dataclasses
import re

import pytest

from aicert.errors import EvidenceError, UndecidedError
from aicert.tlog import notes
from aicert.tlog.notes import COSIGNATURE, ED25519, Note, VerifierKey, check_key_name

# The example of Go's package golang.org/x/mod/sumdb/note: key, private key and signature.
KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = (
    b"If you think cryptography is the answer to your problem,\n"
    b"then you don't know what your problem is.\n"
)
LINE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n"
).encode()
NOTE = TEXT + b"\n" + LINE


def test_gos_own_example_is_read_verified_and_signed_alike() -> None:
    key = VerifierKey.parse(KEY)
    assert (key.name, key.algorithm, str(key)) == ("PeterNeumann", ED25519, KEY)
    note = Note.parse(NOTE)
    assert note.text == TEXT
    note.verify(key)
    assert notes.public_of(SEED) == key.public
    assert notes.signature_line(key, notes.sign(SEED, TEXT)) == LINE


def test_another_text_was_not_signed() -> None:
    note = Note.parse(NOTE.replace(b"answer", b"Answer"))
    with pytest.raises(EvidenceError, match="name of PeterNeumann was not made by its key"):
        note.verify(VerifierKey.parse(KEY))


def test_a_name_or_an_id_alone_is_nobodys_signature() -> None:
    key, note = VerifierKey.parse(KEY), Note.parse(NOTE)
    (signature,) = note.signatures
    for other_line in (
        dataclasses.replace(signature, name="Peter"),
        dataclasses.replace(signature, id=bytes(4)),
    ):
        other = dataclasses.replace(note, signatures=(other_line,))
        with pytest.raises(UndecidedError, match="no signature of PeterNeumann"):
            other.verify(key)


def test_an_id_that_collides_is_refused_by_the_signature() -> None:
    """An attacker who hits the four bytes only gets the line verified, and refused."""
    key = VerifierKey.parse(KEY)
    line = notes.signature_line(key, notes.sign(bytes(32), TEXT))
    for lines in (line, LINE + line):
        with pytest.raises(EvidenceError, match="was not made by its key"):
            Note.parse(TEXT + b"\n" + lines).verify(key)


def test_a_signature_of_another_length_is_refused() -> None:
    key = VerifierKey.parse(KEY)
    with pytest.raises(EvidenceError, match="was not made by its key"):
        Note.parse(TEXT + b"\n" + notes.signature_line(key, b"x")).verify(key)


def test_lines_of_other_keys_are_kept_and_change_nothing() -> None:
    other = VerifierKey(name="other.example", algorithm=COSIGNATURE, public=bytes(32))
    lines = [notes.signature_line(other, bytes([n])) for n in range(notes.MAX_SIGNATURES - 1)]
    note = Note.parse(TEXT + b"\n" + b"".join(lines) + LINE)
    note.verify(VerifierKey.parse(KEY))
    assert len(note.signatures) == notes.MAX_SIGNATURES


def test_the_last_blank_line_ends_the_text() -> None:
    text = b"one\n\ntwo\n"
    key = VerifierKey.parse(KEY)
    note = Note.parse(text + b"\n" + notes.signature_line(key, notes.sign(SEED, text)))
    assert note.text == text
    note.verify(key)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "does not end in a blank line"),
        (TEXT + LINE, "does not end in a blank line"),
        (TEXT + b"\n", "does not end in a blank line"),
        (NOTE[:-1], "does not end in a blank line"),
        (NOTE + b"\n", "does not end in a blank line"),
        (TEXT.replace(b"\n", b"\r\n") + b"\n" + LINE, "control character"),
        (NOTE.replace(b" x08", b"\tx08"), "control character"),
        (NOTE + b"\xff", "not UTF-8"),
        (TEXT + b"\n- PeterNeumann x08g\n", "not a signature"),
        (TEXT + b"\n" + LINE + b"more\n", "not a signature"),
        (TEXT + "\n\u2014 PeterNeumann\n".encode(), "not a signature"),
        (TEXT + "\n\u2014  x08go/Y=\n".encode(), "a key's name is empty"),
        (TEXT + "\n\u2014 Peter+Neumann x08go/Y=\n".encode(), "a key's name is empty"),
        (TEXT + "\n\u2014 Peter\u2003Neumann x08go/Y=\n".encode(), "a key's name is empty"),
        (NOTE.replace(b" x08", b"  x08"), "is not base64"),
        (NOTE.replace(b"AM=\n", b"AN=\n"), "is not base64"),
        (NOTE.replace(b"AM=\n", b"AM\n"), "is not base64"),
        (TEXT + "\n\u2014 PeterNeumann x08gow==\n".encode(), "is empty"),
        (TEXT + b"\n" + LINE * (notes.MAX_SIGNATURES + 1), "more than 32 signatures"),
        (b"x" * notes.MAX_NOTE + NOTE, "larger than 65536 bytes"),
    ],
)
def test_what_is_no_note_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(EvidenceError, match=re.escape(problem)):
        Note.parse(data)


def test_the_largest_note_is_read() -> None:
    Note.parse(b"x" * (notes.MAX_NOTE - len(LINE) - 2) + b"\n\n" + LINE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not NAME+ID+BASE64"),
        ("PeterNeumann", "not NAME+ID+BASE64"),
        (KEY.replace("c74f20a3", "C74F20A3"), "not NAME+ID+BASE64"),
        (KEY + "A" * 100, "not NAME+ID+BASE64"),
        (KEY + "AAAA", "not an Ed25519 key"),
        (KEY.partition("ARpc")[0], "not an Ed25519 key"),
        (KEY.replace("+ARpc", "+Arpc"), "not an Ed25519 key"),
        (KEY.replace("ARpc", "AR c"), "not base64"),
        (KEY.replace("c74f20a3", "c74f20a4"), "has a different id"),
        (KEY.replace("PeterNeumann", "Peter"), "has a different id"),
        (KEY.replace("+ARpc", "+BBpc"), "has a different id"),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "a key's name is empty"),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str, problem: str) -> None:
    with pytest.raises(EvidenceError, match=re.escape(problem)):
        VerifierKey.parse(text)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a+b", "a\nb", "a\x1fb", "a\x00b", "\u00e4" * 128]
)
def test_a_name_that_no_line_could_hold_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError, match="a key's name is empty, too long, or has a space"):
        check_key_name(name)


@pytest.mark.parametrize("name", ["a", "log.example/one", "\u00e4" * 127 + "x"])
def test_other_names_are_allowed(name: str) -> None:
    check_key_name(name)
    key = VerifierKey(name=name, algorithm=COSIGNATURE, public=bytes(32))
    assert VerifierKey.parse(str(key)) == key
