"""Fuzz targets for what logs and their witnesses sign: notes, checkpoints, proofs."""

from collections.abc import Callable, Iterator

from aicert.audits.merkle import root_of
from aicert.log.witness_client import cosigned_line, seen_size
from aicert.tlog import proofs
from aicert.tlog.checkpoints import Checkpoint, checkpoint_of, cosigned_at
from aicert.tlog.encoding import MAX_SIZE, to_base64
from aicert.tlog.notes import MAX_NOTE, MAX_SIGNATURES, Note, VerifierKey
from aicert.tlog.tree import check_consistency
from tests.adversarial.log_forge import LOG as OF_A_LOG
from tests.adversarial.log_forge import SEEN as THEN
from tests.adversarial.log_forge import WITNESSES, Logged, line, seconds, signer, witnesses

LOG, (WITNESS,) = signer().key, witnesses(WITNESSES[0])
ENTRY = b"an entry"
CHECKPOINT = Logged(entry=ENTRY).checkpoint()


def _same(one: object, other: object) -> None:
    if one != other:
        raise AssertionError(f"{one!r:.200} is not {other!r:.200}")


def _note(data: bytes) -> None:
    """Parse a note, which must be written again unchanged; then parse its text and its lines."""
    note = Note.parse(data)
    lines = [f"\u2014 {one.name} {to_base64(one.id + one.data)}\n" for one in note.signatures]
    _same(note.text + b"\n" + "".join(lines).encode(), data)
    checkpoint = Checkpoint.parse(note.text)
    _same(note.text.startswith(checkpoint.text()), True)
    _same(checkpoint_of(note, LOG), checkpoint)
    cosigned_at(note, WITNESS.key)


def _proof(data: bytes) -> None:
    """Follow a proof's path to a root, or refuse it, whatever tree its checkpoint is of."""
    proof = proofs.parse(data)
    _same(proofs.parse(proofs.emit(proof)), proof)
    _same(proofs.decode(proofs.encode(data)), data)
    checkpoint = Checkpoint.parse(Note.parse(proof.checkpoint).text)
    root = root_of(ENTRY, proof.index, checkpoint.size, proof.path)
    _same(len(root), 32)
    # Read the same bytes as a consistency path between two trees.
    if not proof.path:
        return
    check_consistency(checkpoint.size, checkpoint.root, checkpoint.size, checkpoint.root, ())


def _verifier_key(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    _same(str(VerifierKey.parse(text)), text)


def _answer(data: bytes) -> None:
    """Parse a witness's answer: how many entries it saw, or lines of which one is its own."""
    if data[:1] == b"=":
        _same(0 <= seen_size(data[1:], WITNESS.key) <= MAX_SIZE, True)
        return
    time, kept = cosigned_line(Note.parse(CHECKPOINT), data, WITNESS.key)
    _same(kept.startswith("\u2014 ".encode()), True)
    _same(cosigned_at(Note.parse(Note.parse(CHECKPOINT).text + b"\n" + kept), WITNESS.key), (time,))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "log-note": _note,
    "log-proof": _proof,
    "log-key": _verifier_key,
    "log-witness": _answer,
}


def seeds() -> dict[str, tuple[bytes, ...]]:
    """Return inputs that each target accepts."""
    logged = Logged(entry=ENTRY, by=(WITNESSES[0],))
    one = logged.with_(leaves=(ENTRY,), index=0, hashes=(), further="a line more\n")
    cosigned = logged.cosigned(WITNESSES[0], seconds(THEN))
    extra = logged.with_(head="c2sp.org/tlog-proof@v1\nextra eHh4\n")
    return {
        "log-note": (logged.checkpoint(), one.checkpoint()),
        "log-proof": (logged.proof(), one.proof(), extra.proof()),
        "log-key": (str(LOG).encode(), str(WITNESS.key).encode()),
        "log-witness": (cosigned.encode(), b"=0\n", b"=9223372036854775807"),
    }


def worst() -> Iterator[tuple[str, str, bytes]]:
    """Yield inputs with the maximum number of lines, of signatures to verify, or of hashes."""
    logged = Logged(entry=ENTRY)
    time = seconds(THEN)
    alike = "".join(logged.cosigned(WITNESSES[0], time + n) for n in range(MAX_SIGNATURES - 1))
    yield "log-note", "a witness that cosigned often", logged.with_(lines=alike).checkpoint()
    short = line(LOG.name, OF_A_LOG, b"x")
    yield "log-note", "signatures that are none", logged.with_(
        lines=short * (MAX_SIGNATURES - 1)).checkpoint()  # fmt: skip
    yield "log-note", "blank lines", b"\n" * MAX_NOTE
    yield "log-note", "a long line", b"x" * (MAX_NOTE - 400) + b"\n\n" + logged.checkpoint()[-120:]
    yield "log-proof", "blank lines", b"\n" * proofs.MAX_PROOF
    yield "log-proof", "digits", logged.with_(size="9" * 60_000).proof()
    yield "log-witness", "cosigned often", alike.encode()
    yield "log-witness", "blank lines", b"\n" * MAX_NOTE
    yield "log-key", "plus signs", b"+" * (1 << 20)
