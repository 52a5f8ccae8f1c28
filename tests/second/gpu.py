"""The second verifier's GPUs (docs/spec/gpu.md).

Written from the specification alone; shares no code with `aicert`. It reads XML with minidom, and
revocation answers with cryptography, where the first verifier has its own parsers.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from xml.dom import Node, minidom
from xml.parsers.expat import ExpatError

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.second.chain import NoError, load, need, need_known
from tests.second.chip import little
from tests.second.forms import b64, fit, sha, strict_json, unbase64
from tests.second.limits import limits
from tests.second.td import Bytes, extension, is_ca, path

GPU = limits("gpu.md")
SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
ENC = "http://www.w3.org/2001/04/xmlenc#sha384"
C14N = "http://www.w3.org/2006/12/xml-c14n11"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
MODELS, SWITCH = ("GH100", "GB100", "LS_10"), "LS_10"
DICE = bytes.fromhex("303d06096086480165030402020430")


def p384(certificate: x509.Certificate) -> Any:
    key = certificate.public_key()
    need(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1")
    return key


def check_signed(key: Any, signature: bytes, data: bytes) -> None:
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise NoError("signature") from None


class Device:
    """One device's answer, and the chain of whoever vouches for it."""

    def __init__(self, given: Mapping[str, Any], root: bytes, nonce: bytes, at: datetime) -> None:
        data = unbase64(given["report"])
        self._read(data, nonce)
        chain = [unbase64(one) for one in given["chain"]]
        need(len(chain) == 5 and chain[-1] == root)
        self.path = path(chain, at)
        leaf = self.path[0]
        need(not is_ca(leaf))
        key = p384(leaf)
        self.model = self._model(leaf)
        values = [one.value for one in leaf.extensions if one.oid.dotted_string == "2.23.133.5.4.1"]
        value = values[0].public_bytes() if values else b""
        need(value[-63:-48] == DICE and len(value) >= 63)
        check_signed(key, data[-96:], data[:-96])
        need(self.nonce == nonce)
        need(self.fields.get(20, value[-48:]) == value[-48:])
        self.switch = self.model == SWITCH
        self.driver = "" if self.switch else self._text(3)
        self.vbios = self._text(6) if self.switch else self._vbios()

    def _read(self, data: bytes, nonce: bytes) -> None:
        need(len(data) <= GPU["`report` of a device"])
        left = Bytes(data)
        head = left.take(4)
        need_known(head[0] == 0x11)
        self.nonce = left.take(32)
        need(left.number(1) == 0 and head == b"\x11\xe0\x01\xff")
        need(left.take(4)[:2] == b"\x11\x60")
        count, inside = left.number(1), Bytes(left.take(left.number(3)))
        self.measured = []
        for index in range(1, count + 1):
            place, kind = inside.number(1), inside.number(1)
            block = Bytes(inside.take(inside.number(2)))
            need(place == index)
            of_value, size = block.number(1), block.number(2)
            need_known(kind == 1 and of_value < 0x80 and size == 48)
            self.measured.append(block.take(48))
            need(not block.left)
        need(not inside.left and self.measured)
        left.take(32)
        inside = Bytes(left.take(left.number(2)))
        self.fields: dict[int, bytes] = {}
        while inside.left:
            number = inside.number(2)
            value = inside.take(inside.number(2))
            need(number not in self.fields and len(self.fields) < GPU["fields of a report"])
            self.fields[number] = value
        need(len(left.left) == 96)

    def _model(self, leaf: x509.Certificate) -> str:
        names = [one.value for one in leaf.extensions if one.oid.dotted_string == "2.5.29.17"]
        pattern = rb"\x0c.NVIDIA:([A-Z0-9_]{2,16}):[0-9A-F]{16}"
        given = re.findall(pattern, names[0].public_bytes() if names else b"", re.DOTALL)
        need(len(given) == 1)
        need_known(given[0].decode() in MODELS)
        return str(given[0].decode())

    def _text(self, number: int) -> str:
        value = self.fields.get(number, b"")
        value = value[:-1] if value[-1:] == b"\0" else value
        need(re.fullmatch(rb"[A-Za-z0-9.]{1,32}", value))
        return value.decode()

    def _vbios(self) -> str:
        value = self.fields.get(6, b"")
        need(len(value) == 8 and value[5:] == bytes(3))
        return ".".join(f"{value[at]:02X}" for at in (3, 2, 1, 0, 4))

    def mode(self) -> int:
        if 36 not in self.fields:
            return 2 if self.fields.get(21) == b"\xaa" else 0
        mode = little(self.fields[36])
        need_known(mode <= 2)
        return mode

    def switches(self) -> set[bytes]:
        value = self.fields.get(22, b"")
        need(value and len(value) % 8 == 0)
        if self.switch:
            return {value}
        parts = {value[at : at + 8] for at in range(0, len(value), 8)}
        return {one[::-1] for one in parts - {bytes(8)}}


