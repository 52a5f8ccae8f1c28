"""NVIDIA's devices and reference measurements from test keys: CAs, reports, RIMs, OCSP.

A RIM is written in its canonical form, so that nothing here canonicalizes. All CAs have one name
and one key; the certificates between leaf and root differ by their serial numbers.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aicert.appraisal.evidence.accepted import GpuRoot
from tests.adversarial.ca_forge import UNTIL, distinguished, ec_key, ecdsa, issue, root, usage
from tests.adversarial.td_forge import ISSUED, NEXT, der

NONCE = bytes(range(32))
FWID = hashlib.sha384(b"firmware").digest()
DICE = bytes.fromhex("303d06096086480165030402020430")
NAME, CA = b"\x0c\x1dNVIDIA:GH100:48B02DF44660DA06", "device CA"
DEVICE_KEY, CA_KEY = ec_key("nvidia device", "P-384"), ec_key("nvidia ca", "P-384")
SIGNER_KEY = ec_key("rim signer", "P-384")
RESPONDER, RESPONDER_KEY = "ocsp responder", ec_key("ocsp responder", "P-384")
# Serial numbers of the intermediate CAs, and of the certificate that signs a RIM.
BETWEEN, SIGNER = (101, 102, 103), 77
EKU_OCSP = "1.3.6.1.5.5.7.3.9"
VBIOS = "96.00.A5.00.01"
FIELDS = {3: b"590.12\0", 6: bytes.fromhex("00a5009601000000"), 11: b"\x55", 20: FWID}
VALUES = tuple(hashlib.sha384(bytes((i,))).digest() for i in range(4))


def signed(data: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign, and return r and s of 48 octets each."""
    r, s = decode_dss_signature(key.sign(data, ecdsa(hashes.SHA384())))
    return r.to_bytes(48) + s.to_bytes(48)


def ca_root() -> bytes:
    return root(CA, CA_KEY)


def chain(
    *,
    name: bytes | None = NAME,
    dice: bytes = b"\x30\x3f" + DICE + FWID,
    ca: bool | None = None,
    constraints: bool | None = True,
    path_length: int | None = None,
    key: ec.EllipticCurvePrivateKey = DEVICE_KEY,
    end: datetime = UNTIL,
    ca_key: ec.EllipticCurvePrivateKey = CA_KEY,
    last: bytes | None = None,
) -> tuple[bytes, ...]:
    """Return leaf, three CAs and root; all but the leaf have one key and one name."""
    extra: list[tuple[x509.ExtensionType, bool]] = []
    if name is not None:
        other = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1"), name)
        extra.append((x509.SubjectAlternativeName([other]), False))
    oid = x509.ObjectIdentifier("2.23.133.5.4.1")
    extra.append((x509.UnrecognizedExtension(oid, dice), False))
    leaf = issue("device", key, issuer=CA, issuer_key=ca_key, ca=ca, extra=extra, end=end)
    between = (
        issue(
            CA, ca_key, issuer=CA, issuer_key=ca_key, ca=constraints, path_length=path_length,
            key_usage=usage(cert=True), serial=serial,
        )
        for serial in BETWEEN
    )  # fmt: skip
    return leaf, *between, last or ca_root()


def block(index: int, value: bytes, *, kind: int = 1, of_value: int = 1) -> bytes:
    body = bytes((of_value,)) + len(value).to_bytes(2, "little") + value
    return bytes((index, kind)) + len(body).to_bytes(2, "little") + body


BLOCKS = tuple(block(i + 1, value) for i, value in enumerate(VALUES))


def fields_of(fields: Mapping[int, bytes]) -> bytes:
    sized = ((k.to_bytes(2, "little"), len(v).to_bytes(2, "little"), v) for k, v in fields.items())
    return b"".join(b"".join(one) for one in sized)


def report(
    *,
    request: bytes = b"\x11\xe0\x01\xff",
    nonce: bytes = NONCE,
    slot: int = 0,
    response: bytes = b"\x11\x60\0\0",
    blocks: Sequence[bytes] = BLOCKS,
    fields: bytes = fields_of(FIELDS),
    key: ec.EllipticCurvePrivateKey = DEVICE_KEY,
) -> bytes:
    """Return a signed report."""
    record = b"".join(blocks)
    data = request + nonce + bytes((slot,)) + response + bytes((len(blocks),))
    data += len(record).to_bytes(3, "little") + record + bytes(32)
    data += len(fields).to_bytes(2, "little") + fields
    return data + signed(data, key)


