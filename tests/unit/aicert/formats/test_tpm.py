import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats import tpm
from tests.adversarial import tpm_forge
from tests.adversarial.ca_forge import ec_key, rsa_key

QUOTE = tpm_forge.attest(
    body=tpm_forge.quote_body(
        tpm_forge.selections(tpm_forge.selection(range(16))), hashlib.sha256(b"pcrs").digest()
    ),
    kind=tpm_forge.QUOTE,
    extra=b"challenge",
)
PUBLIC = tpm_forge.ecc_public(ec_key("unit").public_key())


def test_quote_is_read_field_by_field() -> None:
    quote = tpm.parse_quote(QUOTE)
    assert quote.extra_data == b"challenge"
    assert quote.clock == tpm.Clock(
        clock=1000, reset_count=7, restart_count=0, safe=True, firmware_version=0x2020031200120003
    )
    assert tpm.selected_pcrs(quote) == tuple(range(16))
    assert quote.pcr_digest == hashlib.sha256(b"pcrs").digest()


def test_a_counters_reading_is_read_field_by_field() -> None:
    name = tpm_forge.name_of(b"index")
    body = tpm_forge.counter_body(name, 812)
    reading = tpm.parse_counter(
        tpm_forge.attest(body=body, kind=tpm_forge.NV, extra=b"n", clock=5), "the receipt"
    )
    assert (reading.name, reading.value, reading.extra_data) == (name, 812, b"n")
    assert reading.clock.clock == 5
    assert reading.qualified_signer == b"\x00\x0b" + bytes(32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (QUOTE, "the receipt: type is 0x8018, expected 0x8014"),
        *(
            (tpm_forge.attest(body=body, kind=tpm_forge.NV, extra=b""), message)
            for body, message in (
                (tpm_forge.counter_body(bytes(99), 1), "the receipt: indexName has 99 bytes"),
                (tpm_forge.counter_body(b"n", 1, offset=1), "does not cover a whole counter"),
                (tpm_forge.counter_body(b"n", 1, octets=7), "does not cover a whole counter"),
                (tpm_forge.counter_body(b"n", 1, octets=9), "nvContents has 9 bytes"),
                (tpm_forge.counter_body(b"n", 1) + b"\0", "1 trailing bytes"),
                (tpm_forge.counter_body(b"n", 1)[:-1], "ends early"),
            )
        ),
    ],
)
def test_what_is_no_counters_reading_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        tpm.parse_counter(data, "the receipt")


def test_certification_is_read_field_by_field() -> None:
    name = tpm_forge.name_of(PUBLIC)
    body = tpm_forge.certify_body(name, b"\x00\x0b" + bytes(32))
    certification = tpm.parse_certification(
        tpm_forge.attest(body=body, kind=tpm_forge.CERTIFY, extra=b"n", safe=0)
    )
    assert (certification.name, certification.qualified_name[:2]) == (name, b"\x00\x0b")
    assert not certification.clock.safe


@pytest.mark.parametrize("length", range(len(QUOTE)))
def test_every_prefix_of_a_quote_is_refused(length: int) -> None:
    with pytest.raises(EvidenceError):
        tpm.parse_quote(QUOTE[:length])


@given(st.binary(max_size=300))
def test_parsers_raise_one_typed_error(data: bytes) -> None:
    parsers = (tpm.parse_quote, tpm.parse_certification, tpm.parse_signature, tpm.parse_public)
    for parse in parsers:
        for prefix in (b"", QUOTE[:6], QUOTE[:100], PUBLIC[:12]):
            try:
                parse(prefix + data)
            except EvidenceError:
                continue


@given(st.integers(0, 8 * len(PUBLIC) - 1))
def test_public_area_with_a_bit_changed_has_another_name(position: int) -> None:
    flipped = bytearray(PUBLIC)
    flipped[position // 8] ^= 1 << position % 8
    try:
        public = tpm.parse_public(bytes(flipped))
    except EvidenceError:
        return
    assert public.name != tpm.parse_public(PUBLIC).name


def test_public_area_of_an_ecc_key() -> None:
    public = tpm.parse_public(PUBLIC)
    assert public.name == tpm_forge.name_of(PUBLIC) == tpm.sha256_name(PUBLIC)
    assert (public.curve, len(public.x), len(public.y)) == (tpm.CURVE_P256, 32, 32)
    p384 = tpm.parse_public(tpm_forge.ecc_public(ec_key("unit", "P-384").public_key()))
    assert (p384.curve, len(p384.x), len(p384.y)) == (4, 48, 48)


def test_public_area_of_an_rsa_key() -> None:
    key = rsa_key("ak").public_key()
    public = tpm.parse_public(tpm_forge.rsa_public(key))
    assert int.from_bytes(public.modulus, "big") == key.public_numbers().n
    assert (public.key_bits, public.exponent) == (2048, 65537)


def test_public_areas_of_other_kinds_are_read_to_their_end_or_refused() -> None:
    key = ec_key("unit").public_key()
    aes = b"\x00\x06\x00\x80\x00\x43"
    assert tpm.parse_public(tpm_forge.ecc_public(key, symmetric=aes)).symmetric == 6
    ecdaa = b"\x00\x1a\x00\x0b\x00\x00"
    assert tpm.parse_public(tpm_forge.ecc_public(key, scheme=ecdaa)).scheme == tpm.ALG_ECDAA
    with_kdf = PUBLIC.replace(b"\x00\x03\x00\x10\x00\x20", b"\x00\x03\x00\x20\x00\x0b\x00\x20")
    assert tpm.parse_public(with_kdf).curve == tpm.CURVE_P256
    for bad in (b"\x00\x08" + PUBLIC[2:], tpm_forge.ecc_public(key, curve=5)):
        with pytest.raises(EvidenceError):
            tpm.parse_public(bad)


def test_qualified_name_of_a_primary() -> None:
    name = tpm.sha256_name(PUBLIC)
    wanted = tpm_forge.primary_qualified_name(name, tpm_forge.RH_NULL)
    assert tpm.qualified_name_of_primary(tpm.RH_NULL, name) == wanted
    assert tpm.qualified_name_of_primary(0x4000000B, name) != wanted


def test_extra_data_as_the_measurement_spec_says() -> None:
    nonce, name, statement = b"\x01" * 32, b"\x00\x0b" + b"\x02" * 32, b"{}"
    preimage = b"aicert quote v1\0" + nonce + name + hashlib.sha256(statement).digest()
    wanted = hashlib.sha256(preimage).digest()
    assert tpm.quote_extra_data(nonce, name, statement) == wanted
    for bad in ((nonce[:31], name), (nonce, name + b"\0")):
        with pytest.raises(EvidenceError):
            tpm.quote_extra_data(*bad, statement)
