"""The second verifier's time stamps (docs/spec/time.md).

Written from docs/spec/ alone; shares no code with `aicert`. A token is taken apart as a whole,
into a tree of tags, before anything in it is looked at.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.second import log as second_log
from tests.second.chain import NoError, OpenError, extension, issued, load, need, need_known
from tests.second.checks import NotAskedError
from tests.second.forms import unbase64
from tests.second.limits import limits

TIME = limits("time.md")
STAMPING = "1.3.6.1.5.5.7.3.8"
HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "2.16.840.1.101.3.4.2.1": hashes.SHA256(),
    "2.16.840.1.101.3.4.2.2": hashes.SHA384(),
    "2.16.840.1.101.3.4.2.3": hashes.SHA512(),
}
BROKEN = ("1.3.14.3.2.26", "1.2.840.113549.2.5")
ALGORITHMS = {
    "1.2.840.113549.1.1.1": ("rsa", None),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.2.840.10045.4.3.2": ("ec", "sha256"),
    "1.2.840.10045.4.3.3": ("ec", "sha384"),
    "1.2.840.10045.4.3.4": ("ec", "sha512"),
}


@dataclass(frozen=True)
class Node:
    """An element of DER: its tag, its content, and all of its octets."""

    tag: int
    body: bytes
    whole: bytes

    def parts(self) -> list["Node"]:
        return split(self.body)

    def part(self) -> "Node":
        """Return the only element inside."""
        parts = self.parts()
        need(len(parts) == 1)
        return parts[0]

    def number(self) -> int:
        need(self.tag == 2 and self.body)
        need(not re.match(rb"\0[\0-\x7f]|\xff[\x80-\xff]", self.body, re.DOTALL))
        return int.from_bytes(self.body, signed=True)


def split(data: bytes, most: int = 1 << 20) -> list[Node]:
    """Split octets into at most `most` elements of DER."""
    nodes: list[Node] = []
    while data and len(nodes) < most:
        need(len(data) > 1)
        start, size = 2, data[1]
        if size > 127:
            start += size - 128
            need(start in (3, 4) and len(data) >= start)
            size = int.from_bytes(data[2:start])
            need(size > 127 and (start == 3 or size > 255))
        need(len(data) >= start + size)
        nodes.append(Node(data[0], data[start : start + size], data[: start + size]))
        data = data[start + size :]
    return nodes


def dotted(node: Node) -> str:
    need(node.tag == 6 and node.body)
    arcs, value = [], 0
    for octet in node.body:
        value = value << 7 | octet & 127
        if octet < 128:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def structure(node: Node, *tags: int | tuple[int, ...]) -> list[Any]:
    """Return the parts of a SEQUENCE with these tags. A part whose tag is in a tuple may be absent:
    then it is None.
    """
    need(node.tag == 0x30)
    left: list[Node] = node.parts()
    parts: list[Node | None] = []
    for tag in tags:
        here = left[0].tag if left else None
        if here == tag or (isinstance(tag, tuple) and here in tag):
            parts.append(left.pop(0))
        else:
            need(isinstance(tag, tuple))
            parts.append(None)
    need(not left)
    return parts


def identifier(node: Any) -> str:
    named, _ = structure(node, 6, (5,))
    return dotted(named)


def hash_of(node: Any) -> hashes.HashAlgorithm:
    name = identifier(node)
    need(name not in BROKEN)
    need_known(name in HASHES)
    return HASHES[name]


def digest(kind: hashes.HashAlgorithm, data: bytes) -> bytes:
    return hashlib.new(kind.name, data).digest()


def core_digest(document: Mapping[str, Any]) -> str:
    bare = {**document, "evidence": {**document["evidence"], "timestamps": []}}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode() + b"\n").hexdigest()


def token_of(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise NoError from None
    need(data and base64.b64encode(data).decode() == text and len(data) <= TIME["token"])
    return data


def info_of(content: bytes) -> tuple[str, bytes, datetime, timedelta]:
    """Parse TSTInfo. Return the digest's algorithm and value, the time and its accuracy."""
    nodes = split(content)
    need(len(nodes) == 1 and nodes[0].tag == 0x30)
    parts = nodes[0].parts()
    tags = "".join(f"{part.tag:02x}" for part in parts)
    need(re.match("0206300218", tags))
    need(parts[0].number() == 1)
    kind, value = structure(parts[2], 0x30, 4)
    imprint = hash_of(kind)
    need(len(value.body) == imprint.digest_size)
    parts[3].number()
    time = parse_time(parts[4].body)
    rest, accuracy = tags[10:], timedelta()
    if rest.startswith("30"):
        accuracy = parse_accuracy(parts[5])
        rest = rest[2:]
    need(re.fullmatch("(01)?(02)?(a0)?(a1)?", rest))
    for one in parts[5:]:
        if one.tag == 2:
            one.number()
        if one.tag == 0xA1:
            extensions(one.parts())
    return imprint.name, value.body, time, accuracy


