"""Attacks on time stamps (docs/spec/time.md), and odd time stamps that are right."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from aicert.appraisal.evidence.accepted import TimeAuthority
from aicert.formats.certificate import Certificate, core_digest
from tests.adversarial.attacks import Attack
from tests.adversarial.ca_forge import AT, ec_key, rsa_key, usage
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import (
    BEFORE,
    CERTIFICATE_V1,
    CERTIFICATE_V2,
    CONTENT_TYPE,
    ECDSA,
    END,
    MADE,
    MESSAGE_DIGEST,
    RSA,
    STAMPING,
    START,
    TST_INFO,
    Token,
    algorithm,
    attribute,
    integer,
    oid,
    sequence,
    tlv,
)

Change = Callable[[Scene], object]
Make = Callable[[Token], Token]
TOKEN, NOT_BEFORE = "time.token", "time.not-before"
# By then every certificate of every scene has expired.
IN_TEN_YEARS = datetime(2037, 1, 1, tzinfo=UTC)
CHALLENGE = bytes(range(100, 132))
NONE_ASKED = bytes(32)
DAY = timedelta(days=1)


def timestamps(certificate: Certificate, *more: str) -> Certificate:
    evidence = certificate.evidence
    return replace(
        certificate, evidence=replace(evidence, timestamps=(*evidence.timestamps, *more))
    )


def names(*authorities: TimeAuthority, require: Sequence[str] = ()) -> Change:
    """Let the policy trust these time authorities and require `require`."""
    return lambda scene: scene.edit(
        "policy",
        lambda policy: replace(
            policy,
            time_authorities=(*policy.time_authorities, *authorities),
            require=frozenset(require),
        ),
    )


def stamped(
    make: Make = lambda token: token, *, entry: Callable[[Token], str] = Token.entry
) -> Change:
    """Add a time stamp to the certificate, and let the policy trust its authority."""

    def changed(scene: Scene) -> None:
        def add(certificate: Certificate) -> Certificate:
            digest = bytes.fromhex(core_digest(certificate).hex)
            return timestamps(certificate, entry(make(Token(digest=digest))))

        names(make(Token()).authority())(scene)
        scene.edit("certificate", add)

    return changed


def of(**changes: Any) -> Change:
    """Add a time stamp with these parts changed."""
    return stamped(lambda token: token.with_(**changes))


def earlier(
    make: Make = lambda token: token,
    *,
    challenge: bytes = NONE_ASKED,
    entry: Callable[[bytes, Token], str] | None = None,
) -> Change:
    """Derive the nonce from an earlier time stamp whose authority the policy trusts."""

    def changed(scene: Scene) -> None:
        token = make(Token(digest=hashlib.sha256(b"any").digest(), time=BEFORE))
        der = token.der()
        nonce = hashlib.sha256(b"aicert not-before v1\0" + challenge + sha(der)).digest()
        shown = (entry or answering)(challenge, token)
        names(token.authority())(scene)
        scene.put("nonce", nonce).edit("certificate", lambda one: timestamps(one, shown))

    return changed


def answering(challenge: bytes, token: Token) -> str:
    return f"not-before:{challenge.hex()}:{token.entry()}"


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def both(*changes: Change) -> Change:
    return lambda scene: [change(scene) for change in changes]


def at(time: datetime) -> Change:
    def changed(scene: Scene) -> None:
        scene.at = time

    return changed


def asked(challenge: bytes) -> Change:
    def changed(scene: Scene) -> None:
        scene.caller_nonce = challenge

    return changed


def youngest(days: int) -> Change:
    return lambda scene: scene.edit("policy", lambda policy: replace(policy, max_age_days=days))


def ran(time: str) -> Change:
    """Let the statement name `time` as start and finish, by the machine's own clock."""
    return lambda scene: scene.edit(
        "statement", lambda statement: replace(statement, started=time, finished=time)
    )


def base64_of(data: bytes) -> str:
    return "rfc3161:" + base64.b64encode(data).decode()


