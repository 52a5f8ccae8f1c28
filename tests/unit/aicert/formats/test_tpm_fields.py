"""TPM structures field by field: at the limit, one octet beyond it, and with a wrong value."""

import struct
from collections.abc import Callable

import pytest

from aicert.errors import ConfigError, EvidenceError, UndecidedError
from aicert.formats import tpm
from tests.adversarial.forger import Scene

# A field as (name, limit), or fixed bytes.
Piece = bytes | tuple[str, int]
Parse = Callable[[bytes], object]


def u16(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def head(kind: int) -> tuple[Piece, ...]:
    clock = struct.pack(">QIIBQ", 1, 2, 3, 1, 4)
    return (struct.pack(">IH", 0xFF544347, kind), ("qualifiedSigner", 66), ("extraData", 66), clock)


def selection(octets: int) -> bytes:
    return struct.pack(">IHB", 1, 0x000B, octets) + b"\x01".rjust(octets, b"\0")


ECC, RSA = u16(0x0023, 0x000B) + b"\1\2\3\4", u16(0x0001, 0x000C) + b"\4\3\2\1"
P256, P384 = u16(0x0003, 0x0010), u16(0x0004, 0x0010)
SHAPES: dict[str, tuple[Parse, str, tuple[Piece, ...]]] = {
    "quote": (
        tpm.parse_quote,
        "the quote's TPMS_ATTEST",
        (*head(0x8018), selection(3), ("pcrDigest", 64)),
    ),
    "certification": (
        tpm.parse_certification,
        "the run key's TPMS_ATTEST",
        (*head(0x8017), ("name", 66), ("qualifiedName", 66)),
    ),
    "RSA signature": (
        tpm.parse_signature,
        "the TPMT_SIGNATURE",
        (u16(0x0014, 0x000B), ("signature", 512)),
    ),
    "ECDSA signature": (
        tpm.parse_signature,
        "the TPMT_SIGNATURE",
        (u16(0x0018, 0x000D), ("r", 48), ("s", 48)),
    ),
    "P-256 key": (
        tpm.parse_public,
        "the TPMT_PUBLIC",
        (ECC, ("authPolicy", 64), u16(0x0010, 0x0010), P256, ("x", 32), ("y", 32)),
    ),
    "P-384 key": (
        tpm.parse_public,
        "the TPMT_PUBLIC",
        (ECC, ("authPolicy", 64), u16(0x0010, 0x0010), P384, ("x", 48), ("y", 48)),
    ),
    "RSA key": (
        tpm.parse_public,
        "the TPMT_PUBLIC",
        (RSA, ("authPolicy", 64), u16(0x0010, 0x0016, 0x000B, 3072), bytes(4), ("modulus", 512)),
    ),
}


def built(pieces: tuple[Piece, ...], longer: str | None = None) -> bytes:
    """Return the structure with every field at its limit; the field `longer` has one octet more."""
    data = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            data += piece
        else:
            size = piece[1] + (piece[0] == longer)
            data += u16(size) + b"\x05" * size
    return data


FIELDS = [
    (shape, *piece)
    for shape, (_, _, pieces) in SHAPES.items()
    for piece in pieces
    if isinstance(piece, tuple)
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_field_may_be_as_long_as_its_limit(shape: str) -> None:
    parse, what, pieces = SHAPES[shape]
    data = built(pieces)
    parse(data)
    assert refusal(parse, data + b"\0") == f"{what} has 1 trailing bytes"
    assert refusal(parse, data[:-1]) == f"{what} ends early, at byte {len(data) - 1}"


@pytest.mark.parametrize(("shape", "field", "limit"), FIELDS)
def test_no_field_may_be_longer(shape: str, field: str, limit: int) -> None:
    parse, what, pieces = SHAPES[shape]
    message = f"{what}: {field} has {limit + 1} bytes, more than {limit}"
    assert refusal(parse, built(pieces, field)) == message


def refusal(parse: Parse, data: bytes) -> str:
    with pytest.raises(EvidenceError) as refused:
        parse(data)
    return refused.value.message


@pytest.mark.parametrize(
    ("scheme", "hash_", "is_known"),
    [
        (0x0010, 0x000B, True),
        (0x0014, 0x0004, True),
        (0x001B, 0x000B, False),
        (0x0014, 0x0012, False),
    ],
)
def test_what_nobody_knows_is_undecided(scheme: int, hash_: int, is_known: bool) -> None:
    """A missing signature and one with SHA-1 are refused."""
    with pytest.raises(EvidenceError) as refused:
        tpm.parse_signature(u16(scheme, hash_))
    assert isinstance(refused.value, UndecidedError) != is_known


QUOTE = built(SHAPES["quote"][2])
WRONG: list[tuple[Parse, bytes, str]] = [
    (tpm.parse_signature, u16(0x0015, 0x000B), "the TPMT_SIGNATURE: unknown scheme 0x0015"),
    (
        tpm.parse_signature,
        u16(0x0014, 0x0004),
        "the TPMT_SIGNATURE: hash 0x0004 is not SHA-256, SHA-384 or SHA-512",
    ),
    (tpm.parse_public, u16(0x0008), "the TPMT_PUBLIC: object type 0x0008 is not a key's"),
    (
        tpm.parse_public,
        u16(0x0023, 0x0004),
        "the TPMT_PUBLIC: hash 0x0004 is not SHA-256, SHA-384 or SHA-512",
    ),
    (
        tpm.parse_public,
        ECC + u16(0, 0x0010, 0x0010, 0x0005),
        "the TPMT_PUBLIC: curve 0x0005 is not P-256 or P-384",
    ),
    (
        tpm.parse_quote,
        b"\xfe" + QUOTE[1:],
        "the quote's TPMS_ATTEST: magic is 0xfe544347, so no TPM made it",
    ),
    (
        tpm.parse_quote,
        QUOTE[:4] + u16(0x8017) + QUOTE[6:],
        "the quote's TPMS_ATTEST: type is 0x8017, expected 0x8018",
    ),
    (
        tpm.parse_quote,
        built((*head(0x8018), selection(2), ("pcrDigest", 64))),
        "the quote's TPMS_ATTEST: a PCR selection of 2 octets",
    ),
    (
        tpm.parse_quote,
        built((*head(0x8018), selection(5), ("pcrDigest", 64))),
        "the quote's TPMS_ATTEST: a PCR selection of 5 octets",
    ),
    (
        tpm.parse_quote,
        built((*head(0x8018), bytes((0, 0, 0, 17)))),
        "the quote's TPMS_ATTEST: a list of 17 items, more than 16",
    ),
    (tpm.parse_quote, bytes(1025), "the quote's TPMS_ATTEST is larger than 1024 bytes"),
]


@pytest.mark.parametrize(
    ("parse", "data", "message"), WRONG, ids=[message for _, _, message in WRONG]
)
def test_a_wrong_value_is_named(parse: Parse, data: bytes, message: str) -> None:
    assert refusal(parse, data) == message


def test_a_selection_of_four_octets_ends_at_register_31() -> None:
    quote = tpm.parse_quote(built((*head(0x8018), selection(4), ("pcrDigest", 64))))
    assert quote.selections == (tpm.Selection(algorithm=0x000B, pcrs=(24,)),)


def test_a_public_area_is_read_whole() -> None:
    data = built(SHAPES["P-256 key"][2])
    assert tpm.parse_public(data) == tpm.Public(
        raw=data, type=0x0023, name_hash=0x000B, attributes=0x01020304, auth_policy=b"\5" * 64,
        symmetric=0x0010, scheme=0x0010, scheme_hash=0, curve=3, x=b"\5" * 32, y=b"\5" * 32,
    )  # fmt: skip
    data = built(SHAPES["RSA key"][2])
    assert tpm.parse_public(data) == tpm.Public(
        raw=data, type=0x0001, name_hash=0x000C, attributes=0x04030201, auth_policy=b"\5" * 64,
        symmetric=0x0010, scheme=0x0016, scheme_hash=0x000B, key_bits=3072, exponent=65537,
        modulus=b"\5" * 512,
    )  # fmt: skip


def test_what_a_quote_binds_has_its_sizes() -> None:
    with pytest.raises(EvidenceError) as refused:
        tpm.quote_extra_data(bytes(32), bytes(33), b"")
    message = "a quote binds a nonce of 32 bytes and a run key Name of 34"
    assert refused.value.message == message


def test_a_time_without_a_zone_is_no_time() -> None:
    scene = Scene()
    scene.at = scene.at.replace(tzinfo=None)
    with pytest.raises(ConfigError) as refused:
        scene.appraise()
    assert refused.value.message == "the time of appraisal needs a time zone"
