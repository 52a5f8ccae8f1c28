"""Corner cases of certificate chains that the attack table does not reach."""

import warnings
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from aicert.appraisal.ak_chain import MAX_CHAIN, MAX_INTERMEDIATES, Root, verify_chain
from aicert.crypto.x509 import serial_number
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import replace
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import AT, EKU_AK, EKU_EK, ec_key, issue, root, rsa_key, usage

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
    with pytest.raises(UndecidedError, match="lacks the certificate of its issuer"):
        verify_chain((leaf,), (one,), AT)
    with pytest.raises(UndecidedError, match="lacks the certificate of its issuer"):
        verify_chain((leaf, CA), (one,), AT)
    # The leaf names the pinned key, so no issuer is missing; that key did not sign this leaf.
    claimed = issue(
        "leaf", rsa_key("ak"), issuer="middle", issuer_key=ec_key("second"), purposes=(EKU_AK,),
        authority=ec_key("first"),
    )  # fmt: skip
    with pytest.raises(EvidenceError, match="no root") as caught:
        verify_chain((claimed, CA), (one,), AT)
    assert not isinstance(caught.value, UndecidedError)


def levels(count: int) -> tuple[list[bytes], bytes]:
    """Return `count` intermediates and a leaf.

    CA issues the first intermediate, and each one issues the next; the last issues the leaf.
    """
    intermediates, above, key = [], "CA", ec_key("ca")
    for number in range(count):
        name, own = f"level {number}", ec_key(f"level {number}")
        intermediates.append(
            issue(name, own, issuer=above, issuer_key=key, ca=True, key_usage=usage(cert=True))
        )
        above, key = name, own
    leaf = issue("leaf", rsa_key("ak"), issuer=above, issuer_key=key, purposes=(EKU_AK,))
    return intermediates, leaf


@pytest.mark.parametrize("count", range(MAX_INTERMEDIATES + 1))
def test_a_leaf_alone_is_completed_from_what_the_root_pins(count: int) -> None:
    intermediates, leaf = levels(count)
    for order in (intermediates, intermediates[::-1]):
        pinned = replace(ROOT, intermediates=tuple(order))
        assert verify_chain((leaf,), (pinned,), AT).root == pinned
    # The builder sends the lowest intermediates along, with or without the root.
    lowest = intermediates[::-1][: MAX_CHAIN - 2]
    for sent in ((leaf, *lowest), (leaf, *lowest, CA)):
        assert (
            verify_chain(sent, (replace(ROOT, intermediates=tuple(intermediates)),), AT).subject
            == "leaf"
        )


def test_what_was_sent_is_completed_from_what_is_pinned_above_it() -> None:
    intermediates, leaf = levels(2)
    pinned = replace(ROOT, intermediates=tuple(intermediates[:1]))
    assert verify_chain((leaf, intermediates[1], CA), (pinned,), AT).subject == "leaf"


def test_too_many_levels_lead_nowhere() -> None:
    intermediates, leaf = levels(MAX_INTERMEDIATES + 1)
    with pytest.raises(EvidenceError, match="chains to no root of this policy"):
        verify_chain((leaf,), (replace(ROOT, intermediates=tuple(intermediates)),), AT)


def test_pinned_certificates_that_issue_each_other_end() -> None:
    first, second = (
        issue(
            one, ec_key(one), issuer=other, issuer_key=ec_key(other), ca=True,
            key_usage=usage(cert=True),
        )
        for one, other in (("a", "b"), ("b", "a"))
    )  # fmt: skip
    leaf = issue("leaf", rsa_key("ak"), issuer="a", issuer_key=ec_key("a"), purposes=(EKU_AK,))
    with pytest.raises(EvidenceError, match="chains to no root"):
        verify_chain((leaf,), (replace(ROOT, intermediates=(first, second)),), AT)


def test_of_a_renewed_intermediate_the_valid_one_counts() -> None:
    def middle(start: datetime, end: datetime) -> bytes:
        return issue(
            "middle", ec_key("middle"), issuer="CA", issuer_key=ec_key("ca"), ca=True,
            key_usage=usage(cert=True), start=start, end=end,
        )  # fmt: skip

    old = middle(ca_forge.FROM, datetime(2026, 6, 1, tzinfo=UTC))
    new = middle(datetime(2026, 5, 1, tzinfo=UTC), ca_forge.UNTIL)
    leaf = issue(
        "leaf", rsa_key("ak"), issuer="middle", issuer_key=ec_key("middle"), purposes=(EKU_AK,)
    )
    for order in ((old, new), (new, old)):
        for at in (datetime(2026, 2, 1, tzinfo=UTC), AT):
            verify_chain((leaf,), (replace(ROOT, intermediates=order),), at)
    with pytest.raises(EvidenceError, match="is valid from"):
        verify_chain((leaf,), (replace(ROOT, intermediates=(old,)),), AT)
    # One certificate is valid up to its last second, the other from its first.
    end, start = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
    old, new = middle(ca_forge.FROM, end), middle(start, ca_forge.UNTIL)
    for order in ((old, new), (new, old)):
        for at in (end, start):
            verify_chain((leaf,), (replace(ROOT, intermediates=order),), at)


