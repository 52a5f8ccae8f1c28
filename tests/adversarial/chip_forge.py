"""A processor maker and Azure's paravisor from test keys: chips, reports and what wraps them.

Test roots have test keys, as in `ca_forge`; every part can be wrong in one way. The layouts follow
AMD 56860 (reports), AMD 57230 (certificates) and the published reports of real machines.
"""

import base64
import functools
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from aicert.appraisal.evidence.accepted import ChipRoot, IdKeySigner
from tests.adversarial import tpm_forge
from tests.adversarial.ca_forge import (
    FROM,
    UNTIL,
    Key,
    distinguished,
    ec_key,
    ecdsa,
    rsa_key,
    usage,
)

ARK, ASK, ASVK = "ARK-Test", "SEV-Test", "SEV-VLEK-Test"
CLOUD = b"\x16\x0acloud.test"
CHIP_ID = hashlib.sha512(b"chip").digest()
# The octets of TCB_VERSION: bootloader, tee, four reserved, snp, microcode.
TCB = bytes((10, 0, 0, 0, 0, 0, 27, 86))
MINIMUM = {"bootloader": 10, "tee": 0, "snp": 27, "microcode": 86}
ID_KEY = hashlib.sha384(b"paravisor's id key").digest()
SVN = 9
PARAVISOR = IdKeySigner(name="test paravisor", id_key=ID_KEY, minimum_svn=SVN)
OIDS = "1.3.6.1.4.1.3704.1."
_TCB_OIDS = ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8")


def issue(
    subject: str,
    key: Key,
    *,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    ca: bool = True,
    extensions: Mapping[str, bytes] | None = None,
    critical: bool = False,
    start: datetime = FROM,
    end: datetime = UNTIL,
    serial: int = 77,
    identifier: bool = False,
) -> bytes:
    """Return the DER of a certificate signed as AMD signs: RSASSA-PSS, SHA-384.

    A `serial` below 1, which the builder refuses, is encoded in one octet.
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(distinguished(subject))
        .issuer_name(distinguished(issuer))
        .public_key(key.public_key())
        .serial_number(serial if serial > 0 else 77)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
        builder = builder.add_extension(usage(cert=True), critical=True)
    for oid, value in (extensions or {}).items():
        kind = x509.UnrecognizedExtension(x509.ObjectIdentifier(OIDS + oid), value)
        builder = builder.add_extension(kind, critical=critical)
    if identifier:
        known = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(known, critical=False)
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    certificate = builder.sign(issuer_key, hashes.SHA384(), rsa_padding=pss)
    der = certificate.public_bytes(serialization.Encoding.DER)
    tbs = certificate.tbs_certificate_bytes
    if serial < 1:
        tbs = tbs.replace(b"\x02\x01\x4d", bytes((2, 1, serial & 0xFF)), 1)
    signature = tpm_forge.pss(issuer_key, tbs, "sha384")
    return der[:4] + tbs + der[4 + len(tbs) : -len(signature)] + signature


@functools.cache
def ark() -> bytes:
    key = rsa_key("amd ark")
    return issue(ARK, key, issuer=ARK, issuer_key=key)


@functools.cache
def ask() -> bytes:
    return issue(ASK, rsa_key("amd ask"), issuer=ARK, issuer_key=rsa_key("amd ark"))


@functools.cache
def asvk() -> bytes:
    """Issue the CA certificate for the keys that a cloud has on the maker's chips."""
    return issue(ASVK, rsa_key("other ask"), issuer=ARK, issuer_key=rsa_key("amd ark"))


def makers() -> tuple[ChipRoot, ...]:
    """Return the chip roots of a verifier: the test maker's root."""
    return (ChipRoot(name="test chips", root=ark(), issuer=ask(), minimum=MINIMUM),)


def cloud_keys() -> ChipRoot:
    """Return the chip root of a verifier that also accepts a cloud's own keys."""
    return ChipRoot(name="test cloud", root=ark(), issuer=asvk(), minimum=MINIMUM, vlek=True)


def chip_key() -> ec.EllipticCurvePrivateKey:
    return ec_key("vcek", "P-384")


