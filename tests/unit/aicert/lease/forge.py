"""A receipt key whose private half the tests hold, and counter readings with any values."""

import hashlib
from typing import Any

from aicert.lease import licence, receipts, tpm_policy
from aicert.lease.receipts import Heartbeat, Receipt, Usage
from tests.adversarial import ca_forge, tpm_forge
from tests.vectors.leases import FIRMWARE, IMAGE, LEASE, agreed

VALUES = licence.registers(FIRMWARE, IMAGE)
SIGNER = ca_forge.ec_key("receipts")
NONCE = "0f" * 32


def public(**changes: Any) -> bytes:
    """Return the TPMT_PUBLIC of the receipt key, with some values changed."""
    given: dict[str, Any] = {
        "attributes": receipts.RECEIPT_KEY_ATTRIBUTES, "policy": licence.receipt_policy(VALUES),
    }  # fmt: skip
    return tpm_forge.ecc_public(SIGNER.public_key(), **given | changes)


KEY = receipts.check_receipt_key(public(), VALUES)


def heartbeat(**changes: Any) -> Heartbeat:
    given: dict[str, Any] = {
        "lease": LEASE, "seq": 1, "previous": agreed().digest.hex, "nonce": NONCE,
        "boot": "b0" * 32, "usage": Usage(),
    }  # fmt: skip
    return Heartbeat(**given | changes)


def receipt(
    body: bytes, value: int = 10, *, index: int = licence.METER_INDEX, key: Any = SIGNER,
    signer: bytes = KEY.qualified_name, extra: bytes | None = None, **attest: Any,
) -> Receipt:  # fmt: skip
    """Return the receipt that a TPM with that key would sign for a counter."""
    name = tpm_policy.counter_name(index)
    attested = tpm_forge.attest(
        **{
            "body": tpm_forge.counter_body(name, value),
            "kind": tpm_forge.NV,
            "extra": hashlib.sha256(body).digest() if extra is None else extra,
            "signer": signer,
            **attest,
        }
    )
    return Receipt(body=body, attest=attested, signature=tpm_forge.sign(key, attested))