Measurements = Mapping[int, tuple[bool, Sequence[bytes]]]
SCOPE = (
    ' xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"'
    ' xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384"'
)
DS = ' xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
INFO = (
    '<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11">'
    "</ds:CanonicalizationMethod><ds:SignatureMethod "
    'Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"></ds:SignatureMethod>'
    '<ds:Reference URI=""><ds:Transforms><ds:Transform '
    'Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>'
    '<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"></ds:Transform>'
    "</ds:Transforms><ds:DigestMethod "
    'Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"></ds:DigestMethod>'
    "<ds:DigestValue>{}</ds:DigestValue></ds:Reference>"
)


def resource(index: str, active: str, digests: Sequence[bytes], kind: str = "Measurement") -> str:
    written = "".join(f' ns2:Hash{i}="{digest.hex()}"' for i, digest in enumerate(digests))
    return (
        f'<Resource active="{active}" alternatives="{len(digests)}" index="{index}" name="M" '
        f'size="48" type="{kind}"{written}></Resource>'
    )


def rim(
    version: str = "590.12",
    wanted: Measurements | None = None,
    *,
    product: str = "GH100",
    key: ec.EllipticCurvePrivateKey = SIGNER_KEY,
    serial: int = SIGNER,
    meta: str | None = None,
    resources: str = "",
    info: str = INFO,
    leaf_ca: bool | None = False,
    name: str = "SoftwareIdentity",
    before: str = "",
) -> bytes:
    """Return a signed RIM; `wanted` says by index whether it counts and which digests it allows."""
    items = (wanted or {}).items()
    resources += "".join(resource(str(i), str(active), each) for i, (active, each) in items)
    if meta is None:
        meta = f'<Meta colloquialVersion="{version}" product="{product}"></Meta>'
    head, tail = f"<{name}{SCOPE}>{meta}<Payload>{resources}</Payload>{before}", f"</{name}>"
    info = info.format(b64encode(hashlib.sha384((head + tail).encode()).digest()).decode())
    scope = SCOPE.replace(" xmlns:ns2", f"{DS} xmlns:ns2")
    text = f"<ds:SignedInfo{scope}>{info}</ds:SignedInfo>"
    value = b64encode(signed(text.encode(), key)).decode()
    leaf = issue("rim signer", SIGNER_KEY, issuer=CA, issuer_key=CA_KEY, ca=leaf_ca, serial=serial)
    certificates = "".join(
        f"<ds:X509Certificate>{b64encode(der).decode()}</ds:X509Certificate>"
        for der in (leaf, ca_root())
    )
    signature = (
        f"<ds:Signature{DS}><ds:SignedInfo>{info}</ds:SignedInfo>"
        f"<ds:SignatureValue>{value}</ds:SignatureValue>"
        f"<ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"
    )
    return (head + signature + tail).encode()


# A machine with GPUs.


def device(**options: Any) -> dict[str, Any]:
    """Return one device: options of its report (fields by number) and of its chain."""
    usual: dict[str, Any] = {
        "fields": FIELDS, "report": {}, "chain": {}, "key": DEVICE_KEY, "change": None,
    }  # fmt: skip
    return usual | options


SWITCH = bytes.fromhex("203eb31ad9ed0008")
SWITCH_BIOS = "96.10.55.00.01"
# Links to the switch, with its octets reversed, and one unused link.
LINKS = SWITCH[::-1] * 2 + bytes(8)


def named(model: bytes) -> bytes:
    """Return the device's alternative name."""
    return NAME.replace(b"GH100", model)


def switch(**options: Any) -> dict[str, Any]:
    """Return a switch between GPUs."""
    usual: dict[str, Any] = {
        "fields": {6: SWITCH_BIOS.encode(), 22: SWITCH}, "chain": {"name": named(b"LS_10")},
        "key": ec_key("nvidia switch", "P-384"),
    }  # fmt: skip
    return device(**(usual | options))


def another(**options: Any) -> dict[str, Any]:
    """Return a second GPU of the same kind."""
    return device(**({"key": ec_key("another nvidia device", "P-384")} | options))