def versions(tcb: bytes) -> dict[str, bytes]:
    """Return one DER INTEGER for each octet of a TCB."""
    return {
        oid: b"\x02\x01" + bytes((octet,)) if octet < 128 else b"\x02\x02\x00" + bytes((octet,))
        for oid, octet in zip(_TCB_OIDS, tcb, strict=True)
    }


def chip_extensions(chip_id: bytes = CHIP_ID, tcb: bytes = TCB) -> dict[str, bytes]:
    extensions = {"1": b"\x02\x01\x00", "2": b"\x16\x04Test"}
    return extensions | versions(tcb) | {"4": chip_id}


def vcek(**options: Any) -> bytes:
    """Issue a chip's certificate; `options` are those of `issue`."""
    usual: dict[str, Any] = {
        "issuer": ASK,
        "issuer_key": rsa_key("amd ask"),
        "ca": False,
        "extensions": chip_extensions(),
        "serial": 0,
    }
    key = options.pop("key", chip_key())
    return issue("SEV-VCEK", key, **(usual | options))


def vlek(**options: Any) -> bytes:
    """Issue the certificate of a cloud's key on its chips: it names the cloud and no chip."""
    extensions = {oid: value for oid, value in chip_extensions().items() if oid != "4"} | {
        "5": CLOUD
    }
    usual = {"issuer": ASVK, "issuer_key": rsa_key("other ask"), "extensions": extensions}
    return vcek(**(usual | options))


def guest() -> dict[str, Any]:
    """Return the fields of an honest guest's report."""
    return {
        "version": 3,
        "svn": SVN,
        # SMT, the bit that is always one, and ABI 0.31.
        "policy": 0x3001F,
        "vmpl": 0,
        "algorithm": 1,
        "flags": 0,
        "id_key": ID_KEY,
        "tcb": TCB,
        "chip_id": CHIP_ID,
    }


def report(fields: Mapping[str, Any], report_data: bytes) -> bytes:
    """Return the part of the report that the chip signs: 0x2A0 bytes."""
    body = bytearray(0x2A0)
    places = {
        0x00: struct.pack("<IIQ", fields["version"], fields["svn"], fields["policy"]),
        0x30: struct.pack("<II", fields["vmpl"], fields["algorithm"]),
        0x38: fields["tcb"],
        0x48: struct.pack("<I", fields["flags"]),
        0x50: report_data,
        0x90: hashlib.sha384(b"paravisor").digest(),
        0xE0: fields["id_key"],
        0x160: b"\xff" * 32,
        0x180: fields["tcb"],
        0x1A0: fields["chip_id"],
    }
    for place, data in places.items():
        body[place : place + len(data)] = data
    return bytes(body)


def signed(body: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a whole signed report of 1184 bytes."""
    r, s = utils.decode_dss_signature(key.sign(body, ecdsa(hashes.SHA384())))
    numbers = r.to_bytes(72, "little") + s.to_bytes(72, "little")
    return (body + numbers).ljust(1184, b"\0")


def base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(name: str, key: rsa.RSAPublicKey) -> dict[str, Any]:
    public = key.public_numbers()
    modulus, exponent = base64url(public.n), base64url(public.e)
    return {"kid": name, "key_ops": ["sign"], "kty": "RSA", "e": exponent, "n": modulus}


def runtime(keys: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the paravisor's runtime data, in JSON."""
    machine = {"secure-boot": False, "tpm-enabled": True, "vmUniqueId": "00000000"}
    document = {"keys": list(keys), "vm-configuration": machine, "user-data": "00" * 64}
    return json.dumps(document, separators=(",", ":")).encode()


def report_data(text: bytes) -> bytes:
    return hashlib.sha256(text).digest() + bytes(32)


def hcl(hardware: bytes, text: bytes, *, kind: int = 2, version: int = 1, hash_: int = 1) -> bytes:
    """Return the content of the TPM's NV index 0x01400001."""
    size = 20 + len(text)
    head = struct.pack("<4sIIIIIII", b"HCLA", 2, 1216 + size, 2, 0, 0, 0, 0)
    return head + hardware + struct.pack("<IIIII", size, version, kind, hash_, len(text)) + text