def place(name: str, scope: Mapping[str, str], default: bool) -> tuple[str, str]:
    """Return namespace and local name. An element without a prefix has the namespace of `xmlns`."""
    prefix, colon, local = name.rpartition(":")
    return scope.get(prefix, "") if colon or default else "", local


class Element:
    """An element with the namespaces in its scope."""

    def __init__(self, node: Any, scope: Mapping[str, str]) -> None:
        self.node, self.scope, self.attributes = node, dict(scope), {}
        for name, value in node.attributes.items():
            if name == "xmlns" or name.startswith("xmlns:"):
                self.scope[name[6:]] = value
            else:
                self.attributes[name] = value
        self.name = place(node.tagName, self.scope, True)
        self.inner = [
            Element(one, self.scope) if one.nodeType == Node.ELEMENT_NODE else one.data
            for one in node.childNodes
        ]

    def all(self, name: str, space: str = SWID) -> "list[Element]":
        return [one for one in self.inner if isinstance(one, Element) and one.name == (space, name)]

    def only(self, name: str, space: str = SWID) -> "Element":
        given = self.all(name, space)
        need(len(given) == 1)
        return given[0]

    def get(self, name: str, space: str = "") -> str | None:
        for key, value in self.attributes.items():
            if place(key, self.scope, False) == (space, name):
                return str(value)
        return None

    def text(self) -> str:
        need(all(isinstance(one, str) for one in self.inner))
        return "".join(str(one) for one in self.inner)

    def canonical(self, above: Mapping[str, str] | None = None) -> str:
        """Return Canonical XML 1.1: of a whole document, or of the part that starts here if `above`
        is None.
        """
        before = above or {}
        spaces = sorted(key for key, uri in self.scope.items() if before.get(key) != uri)
        out = "<" + self.node.tagName
        for key in spaces:
            out += f' xmlns{":" if key else ""}{key}="{quoted(self.scope[key])}"'
        for key in sorted(self.attributes, key=lambda one: place(one, self.scope, False)):
            out += f' {key}="{quoted(self.attributes[key])}"'
        inside = [
            one.canonical(self.scope) if isinstance(one, Element) else one.replace(">", "&gt;")
            for one in self.inner
        ]
        return f"{out}>{''.join(inside)}</{self.node.tagName}>"

    def sizes(self) -> tuple[int, int]:
        """Return how many elements there are, and how deeply they are nested."""
        inner = [one.sizes() for one in self.inner if isinstance(one, Element)]
        return 1 + sum(one for one, _ in inner), 1 + max((deep for _, deep in inner), default=0)


def quoted(value: str) -> str:
    return value.replace("<", "&lt;").replace('"', "&quot;")


def info(digest: str) -> str:
    """Return the content of SignedInfo as NVIDIA writes it."""

    def one(name: str, algorithm: str) -> str:
        return f'<ds:{name} Algorithm="{algorithm}"></ds:{name}>'

    transforms = one("Transform", DSIG + "enveloped-signature") + one("Transform", C14N)
    return (
        one("CanonicalizationMethod", C14N) + one("SignatureMethod", MORE + "ecdsa-sha384")
        + f'<ds:Reference URI=""><ds:Transforms>{transforms}</ds:Transforms>'
        + one("DigestMethod", MORE + "sha384")
        + f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    )  # fmt: skip


def loose_base64(text: str) -> bytes:
    return unbase64_any("".join(text.split()))