def extensions(given: list[Node]) -> None:
    need(len(given) <= TIME["signed attributes, and extensions"])
    for one in given:
        need(one.tag == 0x30 and split(one.body, 1)[0].tag == 6)
        need_known(1 not in [part.tag for part in split(one.body, 2)])
        structure(one, 6, 4)


def parse_time(text: bytes) -> datetime:
    match = re.fullmatch(rb"(\d{14})(?:\.(\d{1,9})(?<!0))?Z", text)
    if match is None:
        raise NoError
    try:
        time = datetime.strptime(match[1].decode() + "+0000", "%Y%m%d%H%M%S%z")
    except ValueError:
        raise NoError from None
    need(2001 <= time.year <= 9998)
    fraction = (match[2] or b"0").decode()
    micros = int(float("0." + fraction[:6]) * 1_000_000 + 0.5)
    return time.astimezone(UTC).replace(microsecond=micros)


def parse_accuracy(node: Node) -> timedelta:
    seconds, millis, micros = structure(node, (2,), (0x80,), (0x81,))
    values = []
    for part, most in ((seconds, TIME["seconds of `accuracy`"]), (millis, 999), (micros, 999)):
        value = 0 if part is None else int.from_bytes(part.body[:9], signed=True)
        need(part is None or (part is seconds and value >= 0) or value >= 1)
        need(value <= most)
        values.append(value)
    if seconds is not None:
        seconds.number()
    return timedelta(seconds=values[0], milliseconds=values[1], microseconds=values[2])


def judge(
    token: bytes, authorities: Sequence[Mapping[str, Any]]
) -> tuple[str, bytes, datetime, timedelta]:
    """Check a token of one of the policy's authorities. Return its digest's algorithm and value,
    its time and its accuracy.
    """
    try:
        return _judge(token, authorities)
    except (IndexError, ValueError):
        raise NoError("a part is missing, or there are too many") from None


def _judge(
    token: bytes, authorities: Sequence[Mapping[str, Any]]
) -> tuple[str, bytes, datetime, timedelta]:
    nodes = split(token)
    need(len(nodes) == 1)
    kind, wrapped = structure(nodes[0], 6, 0xA0)
    need(dotted(kind) == "1.2.840.113549.1.7.2")
    version, _, info, bag, _, signers = structure(
        wrapped.part(), 2, 0x31, 0x30, (0xA0,), (0xA1,), 0x31
    )
    need(version.number() == 3)
    kind, holder = structure(info, 6, 0xA0)
    need(dotted(kind) == "1.2.840.113549.1.9.16.1.4" and holder.part().tag == 4)
    content = holder.part().body
    carried = [] if bag is None else bag.parts()
    need(len(carried) <= TIME["certificates of a token"])
    need(all(one.tag == 0x30 for one in carried))
    signer = signers.part()
    need(signer.tag == 0x30)
    need_known(split(signer.body, 1)[0].number() == 1)
    _, name, hashed, attributes, algorithm, signature, _ = structure(
        signer, 2, 0x30, 0x30, 0xA0, 0x30, 4, (0xA1,)
    )
    hash_ = hash_of(hashed)
    known = identifier(algorithm)
    need_known(known in ALGORITHMS)
    scheme, named = ALGORITHMS[known]
    need(named in (None, hash_.name))
    stamped = info_of(content)
    issuer, number = structure(name, 0x30, 2)
    fits = (one for one in carried if names(one) == (issuer.whole, number.number()))
    leaf = next(fits, None)
    if leaf is None:
        raise OpenError
    der = leaf.whole
    certificate = load(der)
    check_attributes(attributes, hash_, content, der)
    signed = b"\x31" + attributes.whole[1:]
    check(certificate.public_key(), scheme, hash_, signature.body, signed)
    check_way(certificate, [one.whole for one in carried], authorities, stamped[2])
    return stamped


