"""Answer receipts: what a machine signs about one answer, for the client who asked for it.

A receipt is a token: COSE_Sign1 (RFC 9052) over claims of CWT and EAT (RFC 8392, 9711), in
deterministic CBOR. It names model, lease and terms, the digests of request and answer, the tokens
that were counted, the client's nonce, and the evidence that this machine showed on that connection.
Where the draft "Attested Inference Receipt" has a claim of this meaning, its number is used. The
draft's profile is not claimed, since it admits only Ed25519 keys and the platforms that it lists.

The key is the boot's TLS key: evidence binds it to the TPM (`serve.channel`), and each receipt of
the lease names it (`boot`). A signature of TLS is over 64 spaces and a context, one of COSE over an
array, so neither can pass for the other. The machine's clock is its host's, so `at` proves nothing.
"""

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Final

from aicert.crypto.signatures import ecdsa_der, verify_ecdsa
from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.frozen import dataclass
from aicert.lease import cbor, keys
from aicert.lease.cbor import Value
from aicert.lease.checks import RefusedError, checking
from aicert.lease.terms import Terms

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

WHAT: Final = "the answer's receipt"
MAX_BYTES: Final = 1024
PROFILE: Final = "urn:aicert:answer-receipt:1"
HEADER: Final = "aicert-receipt"
"""The name of the request's header with the client's nonce, and of the answer's header or trailer
with the receipt.
"""
_COSE_SIGN1: Final = 18
_ALG, _KID, _ES256 = 1, 4, -7
_NUMBER_BYTES: Final = 32
# The claims of CWT and EAT.
_IAT, _CTI, _NONCE, _PROFILE = 6, 7, 10, 265
# The draft's claims.
_MODEL_ID, _MODEL_HASH, _REQUEST, _RESPONSE = -65537, -65539, -65540, -65541
_EVIDENCE, _SEQUENCE, _MILLISECONDS, _MODEL_SCHEME = -65542, -65545, -65546, -65549
# Our own claims, in the range for private use.
_TERMS, _TOKENS_IN, _TOKENS_OUT = -70001, -70002, -70003
_CLAIMS: Final = frozenset((
    _IAT, _CTI, _NONCE, _PROFILE, _MODEL_ID, _MODEL_HASH, _REQUEST, _RESPONSE, _EVIDENCE,
    _SEQUENCE, _MILLISECONDS, _MODEL_SCHEME, _TERMS, _TOKENS_IN, _TOKENS_OUT,
))  # fmt: skip
_MAX_COUNT: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReceipt:
    """The content of an answer receipt.

    `lease`: the lease's name, which is also what clients call the model; `answer`: 16 octets of its
    own, in hex, which the answer's `id` has too; `nonce`: the client's, in hex; `evidence`: SHA-256
    of the evidence that the machine showed on this connection; `request`, `response`: SHA-256 of
    both bodies; `number`: how many answer receipts this boot has signed, with this one; `at`:
    seconds since 1970.
    """

    lease: str
    terms: Digest
    model: Digest
    answer: str
    nonce: str
    evidence: Digest
    request: Digest
    response: Digest
    number: int
    tokens_in: int
    tokens_out: int
    at: int
    milliseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAnswer:
    """A receipt, and the key (SubjectPublicKeyInfo, DER) that it names as its own."""

    receipt: AnswerReceipt
    spki: bytes

    @property
    def boot(self) -> str:
        """The name of the boot in receipts of the lease: SHA-256 of `spki`, in hex."""
        return hashlib.sha256(self.spki).hexdigest()


def sign(key: "EllipticCurvePrivateKey", receipt: AnswerReceipt) -> bytes:
    """Return the signed token."""
    spki = keys.spki_of(key.public_key())
    protected = cbor.dumps({_ALG: _ES256, _KID: spki})
    payload = cbor.dumps(_claims(receipt))
    r, s = keys.signature_numbers(keys.sign(key, _to_be_signed(protected, payload)))
    signature = r.to_bytes(_NUMBER_BYTES) + s.to_bytes(_NUMBER_BYTES)
    return cbor.dumps([protected, {}, payload, signature], _COSE_SIGN1)


