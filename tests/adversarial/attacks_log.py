"""Attacks on proofs of transparency logs (docs/spec/log.md), and odd proofs that are right."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aicert.formats.certificate import Certificate
from aicert.tlog.entry import entry_of
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_time import (
    CHALLENGE,
    IN_TEN_YEARS,
    NONE_ASKED,
    Change,
    asked,
    at,
    both,
    names,
    stamped,
    timestamps,
    youngest,
)
from tests.adversarial.forger import Scene
from tests.adversarial.log_forge import (
    INDEX,
    LOG,
    ORIGIN,
    OTHERS,
    SEEN,
    WITNESS,
    WITNESSES,
    Logged,
    b64,
    line,
    path,
    private,
    public,
    root,
    seconds,
    signer,
    witnesses,
)
from tests.adversarial.time_forge import BEFORE, Token

Make = Callable[[Logged], Logged]
INCLUDED, WITNESSED, NOT_BEFORE = "log.included", "log.witnessed", "time.not-before"
A, B, C = WITNESSES
OTHER = "log.example/other"


def believes(
    *by: str, quorum: int = 0, require: tuple[str, ...] = (), logs: tuple[str, ...] = (ORIGIN,)
) -> Change:
    """Let the policy trust these logs and witnesses and require `require`."""
    return lambda scene: scene.edit(
        "policy",
        lambda policy: replace(
            policy,
            logs=tuple(map(signer, logs)),
            witnesses=witnesses(*by),
            quorum=quorum,
            require=policy.require | frozenset(require),
        ),
    )


def same(logged: Logged) -> Logged:
    return logged


def proven(
    make: Make = same,
    *,
    entry: Callable[[Logged], str] = Logged.stamp,
    leaf: Callable[[Certificate], bytes] = entry_of,
) -> Change:
    """Attach a proof to the certificate and leave the policy as it was."""

    def add(certificate: Certificate) -> Certificate:
        return timestamps(certificate, entry(make(Logged(entry=leaf(certificate)))))

    return lambda scene: scene.edit("certificate", add)


def logged(
    make: Make = same, *by: str, quorum: int = 0, entry: Callable[[Logged], str] = Logged.stamp
) -> Change:
    """Attach a proof, and let the policy trust its log and these witnesses."""
    return both(believes(*by, quorum=quorum), proven(make, entry=entry))


def of(**changes: Any) -> Change:
    """Attach a proof with these parts changed, for a policy that trusts its log."""
    return logged(lambda one: one.with_(**changes))


def seen(*by: str, quorum: int = 0, **changes: Any) -> Change:
    """Attach a proof with these parts changed, for a policy that trusts these witnesses."""
    return logged(lambda one: one.with_(**changes), *by, quorum=quorum)


def edited(change: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of the proof after it was written."""
    return logged(entry=lambda one: "tlog-proof:" + b64(change(one.proof())))


def says_less(certificate: Certificate) -> bytes:
    """Return a log entry without the base model, so that no search for that model finds it."""
    document = json.loads(entry_of(certificate))
    document["inputs"] = [one for one in document["inputs"] if one["name"] != "model"]
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def hashes(*, change: Callable[[list[bytes]], list[bytes]]) -> Make:
    return lambda one: one.with_(hashes=tuple(change(path(INDEX, one.all()))))


def forked(one: Logged) -> Logged:
    """Let the witnesses cosign another tree of the same size."""
    fork = one.with_(leaves=(*one.all()[:-1], b"another"))
    return one.with_(lines="".join(fork.cosigned(name, seconds(SEEN)) for name in (A, B)))


def of_another_log(one: Logged) -> Logged:
    other = one.with_(origin=OTHER)
    return one.with_(lines=other.cosigned(A, seconds(SEEN)))


def stale(one: Logged) -> Logged:
    """Show a checkpoint from before the entry was added."""
    return one.with_(leaves=one.all()[:INDEX], hashes=tuple(path(INDEX, one.all())))


