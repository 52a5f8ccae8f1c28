"""Signed notes and the keys that sign them (C2SP signed-note), with Ed25519.

Promises: a note can be read in only one way, its text is what was signed, and a key counts only if
a line has its name and id and the signature is the key's own: an id has only four bytes, which
anybody can match. Lines of other keys are kept but prove nothing. Left out: other kinds of
signatures (ECDSA, ML-DSA), whose lines are those of an unknown key.
"""

import hashlib
from typing import TYPE_CHECKING, Final

from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.digest import is_hex
from aicert.frozen import dataclass
from aicert.tlog.encoding import to_base64, unbase64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# The kinds of signatures, as a key's id and encoding have them: over a note's text, and a
# witness's.
ED25519: Final = 1
COSIGNATURE: Final = 4
ALGORITHMS: Final = (ED25519, COSIGNATURE)
KEY_BYTES: Final = 32
ID_BYTES: Final = 4
SIGNATURE_BYTES: Final = 64
# Sixteen post-quantum signatures of 2,424 bytes take 52,000.
MAX_NOTE: Final = 1 << 16
MAX_SIGNATURES: Final = 32
MAX_KEY_NAME: Final = 255
_DASH: Final = "\u2014 "


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public key, what it signs (`algorithm`), and the name on its signatures."""

    name: str
    algorithm: int
    public: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if self.algorithm not in ALGORITHMS or len(self.public) != KEY_BYTES:
            raise EvidenceError(f"the key of {self.name} is not an Ed25519 key of a known kind")

    @property
    def id(self) -> bytes:
        """The first bytes of the key's digest: a hint at which key it is, and no more."""
        encoded = bytes((self.algorithm,)) + self.public
        return hashlib.sha256(self.name.encode() + b"\n" + encoded).digest()[:ID_BYTES]

    def __str__(self) -> str:
        """Return NAME+ID+BASE64, as policies name a key."""
        return f"{self.name}+{self.id.hex()}+{to_base64(bytes((self.algorithm,)) + self.public)}"

    @classmethod
    def parse(cls, text: str, algorithm: int | None = None) -> "VerifierKey":
        """Read a key in the form that `str` gives; EvidenceError for any other.

        `algorithm`: the kind that the key must be of, if the caller wants one.
        """
        name, _, rest = text.partition("+")
        given, _, encoded = rest.partition("+")
        if not is_hex(given, 2 * ID_BYTES) or len(encoded) > 2 * KEY_BYTES:
            raise EvidenceError("a verifier key is not NAME+ID+BASE64")
        data = unbase64(encoded, "a verifier key")
        key = cls(name=name, algorithm=data[0] if data else 0, public=data[1:])
        if key.id.hex() != given:
            raise EvidenceError(
                f"the verifier key of {name} has a different id\nfound     {given}\n"
                f"expected  {key.id.hex()}"
            )
        if algorithm is not None:
            key.check_kind(algorithm)
        return key

    def check_kind(self, algorithm: int) -> None:
        """Raise EvidenceError unless this is a log's (ED25519) or a witness's key (COSIGNATURE).

        `algorithm` says which of the two it must be.
        """
        if self.algorithm != algorithm:
            kinds = {ED25519: "a log's", COSIGNATURE: "a witness's"}
            raise EvidenceError(
                f"the key of {self.name} is {kinds[self.algorithm]}, not {kinds[algorithm]}"
            )

    def check(self, signature: bytes, data: bytes) -> None:
        """Raise EvidenceError unless this key made `signature` over `data`."""
        from cryptography.exceptions import InvalidSignature

        try:
            _public_key(self.public).verify(signature, data)
        except InvalidSignature:
            raise EvidenceError(
                f"a signature in the name of {self.name} was not made by its key"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A line below a note: the signer's name, the key's id, and the signature."""

    name: str
    id: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text, including its last line feed, and the lines that claim to sign it."""

    text: bytes
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> "Note":
        """Read a note; nothing is verified. Raises EvidenceError."""
        if len(data) > MAX_NOTE:
            raise EvidenceError(f"a signed note is larger than {MAX_NOTE} bytes")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            raise EvidenceError("a signed note is not UTF-8") from None
        if any(character < " " and character != "\n" for character in whole):
            raise EvidenceError("a signed note has a control character")
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise EvidenceError("a signed note does not end in a blank line and signatures")
        given = lines[:-1].split("\n", MAX_SIGNATURES)
        if len(given) > MAX_SIGNATURES:
            raise EvidenceError(f"a signed note has more than {MAX_SIGNATURES} signatures")
        return cls(text=(text + "\n").encode(), signatures=tuple(map(_signature, given)))

    def is_by(self, key: VerifierKey) -> bool:
        """Return whether a line has the key's name and id; nothing is verified."""
        return any((one.name, one.id) == (key.name, key.id) for one in self.signatures)

    def by(self, key: VerifierKey) -> list[bytes]:
        """Return the signatures in lines with the key's name and id; nothing is verified.

        Raises UndecidedError if there are none.
        """
        by = (key.name, key.id)
        # A repeated line does no harm.
        named = list(dict.fromkeys(one.data for one in self.signatures if by == (one.name, one.id)))
        if not named:
            raise UndecidedError(f"the note has no signature of {key.name}")
        return named

    def verify(self, key: VerifierKey) -> None:
        """Check that `key` signed this text.

        Raises UndecidedError if it signed nothing here; EvidenceError if it signed another text.
        """
        for signature in self.by(key):
            key.check(signature, self.text)


def check_key_name(name: str) -> None:
    """Raise EvidenceError unless `name` can be a key's: no space, no `+`, no control characters."""
    forbidden = any(one.isspace() or one < " " or one == "+" for one in name)
    if not name or forbidden or len(name.encode()) > MAX_KEY_NAME:
        raise EvidenceError(f"a key's name is empty, too long, or has a space or +: {name[:80]!a}")


def signature_line(key: VerifierKey, data: bytes) -> bytes:
    """Return the line with a signature by `key`, for the end of a note.

    `data`: the signature's 64 bytes; for a witness, 8 bytes of time come first.
    """
    return f"{_DASH}{key.name} {to_base64(key.id + data)}\n".encode()


def sign(seed: bytes, data: bytes) -> bytes:
    """Return the signature over `data` by the private key of this seed (RFC 8032, 5.1.5)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).sign(data)


def public_of(seed: bytes) -> bytes:
    """Return the public key of the private key with this seed."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _public_key(public: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(public)


def _signature(line: str) -> Signature:
    name, gap, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not gap:
        raise EvidenceError("a line below a note is not a signature")
    check_key_name(name)
    data = unbase64(encoded, f"a signature of {name[:80]!a}")
    if len(data) <= ID_BYTES:
        raise EvidenceError(f"a signature of {name[:80]!a} is empty")
    return Signature(name=name, id=data[:ID_BYTES], data=data[ID_BYTES:])