def edited(change: Callable[[bytes], bytes]) -> Change:
    """Change the bytes of the time stamp after it was signed."""
    return stamped(entry=lambda token: base64_of(change(token.der())))


def signed(*attributes: bytes, without: Sequence[int] = ()) -> Change:
    """Leave out the signed attributes at the places `without`, and add `attributes`."""

    def make(token: Token) -> Token:
        kept = [one for i, one in enumerate(token.signed_attributes()) if i not in without]
        return token.with_(attributes=(*kept, *attributes))

    return stamped(make)


def other_content(token: Token) -> Token:
    """Sign the content of a time stamp from the day before."""
    return token.with_(attributes=token.signed_attributes(), time=MADE - DAY)


def middle(**options: Any) -> Change:
    """Add a CA between the authority and its root."""
    return of(middle=({"name": "time CA", **options},))


def purpose(*purposes: str, critical: bool = False) -> dict[str, Any]:
    oids = [x509.ObjectIdentifier(one) for one in purposes]
    return {"extra": [(x509.ExtendedKeyUsage(oids), critical)]}


def accuracy(seconds: int = 0, millis: int | None = None, micros: int | None = None) -> bytes:
    parts = [] if not seconds else [integer(seconds)]
    for tag, value in ((0x80, millis), (0x81, micros)):
        if value is not None:
            parts.append(tlv(tag, integer(value)[2:]))
    return sequence(*parts)


def by(r: int, s: int) -> Change:
    """Replace the signature with the ECDSA numbers `r` and `s`."""
    return of(signature=sequence(integer(r), integer(s)))


def row(name: str, check: str, change: Change, *also: str, kind: str = "local") -> Attack:
    return Attack(name, check, change, kind, also)


