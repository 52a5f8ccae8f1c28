"""TPM policies by arithmetic: the digest of a policy session after its terms, and Names.

TPM 2.0 Library, Part 3, clause 23 (enhanced authorisation), and Part 1, clause 16 (Names). Each
term extends a digest, which begins as 32 zero bytes. No TPM is touched: a custodian signs such a
digest, and a TPM that runs the same terms, all true, reaches the same one. Everything is SHA-256.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from aicert.formats.tpm import ALG_SHA256, COUNTER_BYTES, sha256_name

START: Final = bytes(32)

# Command codes, Part 2, 6.5.2.
CC_POLICY_NV: Final = 0x149
CC_UNSEAL: Final = 0x15E
CC_POLICY_AUTHORIZE: Final = 0x16A
CC_POLICY_COMMAND_CODE: Final = 0x16C
CC_POLICY_COUNTER_TIMER: Final = 0x16D
CC_POLICY_PCR: Final = 0x17F

# TPM_EO, Part 2, 6.8.
EQUAL: Final = 0x0000
UNSIGNED_LESS: Final = 0x0005
UNSIGNED_AT_MOST: Final = 0x0009

# Where a number stands in TPMS_TIME_INFO (Part 2, 10.11.6), and how many octets it has.
CLOCK: Final = (8, 8)
RESET_COUNT: Final = (16, 4)
RESTART_COUNT: Final = (20, 4)

# TPMA_NV, Part 2, 13.4: a counter that whoever holds the TPM may read and increment, and that no
# failed authorisation locks. TPMA_NV_WRITTEN is set by the first increment.
NV_WRITTEN: Final = 0x2000_0000
COUNTER_ATTRIBUTES: Final = (
    0x0000_0002  # TPMA_NV_OWNERWRITE
    | 0x0000_0004  # TPMA_NV_AUTHWRITE
    | 0x0000_0010  # TPM_NT_COUNTER
    | 0x0002_0000  # TPMA_NV_OWNERREAD
    | 0x0004_0000  # TPMA_NV_AUTHREAD
    | 0x0200_0000  # TPMA_NV_NO_DA
)


def pcr_selection(pcrs: Mapping[int, bytes]) -> bytes:
    """Return the TPML_PCR_SELECTION of registers 0 to 23 of the SHA-256 bank (Part 2, 10.9.7)."""
    bits = sum(1 << index for index in pcrs)
    return (1).to_bytes(4) + ALG_SHA256.to_bytes(2) + b"\x03" + bits.to_bytes(3, "little")


def with_pcrs(digest: bytes, values: Mapping[int, bytes]) -> bytes:
    """Return `digest` after TPM2_PolicyPCR: these registers have these values."""
    registers = hashlib.sha256(b"".join(values[index] for index in sorted(values))).digest()
    return _extended(digest, CC_POLICY_PCR, pcr_selection(values) + registers)


def with_counter(digest: bytes, name: bytes, operation: int, operand: int) -> bytes:
    """Return `digest` after TPM2_PolicyNV.

    The term is that `operation` holds between the counter of this Name and `operand`.
    """
    arguments = operand.to_bytes(COUNTER_BYTES) + bytes(2) + operation.to_bytes(2)
    return _extended(digest, CC_POLICY_NV, hashlib.sha256(arguments).digest() + name)


def with_time(digest: bytes, place: tuple[int, int], operation: int, operand: int) -> bytes:
    """Return `digest` after TPM2_PolicyCounterTimer.

    The term is that `operation` holds between the number at `place` (CLOCK, RESET_COUNT or
    RESTART_COUNT) and `operand`.
    """
    offset, size = place
    arguments = operand.to_bytes(size) + offset.to_bytes(2) + operation.to_bytes(2)
    return _extended(digest, CC_POLICY_COUNTER_TIMER, hashlib.sha256(arguments).digest())


def with_command(digest: bytes, code: int) -> bytes:
    """Return `digest` after TPM2_PolicyCommandCode: the session authorises this command alone."""
    return _extended(digest, CC_POLICY_COMMAND_CODE, code.to_bytes(4))


def authorized_by(key_name: bytes, reference: bytes) -> bytes:
    """Return the digest of TPM2_PolicyAuthorize.

    The term is that this key signed the session's policy together with `reference`.
    """
    by_key = _extended(START, CC_POLICY_AUTHORIZE, key_name)
    return hashlib.sha256(by_key + reference).digest()


def counter_public(index: int) -> bytes:
    """Return the TPMS_NV_PUBLIC of a counter at `index`, incremented once (Part 2, 13.6)."""
    return (
        index.to_bytes(4)
        + ALG_SHA256.to_bytes(2)
        + (COUNTER_ATTRIBUTES | NV_WRITTEN).to_bytes(4)
        + (0).to_bytes(2)  # no authPolicy
        + COUNTER_BYTES.to_bytes(2)
    )


def counter_name(index: int) -> bytes:
    """Return that counter's Name; an index of another kind in its place has another Name."""
    return sha256_name(counter_public(index))


def _extended(digest: bytes, code: int, arguments: bytes) -> bytes:
    return hashlib.sha256(digest + code.to_bytes(4) + arguments).digest()
