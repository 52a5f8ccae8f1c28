"""The file of a lease's keys if the signing key stays in a token or a TPM.

    {"brokerHalf":"…","keyAt":"pkcs11:token=leases;object=bot?module-path=…","lease":"…",
     "public":"…","tpmHalf":"…","version":2}

`DIR.keys` then holds both halves of the content key, and says where the lease key is, which signs
licences and orders and cannot be copied with the file. Both halves together open the model: whoever
has the file can open it, wherever the lease key is.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from aicert.crypto.signatures import verify_ecdsa
from aicert.errors import EvidenceError, ToolError
from aicert.formats import strict_json
from aicert.formats.dsse import b64decode, b64encode
from aicert.formats.strict_json import Fields
from aicert.lease import custody, keys
from aicert.lease.custody import Secrets
from aicert.lease.terms import LEASE_DIGITS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

VERSION: Final = 2
MAX_PLACE: Final = 2048
_MAX_PUBLIC: Final = 256
_WHAT: Final = "the custodian's keys"

# Signs bytes with the key at a place (ECDSA with SHA-256) and returns the DER signature.
Sign = Callable[[str, bytes], bytes]


class HeldKey:
    """A P-256 key that signs where it is stored. Only its place can be printed."""

    __slots__ = ("_public", "_sign", "place")

    def __init__(self, place: str, public: "EllipticCurvePublicKey", sign: Sign) -> None:
        self.place = place
        self._public = public
        self._sign = sign

    def __repr__(self) -> str:
        return "HeldKey()"

    def public_key(self) -> "EllipticCurvePublicKey":
        """Return the public half, as the file has it."""
        return self._public

    def sign(self, data: bytes, _: object) -> bytes:
        """Return the signature over the SHA-256 of `data`; it is verified before anybody
        gets it.
        """
        signature = self._sign(self.place, data)
        try:
            keys.signature_numbers(signature)
            verify_ecdsa(self._public, signature, data, "sha256", "it is by a different key")
        except EvidenceError as error:
            raise ToolError(f"the named key does not sign: {error.message}") from None
        return signature


def drawn(key: HeldKey, *, offline: bool) -> Secrets:
    """Return fresh secrets for a new lease whose signing key is in a token or a TPM."""
    fresh = custody.drawn(offline=offline)
    return _secrets(fresh.lease, key, fresh.tpm_half, fresh.broker_half)


def emit(kept: Secrets) -> bytes:
    """Return the bytes of the keys file, in the form for this kind of key."""
    key: Any = kept.key
    if not isinstance(key, HeldKey):
        return custody.emit(kept)
    return strict_json.dumps(
        {
            "brokerHalf": kept.broker_half.hex(),
            "keyAt": key.place,
            "lease": kept.lease,
            "public": b64encode(keys.spki_of(key.public_key())),
            "tpmHalf": kept.tpm_half.hex(),
            "version": VERSION,
        }
    )


def parse(data: bytes, sign: Sign) -> Secrets:
    """Parse a keys file; EvidenceError for anything that was not written by `emit`."""
    fields = Fields(strict_json.loads(data, what=_WHAT, max_bytes=custody.MAX_BYTES), _WHAT)
    if not fields.has("keyAt"):
        return custody.parse(data)
    fields.const("version", VERSION)
    place = fields.text("keyAt", max_length=MAX_PLACE)
    public = keys.load_public(b64decode(fields, "public", max_bytes=_MAX_PUBLIC))
    kept = _secrets(
        fields.hex("lease", LEASE_DIGITS),
        HeldKey(place, public, sign),
        bytes.fromhex(fields.hex("tpmHalf")),
        bytes.fromhex(fields.hex("brokerHalf")),
    )
    fields.done()
    if emit(kept) != data:
        raise EvidenceError(f"{_WHAT} are not in their one form")
    return kept


def _secrets(lease: str, key: HeldKey, tpm_half: bytes, broker_half: bytes) -> Secrets:
    # Licences and orders use only a key's public half and its signatures.
    return Secrets(lease=lease, key=cast("Any", key), tpm_half=tpm_half, broker_half=broker_half)
