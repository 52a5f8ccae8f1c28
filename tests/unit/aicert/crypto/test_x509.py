"""Single certificates: corner cases that chains do not reach."""

import time
import warnings
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.hashes import SHA384

from aicert.crypto.x509 import (
    MAX_CERTIFICATE,
    issued_with_pss,
    key_on,
    load,
    read,
    serial_number,
    stamp,
    trim_padding,
)
from aicert.errors import EvidenceError, UndecidedError
from tests.adversarial.ca_forge import EKU_AK, ec_key, issue, rsa_key, usage

LEAF = issue(
    "leaf", rsa_key("ak"), issuer="CA", issuer_key=ec_key("ca"), purposes=(EKU_AK,),
    key_usage=usage(),
)  # fmt: skip


@pytest.mark.parametrize(
    "der",
    [b"", b"\x30\x82", b"\x30\x80" + LEAF[2:], bytes(MAX_CERTIFICATE + 1), LEAF + b"\x01"],
)
def test_what_is_not_one_certificate(der: bytes) -> None:
    with pytest.raises(EvidenceError):
        trim_padding(der)


def test_what_no_signature_covers_has_one_form() -> None:
    certificate = x509.load_der_x509_certificate(LEAF)
    outside = 4 + len(certificate.tbs_certificate_bytes)
    assert load(LEAF, "x") == certificate
    # ECDSA with SHA-256 inside the signed part, with SHA-384 outside; then an unused bit.
    known = bytes.fromhex("2a8648ce3d0403")
    other = LEAF[outside:].replace(known + b"\x02", known + b"\x03")
    unused = bytearray(LEAF)
    unused[LEAF.index(b"\x03", outside + 12) + 2] = 1
    for changed in (LEAF[:outside] + other, bytes(unused)):
        with pytest.raises(EvidenceError, match=r"not in its canonical form|not a well-formed"):
            load(changed, "x")


def test_a_bit_that_is_not_used_has_no_second_form() -> None:
    """With the zero that DER requires there, cryptography reads it as the same signature."""

    def signed(serial: int) -> bytes:
        return issue("leaf", ec_key("x"), issuer="CA", issuer_key=ec_key("ca"), serial=serial)

    even = next(der for der in map(signed, range(1, 99)) if not der[-1] & 1)
    assert load(even, "x")
    changed = bytearray(even)
    changed[-len(x509.load_der_x509_certificate(even).signature) - 1] = 1
    with pytest.raises(EvidenceError, match=r"^x: the signature or its algorithm is not in its"):
        load(bytes(changed), "x")