def names(certificate: Node) -> tuple[bytes, int] | None:
    """Return issuer and serial number of a certificate; None if they cannot be read."""
    try:
        (body,) = split(certificate.body, 1)
        parts = split(body.body, 4)
        parts = parts[1:] if parts[0].tag == 0xA0 else parts
        need([body.tag, parts[1].tag, parts[2].tag] == [0x30] * 3)
        return parts[2].whole, parts[0].number()
    except (NoError, IndexError, ValueError):
        return None


def check_attributes(
    attributes: Node, hash_: hashes.HashAlgorithm, content: bytes, signer: bytes
) -> None:
    """Check rule 3, which is about the signed attributes."""
    values: dict[str, list[Node]] = {}
    need(len(attributes.parts()) <= TIME["signed attributes, and extensions"])
    for one in attributes.parts():
        kind, held = structure(one, 6, 0x31)
        need(dotted(kind) not in values)
        values[dotted(kind)] = held.parts()
    of = "1.2.840.113549.1.9."
    kinds = values.get(of + "3", [])
    need(len(kinds) == 1 and dotted(kinds[0]) == of + "16.1.4")
    digests = values.get(of + "4", [])
    need(len(digests) == 1 and digests[0].tag == 4)
    need(digests[0].body == digest(hash_, content))
    old, new = values.get(of + "16.2.12"), values.get(of + "16.2.47")
    need(old is not None or new is not None)
    for named, plain in ((old, "sha1"), (new, "sha256")):
        if named is None:
            continue
        need(len(named) == 1)
        way = [named[0], named[0].parts()[0], named[0].parts()[0].parts()[0]]
        need([one.tag for one in way] == [0x30] * 3)
        first = way[-1].parts()
        by = plain
        if named is new and first[0].tag == 0x30:
            by, first = hash_of(first[0]).name, first[1:]
        need(first[0].tag == 4 and first[0].body == hashlib.new(by, signer).digest())


def check(
    key: Any, scheme: str, hash_: hashes.HashAlgorithm, signature: bytes, data: bytes
) -> None:
    kinds = {"rsa": rsa.RSAPublicKey, "ec": ec.EllipticCurvePublicKey}
    need(isinstance(key, kinds[scheme]))
    try:
        if scheme == "rsa":
            key.verify(signature, data, padding.PKCS1v15(), hash_)
        else:
            key.verify(signature, data, ec.ECDSA(hash_))
    except InvalidSignature:
        raise NoError from None


def check_way(
    signer: x509.Certificate,
    carried: Sequence[bytes],
    authorities: Sequence[Mapping[str, Any]],
    at: datetime,
) -> None:
    """Check rules 4 to 6: the path from the signer to an authority's root."""
    for authority in authorities:
        root = load(authority["certificate"])
        others = [*authority.get("intermediates", ()), *carried]
        way = shortest(signer, root, [one for one in map(lenient, others) if one], at)
        if way:
            break
    else:
        raise OpenError
    usage, purposes = extension(signer, x509.KeyUsage), extension(signer, x509.ExtendedKeyUsage)
    constraints = extension(signer, x509.BasicConstraints)
    need(constraints is None or not constraints.ca)
    need(purposes is not None and [one.dotted_string for one in purposes] == [STAMPING])
    need(signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).critical)
    need(usage is None or usage.digital_signature or usage.content_commitment)
    for below, issuer in enumerate(way[1:]):
        constraints = extension(issuer, x509.BasicConstraints)
        need(constraints and constraints.ca)
        need(constraints.path_length is None or below <= constraints.path_length)
        usage, purposes = extension(issuer, x509.KeyUsage), extension(issuer, x509.ExtendedKeyUsage)
        need(usage is None or usage.key_cert_sign)
        need(purposes is None or STAMPING in [one.dotted_string for one in purposes])
        wanted = extension(way[below], x509.AuthorityKeyIdentifier)
        own = extension(issuer, x509.SubjectKeyIdentifier)
        need(
            wanted is None or wanted.key_identifier is None
            or (own is not None and own.digest == wanted.key_identifier)
        )  # fmt: skip
    need(all(one.not_valid_before_utc <= at <= one.not_valid_after_utc for one in way))