ATTACKS = (
    row("time stamp of another certificate", TOKEN, of(digest=sha(b"another"))),
    row("time stamp of the whole file", TOKEN, of(digest=sha(b"with its timestamps"))),
    row(
        "time stamp by another hash of the certificate",
        TOKEN,
        stamped(lambda t: t.with_(imprint_hash="sha512", digest=t.digest * 2)),
    ),
    row("time authority whose certificate had expired", TOKEN, of(valid=(START, MADE - DAY))),
    row("time authority before its certificate was valid", TOKEN, of(valid=(MADE + DAY, END))),
    row("time authority whose root had expired", TOKEN, of(root_valid=(START, MADE - DAY))),
    row("time authority for whatever purpose", TOKEN, of(purposes=())),
    row("time authority that also signs code", TOKEN, of(purposes=(STAMPING, "1.3.6.1.5.5.7.3.3"))),
    row("time authority for servers", TOKEN, of(purposes=("1.3.6.1.5.5.7.3.1",))),
    row("time authority for stamping, uncritically", TOKEN, of(critical=False)),
    row("time authority that is a CA", TOKEN, of(ca=True, key_usage=usage(cert=True))),
    row("time authority whose key is not for signatures", TOKEN, of(key_usage=usage(sign=False))),
    row("time CA that is none", TOKEN, middle(ca=False)),
    row("time CA whose key signs no certificates", TOKEN, middle(key_usage=usage())),
    row("time CA for code", TOKEN, middle(**purpose("1.3.6.1.5.5.7.3.3"))),
    row(
        "time CA with CAs below that it may not have",
        TOKEN,
        of(middle=({"name": "time CA", "path_length": 0}, {"name": "lower time CA"})),
    ),
    row("time CA that had expired", TOKEN, middle(end=MADE - DAY)),
    row("time CA with another key than is named", TOKEN, middle(authority=ec_key("somebody"))),
    row("time stamp with another signature", TOKEN, by(1, 1)),
    row("time stamp of which the time was changed", TOKEN, stamped(other_content)),
    row("time stamp signed as other content", TOKEN, signed(
        attribute(CONTENT_TYPE, oid(RSA)), without=[0])),
    row("time stamp without a signed digest", TOKEN, signed(without=[1])),
    row("time stamp signed for no certificate", TOKEN, signed(without=[2])),
    row("time stamp signed for another certificate", TOKEN, stamped(
        lambda t: t.with_(named=t.root()))),
    row("time stamp signed for another certificate by its old name", TOKEN, stamped(
        lambda t: t.with_(named=t.root(), named_by=(CERTIFICATE_V1,)))),
    row("time stamp of two signers", TOKEN, of(signers=2)),
    row("time stamp by SHA-1", TOKEN, of(imprint_hash="sha1", digest=bytes(20))),
    row("certificate stamped after its platform's had expired", "platform.chain", both(
        lambda scene: scene.edit("ak_options", lambda o: o | {"end": MADE - DAY}), stamped())),
    row("certificate in ten years without a time stamp", "platform.chain", at(IN_TEN_YEARS)),
    row(
        "old certificate with a time stamp of today",
        "policy.age",
        both(at(AT + 400 * DAY), youngest(30), of(time=AT + 399 * DAY)),
    ),
    row("earlier time stamp of another run", NOT_BEFORE, both(
        earlier(), lambda scene: scene.put("nonce", bytes(range(32))))),
    row("earlier time stamp for another challenge", NOT_BEFORE, earlier(
        entry=lambda challenge, token: answering(CHALLENGE, token))),
    row("earlier time stamp that nobody signed", NOT_BEFORE, earlier(
        lambda token: token.with_(signature=sequence(integer(1), integer(1))))),
    row("two earlier time stamps", NOT_BEFORE, both(earlier(), earlier(
        lambda token: token.with_(time=BEFORE - DAY, root_name="other time root")))),
    row("earlier time stamp with half a challenge", NOT_BEFORE, earlier(
        entry=lambda challenge, token: f"not-before:{challenge.hex()[:32]}:{token.entry()}")),
    row("earlier time stamp without a challenge", NOT_BEFORE, earlier(
        entry=lambda challenge, token: f"not-before:{token.entry()}")),
    row("earlier time stamp that answers somebody else", "quote.nonce", both(
        earlier(challenge=CHALLENGE), asked(bytes(reversed(CHALLENGE))))),
)  # fmt: skip

# Forms that are refused in both places where a time stamp can stand. The corpus leaves them out: it
# would double.
FORMS = (
    row("time stamp without its signed kind", TOKEN, signed(without=[0])),
    row("time stamp with two signed digests in one", TOKEN, signed(
        attribute(MESSAGE_DIGEST, tlv(4, bytes(32)), tlv(4, bytes(32))), without=[1])),
    row("time stamp with a signed attribute twice", TOKEN, signed(
        attribute(CONTENT_TYPE, oid(TST_INFO)))),
    row("time stamp of no signer", TOKEN, of(signers=0)),
    row("time stamp whose digest is too short", TOKEN, of(digest=bytes(20))),
    row("time stamp whose algorithm has another hash", TOKEN, of(
        signature_algorithm=algorithm(ECDSA + "3"))),
    row("time stamp by ECDSA said to be by RSA", TOKEN, of(
        signature_algorithm=algorithm(RSA, b"\x05\x00"))),
    row("time stamp of another kind", TOKEN, of(content_type=CONTENT_TYPE)),
    row("time stamp in SignedData of version 1", TOKEN, of(data_version=1)),
    row("time stamp of version 2", TOKEN, of(version=2)),
    row("time stamp with an r of zero", TOKEN, by(0, 1)),
    row("time stamp with a negative s", TOKEN, by(1, -1)),
    row("time stamp with an endless r", TOKEN, by(1 << 400, 1)),
    row("time stamp on the thirtieth of February", TOKEN, of(gen_time=b"20270230000000Z")),
    row("time stamp of local time", TOKEN, of(gen_time=b"20261031180000+0100")),
    row("time stamp with zeros after its seconds", TOKEN, of(gen_time=b"20261031180000.50Z")),
    row("time stamp from the last second that there is", TOKEN, of(gen_time=b"99991231235959Z")),
    row("time stamp from before there were any", TOKEN, of(gen_time=b"19700101000000Z")),
    row("time stamp right to two days", TOKEN, of(accuracy=accuracy(seconds=2 * 86400))),
    row("time stamp with a second of milliseconds", TOKEN, of(accuracy=accuracy(millis=1000))),
    row("time stamp with no microsecond, said", TOKEN, of(accuracy=accuracy(micros=0))),
    row("time stamp with a negative accuracy", TOKEN, of(accuracy=sequence(tlv(2, b"\xff")))),
    row("time stamp with something after it", TOKEN, edited(lambda der: der + b"\0")),
    row("time stamp that is cut short", TOKEN, edited(lambda der: der[:-1])),
    row("time stamp of indefinite length", TOKEN, edited(
        lambda der: b"\x30\x80" + der[4:] + b"\0\0")),
    row("time stamp whose length has a needless octet", TOKEN, edited(
        lambda der: b"\x30\x83\x00" + der[2:])),
    row("time stamp that is larger than any", TOKEN, edited(lambda der: der.ljust(16385, b"\0"))),
    row("time stamp that is empty", TOKEN, stamped(entry=lambda token: "rfc3161:")),
    row("time stamp that is no base64", TOKEN, stamped(entry=lambda token: "rfc3161:MAA")),
    row("time stamp in another base64", TOKEN, stamped(entry=lambda token: "rfc3161:MAB=")),
)  # fmt: skip


