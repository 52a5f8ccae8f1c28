"""The certificate authority of a simulated platform: one for each checkout and driver.

`local_ca` returns the same CA for the life of a checkout, however many processes ask at once. Only
its owner can read its key. If a process is killed at any point, the next call repairs what it left.
Every certificate that it signs, including its own, carries the critical extension of
`aicert.crypto.simulated`, so nobody can take it for a real platform's. Attestation key certificates
follow TCG Credential Profiles for TPM Family 2.0 (EKU tcg-kp-AIKCertificate) and RFC 5280.

There is no revocation: whoever has the checkout has the key, so the CA vouches for nothing.
"""

import contextlib
import datetime
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from aicert.appraisal.ak_chain import EKU_AK
from aicert.crypto import simulated
from aicert.errors import ToolError

_CA_LIFETIME: Final = datetime.timedelta(days=30 * 365)
# The longest validity that cloud platforms give their attestation keys (9 to 18 months).
_AK_LIFETIME: Final = datetime.timedelta(days=548)
# Clocks differ, so a certificate is valid from a little earlier.
_BACKDATED: Final = datetime.timedelta(hours=1)
_AK_KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Ca:
    """A simulated platform's CA: the path of its certificate (PEM), and its key."""

    driver: str
    path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, ak_public: rsa.RSAPublicKey) -> bytes:
        """Return a certificate (DER) for an attestation key, which must be RSA with 2048 bits."""
        if ak_public.key_size != _AK_KEY_BITS:
            raise ToolError(
                "the platform's attestation key has the wrong size\n"
                f"expected  {_AK_KEY_BITS} bits\nfound     {ak_public.key_size} bits"
            )
        name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"aicert simulated AK ({self.driver})")]
        )
        begin = datetime.datetime.now(datetime.UTC) - _BACKDATED
        begin = max(begin, self.certificate.not_valid_before_utc)
        end = min(begin + _AK_LIFETIME, self.certificate.not_valid_after_utc)
        if end <= begin:
            raise ToolError(
                f"the simulated platform's CA has expired: {self.path}",
                hint=f"rm {self.path} (certificates made under it stay verifiable with a copy)",
            )
        builder = _builder(name, self.certificate.subject, ak_public, begin, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(_key_usage(digital_signature=True), True)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([x509.ObjectIdentifier(EKU_AK)]), False
        )
        builder = builder.add_extension(_authority_key_id(self.key), False)
        builder = builder.add_extension(simulated.extension(self.driver), True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def local_ca(root: Path, driver: str) -> Ca:
    """Return the CA of `driver` in the checkout at `root`, created if there is none.

    Raises ToolError if it cannot be created, or if its certificate exists without its key.
    """
    folder = root / ".aicert" / "ca"
    pem, key = folder / f"{driver}.pem", folder / f"{driver}.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            # The certificate is written last: without it nobody has used the key.
            if not pem.exists():
                _make(driver, pem, key)
            return _load(driver, pem, key)
    except OSError as error:
        raise ToolError(
            f"cannot read or create the simulated platform's CA: {error}", hint=f"ls -la {folder}"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(driver: str, pem: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"aicert simulated platform CA ({driver})"),
            # RFC 5280 (4.1.2.6) wants different CAs to have different names.
            x509.NameAttribute(NameOID.SERIAL_NUMBER, secrets.token_hex(8)),
        ]
    )
    begin = datetime.datetime.now(datetime.UTC) - _BACKDATED
    builder = _builder(name, name, key.public_key(), begin, begin + _CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    builder = builder.add_extension(_key_usage(key_cert_sign=True), True)
    builder = builder.add_extension(simulated.extension(driver), True)
    certificate = builder.sign(key, hashes.SHA256())
    key_bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(key_path, key_bytes, 0o600)
    _replace(pem, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _load(driver: str, pem: Path, key_path: Path) -> Ca:
    hint = f"restore {key_path}, or `rm {pem}` to create a new CA (keep a copy for verifying)"
    try:
        certificate = x509.load_pem_x509_certificate(pem.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except FileNotFoundError as error:
        raise ToolError(
            f"the simulated platform's CA has a certificate but no key: {key_path}", hint=hint
        ) from error
    except (ValueError, TypeError) as error:
        raise ToolError(
            f"the simulated platform's CA cannot be read: {pem}, {key_path}", hint=hint
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ToolError(
            f"the simulated platform's CA certificate and key do not match: {pem}",
            hint=hint,
        )
    if simulated.simulated_driver(certificate) != driver:
        raise ToolError(
            f"the CA certificate is not that of a simulated platform ({driver}): {pem}", hint=hint
        )
    return Ca(driver=driver, path=pem, certificate=certificate, key=key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
    )


def _authority_key_id(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` atomically. The caller holds the folder's lock, so any temporary file is
    stale.
    """
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
