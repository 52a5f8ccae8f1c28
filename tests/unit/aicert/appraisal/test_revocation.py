"""Certificate revocation lists: corner cases that collateral does not reach."""

import warnings
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.appraisal.evidence.revocation import check_not_revoked, load_list
from aicert.crypto.x509 import load
from aicert.errors import EvidenceError, UndecidedError
from tests.adversarial import td_forge
from tests.adversarial.ca_forge import ec_key, issue, root

CA = load(root("CA", ec_key("ca")), "CA")
LEAF = load(issue("leaf", ec_key("x"), issuer="CA", issuer_key=ec_key("ca"), serial=9), "leaf")


def listed(*serials: int, **options: object) -> bytes:
    return bytes.fromhex(td_forge.revoked("CA", ec_key("ca"), *serials, **options))  # type: ignore[arg-type]


def test_a_certificate_is_on_a_list_or_not() -> None:
    check_not_revoked(LEAF, CA, load_list(listed(8, 10), "list"))
    check_not_revoked(LEAF, CA, load_list(listed(), "list"))
    with pytest.raises(EvidenceError, match="'leaf' was revoked at 2026-10-20T00:00:00Z"):
        check_not_revoked(LEAF, CA, load_list(listed(8, 9), "list"))


def test_a_list_by_anybody_else_says_nothing() -> None:
    other = bytes.fromhex(td_forge.revoked("CA", ec_key("own maker")))
    renamed = bytes.fromhex(td_forge.revoked("Other", ec_key("ca")))
    for der in (other, renamed):
        with pytest.raises(EvidenceError, match="not signed by 'CA'"):
            check_not_revoked(LEAF, CA, load_list(der, "list"))


def test_a_list_by_another_kind_of_key_says_nothing() -> None:
    with pytest.raises(EvidenceError, match="is not signed by"):
        check_not_revoked(LEAF, CA, load_list(_by_ed25519(), "list"))


def _by_ed25519() -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return _builder().issuer_name(CA.subject).sign(key, None).public_bytes(Encoding.DER)


def _builder() -> x509.CertificateRevocationListBuilder:
    builder = x509.CertificateRevocationListBuilder()
    builder = builder.last_update(datetime(2026, 1, 1, tzinfo=UTC))
    return builder.next_update(datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("der", [b"", b"\x30\0", listed(1)[:-1], listed(1) + b"\0"])
def test_what_is_no_list(der: bytes) -> None:
    with pytest.raises(EvidenceError, match=r"^list is not a certificate revocation list$"):
        load_list(der, "list")


def test_a_name_that_no_list_has() -> None:
    # An x400Address among the issuer's alternative names.
    name = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), b"0\2\xa3\0")
    builder = _builder().issuer_name(CA.subject).add_extension(name, critical=False)
    named = builder.sign(ec_key("ca"), SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(EvidenceError, match=r"^list is not a certificate revocation list$"):
        load_list(named, "list")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x02\x01\x01", b"\x02\x01\x02", "2 is not a valid CRL version"),
        # ecdsa-with-SHA256, inside and outside the signed part, and an unknown identifier.
        (td_forge.ECDSA, td_forge.ECDSA[:-1] + b"\x7f", "Signature algorithm OID"),
    ],
)
def test_a_version_or_algorithm_that_nobody_knows_gives_no_verdict(
    old: bytes, new: bytes, words: str
) -> None:
    with pytest.raises(UndecidedError, match=f"list has an unknown version or .*: {words}"):
        load_list(listed(1).replace(old, new), "list")


def test_another_algorithm_beside_what_is_signed_is_refused() -> None:
    head, _, end = listed(1).rpartition(td_forge.ECDSA)
    for last in (b"\3", b"\4"):
        with pytest.raises(EvidenceError, match=r"^list is not a certificate revocation list$"):
            load_list(head + td_forge.ECDSA[:-1] + last + end, "list")


def test_nobody_is_warned_of_a_lists_issuer() -> None:
    # A longer name than RFC 5280 allows. Warnings are errors in these tests.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        long = x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 65, _validate=False)
        builder = _builder().issuer_name(x509.Name([long]))
        der = builder.sign(ec_key("ca"), SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(EvidenceError, match="not signed by 'CA'"):
        check_not_revoked(LEAF, CA, load_list(der, "list"))


def test_a_critical_extension_may_change_what_a_list_means() -> None:
    with pytest.raises(UndecidedError, match="unknown critical extension"):
        load_list(listed(1, critical=True), "list")
