"""Keys that sign models, and how a verifier comes to trust a key.

ECDSA over P-256, P-384 or P-521 with SHA-256, SHA-384 or SHA-512, as in OpenSSF Model Signing.
Certificates, keys in tokens and TPMs, and keyless signatures have modules of their own: so a bare
key does not wait for X.509 to load, and only the others need extras.
"""

import hashlib
import os
import shlex
from collections.abc import Callable
from itertools import chain, count
from typing import Protocol, TypeGuard

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.bounded import StrPath, read_bounded
from aicert.formats.dsse import PAYLOAD_TYPE, pae
from aicert.frozen import dataclass
from aicert.model_signature import writer
from aicert.model_signature.reader import Bundle
from aicert.model_signature.signed_by import CURVES, key_text

MAX_PEM = 1 << 20
# Enough for a hundred thousand files. The old encoding takes ten times the payload in memory, and
# is tried for anybody's bundle.
_MAX_OLD = 1 << 24
# Hints to copy and paste write to unused names, so that nobody loses a key by pasting one.
MAKE_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out {}"
MAKE_PUBLIC = "openssl pkey -in key.pem -pubout -out {}"
_HASHES = {curve.name: algorithm for curve, algorithm in CURVES.values()}


class Signer(Protocol):
    """Whatever can sign a statement."""

    def bundle(self, payload: bytes) -> bytes:
        """Return the content of the signature file for `payload`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySigner:
    """A signer with a key, wherever the private half is.

    `sign` returns the DER signature of some bytes, with the curve's hash. `certificates` go into
    the signature file (DER, the key's own first).
    """

    public: ec.EllipticCurvePublicKey
    sign: Callable[[bytes], bytes]
    certificates: tuple[bytes, ...] = ()

    def bundle(self, payload: bytes) -> bytes:
        """Return the content of the signature file for `payload`, after verifying the new
        signature.
        """
        data = pae(payload)
        signature = self.sign(data)
        try:
            self.public.verify(signature, data, ec.ECDSA(_hash_of(self.public)))
        except InvalidSignature:
            raise ToolError("what was signed does not verify with the signer's own key") from None
        material = (
            writer.certificate_material(self.certificates)
            if self.certificates
            else writer.key_material(self.public)
        )
        return writer.bundle(payload, signature, material)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Whom a verifier trusts for one bundle, and why, in words.

    `verify` raises EvidenceError unless they signed the bundle's payload, and returns in words what
    it verified.
    """

    why: str
    verify: Callable[[Bundle], str]


def key_signer(private: ec.EllipticCurvePrivateKey) -> KeySigner:
    """Return a signer that uses this private key."""
    public = private.public_key()
    algorithm = ec.ECDSA(_hash_of(public))
    return KeySigner(public=public, sign=lambda data: private.sign(data, algorithm))


def load_signer(key: StrPath, *, password: str | None = None) -> KeySigner:
    """Load a signer from a PEM file; ConfigError if the key cannot sign models."""
    data = read_pem(key, "private key", MAKE_KEY)
    try:
        secret = None if password is None else password.encode()
        private = serialization.load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_private_key(key, data, password, error) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name not in _HASHES:
        raise ConfigError(
            f"{os.fspath(key)!a} is not a key on P-256, P-384 or P-521",
            hint=MAKE_KEY.format(free("p256.pem")),
        )
    return key_signer(private)


def _no_private_key(
    key: StrPath, data: bytes, password: str | None, error: Exception
) -> ConfigError:
    """Return the error for a file that should hold a private key: what is wrong, and what to do."""
    name = os.fspath(key)
    if data.lstrip().startswith(b"-----BEGIN PUBLIC KEY"):
        return ConfigError(
            f"{name!a} is a public key, but signing needs the private one", hint="--key key.pem"
        )
    if b"ENCRYPTED" in data and not password:
        return ConfigError(
            f"{name!a} is encrypted, and no password was given",
            hint="--password-env NAME: the environment variable that holds its password",
        )
    return _no_key(name, data, "usable private key", error, convert="openssl pkey -in {} -out {}")


def _no_key(name: str, data: bytes, what: str, error: Exception, *, convert: str) -> ConfigError:
    if b"-----BEGIN" not in data:
        return ConfigError(
            f"{name!a} is not a {what} in PEM",
            hint="if it is one in DER: " + convert.format(shlex.quote(name), free(f"{name}.pem")),
        )
    if b"-----BEGIN CERTIFICATE" in data:
        return ConfigError(
            f"{name!a} is not a {what}: it holds a certificate",
            hint="a certificate signs with --key PEM --certificate PEM, and verifies with"
            " --certificate-chain PEM",
        )
    reason = next(
        (reason_text for words, reason_text in _REASONS.items() if words in str(error)), _DAMAGED
    )
    return ConfigError(f"{name!a} is not a {what}: {reason}")


# The library's messages about a key → ours.
_REASONS = {
    "ncorrect password": "the password is wrong",
    "not encrypted": "a password was given, but it is not encrypted",
}
_DAMAGED = "it is cut short, damaged or of an unsupported kind"


def free(name: str) -> str:
    """Return `name`, or the first similar name that is not taken, quoted for a shell.

    Hints use it, because openssl empties its output file before it reads its input.
    """
    stem, suffix = os.path.splitext(name)
    more = (f"{stem}-{number}{suffix}" for number in count(2))
    return shlex.quote(next(each for each in chain((name,), more) if not os.path.lexists(each)))


def is_signing_key(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    """Return whether a public key is of a kind that signs models."""
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES


def signing_key(key: object, what: str) -> ec.EllipticCurvePublicKey:
    """Return `key` if it is of a kind that signs models; otherwise raise ConfigError."""
    if not is_signing_key(key):
        raise ConfigError(f"{what} is not a key on P-256, P-384 or P-521")
    return key


def digest_of(key: ec.EllipticCurvePublicKey, data: bytes) -> bytes:
    """Return the digest of `data` by the curve's hash, which is what a token signs."""
    return hashlib.new(_hash_of(key).name, data).digest()


def trust_key(bundle: Bundle, public: StrPath) -> Trusted:
    """Trust the caller's own public key; EvidenceError if the bundle names a different one."""
    data = read_pem(public, "public key", MAKE_PUBLIC)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        name = os.fspath(public)
        if b"PRIVATE KEY-----" in data:
            hint = f"openssl pkey -in {shlex.quote(name)} -pubout -out {free('key.pub')}"
            raise ConfigError(
                f"{name!a} is a private key, but verifying needs the public one", hint=hint
            ) from None
        convert = "openssl pkey -pubin -in {} -out {}"
        raise _no_key(name, data, "public key", error, convert=convert) from None
    key = signing_key(key, f"{os.fspath(public)!a}")
    hint = writer.key_hint(writer.public_pem(key))
    named = f"\n{key_text(key)}"
    if bundle.certificates:
        why = "the key that you named (the bundle's certificates were not read)"
        return trusted(key, why + named)
    if bundle.hint is None:
        return trusted(key, "the key that you named (the bundle names none)" + named)
    if bundle.hint != hint:
        raise EvidenceError(
            "signed by a different key than the one you named (SHA-256 of their PEM)"
            f"\nfound     {bundle.hint[:80]!a}\nexpected  {hint}"
        )
    return trusted(key, "the key that you named" + named)


def trusted(key: ec.EllipticCurvePublicKey, why: str) -> Trusted:
    """Trust one key, for the reason `why`."""
    return Trusted(why=why, verify=lambda bundle: verify(bundle, key))


def verify(bundle: Bundle, key: ec.EllipticCurvePublicKey) -> str:
    """Raise EvidenceError unless `key` signed the payload; return in words what was verified."""
    hash_ = _hash_of(key)
    if _signed(bundle, key, pae(bundle.payload), hash_):
        return f"ECDSA with {hash_.name.upper()} over the statement"
    # model_signing 0.2 signed the text that Python shows for the payload, an injective encoding.
    length, kind = len(bundle.payload), PAYLOAD_TYPE
    if length > _MAX_OLD:
        raise EvidenceError("the statement is not signed by this key")
    shown = f"DSSEV1 {len(kind)} {kind} {length} {bundle.payload!r}".encode()
    for old in (hash_, hashes.SHA256()):
        if _signed(bundle, key, shown, old):
            return f"ECDSA with {old.name.upper()} over the encoding of model_signing 0.2"
    raise EvidenceError("the statement is not signed by this key")


def _signed(
    bundle: Bundle, key: ec.EllipticCurvePublicKey, data: bytes, hash_: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(bundle.signature, data, ec.ECDSA(hash_))
    except InvalidSignature:
        return False
    return True


def _hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    return _HASHES[key.curve.name]


def read_pem(path: StrPath, what: str, make: str | None = None) -> bytes:
    """Read a file that the caller named; ConfigError if it cannot be read.

    `make`: a command that creates such a file, as a hint for those who have none.
    """
    hint = None
    if make is not None and not os.path.lexists(path):
        hint = make.format(shlex.quote(os.fspath(path)))
    try:
        return read_bounded(path, MAX_PEM, what, hint=hint)
    except EvidenceError as error:
        raise ConfigError(error.message, hint=error.hint) from None
