"""A second reader of receipts of answers: from docs/spec/lease-messages.md and the RFCs alone."""

import base64
import hashlib
import tomllib
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.second.chain import NoError, need

NUMBERS = (6, -65545, -65546, -70002, -70003)
OCTETS = {7: 16, 10: 32, -65539: 32, -65540: 32, -65541: 32, -65542: 32, -70001: 32}
TEXTS = (265, -65537, -65549)


class FormError(Exception):
    """The receipt does not have the specified form."""


def form(condition: object) -> None:
    if not condition:
        raise FormError


def item(data: bytes, at: int) -> tuple[Any, int]:
    """Return the item that begins at `at`, and where it ends (RFC 8949, 3). Heads must be as short
    as possible; a map's keys must be sorted by their octets and appear once (4.2.1).
    """
    form(at < len(data))
    major, small = divmod(data[at], 32)
    form(small < 28)
    size = 0 if small < 24 else 1 << (small - 24)
    number = int.from_bytes(data[at + 1 : at + 1 + size]) if size else small
    form(len(data) > at + size)
    form(not size or number >= (24 if size == 1 else 1 << (4 * size)))
    at += 1 + size
    if major in (0, 1):
        return (number if major == 0 else -1 - number), at
    if major in (2, 3):
        form(at + number <= len(data))
        octets = data[at : at + number]
        if major == 2:
            return octets, at + number
        try:
            return octets.decode("utf-8"), at + number
        except UnicodeDecodeError:
            raise FormError from None
    if major == 6:
        inner, at = item(data, at)
        return (number, inner), at
    form(major in (4, 5))
    form(number <= 64)
    if major == 4:
        values = []
        for _ in range(number):
            value, at = item(data, at)
            values.append(value)
        return values, at
    pairs: dict[int, Any] = {}
    before = b""
    for _ in range(number):
        begin = at
        key, at = item(data, at)
        form(type(key) is int)
        form(before < data[begin:at])
        before = data[begin:at]
        pairs[key], at = item(data, at)
    return pairs, at


def whole(data: bytes) -> Any:
    value, end = item(data, 0)
    form(end == len(data))
    return value


def judge(given: Mapping[str, str]) -> dict[int, Any]:
    """Return the claims of a receipt if it is for this answer. NoError names the check that refuses
    it.
    """
    token = base64.b64decode(given["text"], validate=True)
    form(base64.b64encode(token).decode() == given["text"])
    tagged = whole(token)
    form(isinstance(tagged, tuple) and tagged[0] == 18)
    parts = tagged[1]
    form(isinstance(parts, list) and len(parts) == 4 and parts[1] == {})
    protected, _, payload, signature = parts
    form(all(isinstance(one, bytes) for one in (protected, payload, signature)))
    form(len(signature) == 64)
    header, claims = whole(protected), whole(payload)
    form(set(header) == {1, 4} and header[1] == -7)
    form(isinstance(claims, dict) and set(claims) == {*NUMBERS, *OCTETS, *TEXTS})
    form(all(type(claims[one]) is int and 0 <= claims[one] < 1 << 63 for one in NUMBERS))
    form(all(type(claims[one]) is bytes and len(claims[one]) == OCTETS[one] for one in OCTETS))
    form(all(type(claims[one]) is str for one in TEXTS))
    form(claims[265] == "urn:aicert:answer-receipt:1")

    need(header[4] == bytes.fromhex(given["spki"]), "answer.signature")
    key = load_der_public_key(header[4])
    form(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    # The Sig_structure of COSE_Sign1 (RFC 9052, 4.4) is an array of four; its heads are written by
    # hand.
    signed = b"\x84\x6aSignature1" + _octets(protected) + b"\x40" + _octets(payload)
    try:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NoError("answer.signature") from None
    need(claims[10] == bytes.fromhex(given["nonce"]), "answer.fresh")
    need(claims[-65542] == bytes.fromhex(given["evidence"]), "answer.channel")
    agreed = tomllib.loads(given["terms"])
    scheme, _, digest = agreed["model"].partition(":")
    need(claims[-65537] == agreed["lease"], "answer.body")
    need(claims[-70001] == _sha(given["terms"]), "answer.body")
    need((claims[-65549], claims[-65539].hex()) == (scheme, digest), "answer.body")
    need(claims[-65540] == _sha(given["request"]), "answer.body")
    need(claims[-65541] == _sha(given["response"]), "answer.body")
    return {one: claims[one] for one in claims}


def _sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _octets(data: bytes) -> bytes:
    form(24 <= len(data) < 1 << 16)
    head = b"\x58" + len(data).to_bytes(1) if len(data) < 256 else b"\x59" + len(data).to_bytes(2)
    return head + data