def test_nobody_is_warned_of_what_is_judged_here() -> None:
    # Warnings are errors in these tests; a caller's own filters do not matter either.
    odd = issue("x", ec_key("x"), issuer="CA", issuer_key=ec_key("ca"))
    copy = odd.replace(b"\x02\x01\x4d", b"\x02\x01\x00", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(EvidenceError, match="not positive"):
            load(copy, "x")
        read(copy, "x")
    assert caught == []


def test_an_algorithm_that_is_not_known_is_none_that_failed() -> None:
    # 1.2.840.10045.4.3.9 is not assigned; .1 is ECDSA with SHA-224, which is weak.
    known = bytes.fromhex("2a8648ce3d040302")
    with pytest.raises(UndecidedError, match="unknown algorithm"):
        load(LEAF.replace(known, bytes.fromhex("2a8648ce3d040309")), "x")
    with pytest.raises(EvidenceError, match="sha224") as caught:
        load(LEAF.replace(known, bytes.fromhex("2a8648ce3d040301")), "x")
    assert not isinstance(caught.value, UndecidedError)


def test_certificates_that_are_not_version_3_or_not_sound() -> None:
    version = LEAF.index(b"\xa0\x03\x02\x01\x02")
    for position, value in ((version + 4, 1), (version + 6, 0), (version + 6, 40)):
        changed = bytearray(LEAF)
        changed[position] = value
        with pytest.raises(EvidenceError):
            load(bytes(changed), "x")
    garbage = b"\x30\x82\x00\x20\x30\x1e" + b"\xa0\x03\x02\x01\x02\x02\x01\x01" + bytes(22)
    with pytest.raises(EvidenceError, match=r"version 3|not a well-formed"):
        load(garbage, "x")


def test_what_cryptography_has_no_error_for_is_not_well_formed() -> None:
    # An unassigned TLS feature (RFC 7633), and the year 0.
    feature = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.24"), b"0\3\2\1\6")
    named = issue("x", ec_key("x"), issuer="C", issuer_key=ec_key("ca"), extra=[(feature, False)])
    with pytest.raises(EvidenceError, match=r"not a well-formed .* its DER cannot be read"):
        load(named, "x")
    end = datetime(2050, 1, 2, tzinfo=UTC)
    late = issue("x", ec_key("x"), issuer="CA", issuer_key=ec_key("ca"), end=end)
    with pytest.raises(EvidenceError, match=r"not a well-formed .* year 0 is out of range"):
        load(late.replace(b"20500102", b"00000102"), "x")


def test_keys_and_signatures_of_other_kinds() -> None:
    odd = generate_private_key(SECP521R1())
    with pytest.raises(UndecidedError, match="not RSA, P-256 or P-384"):
        load(issue("x", odd, issuer="CA", issuer_key=ec_key("ca")), "x")
    large = rsa_key("large", 4104)
    with pytest.raises(EvidenceError, match="4104 bits"):
        load(issue("x", large, issuer="CA", issuer_key=ec_key("ca")), "x")


def test_signature_without_a_hash() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from tests.adversarial.ca_forge import FROM, UNTIL, distinguished

    signer = ed25519.Ed25519PrivateKey.generate()
    der = (
        x509.CertificateBuilder()
        .subject_name(distinguished("a subject that makes this long enough"))
        .issuer_name(distinguished("an issuer whose name is not short either"))
        .public_key(rsa_key("ak").public_key())
        .serial_number(1)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .sign(signer, None)
        .public_bytes(Encoding.DER)
    )
    with pytest.raises(UndecidedError, match=r"^x is signed with hash none, not SHA-256, SHA-384 "):
        load(der, "x")


@pytest.mark.parametrize("padding", [b"X", b"\x00X", b"X\xff", b"\x00\xff"])
def test_padding_is_of_one_kind(padding: bytes) -> None:
    assert trim_padding(LEAF + b"\x00\x00") == trim_padding(LEAF + b"\xff\xff") == LEAF
    with pytest.raises(
        EvidenceError, match=r"^a DER certificate is cut short, or something follows it$"
    ):
        trim_padding(LEAF + padding)


def test_sizes_at_their_limits() -> None:
    # An empty SEQUENCE is not a certificate, but it is one element.
    assert trim_padding(b"\x30\x82\x00\x00") == b"\x30\x82\x00\x00"
    assert trim_padding(LEAF.ljust(MAX_CERTIFICATE, b"\x00")) == LEAF
    with pytest.raises(EvidenceError, match=r"^an X\.509 certificate is larger than 8192 bytes$"):
        trim_padding(LEAF.ljust(MAX_CERTIFICATE + 1, b"\x00"))
    start = b"\x30\x82\x00\x00\x30\x82\x00\x00\xa0\x03\x02\x01\x02\x02"
    assert serial_number(start + b"\x15", "it") == slice(15, 36)
    for size in (0, 22):
        with pytest.raises(EvidenceError, match=f"^it: the serial number has {size} bytes$"):
            serial_number(start + bytes((size,)), "it")


def test_a_time_is_written_in_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert stamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"
        assert stamp(datetime(1, 1, 1, 2, 3, 4, 5, tzinfo=UTC)) == "0001-01-01T02:03:04Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_errors_say_what_is_wrong_with_what() -> None:
    critical = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    unread = bytearray(LEAF)
    unread[LEAF.index(x509.load_der_x509_certificate(LEAF).issuer.public_bytes())] = 0x31
    for der, message in (
        (b"\x30\x82", "not one DER certificate"),
        (
            issue("x", ec_key("x"), issuer="C", issuer_key=ec_key("ca"), extra=[(critical, True)]),
            "it: extension 1.2.3.4 is critical and not understood",
        ),
        (
            issue("x", generate_private_key(SECP521R1()), issuer="C", issuer_key=ec_key("ca")),
            "it: the key is not RSA, P-256 or P-384",
        ),
        (bytes(unread), "it is not a well-formed X.509 certificate: its DER cannot be read"),
    ):
        with pytest.raises(EvidenceError) as caught:
            load(der, "it")
        assert caught.value.message == message
    with pytest.raises(EvidenceError) as caught:
        key_on(read(LEAF, "it"), "secp256r1", "it")
    assert caught.value.message == "it: the key is not P-256"
    start = b"\x30\x82\x00\x00\x30\x82\x00\x00"
    for version in (b"\xa0\x03\x02\x01\x01\x02\x01", b"\xa0\x03\x02\x01\x02\x03\x01"):
        with pytest.raises(EvidenceError, match=r"^it is not an X\.509 version 3 certificate$"):
            serial_number(start + version, "it")


def length(size: int) -> bytes:
    """Encode a length in DER."""
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return octets if size < 128 else bytes((0x80 + len(octets),)) + octets


@pytest.mark.parametrize("size", [126, 127, 254, 255, 256])
def test_signatures_of_every_length_have_one_form(size: int) -> None:
    inside = x509.load_der_x509_certificate(LEAF).tbs_certificate_bytes
    algorithm = LEAF[4 + len(inside) :][:12]

    def certificate(prefix: bytes, algorithm: bytes = algorithm) -> bytes:
        whole = inside + algorithm + b"\x03" + prefix + b"\0" + b"s" * size
        return b"\x30\x82" + len(whole).to_bytes(2) + whole

    assert load(certificate(length(size + 1)), "it").signature == b"s" * size
    outside = r"^it: the signature or its algorithm is not in its canonical form$"
    other = algorithm[:-1] + b"\x03"
    with pytest.raises(EvidenceError, match=f"{outside}|^it is not a well-formed"):
        load(certificate(length(size + 1), other), "it")


def test_a_pss_signature_is_of_the_issuer_that_is_named_and_over_those_bytes() -> None:
    from tests.adversarial.ca_forge import FROM, UNTIL, distinguished

    above, key = rsa_key("large"), rsa_key("ak")
    issuer = read(issue("above", above, issuer="above", issuer_key=above, ca=True), "issuer")
    child = (
        x509.CertificateBuilder()
        .subject_name(distinguished("child"))
        .issuer_name(distinguished("above"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .sign(above, SHA384(), rsa_padding=PSS(MGF1(SHA384()), SHA384.digest_size))
    )
    signed = child.tbs_certificate_bytes
    assert issued_with_pss(child, signed, issuer) is True
    assert issued_with_pss(child, signed + b"x", issuer) is False
    for subject, other in (("above", key), ("another", above), ("above", ec_key("ca"))):
        der = issue(subject, other, issuer=subject, issuer_key=other, ca=True)
        assert issued_with_pss(child, signed, read(der, "issuer")) is False