def test_the_missing_issuer_is_named_and_what_to_write() -> None:
    issuers, leaf = levels(2)
    for chain, intermediates, missing in (
        ((leaf,), (), "CN=level 1"),
        ((leaf,), (issuers[1],), "CN=level 0"),
        ((leaf, issuers[1]), (), "CN=level 0"),
        ((leaf, CA), (), "CN=level 1"),
        ((leaf, issuers[1], CA), (), "CN=level 0"),
    ):
        with pytest.raises(UndecidedError) as caught:
            verify_chain(chain, (replace(ROOT, intermediates=intermediates),), AT)
        first, _, _, *lines = caught.value.message.split("\n")
        assert first == f"the AK chain lacks the certificate of its issuer, '{missing}'"
        assert lines == ["[[intermediate]]", 'root = "r"', 'certificate = "issuer.pem"']
        assert caught.value.hint


def test_the_name_of_a_missing_issuer_is_cut() -> None:
    long = "," * 64
    leaf = issue("leaf", rsa_key("ak"), issuer=long, issuer_key=ec_key("x"), purposes=(EKU_AK,))
    with pytest.raises(UndecidedError) as caught:
        verify_chain((leaf,), (ROOT,), AT)
    escaped = r"\\,"
    shown = f"CN={escaped * 58}"
    assert caught.value.message.split("\n")[0].endswith(f"of its issuer, '{shown}\\\\'")


def test_a_root_that_did_not_sign_what_names_it() -> None:
    """The certificate that names the root is further up, and the signature check reports it."""
    middle = issue(
        "middle", ec_key("middle"), issuer="CA", issuer_key=ec_key("x"), ca=True,
        key_usage=usage(cert=True),
    )  # fmt: skip
    leaf = issue(
        "leaf", rsa_key("ak"), issuer="middle", issuer_key=ec_key("middle"), purposes=(EKU_AK,)
    )
    with pytest.raises(EvidenceError, match=r"^'middle' names a different issuer key from that of"):
        verify_chain((leaf, middle, CA), (ROOT,), AT)


def test_a_root_may_have_another_purpose_for_its_attestation_keys() -> None:
    """Google's roots do so: the key usage tells attestation keys from endorsement keys."""

    def leaf(purposes: tuple[str, ...], key_usage: x509.KeyUsage | None) -> bytes:
        return issue(
            "leaf", rsa_key("ak"), issuer="CA", issuer_key=ec_key("ca"), purposes=purposes,
            key_usage=key_usage,
        )  # fmt: skip

    other = replace(ROOT, eku=EKU_EK, needs_eku=False)
    for purposes in ((), (EKU_EK,)):
        verify_chain((leaf(purposes, usage()),), (other,), AT)
    with pytest.raises(EvidenceError, match=r"lacks key purpose 2\.23\.133\.8\.1"):
        verify_chain((leaf((EKU_AK,), usage()),), (other,), AT)
    with pytest.raises(EvidenceError, match=r"lacks key purpose 2\.23\.133\.8\.1"):
        verify_chain((leaf((), usage()),), (replace(other, needs_eku=True),), AT)
    with pytest.raises(EvidenceError, match="does not say what its key is for"):
        verify_chain((leaf((EKU_EK,), None),), (other,), AT)
    with pytest.raises(EvidenceError, match="not for digital signatures"):
        verify_chain((leaf((EKU_EK,), usage(sign=False)),), (other,), AT)


def test_a_certificate_without_common_name_or_identifiers() -> None:
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
    from aicert.crypto.simulated import SIMULATED_OID, extension

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
    # Only bytes that the change left as they were.
    assert accepted
    assert all(LEAF[position] in (0x1E, 0x03) for position in accepted)