def far(scene: Scene) -> None:
    """Appraise at a time when every X.509 certificate has expired."""
    scene.at = IN_TEN_YEARS


def elsewhere(token: Token) -> Token:
    """Return the token of an authority that the policy does not name."""
    return token.with_(root_name="another time root", root_key=ec_key("another time root"))


# The authority's name, which a token may also contain.
NAME = x509.load_der_x509_certificate(Token().certificate()).subject.public_bytes()


def unread(change: Change) -> Change:
    """Apply `change`, and let the policy name no authority at all."""

    def changed(scene: Scene) -> None:
        change(scene)
        scene.edit("policy", lambda policy: replace(policy, time_authorities=()))

    return changed


def stranger(certificate: Certificate) -> Certificate:
    """Add a time stamp of an authority that the policy does not name."""
    digest = bytes.fromhex(core_digest(certificate).hex)
    return timestamps(certificate, elsewhere(Token(digest=digest)).entry())


def unnamed(change: Change, *, require: Sequence[str] = ()) -> Change:
    """Apply `change`, and let the policy name only an authority that made none of the stamps."""

    def changed(scene: Scene) -> None:
        change(scene)
        known = elsewhere(Token()).authority("another time")
        scene.edit(
            "policy",
            lambda policy: replace(policy, time_authorities=(known,), require=frozenset(require)),
        )

    return changed