def earlier(
    make: Make = same,
    *by: str,
    quorum: int = 0,
    challenge: bytes = NONE_ASKED,
    shown: Callable[[bytes], str] | None = None,
) -> Change:
    """Derive the nonce from a checkpoint that witnesses cosigned before the run."""

    def changed(scene: Scene) -> None:
        time = seconds(BEFORE)
        checkpoint = make(Logged(entry=b"any", by=WITNESSES, time=time)).checkpoint()
        nonce = hashlib.sha256(
            b"aicert not-before v1\0" + challenge + hashlib.sha256(checkpoint).digest()
        ).digest()
        text = f"checkpoint:{b64(checkpoint)}" if shown is None else shown(checkpoint)
        believes(*by, quorum=quorum, logs=())(scene)
        scene.put("nonce", nonce).edit(
            "certificate", lambda one: timestamps(one, f"not-before:{challenge.hex()}:{text}")
        )

    return changed


def spread(one: Logged) -> Logged:
    """Let two witnesses cosign long before the run and the third just before it."""
    old = seconds(BEFORE - timedelta(days=300))
    lines = one.cosigned(A, old) + one.cosigned(B, old + 60)
    return one.with_(by=(), lines=lines + one.cosigned(C, seconds(BEFORE)))


NO_SIGNATURE = line(ORIGIN, LOG, private(OTHER).sign(b"another text"))