def lenient(der: bytes) -> x509.Certificate | None:
    try:
        return load(der)
    except (NoError, OpenError):
        return None


def shortest(
    signer: x509.Certificate, root: x509.Certificate, others: list[x509.Certificate], at: datetime
) -> list[x509.Certificate] | None:
    others.sort(key=lambda one: not one.not_valid_before_utc <= at <= one.not_valid_after_utc)
    ways = [[signer]]
    for _ in range(TIME["CAs between signer and root"] + 1):
        for way in ways:
            if issued(way[-1], root):
                return [*way, root]
        ways = [
            [*way, one] for way in ways for one in others if one not in way and issued(way[-1], one)
        ]
    return None


def of_kind(document: Mapping[str, Any], kind: str) -> list[str]:
    return [one for one in document["evidence"]["timestamps"] if one.startswith(kind)]


def existed(
    document: Mapping[str, Any], policy: Mapping[str, Any], at: datetime
) -> datetime | None:
    """Decide time.token: return the earliest time at which the certificate existed; None if the
    policy does not ask for it.
    """
    authorities, required = policy.get("time-authority", []), "time" in policy.get("require", ())
    entries = [one[8:] for one in of_kind(document, "rfc3161:")]
    times = []
    for entry in entries if authorities or required else ():
        try:
            kind, value, time, accuracy = judge(token_of(entry), authorities)
            need((kind, value.hex()) == ("sha256", core_digest(document)))
            need_known(time + accuracy - at <= timedelta(hours=24))
            times.append(time + accuracy)
        except OpenError:
            continue
    if not times and required:
        raise OpenError
    return min(times, default=None)


def began(document: Mapping[str, Any], policy: Mapping[str, Any], at: datetime) -> datetime | None:
    """Decide time.not-before; None if the check does not apply."""
    evidence, authorities = document["evidence"], policy.get("time-authority", [])
    entries = of_kind(document, "not-before:")
    asked = authorities or policy.get("witness") or "time" in policy.get("require", ())
    if not entries or not asked:
        return None
    need(len(entries) == 1)
    challenge, token = answered(entries[0])
    need(nonce_of(challenge, token) == evidence["nonce"])
    if ":checkpoint:" in entries[0]:
        return second_log.began(token, policy, at)
    try:
        _, _, time, accuracy = judge(token, authorities)
        need_known(time - accuracy - at <= timedelta(hours=24))
    except OpenError:
        return None
    return time - accuracy


def answered(entry: str) -> tuple[bytes, bytes]:
    match = re.fullmatch("not-before:([0-9a-f]{64}):(rfc3161|checkpoint):(.*)", entry, re.DOTALL)
    if match is None:
        raise NoError
    if match[2] == "checkpoint":
        need(match[3])
        return bytes.fromhex(match[1]), unbase64(match[3])
    return bytes.fromhex(match[1]), token_of(match[3])


def nonce_of(challenge: bytes, token: bytes) -> str:
    bound = b"aicert not-before v1\0" + challenge + hashlib.sha256(token).digest()
    return hashlib.sha256(bound).hexdigest()


def answers(document: Mapping[str, Any], challenge: bytes) -> bool:
    """Whether the nonce is the challenge, or was made from it."""
    nonce = document["evidence"]["nonce"]
    entries = of_kind(document, "not-before:")
    if nonce == challenge.hex():
        return True
    given = [answered(one) for one in entries]
    return any(one == challenge and nonce_of(one, token) == nonce for one, token in given)


# policy.md, "Age"


def check_age(run: Any) -> None:
    if "max-age-days" not in run.asked.policy:
        raise NotAskedError
    at, most = run.asked.at, timedelta(days=run.asked.policy["max-age-days"])
    need(timedelta(hours=-24) <= at - run.statement.finished <= most)
    young = run.began is not None and at - run.began <= most
    if run.asked.nonce is None and not young:
        raise OpenError