def unbase64_any(text: str) -> bytes:
    """Decode base64 as XML allows it: its last bits may be anything."""
    need(re.fullmatch("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", text))
    bits = "".join(f"{ALPHABET.index(one):06b}" for one in text.rstrip("="))
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Rim:
    """Reference measurements whose signature was verified."""

    def __init__(self, data: bytes, root: bytes, at: datetime) -> None:
        need(len(data) <= GPU["one of `rims`"])
        need_known(not re.search(rb"<!|<\?|&|\r|\bxml:", data))
        try:
            document = minidom.parseString(data)  # noqa: S318 - what is dangerous is refused above
        except (ExpatError, UnicodeDecodeError, ValueError):
            raise NoError("XML") from None
        top = Element(document.documentElement, {})
        count, deep = top.sizes()
        need(count <= GPU["elements of it"] and deep <= GPU["elements in one another"])
        need_known(top.name == (SWID, "SoftwareIdentity"))
        self._check_signature(top, top.only("Signature", DSIG), root, at)
        meta = top.only("Meta")
        self.product, self.version = meta.get("product"), meta.get("colloquialVersion")
        need(self.product is not None and self.version is not None)
        self.version = str(self.version).upper()
        self.allowed: dict[int, set[str]] = {}
        seen = set()
        for one in top.only("Payload").all("Resource"):
            if one.get("type") != "Measurement":
                continue
            index, many = self._number(one, "index"), self._number(one, "alternatives")
            need(index not in seen and one.get("active") in ("True", "False"))
            need(1 <= many <= GPU["`alternatives`"])
            seen.add(index)
            digests = {one.get(f"Hash{number}", ENC) or "" for number in range(many)}
            need(all(re.fullmatch("[0-9a-f]{96}", digest) for digest in digests))
            if one.get("active") == "True":
                self.allowed[index] = digests

    @staticmethod
    def _number(one: Element, name: str) -> int:
        value = one.get(name) or ""
        need(re.fullmatch("[0-9]{1,3}", value))
        return int(value)

    def _check_signature(self, top: Element, signature: Element, root: bytes, at: datetime) -> None:
        signed = signature.only("SignedInfo", DSIG).canonical()
        top.inner.remove(signature)
        digest = re.search("<ds:DigestValue>([A-Za-z0-9+/=]*)</ds:DigestValue>", signed)
        need_known(digest and signed.partition(">")[2] == info(digest[1]))
        actual = hashlib.sha384(top.canonical().encode()).digest()
        need(loose_base64(digest[1] if digest else "") == actual)
        data = signature.only("KeyInfo", DSIG).only("X509Data", DSIG)
        chain = [loose_base64(one.text()) for one in data.all("X509Certificate", DSIG)]
        need(2 <= len(chain) <= 5 and chain[-1] == root)
        self.path = path(chain, at)
        need(not is_ca(self.path[0]))
        value = loose_base64(signature.only("SignatureValue", DSIG).text())
        check_signed(p384(self.path[0]), value, signed.encode())