ATTACKS: tuple[Attack, ...] = (
    Attack("proof for an entry of somebody else", INCLUDED, both(
        believes(), proven(leaf=lambda _: b"an entry of somebody else"))),
    Attack("logged by an entry that says less", INCLUDED, both(
        believes(), proven(leaf=says_less))),
    Attack("log's checkpoint of another origin", INCLUDED, of(origin=OTHER)),
    Attack("checkpoint in the log's name by another key", INCLUDED, of(signed_by=OTHER)),
    Attack("checkpoint with a second signature in the log's name", INCLUDED,
           of(lines=NO_SIGNATURE)),
    Attack("checkpoint by a key whose id is the log's", INCLUDED, logged(
        entry=lambda one: "tlog-proof:" + b64(one.proof().partition(b"\n\n\xe2")[0]
            + f"\n\n{line(ORIGIN, LOG, private(OTHER).sign(one.text().encode()))}".encode()))),
    Attack("checkpoint whose signature has another length", INCLUDED,
           of(lines=line(ORIGIN, LOG, bytes(63)))),
    Attack("proof with another index", INCLUDED, of(index=INDEX - 1)),
    Attack("proof with an index beyond the tree", INCLUDED, of(index=7)),
    Attack("proof in a tree of nothing", INCLUDED, of(leaves=(), index=0, hashes=())),
    Attack("proof with a path that is too short", INCLUDED,
           logged(hashes(change=lambda given: given[:-1]))),
    Attack("proof with a path that is too long", INCLUDED,
           logged(hashes(change=lambda given: [*given, bytes(32)]))),
    Attack("proof with another path", INCLUDED,
           logged(hashes(change=lambda given: [bytes(32), *given[1:]]))),
    Attack("proof with more hashes than a tree is high", INCLUDED,
           logged(hashes(change=lambda given: given * 22))),
    Attack("proof with a checkpoint from before the entry", INCLUDED, logged(stale)),
    Attack("proof whose checkpoint has another size", INCLUDED, of(size=16)),
    Attack("proof whose checkpoint has another root", INCLUDED, of(root=root(OTHERS))),
    Attack("proof with a huge size", INCLUDED, of(size=1 << 63)),
    Attack("proof with a size that Python would not print", INCLUDED, of(size="9" * 5000)),
    Attack("proof with a size that begins with zero", INCLUDED, of(size="07")),
    Attack("proof with a huge index", INCLUDED, of(index=1 << 64)),
    Attack("proof with an index below zero", INCLUDED, of(index=-1)),
    Attack("checkpoint with an empty line", INCLUDED, of(further="\nmore\n")),
    Attack("proof of another version", INCLUDED, of(head="c2sp.org/tlog-proof@v2\n")),
    Attack("proof with extra data that are none", INCLUDED,
           of(head="c2sp.org/tlog-proof@v1\nextra not base64\n")),
    Attack("proof with lines of Windows", INCLUDED,
           edited(lambda data: data.replace(b"\n", b"\r\n"))),
    Attack("proof without a checkpoint", INCLUDED,
           edited(lambda data: data.partition(b"\n\n")[0] + b"\n\n")),
    Attack("checkpoint without a signature", INCLUDED,
           edited(lambda data: data.rpartition(b"\n\n")[0] + b"\n")),
    Attack("checkpoint with something after its signatures", INCLUDED, of(lines="more\n")),
    Attack("checkpoint with a control character", INCLUDED, of(further="\x1b[31m\n")),
    Attack("checkpoint that is not UTF-8", INCLUDED, edited(lambda data: data + b"\xff")),
    Attack("checkpoint with too many signatures", INCLUDED, of(
        lines="".join(line(f"{n}.example", LOG, bytes(64), key=bytes(32)) for n in range(32)))),
    Attack("proof that is too large", INCLUDED, of(further="x" * (1 << 16) + "\n")),
    Attack("proof that is not base64", INCLUDED, logged(entry=lambda one: one.stamp() + "\n")),
    Attack("proof of nothing", INCLUDED, logged(entry=lambda _: "tlog-proof:")),
    Attack("wrong proof beside a right one", INCLUDED, both(
        logged(), proven(lambda one: one.with_(index=INDEX - 1)))),
    Attack("cosignature in a witness's name", WITNESSED,
           seen(A, lines=line(A, WITNESS, seconds(SEEN).to_bytes(8) + bytes(64)))),
    Attack("cosignature in a witness's name beside enough others", WITNESSED,
           seen(*WITNESSES, quorum=2, by=(A, B), lines=line(C, WITNESS, bytes(72)))),
    Attack("cosignature of another tree", WITNESSED, logged(forked, A, B)),
    Attack("cosignature of another log's checkpoint", WITNESSED, logged(of_another_log, A)),
    Attack("cosignature whose time was changed", WITNESSED, logged(lambda one: one.with_(
        lines=line(A, WITNESS, bytes(8) + private(A).sign(
            f"cosignature/v1\ntime {seconds(SEEN)}\n{one.text()}".encode()))), A)),
    Attack("cosignature that is a log's signature", WITNESSED, logged(lambda one: one.with_(
        lines=line(A, WITNESS, bytes(8) + private(A).sign(one.text().encode()))), A)),
    Attack("cosignature without a time", WITNESSED,
           seen(A, lines=line(A, WITNESS, bytes(64)))),
    Attack("cosignature of the year 1970", WITNESSED, seen(A, by=(A,), time=0)),
    Attack("cosignature of a year that no calendar has", WITNESSED,
           seen(A, by=(A,), time=(1 << 63) - 1)),
    Attack("cosignature at a time of 64 bits", WITNESSED, seen(A, by=(A,), time=1 << 63)),
    # The log's own statement of the time is no evidence without witnesses.
    Attack("expired chain, in a log without witnesses", "platform.chain",
           both(logged(), at(IN_TEN_YEARS))),
    Attack("expired chain, cosigned after it had expired", "platform.chain", both(
        seen(A, by=(A,), time=seconds(IN_TEN_YEARS)), at(IN_TEN_YEARS))),
    Attack("expired chain, one of two cosigned while it was valid", "platform.chain", both(
        logged(lambda one: one.with_(
            by=(A,), lines=one.cosigned(B, seconds(IN_TEN_YEARS))), A, B), at(IN_TEN_YEARS))),
    Attack("expired chain, whose proof was taken out", "platform.chain",
           both(believes(A, B), at(IN_TEN_YEARS))),
    Attack("nonce of another checkpoint", NOT_BEFORE,
           earlier(same, A, shown=lambda data: f"checkpoint:{b64(data + b'x')}")),
    Attack("earlier checkpoint with a cosignature in a witness's name", NOT_BEFORE, earlier(
        lambda one: one.with_(by=(), lines=line(A, WITNESS, bytes(72))), A)),
    Attack("earlier checkpoint that is a note of something else", NOT_BEFORE,
           earlier(lambda one: one.with_(size="seven"), A)),
    Attack("earlier checkpoint that is not base64", NOT_BEFORE,
           earlier(same, A, shown=lambda data: f"checkpoint:{b64(data)}=")),
)  # fmt: skip

