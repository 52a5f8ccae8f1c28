"""Verify what NVIDIA published about a driver or VBIOS: signed reference measurements (RIM).

TCG's RIM as a SWID tag: XML whose root holds `Meta` (product and version), `Payload` (measurements,
each with its index, whether it counts, and the digests that are allowed) and one XML signature
(W3C, XML-DSig): enveloped, Canonical XML 1.1, SHA-384, ECDSA, with the certificates up to NVIDIA's
root. Only the form that NVIDIA writes is read. Everything that makes XML hard to sign is refused
before parsing: document types, entities, references to characters, comments, processing
instructions, CDATA, carriage returns, and attributes with the prefix `xml`.

What `load` returns was signed under the given root, valid at the stated time. `compare` raises
unless each measurement that counts is one of those allowed. Left out: revocation (`nvidia_ocsp`).
"""

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from xml.parsers import expat

from aicert.appraisal.evidence.maker_path import certified_path
from aicert.appraisal.evidence.nvidia_device import DISABLED, NVDEC, Device
from aicert.crypto.signatures import ecdsa_der, verify_ecdsa
from aicert.crypto.x509 import basic_constraints, key_on
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# Genuine RIMs have 21 kB.
MAX_RIM = 1 << 18
MAX_ELEMENTS = 1024
MAX_DEPTH = 16
MAX_CERTIFICATES = 5
MAX_ALTERNATIVES = 64
_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
_SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
_XMLNS = "xmlns"
# The video decoder's measurement, which does not count if the decoder is switched off.
_NVDEC_INDEX = 35
_ODD = re.compile(rb"<!|<\?|&|\r|\bxml:")
_DIGEST = re.compile(r"[0-9a-f]{96}")
# SignedInfo's only form; the digest takes the place of the percent sign.
_SIGNED_INFO = (
    '<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11">'
    "</ds:CanonicalizationMethod>"
    '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384">'
    '</ds:SignatureMethod><ds:Reference URI=""><ds:Transforms>'
    '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature">'
    "</ds:Transform>"
    '<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"></ds:Transform>'
    "</ds:Transforms>"
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384">'
    "</ds:DigestMethod><ds:DigestValue>%s</ds:DigestValue></ds:Reference></ds:SignedInfo>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rim:
    """Reference measurements for one version of a product.

    `allowed`: the allowed digests of each measurement, by index from 0. `path`: the certificates of
    the signer.
    """

    product: str
    version: str
    allowed: Mapping[int, frozenset[str]]
    path: "tuple[Certificate, ...]"


class Element:
    """An XML element: its name and attributes as they are written, and its content in order."""

    __slots__ = ("attributes", "children", "name", "scope")

    def __init__(self, name: str, attributes: dict[str, str], scope: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.scope = scope | {
            key: value for key, value in attributes.items() if key.partition(":")[0] == _XMLNS
        }
        self.children: list[Element | str] = []

    def resolved(self) -> tuple[str, str]:
        """Return the element's namespace and local name."""
        prefix, colon, local = self.name.rpartition(":")
        return self.scope.get(f"{_XMLNS}{colon}{prefix}", ""), local

    def value(self, namespace: str, local: str) -> str | None:
        """Return an attribute's value, by namespace (empty if it has no prefix) and local name."""
        wanted = (namespace, local)
        return next((v for key, v in self.attributes.items() if self.place(key) == wanted), None)

    def place(self, key: str) -> tuple[str, str]:
        """Return an attribute's namespace and local name, by which attributes are sorted."""
        prefix, colon, local = key.rpartition(":")
        return self.scope.get(f"{_XMLNS}:{prefix}", "") if colon else "", local

    def elements(self, namespace: str, local: str) -> "list[Element]":
        """Return the children of that name."""
        return [
            one
            for one in self.children
            if isinstance(one, Element) and one.resolved() == (namespace, local)
        ]

    def one(self, namespace: str, local: str) -> "Element":
        """Return the only child of that name; EvidenceError if there is not exactly one."""
        matching = self.elements(namespace, local)
        if len(matching) != 1:
            raise EvidenceError(f"the RIM has {len(matching)} elements {local}, not one")
        return matching[0]

    def text(self) -> str:
        """Return the element's content, which must be only text."""
        if any(isinstance(one, Element) for one in self.children):
            raise EvidenceError("the RIM has an element where text should be")
        return "".join(str(one) for one in self.children)


def load(data: bytes, root: bytes, at: datetime) -> Rim:
    """Return the RIM, if a signer that `root` certifies signed it."""
    document = parse(data)
    if document.resolved() != (_SWID, "SoftwareIdentity"):
        raise UndecidedError("the RIM is not a SWID tag")
    signature = document.one(_DSIG, "Signature")
    path = _check_signature(document, signature, root, at)
    meta = document.one(_SWID, "Meta")
    product, version = meta.value("", "product"), meta.value("", "colloquialVersion")
    if product is None or version is None:
        raise EvidenceError("the RIM does not say which product and version it is for")
    allowed = _allowed(document.one(_SWID, "Payload"))
    return Rim(product=product, version=version, allowed=allowed, path=path)


def compare(device: Device, driver: Rim | None, vbios: Rim) -> int:
    """Compare a device's measurements with the allowed ones; return how many were compared.

    Raises EvidenceError if a measurement is not allowed.
    """
    allowed: dict[int, frozenset[str]] = {}
    for rim, version, what in ((driver, device.driver, "driver"), (vbios, device.vbios, "VBIOS")):
        if rim is None:
            continue
        if rim.version.upper() != version.upper():
            raise UndecidedError(f"the RIM is for {what} {rim.version}, the device runs {version}")
        if allowed.keys() & rim.allowed.keys():
            raise EvidenceError("two RIMs give the same measurement")
        allowed |= rim.allowed
    if device.report.fields.get(NVDEC) == DISABLED:
        allowed.pop(_NVDEC_INDEX, None)
    values = device.report.measurements
    wrong = [
        index
        for index, digests in sorted(allowed.items())
        if index >= len(values) or values[index].hex() not in digests
    ]
    if wrong or not allowed:
        raise EvidenceError(
            f"the device's measurements {wrong} are not among those that NVIDIA published for "
            f"driver {device.driver or 'none'} and VBIOS {device.vbios}"
        )
    return len(allowed)


def parse(data: bytes) -> Element:
    """Parse a document and return its root element; nothing is verified."""
    if len(data) > MAX_RIM:
        raise EvidenceError(f"the RIM has {len(data)} bytes, more than {MAX_RIM}")
    odd = _ODD.search(data)
    if odd is not None:
        raise UndecidedError(f"the RIM has {odd[0]!r}, which is not read")
    tree: list[Element] = []
    top: list[Element] = []
    counted = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal counted
        counted += 1
        if counted > MAX_ELEMENTS or len(tree) == MAX_DEPTH:
            raise EvidenceError("the RIM has too many elements")
        element = Element(name, attributes, tree[-1].scope if tree else {})
        (tree[-1].children if tree else top).append(element)
        tree.append(element)

    def text(value: str) -> None:
        tree[-1].children.append(value)

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: tree.pop()
    parser.CharacterDataHandler = text
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, UnicodeDecodeError):
        raise EvidenceError("the RIM is not well-formed XML") from None
    return top[0]


def _check_signature(
    document: Element, signature: Element, root: bytes, at: datetime
) -> "tuple[Certificate, ...]":
    """Check the RIM's signature and return the signer's certificates."""
    info = signature.one(_DSIG, "SignedInfo")
    document.children.remove(signature)
    digest = hashlib.sha384("".join(canonical(document, {})).encode()).digest()
    signed = "".join(canonical(info, {}))
    _, end, body = signed.partition(">")
    stated = re.search(r"<ds:DigestValue>([A-Za-z0-9+/=]*)</ds:DigestValue>", body)
    if not end or stated is None or body != _SIGNED_INFO % stated[1]:
        raise UndecidedError("the RIM's signature is not of the one supported kind")
    if _base64(stated[1]) != digest:
        raise EvidenceError("the RIM is not the one that was signed")
    data = signature.one(_DSIG, "KeyInfo").one(_DSIG, "X509Data")
    chain = tuple(_base64(one.text()) for one in data.elements(_DSIG, "X509Certificate"))
    if not 2 <= len(chain) <= MAX_CERTIFICATES or chain[-1] != root:
        raise EvidenceError("the RIM's certificates do not chain to the accepted root")
    path = certified_path(chain, "the RIM's certificate", at)
    if basic_constraints(path[0]) is not None:
        raise EvidenceError("the RIM's certificate is a CA certificate")
    value = _base64(signature.one(_DSIG, "SignatureValue").text())
    half = len(value) // 2
    der = ecdsa_der(int.from_bytes(value[:half]), int.from_bytes(value[half:]))
    key = key_on(path[0], "secp384r1", "the RIM's certificate")
    verify_ecdsa(key, der, signed.encode(), "sha384", "the RIM is not signed by its certificate")
    return path


def canonical(element: Element, rendered: Mapping[str, str]) -> Iterator[str]:
    """Yield Canonical XML 1.1 of what `parse` accepts.

    `rendered`: declarations already written above. For the element with which canonicalization
    begins, all declarations in its scope are written.
    """
    declared = {key: value for key, value in element.scope.items() if rendered.get(key) != value}
    named = sorted(element.attributes.keys() - element.scope.keys(), key=element.place)
    written = [*sorted(declared.items()), *((key, element.attributes[key]) for key in named)]
    yield f"<{element.name}{''.join(f' {key}={_quoted(value)}' for key, value in written)}>"
    for one in element.children:
        if isinstance(one, Element):
            yield from canonical(one, element.scope)
        else:
            yield one.replace(">", "&gt;")
    yield f"</{element.name}>"


def _quoted(value: str) -> str:
    """Return an attribute's value in quotes.

    It contains no line ends or tabs: `parse` refused references to them.
    """
    return '"' + value.replace('"', "&quot;").replace("<", "&lt;") + '"'


def _allowed(payload: Element) -> dict[int, frozenset[str]]:
    allowed: dict[int, frozenset[str]] = {}
    seen = set()
    for one in payload.elements(_SWID, "Resource"):
        if one.value("", "type") != "Measurement":
            continue
        index, alternatives = _number(one, "index"), _number(one, "alternatives")
        active = one.value("", "active")
        if index in seen or active not in ("True", "False") or alternatives > MAX_ALTERNATIVES:
            raise EvidenceError(f"the RIM's measurement {index} is malformed")
        seen.add(index)
        digests = [one.value(_SHA384, f"Hash{place}") or "" for place in range(alternatives)]
        if not digests or not all(map(_DIGEST.fullmatch, digests)):
            raise EvidenceError(f"the RIM's measurement {index} has no digests of SHA-384")
        if active == "True":
            allowed[index] = frozenset(digests)
    return allowed


def _number(element: Element, name: str) -> int:
    value = element.value("", name) or ""
    if not re.fullmatch("[0-9]{1,3}", value):
        raise EvidenceError(f"the RIM has no number {name}")
    return int(value)


def _base64(text: str) -> bytes:
    try:
        return b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceError("the RIM's signature is not base64") from None
