"""A time authority from test keys: any RFC 3161 token, good or bad, in memory.

Tokens are put together octet by octet (RFC 5652, RFC 3161), and an attack may replace any part.
Signatures use test keys, which anybody can make, and no randomness.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from aicert.appraisal.evidence.accepted import TimeAuthority
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import AT, Key, ec_key, issue, usage

STAMPING = "1.3.6.1.5.5.7.3.8"
# Two years, as with many authorities: they end long before a certificate is last read.
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
# A day before the appraisal of other scenes, and half a day before their run began.
MADE = AT - timedelta(hours=6)
BEFORE = datetime(2026, 10, 31, 9, 30, tzinfo=UTC)
HASHES: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "sha1": ("1.3.14.3.2.26", hashes.SHA1()),  # noqa: S303 - to be refused
    "sha256": ("2.16.840.1.101.3.4.2.1", hashes.SHA256()),
    "sha384": ("2.16.840.1.101.3.4.2.2", hashes.SHA384()),
    "sha512": ("2.16.840.1.101.3.4.2.3", hashes.SHA512()),
}
SIGNED_DATA, TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
CERTIFICATE_V1, CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"
RSA, ECDSA = "1.2.840.113549.1.1.1", "1.2.840.10045.4.3."


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return one element of DER."""
    content = b"".join(contents)
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 128 + len(octets))) + octets + content


def sequence(*contents: bytes) -> bytes:
    return tlv(0x30, *contents)


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def oid(dotted: str) -> bytes:
    first, second, *arcs = map(int, dotted.split("."))
    octets = bytearray()
    for arc in (40 * first + second, *arcs):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        octets += bytes(reversed(groups))
    return tlv(6, bytes(octets))


def algorithm(dotted: str, *parameters: bytes) -> bytes:
    return sequence(oid(dotted), *parameters)


def attribute(kind: str, *values: bytes) -> bytes:
    return sequence(oid(kind), tlv(0x31, *values))


