"""Keys and certificates for tests of signatures, new in each test session."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
# Returns standard output and error since the last call.
Printed = Callable[[], tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A key in PEM files."""

    key: Path
    pub: Path
    private: ec.EllipticCurvePrivateKey


def pair(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> Pair:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    key, pub = folder / f"{name}.pem", folder / f"{name}.pub"
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    pub.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return Pair(key=key, pub=pub, private=private)


def certificate(
    folder: Path,
    name: str,
    subject: Pair,
    issuer: tuple[str, Pair],
    *,
    ca: bool = False,
    end: datetime.datetime = NOW + 30 * DAY,
    path_length: int | None = None,
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CODE_SIGNING,),
    may_sign: bool = True,
    address: str | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Path:
    """Write `name`.crt, issued to `subject` by `issuer` (its name and key)."""

    def named(text: str, address: str | None = None) -> x509.Name:
        names = [x509.NameAttribute(NameOID.COMMON_NAME, text)]
        if address is not None:
            names.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, address))
        return x509.Name(names)

    usage = x509.KeyUsage(
        digital_signature=may_sign and not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca and may_sign,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name, address))
        .issuer_name(named(issuer[0]))
        .public_key(subject.private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 10 * DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
    )
    if purposes and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signed = builder.sign(issuer[1].private, hashes.SHA256())
    path = folder / f"{name}.crt"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return path