# Name, change, verdict, and the first check that is left open.
RIGHT: tuple[tuple[str, Change, str, str | None], ...] = (
    ("in a log", logged(), "passed", None),
    ("in a log of nothing else", logged(lambda one: one.with_(
        leaves=(one.entry,), index=0, hashes=())), "passed", None),
    ("proof with extra data", of(head="c2sp.org/tlog-proof@v1\nextra eHh4\n"), "passed", None),
    ("checkpoint with a line more", of(further="a line that is not judged\n"), "passed", None),
    ("in a log that the policy asks for", both(logged(), believes(require=("log",))), "passed",
     None),
    ("in a log, cosigned", seen(A, B, by=(A, B)), "passed", None),
    ("in a log, cosigned by enough", seen(*WITNESSES, quorum=2, by=(A, B)), "passed", None),
    ("in a log, cosigned by others too", seen(A, by=WITNESSES), "passed", None),
    ("in a log, cosigned by too few", seen(*WITNESSES, quorum=3, by=(A, B)), "none", WITNESSED),
    ("in a log, cosigned by nobody", seen(A), "none", WITNESSED),
    ("in a log, cosigned twice by one witness", logged(lambda one: one.with_(
        by=(A,), lines=one.cosigned(A, seconds(SEEN) + 600)), A, B), "none", WITNESSED),
    ("in a log, cosigned by a key of a witness's name", seen(
        A, lines=line(A, WITNESS, bytes(72), key=public(B))), "none", WITNESSED),
    ("in a log, cosigned tomorrow", seen(A, by=(A,), time=seconds(SEEN) + 10 ** 6), "none",
     WITNESSED),
    ("proof with too few cosignatures beside one with enough", both(
        logged(same, A), proven(lambda one: one.with_(by=(A,)))), "passed", None),
    ("expired chain, cosigned while it was valid", both(seen(A, B, by=(A, B)), at(IN_TEN_YEARS)),
     "passed", None),
    ("expired chain, cosigned by enough while it was valid", both(
        logged(lambda one: one.with_(by=(A, B), lines=one.cosigned(C, seconds(IN_TEN_YEARS))),
               *WITNESSES, quorum=2), at(IN_TEN_YEARS)), "passed", None),
    ("expired chain, time stamp and cosignatures while it was valid", both(
        stamped(), seen(A, B, by=(A, B)), at(IN_TEN_YEARS)), "passed", None),
    ("in a log that is not the policy's", both(believes(logs=(OTHER,)), proven()), "passed", None),
    ("in a log that is not the policy's, which asks for one", both(
        believes(logs=(OTHER,), require=("log",)), proven()), "none", INCLUDED),
    ("in a log under a policy that knows none", proven(), "passed", None),
    ("in no log, where the policy asks for one", believes(A, require=("log",)), "none", INCLUDED),
    ("in no log", believes(A), "passed", None),
    ("checkpoint with a signature by another key of the log's name", of(
        lines=line(ORIGIN, LOG, bytes(64), key=public(OTHER))), "passed", None),
    ("old certificate that says it is young, cosigned today", both(
        seen(A, by=(A,)), youngest(3)), "none", "policy.age"),
    ("young by an earlier checkpoint", both(earlier(same, A, B), youngest(3)), "passed", None),
    ("young by an earlier checkpoint and a challenge", both(
        earlier(same, A, challenge=CHALLENGE), asked(CHALLENGE), youngest(3)), "passed", None),
    ("young by one of three witnesses", both(earlier(spread, *WITNESSES, quorum=1), youngest(3)),
     "passed", None),
    ("old by two of three witnesses", both(earlier(spread, *WITNESSES, quorum=2), youngest(3)),
     "none", "policy.age"),
    ("earlier checkpoint with too few cosignatures", both(
        earlier(lambda one: one.with_(by=(A,)), A, B), youngest(3)), "none", "policy.age"),
    ("earlier checkpoint under a policy without witnesses", both(
        names(Token().authority()), earlier()), "passed", None),
)  # fmt: skip
