"""DSSE v1 envelopes of one payload and one signature (github.com/secure-systems-lab/dsse).

The payload is opaque bytes: what is signed is `pae(type, payload)`, never a re-serialised form.
"""

import base64
import binascii

from aicert.errors import EvidenceError
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass

# The largest statement (`aicert.formats.statement.MAX_BYTES`): 20,000 files with paths of 100 bytes
# take 5 MB. In memory, long paths cost 17 times their bytes, and a verifier should stay below 200
# MB.
MAX_PAYLOAD = 1 << 23
# A signature by ECDSA on P-521 has some 140 bytes; a key's Name has 68 digits, a Sigstore hint 64.
MAX_SIGNATURE = 1024
MAX_KEYID = 128
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One envelope.

    `payload`: the statement's bytes; `signature`: DER ECDSA over `pae(...)`; `keyid`: a hint.
    """

    payload: bytes
    signature: bytes
    keyid: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the envelope as JSON-ready values."""
        return {
            "payload": b64encode(self.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": self.keyid, "sig": b64encode(self.signature)}],
        }

    @staticmethod
    def from_json(fields: Fields) -> "Envelope":
        """Read an envelope, which must have exactly one signature and our payload type."""
        fields.const("payloadType", PAYLOAD_TYPE)
        payload = b64decode(fields, "payload", max_bytes=MAX_PAYLOAD)
        signatures = fields.items("signatures", Fields, max_items=1)
        fields.done()
        if len(signatures) != 1:
            raise EvidenceError(f"{fields.where}.signatures: expected exactly one")
        signature = b64decode(signatures[0], "sig", max_bytes=MAX_SIGNATURE)
        keyid = signatures[0].text("keyid", max_length=MAX_KEYID)
        signatures[0].done()
        return Envelope(payload=payload, signature=signature, keyid=keyid)


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the pre-authentication encoding, which the signature covers (DSSE protocol, PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def b64encode(data: bytes) -> str:
    """Return `data` in standard base64 with padding (RFC 4648, 4)."""
    return base64.b64encode(data).decode("ascii")


def b64decode(fields: Fields, key: str, *, max_bytes: int) -> bytes:
    """Return the bytes of a field in standard base64; only their one encoding is accepted."""
    text = fields.text(key, max_length=4 * -(-max_bytes // 3))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EvidenceError(f"{fields.where}.{key} is not base64") from None
    if len(data) > max_bytes or b64encode(data) != text:
        raise EvidenceError(f"{fields.where}.{key} is too long or not canonical base64")
    return data


def b64decode_items(
    fields: Fields, key: str, *, max_items: int, max_bytes: int
) -> tuple[bytes, ...]:
    """Return the bytes of each string in a list, read as `b64decode` reads one."""
    values = fields.items(key, lambda value, _: value, max_items=max_items)
    items = Fields({str(i): value for i, value in enumerate(values)}, f"{fields.where}.{key}")
    return tuple(b64decode(items, str(i), max_bytes=max_bytes) for i in range(len(values)))
