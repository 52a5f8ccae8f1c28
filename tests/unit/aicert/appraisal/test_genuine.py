"""Published evidence of real TPMs, appraised by the code that appraises our own certificates."""

import hashlib
import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from aicert.appraisal.ak_chain import Root, verify_chain
from aicert.crypto import signatures
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import tpm
from aicert.formats.measurement import QUOTED_PCRS
from aicert.trust.roots import azure_vtpm_2023, pinned
from tests.unit.genuine import needs_vectors, pem_ders, read

pytestmark = needs_vectors

SCHEMES = ["rsassa-sha256", "rsassa-sha384", "rsapss-sha256", "ecdsa-sha384"]
IN_2026 = datetime(2026, 8, 1, tzinfo=UTC)


def simulator(scheme: str) -> tuple[bytes, tpm.Signature, tuple[bytes, ...], Root]:
    attest = read(f"ms-tpm-reference/{scheme}-attest.bin")
    signature = tpm.parse_signature(read(f"ms-tpm-reference/{scheme}-tpmt-signature.bin"))
    chain = tuple(pem_ders(read(f"ms-tpm-reference/{scheme}-ak-chain.pem")))
    (root,) = pem_ders(read(f"ms-tpm-reference/{scheme}-root.pem"))
    # That root certifies attestation keys only, and its certificates name no purpose.
    return attest, signature, chain, Root(name=scheme, der=root, tier="vtpm", needs_eku=False)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reference_simulator_quote_verifies(scheme: str) -> None:
    attest, signature, chain, root = simulator(scheme)
    key = verify_chain(chain, (root,), IN_2026)
    signatures.verify_signature(key.key, signature, attest)
    quote = tpm.parse_quote(attest)
    assert quote.extra_data.hex() == read("ms-tpm-reference/nonce.hex").decode().strip()
    assert tpm.selected_pcrs(quote) == (0, 1, 2)
    zeros = dict.fromkeys(range(3), bytes(32))
    sizes = {tpm.HASHES[signature.hash]: len(quote.pcr_digest)}
    assert sizes in ({"sha256": 32}, {"sha384": 48})
    assert len(tpm.pcr_digest(zeros, (0, 1, 2), signature)) == len(quote.pcr_digest)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_bit_of_a_quote_counts(scheme: str) -> None:
    attest, signature, chain, root = simulator(scheme)
    key = verify_chain(chain, (root,), IN_2026).key
    for position in range(8 * len(attest)):
        flipped = bytearray(attest)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(EvidenceError):
            signatures.verify_signature(key, signature, bytes(flipped))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_bit_of_a_signature_counts(scheme: str) -> None:
    attest, _, chain, root = simulator(scheme)
    key = verify_chain(chain, (root,), IN_2026).key
    raw = read(f"ms-tpm-reference/{scheme}-tpmt-signature.bin")
    for position in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(EvidenceError):
            signatures.verify_signature(key, tpm.parse_signature(bytes(flipped)), attest)


def test_a_root_that_also_certifies_others_needs_the_purpose() -> None:
    *_, chain, root = simulator("rsassa-sha256")
    with pytest.raises(EvidenceError, match="lacks key purpose"):
        verify_chain(chain, (replace(root, needs_eku=True),), IN_2026)


def test_pinned_azure_certificates_are_the_published_ones() -> None:
    for ours, theirs in {
        "azure-vtpm-root-2023.pem": "azure_tpm_root_2023.pem",
        "azure-vtpm-ca-01.pem": "azure_tpm_intermediate_01.pem",
        "azure-vtpm-ca-03.pem": "azure_tpm_intermediate_03.pem",
    }.items():
        assert pinned(ours) == pem_ders(read(f"azure-ca/{theirs}"))[0]


@pytest.mark.parametrize("index", [0, 1])
def test_azure_ak_certificates_chain_inside_their_validity(index: int) -> None:
    der = pem_ders(read("azure-ca/azure_ak_certificates.txt"))[index]
    root = azure_vtpm_2023()
    key = verify_chain((der,), (root,), datetime(2026, 3, 1, tzinfo=UTC))
    assert key.root is root
    assert key.subject.endswith(".ConfidentialVM.Azure.windows.net")
    with pytest.raises(EvidenceError, match="is valid from"):
        verify_chain((der,), (root,), datetime(2027, 1, 1, tzinfo=UTC))