@dataclass(frozen=True, kw_only=True)
class Token:
    """The parts of a token: None takes what RFC 3161 prescribes, any other value is put in."""

    digest: bytes = b""
    time: datetime = MADE
    root_name: str = "time root"
    root_key: Key = field(default_factory=lambda: ec_key("time root"))
    key: Key = field(default_factory=lambda: ec_key("time authority"))
    root_valid: tuple[datetime, datetime] = (START, datetime(2036, 1, 1, tzinfo=UTC))
    valid: tuple[datetime, datetime] = (START, END)
    # Purposes of the signer's certificate.
    purposes: Sequence[str] = (STAMPING,)
    critical: bool = True
    ca: bool = False
    key_usage: x509.KeyUsage | None = field(default_factory=usage)
    # CAs between signer and root, the one nearest to the root first.
    middle: tuple[dict[str, Any], ...] = ()
    carried: bool = True
    hash: str = "sha256"
    imprint_hash: str = "sha256"
    imprint_algorithm: str = ""
    version: int = 1
    gen_time: bytes | None = None
    accuracy: bytes = b""
    more_info: bytes = b""
    content: bytes | None = None
    content_type: str = TST_INFO
    attributes: tuple[bytes, ...] | None = None
    # The certificate that the signed attribute names, and how it names it.
    named: bytes | None = None
    named_by: tuple[str, ...] = (CERTIFICATE_V2,)
    signature: bytes | None = None
    signature_algorithm: bytes | None = None
    signers: int = 1
    data_version: int = 3
    # What stands beside the certificates and after the signature; verifiers ignore it.
    lists: bytes = b""
    unsigned: bytes = b""
    signer_version: int = 1
    extra_certificates: tuple[bytes, ...] = ()

    def with_(self, **changes: Any) -> "Token":
        return replace(self, **changes)

    def root(self) -> bytes:
        """Issue the root that a policy pins."""
        start, end = self.root_valid
        return issue(
            self.root_name, self.root_key, issuer=self.root_name, issuer_key=self.root_key,
            ca=True, key_usage=usage(cert=True), start=start, end=end,
        )  # fmt: skip

    def authority(self, name: str = "test time") -> TimeAuthority:
        return TimeAuthority(name=name, root=self.root())

    def intermediates(self) -> list[bytes]:
        """Issue the intermediates, from the root downwards."""
        issuer, issuer_key, certificates = self.root_name, self.root_key, []
        for options in self.middle:
            name = options["name"]
            others = {key: value for key, value in options.items() if key != "name"}
            defaults: dict[str, Any] = {"ca": True, "key_usage": usage(cert=True)}
            certificates.append(
                issue(
                    name,
                    ec_key(name),
                    issuer=issuer,
                    issuer_key=issuer_key,
                    **defaults | others,
                )
            )
            issuer, issuer_key = name, ec_key(name)
        return certificates

    def certificate(self) -> bytes:
        """Issue the signer's certificate."""
        name, key = self.root_name, self.root_key
        if self.middle:
            name = self.middle[-1]["name"]
            key = ec_key(name)
        purposes = [x509.ObjectIdentifier(one) for one in self.purposes]
        extra = [(x509.ExtendedKeyUsage(purposes), self.critical)] if purposes else []
        start, end = self.valid
        return issue(
            "time authority", self.key, issuer=name, issuer_key=key, ca=self.ca,
            key_usage=self.key_usage, extra=extra, start=start, end=end, serial=4711,
        )  # fmt: skip

    def info(self) -> bytes:
        """Return the TSTInfo."""
        if self.content is not None:
            return self.content
        imprint = sequence(
            algorithm(self.imprint_algorithm or HASHES[self.imprint_hash][0], b"\x05\x00"),
            tlv(4, self.digest),
        )
        when = self.gen_time or self.time.strftime("%Y%m%d%H%M%SZ").encode()
        return sequence(
            integer(self.version), oid("1.3.6.1.4.1.99999.1"), imprint, integer(17),
            tlv(0x18, when), self.accuracy, self.more_info,
        )  # fmt: skip

    def signed_attributes(self) -> tuple[bytes, ...]:
        if self.attributes is not None:
            return self.attributes
        digest = hashlib.new(self.hash, self.info()).digest()
        named = self.named or self.certificate()
        kinds = {
            CERTIFICATE_V1: sequence(sequence(tlv(4, hashlib.sha1(named).digest()))),  # noqa: S324
            CERTIFICATE_V2: sequence(sequence(tlv(4, hashlib.sha256(named).digest()))),
        }
        return (
            attribute(CONTENT_TYPE, oid(TST_INFO)),
            attribute(MESSAGE_DIGEST, tlv(4, digest)),
            *(attribute(kind, sequence(kinds[kind])) for kind in self.named_by),
        )

    def signer_info(self) -> bytes:
        certificate = x509.load_der_x509_certificate(self.certificate())
        # X.690, 11.6: the elements of a SET OF are sorted.
        attributes = b"".join(sorted(self.signed_attributes()))
        named, hash_ = HASHES[self.hash]
        signed = tlv(0x31, attributes)
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(signed, padding.PKCS1v15(), hash_)
            kind = algorithm(RSA, b"\x05\x00")
        else:
            signature = self.key.sign(signed, ca_forge.ecdsa(hash_))
            kind = algorithm(ECDSA + {"sha256": "2", "sha384": "3", "sha512": "4"}[self.hash])
        return sequence(
            integer(self.signer_version),
            sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number)),
            algorithm(named, b"\x05\x00"),
            tlv(0xA0, attributes),
            self.signature_algorithm or kind,
            tlv(4, signature if self.signature is None else self.signature),
            self.unsigned,
        )

    def der(self) -> bytes:
        """Return the whole token."""
        carried = (self.certificate(), *self.intermediates()) if self.carried else ()
        certificates = sorted((*carried, *self.extra_certificates))
        data = sequence(
            integer(self.data_version),
            tlv(0x31, algorithm(HASHES[self.hash][0], b"\x05\x00")),
            sequence(oid(self.content_type), tlv(0xA0, tlv(4, self.info()))),
            tlv(0xA0, *certificates) if certificates else b"",
            self.lists,
            tlv(0x31, *[self.signer_info()] * self.signers),
        )
        return sequence(oid(SIGNED_DATA), tlv(0xA0, data))

    def entry(self) -> str:
        """Return the entry for `timestamps`."""
        return "rfc3161:" + base64.b64encode(self.der()).decode()