class Answer:
    """An OCSP answer about one certificate (RFC 6960)."""

    def __init__(self, data: bytes) -> None:
        need(len(data) <= GPU["one of `ocsp`"])
        try:
            self.given = given = ocsp.load_der_ocsp_response(data)
            need_known(given.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL)
            need_known(len(list(given.responses)) == 1)
            critical = [*given.extensions, *given.single_extensions]
            need(len(given.certificates) <= GPU["certificates of it"])
            self.hash = given.signature_hash_algorithm
            self.certificates = list(given.certificates)
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
            raise NoError("answer") from None
        need_known(not any(one.critical for one in critical))
        need_known(self.hash is not None and self.hash.name in ("sha256", "sha384", "sha512"))

    def check(self, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime) -> bool:
        """Whether the answer says, at this time, that the certificate is good."""
        given = self.given
        if given.serial_number != certificate.serial_number:
            return False
        key = issuer.public_key()
        need_known(isinstance(key, ec.EllipticCurvePublicKey))
        by = ocsp.OCSPRequestBuilder().add_certificate(
            certificate, issuer, given.hash_algorithm
        ).build()  # fmt: skip
        named = given.issuer_key_hash, given.issuer_name_hash
        if named != (by.issuer_key_hash, by.issuer_name_hash):
            return False
        self._check_signer(issuer, at)
        end = given.next_update_utc
        if end is None or not given.this_update_utc <= at <= end:
            return False
        need(given.certificate_status is not ocsp.OCSPCertStatus.REVOKED)
        return given.certificate_status is ocsp.OCSPCertStatus.GOOD

    def _check_signer(self, issuer: x509.Certificate, at: datetime) -> None:
        signer = issuer
        for given in self.certificates:
            one = load(given.public_bytes(Encoding.DER))
            usage = extension(one, x509.ExtendedKeyUsage)
            purposes = [oid.dotted_string for oid in usage] if usage is not None else []
            if OCSP_SIGNING in purposes and one.issuer == issuer.subject:
                try:
                    one.verify_directly_issued_by(issuer)
                except (InvalidSignature, ValueError, TypeError):
                    raise NoError("responder") from None
                need(one.not_valid_before_utc <= at <= one.not_valid_after_utc)
                need(not is_ca(one))
                signer = one
                break
        key = signer.public_key()
        need_known(isinstance(key, ec.EllipticCurvePublicKey))
        try:
            key.verify(self.given.signature, self.given.tbs_response_bytes, ec.ECDSA(self.hash))  # type: ignore[call-arg, arg-type, union-attr]
        except InvalidSignature:
            raise NoError("answer") from None


def check_named(given: Mapping[str, Any], named: str | None) -> None:
    need_known(named is not None)
    parts = b""
    for device in given["devices"]:
        parts += b"".join(sha(unbase64(one)) for one in (device["report"], *device["chain"]))
    need(named == "sha256:" + sha(parts).hex())


def check(
    given: Mapping[str, Any], makers: Sequence[Mapping[str, Any]], nonce: bytes, at: datetime
) -> None:
    """Check everything about the GPUs except `check_named`."""
    last = unbase64(given["devices"][0]["chain"][-1])
    maker = next((one for one in makers if one["root"] == last), makers[0])
    devices = [Device(one, maker["root"], nonce, at) for one in given["devices"]]
    need(len({one.path[0] for one in devices}) == len(devices))
    need(not all(one.switch for one in devices))
    need_known("collateral" in given)
    document = strict_json(unbase64(given["collateral"]), GPU["`collateral` of `gpus`"])
    fit(document, {
        "rims": [b64(GPU["one of `rims`"]), 0, GPU["`rims`"]],
        "ocsp": [b64(GPU["one of `ocsp`"]), 0, GPU["`ocsp`"]],
    })  # fmt: skip
    rims = [Rim(unbase64(one), maker["rim-root"], at) for one in document["rims"]]
    answers = [Answer(unbase64(one)) for one in document["ocsp"]]

    def good(chain: Sequence[x509.Certificate]) -> None:
        for one, issuer in pairwise(chain):
            # Ask every answer: none may say that the certificate is bad.
            need_known(True in {answer.check(one, issuer, at) for answer in answers})

    for device in devices:
        good(device.path[1:])
    for device in devices:
        for version, key in ((device.driver, "drivers"), (device.vbios, "vbios")):
            need(not version or version in maker.get(key, [version]))
        drivers = [one for one in rims if one.product == device.model
                   and one.version == device.driver.upper()]  # fmt: skip
        boards = [one for one in rims if one.version == device.vbios.upper()]
        need_known(boards and (drivers or device.switch))
        for rim in (*drivers[:1], *boards):
            good(rim.path)
        driver = drivers[0].allowed if drivers else {}
        need(any(fits(device, driver, board.allowed) for board in boards))
    modes = {one.mode() for one in devices if not one.switch}
    need(len(modes) == 1)
    if modes == {2}:
        known = set().union(*(one.switches() for one in devices if one.switch))
        for device in devices:
            need_known(device.switches() and device.switches() <= known)


def fits(device: Device, driver: Mapping[int, set[str]], board: Mapping[int, set[str]]) -> bool:
    wanted = {**driver, **board}
    if device.fields.get(11) == b"\x55":
        wanted.pop(35, None)
    values = dict(enumerate(one.hex() for one in device.measured))
    same = all(values.get(index) in digests for index, digests in wanted.items())
    return not driver.keys() & board.keys() and bool(wanted) and same