def test_one_of_them_is_padded_to_the_size_of_its_index() -> None:
    sizes = [len(der) for der in pem_ders(read("azure-ca/azure_ak_certificates.txt"))]
    assert sizes == [1009, 4096]


def test_intermediates_and_root_may_be_sent_along() -> None:
    der = pem_ders(read("azure-ca/azure_ak_certificates.txt"))[0]
    root = azure_vtpm_2023()
    sent = (der, pinned("azure-vtpm-ca-03.pem"), root.der)
    alone = replace(root, intermediates=())
    verify_chain(sent, (alone,), datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(
        UndecidedError, match="lacks the certificate of its issuer, 'CN=Global Virt"
    ):
        verify_chain((der,), (alone,), datetime(2026, 3, 1, tzinfo=UTC))


def azure_2024() -> dict[str, object]:
    return dict(json.loads(read("azure-trusted-launch-2024/sample_azure_attestation.json")))


def azure_2024_chain() -> list[bytes]:
    chain = azure_2024()["cert_chain"]
    assert isinstance(chain, list)
    return [pem_ders(pem.encode())[0] for pem in chain]


def tools_digests(raw: bytes) -> list[bytes]:
    """Return the PCR digests from tpm2-tools' own form.

    The form has 132 bytes of selections, the number of lists, then lists of eight digests, each
    preceded by its size and padded to 64 bytes.
    """
    values, offset = [], 132 + 4
    for _ in range(int.from_bytes(raw[132:136], "little")):
        count = int.from_bytes(raw[offset : offset + 4], "little")
        places = range(offset + 4, offset + 4 + 66 * count, 66)
        values += [raw[place + 2 : place + 34] for place in places]
        offset += 4 + 66 * 8
    assert offset == len(raw)
    return values


def azure_2024_quote() -> tuple[bytes, tpm.Signature, dict[int, bytes]]:
    quote = azure_2024()["quote"]
    assert isinstance(quote, dict)
    values = tools_digests(b64decode(quote["pcr"]))
    signature = tpm.parse_signature(b64decode(quote["signature"]))
    return b64decode(quote["message"]), signature, dict(enumerate(values))


def test_azure_trusted_launch_quote_is_good_in_2024() -> None:
    attest, signature, pcrs = azure_2024_quote()
    key = verify_chain(azure_2024_chain(), (azure_vtpm_2023(),), datetime(2024, 6, 1, tzinfo=UTC))
    signatures.verify_signature(key.key, signature, attest)
    quote = tpm.parse_quote(attest)
    selected = tpm.selected_pcrs(quote)
    assert selected == tuple(range(16))
    assert tpm.pcr_digest(pcrs, selected, signature) == quote.pcr_digest
    assert quote.extra_data == b""
    expected = json.loads(read("azure-trusted-launch-2024/measurements_azure.json"))["measurements"]
    assert {str(i): pcrs[int(i)].hex() for i in expected} == expected


def test_pcr_15_replays_from_the_ca_that_the_evidence_names() -> None:
    """The machine extended its data disk's root hash, a separator of zeros, and its own CA."""
    document = azure_2024()
    *_, pcrs = azure_2024_quote()
    disk, authority = document["application_disk_roothash"], document["webserver_rootca"]
    assert isinstance(disk, str)
    assert isinstance(authority, str)
    foreign = read("azure-trusted-launch-2024/snakeoil_ca.crt")
    values = []
    for pem in (authority.encode(), foreign):
        value = bytes(32)
        for extended in (bytes.fromhex(disk), bytes(32), hashlib.sha256(pem).digest()):
            value = hashlib.sha256(value + extended).digest()
        values.append(value)
    assert values[0] == pcrs[15] != values[1]


def test_it_is_expired_today() -> None:
    with pytest.raises(EvidenceError, match="is valid from"):
        verify_chain(azure_2024_chain(), (azure_vtpm_2023(),), datetime(2026, 11, 20, tzinfo=UTC))


def test_a_foreign_ca_certifies_nothing() -> None:
    (foreign,) = pem_ders(read("azure-trusted-launch-2024/snakeoil_ca.crt"))
    for chain in ((foreign,), (azure_2024_chain()[0], foreign)):
        with pytest.raises(EvidenceError):
            verify_chain(chain, (azure_vtpm_2023(),), datetime(2024, 6, 1, tzinfo=UTC))


def mismatched() -> tuple[bytes, tpm.Signature]:
    attest = read("azure-vtpm-mismatched-ak/quote.msg")
    raw = read("azure-vtpm-mismatched-ak/quote.sig")
    return attest, tpm.Signature(scheme=tpm.ALG_RSASSA, hash=tpm.ALG_SHA256, rsa=raw)


def test_azure_quote_is_by_its_own_key_and_not_by_the_one_certified() -> None:
    attest, signature = mismatched()
    key = load_pem_public_key(read("azure-vtpm-mismatched-ak/ak.pub"))
    assert isinstance(key, RSAPublicKey)
    signatures.verify_signature(key, signature, attest)
    quote = tpm.parse_quote(attest)
    assert quote.extra_data.hex() == read("azure-vtpm-mismatched-ak/nonce.hex").decode().strip()
    selected = tpm.selected_pcrs(quote)
    values = tools_digests(read("azure-vtpm-mismatched-ak/pcrs.bin"))
    pcrs = dict(zip(selected, values, strict=True))
    assert tpm.pcr_digest(pcrs, selected, signature) == quote.pcr_digest
    der = read("azure-vtpm-mismatched-ak/akcert_0x01C101D0.der")
    at = datetime(2026, 9, 1, tzinfo=UTC)
    certified = verify_chain((der,), (azure_vtpm_2023(),), at)
    with pytest.raises(EvidenceError, match="not made by this key"):
        signatures.verify_signature(certified.key, signature, attest)
    assert x509.load_der_x509_certificate(der).serial_number > 0


def confidential_quote() -> tuple[bytes, tpm.Signature, dict[int, bytes]]:
    """Read `quote.bin`: signature, attestation and values, each after its length (8 octets)."""
    raw = read("azure-hcl/quote.bin")
    parts, offset = [], 0
    for _ in range(2):
        end = offset + 8 + int.from_bytes(raw[offset : offset + 8], "little")
        parts.append(raw[offset + 8 : end])
        offset = end
    count = int.from_bytes(raw[offset : offset + 8], "little")
    values = [raw[offset + 8 + 32 * i : offset + 40 + 32 * i] for i in range(count)]
    assert offset + 8 + 32 * count == len(raw)
    signature = tpm.Signature(scheme=tpm.ALG_RSASSA, hash=tpm.ALG_SHA256, rsa=parts[0])
    return parts[1], signature, dict(enumerate(values))


def test_confidential_vm_quote_is_good_and_not_one_of_ours() -> None:
    attest, signature, pcrs = confidential_quote()
    key = load_pem_public_key(read("azure-hcl/akpub.pem"))
    assert isinstance(key, RSAPublicKey)
    signatures.verify_signature(key, signature, attest)
    quote = tpm.parse_quote(attest)
    assert quote.extra_data == b"challenge"
    # The selection includes the resettable registers 16 to 23, which `quote.structure` would
    # refuse.
    assert tpm.selected_pcrs(quote) == tuple(range(24)) != QUOTED_PCRS
    assert tpm.pcr_digest(pcrs, tuple(range(24)), signature) == quote.pcr_digest


@pytest.mark.parametrize(("kind", "type_", "place"), [("snp", 2, 112), ("tdx", 4, 160)])
def test_confidential_report_binds_the_ak_in_its_runtime_data(
    kind: str, type_: int, place: int
) -> None:
    """The test reads facts from the evidence; this verifier has no tier yet that rests on them."""
    report = read(f"azure-hcl/hcl-report-{kind}.bin")
    start = report.index(b'{"keys"')
    size = int.from_bytes(report[start - 4 : start], "little")
    assert int.from_bytes(report[start - 12 : start - 8], "little") == type_
    runtime = report[start : start + size]
    assert report[place : place + 64] == hashlib.sha256(runtime).digest() + bytes(32)
    keys = {key["kid"]: key for key in json.loads(runtime)["keys"]}
    assert keys["HCLAkPub"]["kty"] == "RSA"
