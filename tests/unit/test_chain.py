"""Corners of chains that the attack table does not reach."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1, generate_private_key

from aicert.chain import MAX_CERTIFICATE, Root, load, trim_padding, verify_chain
from aicert.errors import EvidenceError
from tests.adversarial.ca_forge import AT, EKU_AK, ec_key, issue, root, rsa_key, usage

CA = root("CA", ec_key("ca"))
LEAF = issue(
    "leaf", rsa_key("ak"), issuer="CA", issuer_key=ec_key("ca"), purposes=(EKU_AK,),
    key_usage=usage(),
)  # fmt: skip
ROOT = Root(name="r", der=CA, tier="vtpm")


def test_chain_of_nothing_but_the_root_or_of_nothing() -> None:
    for chain in ((), (CA,)):
        with pytest.raises(EvidenceError):
            verify_chain(chain, (ROOT,), AT)


def test_the_result_names_root_subject_and_end() -> None:
    key = verify_chain((LEAF,), (ROOT,), AT)
    assert (key.root, key.subject) == (ROOT, "leaf")


def test_a_root_that_another_issued_ends_a_chain() -> None:
    key = ec_key("middle")
    above = ec_key("ca")
    middle = issue(
        "middle", key, issuer="CA", issuer_key=above, ca=True, key_usage=usage(cert=True)
    )
    leaf = issue("leaf", rsa_key("ak"), issuer="middle", issuer_key=key, purposes=(EKU_AK,))
    pinned = Root(name="middle", der=middle, tier="vtpm")
    for chain in ((leaf,), (leaf, middle)):
        assert verify_chain(chain, (pinned,), AT).root == pinned


def test_validity_includes_its_ends() -> None:
    for at in (datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)):
        verify_chain((LEAF,), (ROOT,), at)


@pytest.mark.parametrize(
    "der",
    [b"", b"\x30\x82", b"\x30\x80" + LEAF[2:], bytes(MAX_CERTIFICATE + 1), LEAF + b"\x01"],
)
def test_what_is_not_one_certificate(der: bytes) -> None:
    with pytest.raises(EvidenceError):
        trim_padding(der)


def test_certificates_that_are_not_version_3_or_not_sound() -> None:
    version = LEAF.index(b"\xa0\x03\x02\x01\x02")
    for position, value in ((version + 4, 1), (version + 6, 0), (version + 6, 40)):
        changed = bytearray(LEAF)
        changed[position] = value
        with pytest.raises(EvidenceError):
            load(bytes(changed), "x")
    garbage = b"\x30\x82\x00\x20\x30\x1e" + b"\xa0\x03\x02\x01\x02\x02\x01\x01" + bytes(22)
    with pytest.raises(EvidenceError, match=r"version 3|not a sound"):
        load(garbage, "x")


def test_keys_and_signatures_of_other_kinds() -> None:
    odd = generate_private_key(SECP521R1())
    with pytest.raises(EvidenceError, match="not RSA, P-256 or P-384"):
        load(issue("x", odd, issuer="CA", issuer_key=ec_key("ca")), "x")
    large = rsa_key("large", 4104)
    with pytest.raises(EvidenceError, match="4104 bits"):
        load(issue("x", large, issuer="CA", issuer_key=ec_key("ca")), "x")


def test_signature_without_a_hash() -> None:
    from cryptography import x509
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
    with pytest.raises(EvidenceError, match="hash none"):
        load(der, "x")


def test_a_pinned_intermediate_of_the_same_name_but_another_key() -> None:
    def middle(key: str) -> bytes:
        return issue(
            "middle", ec_key(key), issuer="CA", issuer_key=ec_key("ca"), ca=True,
            key_usage=usage(cert=True),
        )  # fmt: skip

    leaf = issue(
        "leaf", rsa_key("ak"), issuer="middle", issuer_key=ec_key("second"), purposes=(EKU_AK,)
    )
    both = Root(name="r", der=CA, tier="vtpm", intermediates=(middle("first"), middle("second")))
    verify_chain((leaf,), (both,), AT)
    one = Root(name="r", der=CA, tier="vtpm", intermediates=(middle("first"),))
    with pytest.raises(EvidenceError, match="no root"):
        verify_chain((leaf,), (one,), AT)
    with pytest.raises(EvidenceError, match="does not reach root r"):
        verify_chain((leaf, CA), (one,), AT)


def test_a_certificate_without_common_name_or_identifiers() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    from tests.adversarial.ca_forge import FROM, UNTIL, distinguished

    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(distinguished("CA"))
        .public_key(rsa_key("ak").public_key())
        .serial_number(1)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(EKU_AK)]), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("vm.example")]), critical=True)
    )
    der = builder.sign(ec_key("ca"), hashes.SHA256()).public_bytes(Encoding.DER)
    assert verify_chain((der,), (ROOT,), AT).subject == ""


def test_a_simulated_extension_that_names_nobody() -> None:
    from cryptography import x509

    from aicert.platform_ca import SIMULATED_OID, extension

    unknown = x509.UnrecognizedExtension(SIMULATED_OID, b"\x0c\x01x")
    for extra in (((unknown, True),), ((extension("local"), False),)):
        der = issue(
            "leaf", rsa_key("ak"), issuer="CA", issuer_key=ec_key("ca"), purposes=(EKU_AK,),
            extra=extra,
        )  # fmt: skip
        with pytest.raises(EvidenceError, match="simulated:unknown"):
            verify_chain((der,), (ROOT,), AT)
        with pytest.raises(EvidenceError, match="tier unknown"):
            verify_chain((der,), (), AT)


def test_a_changed_octet_is_one_typed_error() -> None:
    accepted = []
    for position in range(len(LEAF)):
        for value in {LEAF[position] ^ 1 << bit for bit in range(8)} | {0x1E, 0x03}:
            changed = bytearray(LEAF)
            changed[position] = value
            try:
                verify_chain((bytes(changed),), (ROOT,), AT)
            except EvidenceError:
                continue
            accepted.append(position)
    # Only what is changed into itself.
    assert accepted
    assert all(LEAF[position] in (0x1E, 0x03) for position in accepted)