# Odd but right: name, change, verdict, and the first check that is left open.
RIGHT: tuple[tuple[str, Change, str, str | None], ...] = (
    ("time stamp", stamped(), "passed", None),
    ("certificate in ten years with a time stamp", both(stamped(), far), "passed", None),
    ("time stamp by RSA", of(key=rsa_key("time authority")), "passed", None),
    ("time stamp with SHA-512", of(hash="sha512"), "passed", None),
    (
        "time stamp that names its certificate in two ways",
        of(named_by=(CERTIFICATE_V1, CERTIFICATE_V2)),
        "passed",
        None,
    ),
    ("time stamp that names its certificate by SHA-1", of(named_by=(CERTIFICATE_V1,)), "passed",
     None),
    (
        "time stamp through two CAs, and one that nobody needs",
        of(
            middle=({"name": "time CA", "path_length": 1}, {"name": "lower time CA"}),
            extra_certificates=(elsewhere(Token()).root(),),
        ),
        "passed",
        None,
    ),
    ("time stamp right to a second and a bit", of(accuracy=accuracy(1, 5, 7)), "passed", None),
    ("time stamp with a fraction of a second", of(gen_time=b"20261031180000.5Z"), "passed", None),
    (
        "time stamp with all that may be in it",
        of(
            more_info=tlv(1, b"\xff")
            + integer(99)
            + tlv(0xA0, tlv(0xA4, NAME))
            + tlv(0xA1, sequence(oid(STAMPING), tlv(4, b"\0")))
        ),
        "passed",
        None,
    ),
    ("time stamp for which a policy names no authority", unread(stamped()), "passed", None),
    ("time stamp of an authority that is not the policy's", unnamed(stamped()), "passed", None),
    (
        "time stamp of an authority that is not the policy's, where one is required",
        unnamed(stamped(), require=("time",)),
        "none",
        TOKEN,
    ),
    ("no time stamp where one is required", names(Token().authority(), require=("time",)), "none",
     TOKEN),
    (
        "time stamp where one is required",
        both(stamped(), names(require=("time",))),
        "passed",
        None,
    ),
    (
        "two time stamps, one of an authority that is not the policy's",
        both(stamped(), lambda scene: scene.edit("certificate", stranger)),
        "passed",
        None,
    ),
    ("time stamp of next year", of(time=AT + 300 * DAY), "passed", None),
    (
        "time stamp with a critical extension",
        of(more_info=tlv(0xA1, sequence(oid(STAMPING), tlv(1, b"\xff"), tlv(4, b"\0")))),
        "passed",
        None,
    ),
    (
        "time stamp whose signer is named by its key",
        of(signer_version=3),
        "passed",
        None,
    ),
    ("time stamp by an algorithm that nobody knows", of(
        signature_algorithm=algorithm("1.3.101.112")), "passed", None),
    ("time stamp with a hash that nobody knows", of(imprint_algorithm="2.16.840.1.101.3.4.2.8"),
     "passed", None),
    ("time stamp without its authority's certificate", of(carried=False), "passed", None),
    (
        "time stamp with what nobody reads",
        of(lists=tlv(0xA1, sequence()), unsigned=tlv(0xA1, attribute(STAMPING, sequence()))),
        "passed",
        None,
    ),
    (
        "time stamp with certificates that lead nowhere",
        of(
            middle=({"name": "time CA"},),
            extra_certificates=(
                # Of version 1; and a root with the CA's name and another key.
                sequence(sequence(integer(5), algorithm(RSA), sequence())),
                Token(root_name="time CA", root_key=ec_key("namesake")).root(),
            ),
        ),
        "passed",
        None,
    ),
    (
        "time stamp by more CAs than are followed",
        of(middle=tuple({"name": f"time CA {number}"} for number in range(5))),
        "passed",
        None,
    ),
    ("earlier time stamp", earlier(), "passed", None),
    ("earlier time stamp and a challenge", both(earlier(challenge=CHALLENGE), asked(CHALLENGE)),
     "passed", None),
    (
        "challenge answered by way of a time stamp of whoever",
        unread(both(earlier(challenge=CHALLENGE), asked(CHALLENGE))),
        "passed",
        None,
    ),
    ("young by an earlier time stamp", both(earlier(), youngest(3)), "passed", None),
    (
        "young by its machine's clock, and not by an earlier time stamp",
        both(earlier(lambda token: token.with_(time=BEFORE - 3 * DAY)), youngest(3)),
        "none",
        "policy.age",
    ),
    (
        "old certificate that says it is young, with a time stamp of today",
        both(stamped(), youngest(3)),
        "none",
        "policy.age",
    ),
    ("earlier time stamp of an authority that is not the policy's", unnamed(earlier()), "passed",
     None),
    ("time stamp of a kind that nobody knows", both(
        names(Token().authority()),
        lambda scene: scene.edit("certificate", lambda one: timestamps(one, "sundial:noon")),
    ), "passed", None),
)  # fmt: skip