def test_the_longest_chain_that_platforms_have() -> None:
    keys = [ec_key("ca"), ec_key("middle"), ec_key("lower")]
    names = ["CA", "middle", "lower"]
    chain = [CA]
    for depth in (1, 2):
        chain.insert(
            0,
            issue(
                names[depth], keys[depth], issuer=names[depth - 1], issuer_key=keys[depth - 1],
                ca=True, key_usage=usage(cert=True),
            ),
        )  # fmt: skip
    leaf = issue("leaf", rsa_key("ak"), issuer="lower", issuer_key=keys[2], purposes=(EKU_AK,))
    assert verify_chain((leaf, *chain), (ROOT,), AT).subject == "leaf"
    with pytest.raises(EvidenceError, match=r"^the AK chain has 5 certificates, not 1 to 4$"):
        verify_chain((leaf, *chain, CA), (ROOT,), AT)


def test_a_key_that_may_sign_only_one_of_certificates_and_revocation_lists() -> None:
    for cert, lists in ((True, False), (False, True)):
        key_usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=cert, key_cert_sign=cert, crl_sign=lists,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        leaf = issue(
            "leaf", rsa_key("ak"), issuer="CA", issuer_key=ec_key("ca"), purposes=(EKU_AK,),
            key_usage=key_usage,
        )  # fmt: skip
        with pytest.raises(EvidenceError, match="may sign certificates"):
            verify_chain((leaf,), (ROOT,), AT)


def test_which_certificate_of_the_policy_is_unsound_is_said() -> None:
    def failing(**changes: object) -> str:
        with pytest.raises(EvidenceError) as caught:
            verify_chain((LEAF,), (replace(ROOT, **changes),), AT)
        return caught.value.message

    negative = issue("CA", ec_key("ca"), issuer="CA", issuer_key=ec_key("ca"), ca=True, serial=1)
    place = serial_number(negative, "it")
    negative = negative[: place.start] + b"\x80" + negative[place.stop :]
    assert failing(der=negative) == "root r: the serial number is not positive"
    # A root in the chain is compared with the policy's bytes first and read afterwards.
    with pytest.raises(EvidenceError, match=r"^ak_cert\[0\]: the serial number is not positive$"):
        verify_chain((negative,), (replace(ROOT, der=negative),), AT)
    short = negative[: place.start - 1] + b"\x00" + negative[place.start :]
    assert failing(der=short) == "root r: the serial number has 0 bytes"
    pinned = failing(intermediates=(negative,))
    assert pinned == "intermediate of r: the serial number is not positive"


def test_roots_of_the_policy_are_named_where_none_fits() -> None:
    other = [Root(name=name, der=root(name, ec_key(name)), tier="vtpm") for name in ("a", "b")]
    with pytest.raises(EvidenceError) as caught:
        verify_chain((LEAF, CA), other, AT)
    assert caught.value.message == (
        "the AK certificate chains to no root of this policy: a (vtpm), b (vtpm)"
    )


def _long_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue certificates whose names are longer than X.509 allows; cryptography warns of them."""
    warnings.simplefilter("ignore")
    monkeypatch.setattr(
        ca_forge,
        "distinguished",
        lambda name: x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, name.ljust(90, "."), _validate=False)]
        ),
    )


def test_of_a_long_name_the_start_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def why(leaf: bytes, above: bytes, **changes: object) -> str:
        pinned = Root(name="r", der=above, tier="vtpm", **changes)  # type: ignore[arg-type]  # fields of Root
        with pytest.raises(EvidenceError) as caught:
            verify_chain((leaf, above), (pinned,), AT)
        return caught.value.message

    def leaf_with(**changes: object) -> bytes:
        words: dict[str, object] = {
            "issuer": "CA", "issuer_key": ec_key("ca"), "purposes": (EKU_AK,),
        }  # fmt: skip
        return issue("leaf", rsa_key("ak"), **{**words, **changes})  # type: ignore[arg-type]  # arguments of issue

    leaf, ca = (f"'{name.ljust(80, '.')}'" for name in ("leaf", "CA"))
    with warnings.catch_warnings():
        _long_named(monkeypatch)
        above = root("CA", ec_key("ca"))
        assert why(leaf_with(), above, subjects=(".x",)) == (
            f"root r does not certify attestation keys of {leaf}"
        )
        none = issue("CA", ec_key("ca"), issuer="CA", issuer_key=ec_key("ca"), ca=None)
        assert why(leaf_with(), none) == f"{ca} is not a CA (basic constraints)"
        assert why(leaf_with(authority=ec_key("x")), above) == (
            f"{leaf} names a different issuer key from that of {ca}"
        )
        assert why(leaf_with(issuer_key=ec_key("x"), authority=ec_key("ca")), above) == (
            f"{leaf} was not issued by {ca}"
        )
        assert why(leaf_with(end=datetime(2026, 2, 1, tzinfo=UTC)), above) == (
            f"{leaf} is valid from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z, "
            "not at 2026-11-01T00:00:00Z"
        )