def verify(token: bytes) -> SignedAnswer:
    """Return the receipt in a token, if the key that it names signed it.

    Raises RefusedError (`answer.signature`) if the key did not, and EvidenceError for another form.
    The caller must check whose key that is.
    """
    if len(token) > MAX_BYTES:
        raise EvidenceError(f"{WHAT} is larger than {MAX_BYTES} bytes")
    parts = cbor.loads(token, WHAT, _COSE_SIGN1)
    if not isinstance(parts, list) or len(parts) != 4 or parts[1] != {}:
        raise EvidenceError(f"{WHAT} is not a COSE_Sign1 without unprotected headers")
    protected, _, payload, signature = parts
    if not (
        isinstance(protected, bytes)
        and isinstance(payload, bytes)
        and isinstance(signature, bytes)
        and len(signature) == 2 * _NUMBER_BYTES
    ):
        raise EvidenceError(f"{WHAT} is not a COSE_Sign1 with a signature of P-256")
    header = cbor.loads(protected, WHAT)
    if not isinstance(header, dict) or set(header) != {_ALG, _KID} or header[_ALG] != _ES256:
        raise EvidenceError(f"{WHAT} has other headers than alg ES256 and kid")
    spki = _bytes(header, _KID)
    key = keys.load_public(spki, "the key of an answer's receipt")
    with checking("answer.signature"):
        verify_ecdsa(
            key,
            ecdsa_der(*(int.from_bytes(part) for part in (signature[:32], signature[32:]))),
            _to_be_signed(protected, payload),
            "sha256",
            "the receipt is not signed by the key that it names",
        )
    return SignedAnswer(receipt=_read(cbor.loads(payload, WHAT)), spki=spki)


def to_text(token: bytes) -> str:
    """Return a token in standard base64, as a header or a file carries it."""
    return base64.b64encode(token).decode("ascii")


def from_text(text: str) -> bytes:
    """Return the token of its one base64 encoding; EvidenceError for anything else."""
    try:
        token = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceError(f"{WHAT} is not base64") from None
    if not token or to_text(token) != text:
        raise EvidenceError(f"{WHAT} is not canonical base64")
    return token


def check_terms(receipt: AnswerReceipt, terms: Terms) -> None:
    """Raise RefusedError unless the receipt is for this lease, these terms and their model."""
    if (receipt.lease, receipt.terms, receipt.model) != (terms.lease, terms.digest, terms.model):
        raise RefusedError(
            "answer.body", "it is for a different lease, different terms or a different model"
        )


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure (RFC 9052, 4.4), without external data."""
    return cbor.dumps(["Signature1", protected, b"", payload])


def _claims(receipt: AnswerReceipt) -> dict[int, Value]:
    return {
        _IAT: receipt.at,
        _CTI: bytes.fromhex(receipt.answer),
        _NONCE: bytes.fromhex(receipt.nonce),
        _PROFILE: PROFILE,
        _MODEL_ID: receipt.lease,
        _MODEL_HASH: bytes.fromhex(receipt.model.hex),
        _MODEL_SCHEME: receipt.model.kind,
        _REQUEST: bytes.fromhex(receipt.request.hex),
        _RESPONSE: bytes.fromhex(receipt.response.hex),
        _EVIDENCE: bytes.fromhex(receipt.evidence.hex),
        _SEQUENCE: receipt.number,
        _MILLISECONDS: receipt.milliseconds,
        _TERMS: bytes.fromhex(receipt.terms.hex),
        _TOKENS_IN: receipt.tokens_in,
        _TOKENS_OUT: receipt.tokens_out,
    }


def _read(claims: Value) -> AnswerReceipt:
    if not isinstance(claims, dict) or set(claims) != _CLAIMS or claims[_PROFILE] != PROFILE:
        raise EvidenceError(f"{WHAT} has other claims than those of {PROFILE}")
    return AnswerReceipt(
        lease=_text(claims, _MODEL_ID),
        terms=_digest(claims, _TERMS),
        model=Digest.parse(f"{_text(claims, _MODEL_SCHEME)}:{_bytes(claims, _MODEL_HASH).hex()}"),
        answer=_bytes(claims, _CTI, 16).hex(),
        nonce=_bytes(claims, _NONCE, 32).hex(),
        evidence=_digest(claims, _EVIDENCE),
        request=_digest(claims, _REQUEST),
        response=_digest(claims, _RESPONSE),
        number=_number(claims, _SEQUENCE),
        tokens_in=_number(claims, _TOKENS_IN),
        tokens_out=_number(claims, _TOKENS_OUT),
        at=_number(claims, _IAT),
        milliseconds=_number(claims, _MILLISECONDS),
    )


def _digest(claims: dict[int, Value], key: int) -> Digest:
    return Digest("sha256", _bytes(claims, key, 32).hex())


def _bytes(claims: dict[int, Value], key: int, size: int | None = None) -> bytes:
    value = claims[key]
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise EvidenceError(f"{WHAT} has a malformed claim {key}")
    return value


def _text(claims: dict[int, Value], key: int) -> str:
    value = claims[key]
    if not isinstance(value, str):
        raise EvidenceError(f"{WHAT} has a malformed claim {key}")
    return value


def _number(claims: dict[int, Value], key: int) -> int:
    value = claims[key]
    if not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
        raise EvidenceError(f"{WHAT} has a malformed claim {key}")
    return value