def answer_of(one: Mapping[str, Any], nonce: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the device's report and chain."""
    given = {"nonce": nonce, "key": one["key"], "fields": fields_of(one["fields"])}
    data = report(**(given | one["report"]))
    if one["change"] is not None:
        data = one["change"](data)
    return data, chain(**({"key": one["key"]} | one["chain"]))


def maker() -> GpuRoot:
    """Return the GPU root of a verifier."""
    return GpuRoot(name="test gpus", root=ca_root(), rim_root=ca_root())


def rims() -> list[bytes]:
    """Return the RIMs of the driver and of the VBIOS."""
    one = {0: (True, VALUES[:1]), 2: (False, [bytes(48)])}
    other = {1: (True, (bytes(48), VALUES[1])), 3: (True, VALUES[3:])}
    return [rim(wanted=one), rim(VBIOS, other)]


def responder(**options: Any) -> bytes:
    """Issue the certificate of the OCSP responder, which signs answers for the CA."""
    usual: dict[str, Any] = {"issuer": CA, "issuer_key": CA_KEY, "purposes": (EKU_OCSP,),
                             "key_usage": usage()}  # fmt: skip
    return issue(RESPONDER, RESPONDER_KEY, **(usual | options))


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _time(at: datetime) -> bytes:
    return der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())


def answer(
    serial: int,
    *,
    revoked: int | None = None,
    unknown: bool = False,
    start: datetime = ISSUED,
    end: datetime | None = NEXT,
    key: ec.EllipticCurvePrivateKey = RESPONDER_KEY,
    signer: Sequence[bytes] | None = None,
    of_key: ec.EllipticCurvePrivateKey = CA_KEY,
    hash_: str = "sha384",
    critical: bool | None = False,
    number: int = 1,
    state: int = 0,
) -> bytes:
    """Return an OCSP response (RFC 6960) about a certificate of the CA's.

    `revoked` is the reason, below 0 for none; `critical` says whether the nonce extension is
    critical, None leaves the field out.
    """
    oid = {"sha384": "0609608648016503040202", "sha1": "06052b0e03021a"}[hash_]
    about = der(
        0x30,
        der(0x30, bytes.fromhex(oid)),
        der(4, hashlib.new(hash_, distinguished(CA).public_bytes()).digest()),
        der(4, hashlib.new(hash_, _point(of_key)).digest()),
        der(2, bytes((serial,))),
    )
    status = b"\x82\0" if unknown else b"\x80\0"
    if revoked is not None:
        reason = b"" if revoked < 0 else der(0xA0, der(10, bytes((revoked,))))
        status = der(0xA1, _time(start), reason)
    single = der(0x30, about, status, _time(start), b"" if end is None else der(0xA0, _time(end)))
    by = hashlib.sha1(_point(key), usedforsecurity=False).digest()
    data = der(0xA2, der(4, by)) + _time(start) + der(0x30, single * number)
    if critical is not False:
        nonce = bytes.fromhex("06092b0601050507300102") + (b"\1\1\xff" if critical else b"")
        nonce += der(4, der(4, bytes(16)))
        data += der(0xA1, der(0x30, der(0x30, nonce)))
    signed_part = der(0x30, data)
    signature = der(3, b"\0" + key.sign(signed_part, ecdsa(hashes.SHA384())))
    certificates = (responder(),) if signer is None else signer
    given = der(0xA0, der(0x30, *certificates)) if certificates else b""
    basic = der(0x30, signed_part, bytes.fromhex("300a06082a8648ce3d040303"), signature, given)
    content = der(0xA0, der(0x30, bytes.fromhex("06092b0601050507300101"), der(4, basic)))
    return der(0x30, b"\n\1" + bytes((state,)), b"" if state else content)


def answers() -> dict[int, bytes]:
    """Return the OCSP answers by serial number; the CA itself signed one of them."""
    by_number = {serial: answer(serial) for serial in (*BETWEEN, SIGNER)}
    return by_number | {BETWEEN[1]: answer(BETWEEN[1], key=CA_KEY, signer=())}


def collateral(rims: Sequence[bytes], answers: Sequence[bytes]) -> bytes:
    """Return NVIDIA's collateral as one file."""
    given = {"rims": rims, "ocsp": answers}
    encoded = {key: [b64encode(one).decode() for one in values] for key, values in given.items()}
    return json.dumps(encoded).encode()
