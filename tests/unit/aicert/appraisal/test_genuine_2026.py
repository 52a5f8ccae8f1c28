"""Published evidence of current machines (the index of 2026), under the built-in policies.

Each set takes the path of our own certificates as far as it goes: no published machine ran our
code, so the first check after the platform's that fails is the quote's nonce. Evidence of Intel and
NVIDIA has test modules of its own.
"""

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from aicert.appraisal.ak_chain import verify_chain
from aicert.appraisal.evidence import amd_vcek, azure_hcl, google_instance, snp_report
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.cli.show import event_log
from aicert.crypto import signatures
from aicert.crypto.x509 import trim_padding
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import tpm
from aicert.formats.certificate import PlatformReport
from aicert.trust.built_in import built_in
from aicert.trust.roots import pinned
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene
from tests.unit.genuine import needs_vectors, pem_ders, read

pytestmark = needs_vectors

SEPTEMBER = datetime(2026, 9, 25, tzinfo=UTC)
NEWER = "azure-newer-pki"
SNP = "azure-snp-2026"


def judged(
    report: bytes, chip: bytes | None, chain: tuple[bytes, ...] | None = None, *, at: datetime
) -> AttestationResult:
    """Appraise a genuine report under the built-in policy.

    Without a genuine AK certificate, a test CA issues one, and its root takes the place of Azure's.
    """
    scene = Scene("confidential")
    scene.at = at
    scene.edit("policy", lambda policy: replace(built_in("confidential"), accepted=policy.accepted))
    if chain is None:
        modulus, exponent = azure_hcl.attestation_key(azure_hcl.parse(report).runtime)
        key = RSAPublicNumbers(exponent, modulus).public_key()
        name = "vm.ConfidentialVM.Azure.windows.net"
        chain = (ca_forge.issue(name, key, **scene.get("ak_options")),)
        ca = scene.get("root")

        def by_test_ca(policy: Policy) -> Policy:
            root = replace(policy.roots[0], der=ca, intermediates=())
            return replace(policy, roots=(root,))

        scene.edit("policy", by_test_ca)
    scene.put("chain", chain)
    scene.put("platform", PlatformReport(report=report, chip_certificate=chip))
    return scene.appraise()


def platform(result: AttestationResult) -> dict[str, str]:
    return {c.id: c.verdict for c in result.checks if c.id.startswith("platform.")}


def chip_ok() -> dict[str, str]:
    """Return the platform checks that pass where nobody asked for a GPU."""
    checks = ("chain", "chip", "guest", "binding", "tier")
    return {f"platform.{check}": "ok" for check in checks} | {"platform.gpu": "not-applicable"}


def genoa() -> tuple[bytes, bytes, dict[str, Any]]:
    document = json.loads(read(f"{SNP}/evidence-genoa.json"))
    quote = {name: document["quote"][name] for name in ("message", "signature", "pcrs")}
    quoted = {name: bytes(quote[name]) for name in ("message", "signature")}
    pcrs = {index: bytes(value) for index, value in enumerate(quote["pcrs"])}
    (vcek,) = pem_ders(document["vcek"].encode())
    return bytes(document["report"]), vcek, quoted | {"pcrs": pcrs}


def url64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def milan() -> tuple[bytes, bytes, dict[str, Any]]:
    document = json.loads(read(f"{SNP}/evidence-v1.json"))
    quote = document["tpm_quote"]
    quoted = {name: bytes.fromhex(quote[name]) for name in ("message", "signature")}
    pcrs = {index: bytes.fromhex(value) for index, value in enumerate(quote["pcrs"])}
    return url64(document["hcl_report"]), url64(document["vcek"]), quoted | {"pcrs": pcrs}


def check_quote(key: Any, quote: dict[str, Any]) -> tpm.Quote:
    """Check the quote's signature and the digest of its registers."""
    signature = tpm.Signature(scheme=tpm.ALG_RSASSA, hash=tpm.ALG_SHA256, rsa=quote["signature"])
    signatures.verify_signature(key, signature, quote["message"])
    attested = tpm.parse_quote(quote["message"])
    selected = tpm.selected_pcrs(attested)
    assert tpm.pcr_digest(quote["pcrs"], selected, signature) == attested.pcr_digest
    return attested


def ak_of(report: bytes) -> RSAPublicKey:
    modulus, exponent = azure_hcl.attestation_key(azure_hcl.parse(report).runtime)
    return RSAPublicNumbers(exponent, modulus).public_key()


# azure-newer-pki: one whole confidential machine of September 2026.


@pytest.mark.parametrize("sent", [1, 2, 3])
def test_a_whole_machine_of_azures_newer_hierarchy_is_confidential(sent: int) -> None:
    names = ("ak.der", "ca11.der", "ca2025.der")
    chain = tuple(read(f"{NEWER}/{name}") for name in names)[:sent]
    report, chip = read(f"{NEWER}/hcl-report.bin"), read(f"{NEWER}/vcek.der")
    result = judged(report, chip, chain, at=SEPTEMBER)
    assert platform(result) == chip_ok()
    assert result.tier == "confidential"
    assert "(bootloader 4, tee 0, snp 24, microcode 219)" in result.check("platform.chip").detail
    assert "azure-paravisor-milan" in result.check("platform.guest").detail
    # Only that machine could have signed a quote for us.
    assert result.failed[0].id == "quote.signature"


def test_its_pinned_intermediates_are_those_that_it_sent() -> None:
    assert pinned("azure-vtpm-ca-11.pem") == read(f"{NEWER}/ca11.der")
    assert pinned("azure-vtpm-ca-2025.pem") == read(f"{NEWER}/ca2025.der")


def test_its_quote_is_that_of_its_log() -> None:
    certified = verify_chain((read(f"{NEWER}/ak.der"),), built_in("default").roots, SEPTEMBER)
    assert signatures.rsa_numbers(certified.key) == azure_hcl.attestation_key(
        azure_hcl.parse(read(f"{NEWER}/hcl-report.bin")).runtime
    )
    attest = read(f"{NEWER}/tpm-attest.bin")
    signature = tpm.parse_signature(read(f"{NEWER}/tpm-signature.bin"))
    signatures.verify_signature(certified.key, signature, attest)
    quote = tpm.parse_quote(attest)
    assert tpm.selected_pcrs(quote) == (4, 9)
    values = event_log.replay(event_log.parse(read(f"{NEWER}/eventlog-pcr4-pcr9.bin")), "sha256")
    assert tpm.pcr_digest(values, (4, 9), signature) == quote.pcr_digest


def test_its_firmware_starts_pcr_4_as_is_predicted() -> None:
    """Before any boot option failed, PCR 4 has the action, the separator, then what was started."""
    log = event_log.parse(read(f"{NEWER}/eventlog-pcr4-pcr9.bin"))
    first, second, *started = (event for event in log.events if event.pcr == 4)
    assert first.data == b"Calling EFI Application from Boot Option"
    assert second.data == bytes(4)
    assert first.covered_by("sha256")
    assert second.covered_by("sha256")
    # EV_EFI_BOOT_SERVICES_APPLICATION, for the boot loader and the kernel.
    assert [event.type for event in started] == [0x80000003, 0x80000003]


def test_its_hierarchy_is_completed_and_a_missing_issuer_named() -> None:
    leaf = read(f"{NEWER}/ak.der")
    root = built_in("default").roots[0]
    one = replace(root, intermediates=(pinned("azure-vtpm-ca-2025.pem"),))
    with pytest.raises(UndecidedError, match="CN=Azure Cloud Virtual TPM CA - 11"):
        verify_chain((leaf,), (one,), SEPTEMBER)
    other = replace(root, intermediates=(pinned("azure-vtpm-ca-11.pem"),))
    with pytest.raises(UndecidedError, match="CN=Azure Cloud Virtual TPM CA 2025"):
        verify_chain((leaf,), (other,), SEPTEMBER)


# azure-snp-2026


@pytest.mark.parametrize(("evidence", "line"), [(milan, "milan"), (genoa, "genoa")])
def test_machines_of_both_lines_are_confidential(evidence: Any, line: str) -> None:
    report, chip, quote = evidence()
    result = judged(report, chip, at=SEPTEMBER)
    assert platform(result) == chip_ok(), result.failed
    assert f"started by azure-paravisor-{line}" in result.check("platform.guest").detail
    check_quote(ak_of(report), quote)
    firmware = {one.name: one.pcrs for one in built_in("confidential").firmware}
    assert firmware[f"azure-snp-{line}-2026"] == {i: quote["pcrs"][i] for i in (0, 1, 2, 3, 7)}


def test_a_milan_chip_under_a_policy_for_genoa() -> None:
    report, chip, _ = milan()
    only = tuple(one for one in built_in("confidential").chips if one.name == "amd-genoa")
    with pytest.raises(EvidenceError, match=r"is for a Milan processor \(SEV-Milan\).*amd-genoa"):
        amd_vcek.certify_chip(chip, only, SEPTEMBER)
    assert len(azure_hcl.parse(report).hardware) == snp_report.SIZE


def test_a_quote_of_another_key() -> None:
    quote = {name: read(f"{SNP}/tpm-quote.{end}")
             for name, end in (("message", "msg"), ("signature", "sig"))}  # fmt: skip
    for report in (milan()[0], genoa()[0]):
        with pytest.raises(EvidenceError, match="not made by this key"):
            check_quote(ak_of(report), quote | {"pcrs": {}})


def test_a_plain_report_with_its_chip_certificate_and_with_an_invalid_one() -> None:
    chips = built_in("confidential").chips
    report = snp_report.parse(read(f"{SNP}/test-report.bin"))
    chip = amd_vcek.certify_chip(read(f"{SNP}/test-vcek.der"), chips, SEPTEMBER)
    assert (chip.chip_id, chip.tcb) == (report.chip_id, report.tcb)
    snp_report.verify(report, chip.key)
    with pytest.raises(EvidenceError, match="was not issued by any"):
        amd_vcek.certify_chip(read(f"{SNP}/test-vcek-invalid-legacy.der"), chips, SEPTEMBER)


def test_a_clouds_own_key_is_a_question_of_its_own() -> None:
    report = snp_report.parse(read(f"{SNP}/test-vlek-report.bin"))
    assert report.signing_key == snp_report.VLEK
    with pytest.raises(UndecidedError, match="SEV-VLEK-Milan"):
        amd_vcek.certify_chip(
            read(f"{SNP}/test-vlek.der"), built_in("confidential").chips,
            datetime(2025, 6, 1, tzinfo=UTC), vlek=True,
        )  # fmt: skip


# azure-tdx: the TPM's side; test_genuine_tdx has Intel's side.


def tdx() -> tuple[bytes, bytes, dict[int, bytes], bytes]:
    text = read("azure-tdx/azure-tdx-1764662251380464271.yaml").decode()
    (leaf,) = pem_ders(re.sub(r"\n +", "\n", text).encode())

    def numbers(name: str) -> bytes:
        match = re.search(rf"{name}: \[([0-9,\s]*)\]", text)
        assert match is not None
        return bytes(int(one) for one in match[1].replace(",", " ").split())

    lists = re.search(r"pcrs:\n(.*?)\n\n", text, re.DOTALL)
    assert lists is not None
    values = [
        bytes(int(one) for one in line.strip(" -[]").replace(",", " ").split())
        for line in lists[1].split("\n")
    ]
    return leaf, numbers("signature"), dict(enumerate(values)), numbers("message")


def test_a_tdx_machines_vtpm_chains_and_quotes() -> None:
    leaf, signature, pcrs, message = tdx()
    at = datetime(2025, 12, 2, 8, tzinfo=UTC)
    assert len(leaf) > len(trim_padding(leaf))
    certified = verify_chain((leaf,), built_in("confidential").roots, at)
    check_quote(certified.key, {"message": message, "signature": signature, "pcrs": pcrs})
    # It booted a unified kernel image directly: PCR 11 is set, and the other boot registers are
    # zero.
    assert any(pcrs[11])
    assert not any(any(pcrs[index]) for index in (8, 12, 13, 14))
    firmware = {one.name: one.pcrs for one in built_in("confidential").firmware}
    assert firmware["azure-tdx-2025-12"] == {index: pcrs[index] for index in (0, 1, 2, 3, 7)}


# google-vtpm


OLDER = [f"google-vtpm/uca_tpm_{kind}_{use}_cert.pem"
         for kind in ("ecc", "rsa") for use in ("sign", "enc")]  # fmt: skip


def test_google_root_and_intermediate_are_the_published_ones() -> None:
    assert pem_ders(read("google-vtpm/gce_ek_ak_root.pem")) == [pinned("google-ek-ak-root.pem")]
    published = pem_ders(read("google-vtpm/gce_ak_certificates.txt"))
    assert published[1] == pinned("google-ek-ak-ca.pem")


def test_a_google_machines_key_chains_and_names_its_instance() -> None:
    chain = pem_ders(read("google-vtpm/gce_ak_certificates.txt"))
    roots = built_in("google").roots
    for sent in (chain, chain[:1], [*chain, roots[0].der]):
        key = verify_chain(tuple(sent), roots, SEPTEMBER)
        assert key.root.tier == "vtpm"
    instance = google_instance.instance_text(key.certificate)
    assert instance.startswith(
        "instance jfquinn-tdx-tpm-ubuntu-test-us-west1-b (8033817256003918212)"
    )
    assert "of project nonvolatile-dev (" in instance
    assert instance.endswith("zone us-west1-b")
    with pytest.raises(EvidenceError):
        verify_chain(tuple(chain), built_in("default").roots, SEPTEMBER)


@pytest.mark.parametrize("kind", ["ecc", "rsa"])
def test_google_machines_before_2024_have_keys_of_another_intermediate(kind: str) -> None:
    """It has the same name. Its endorsement keys chain too, and are refused as attestation keys."""
    roots = built_in("google").roots
    (signing,) = pem_ders(read(f"google-vtpm/pca_tpm_{kind}_sign_cert.pem"))
    key = verify_chain((signing,), roots, SEPTEMBER)
    text = google_instance.instance_text(key.certificate)
    assert text.startswith("instance cs-debug-pca (218557372616137117) of project google.com:")
    (encrypting,) = pem_ders(read(f"google-vtpm/pca_tpm_{kind}_enc_cert.pem"))
    with pytest.raises(EvidenceError, match="is not for digital signatures"):
        verify_chain((encrypting,), roots, SEPTEMBER)
    newest = (replace(roots[0], intermediates=roots[0].intermediates[:1]),)
    with pytest.raises(UndecidedError, match="lacks the certificate of its issuer"):
        verify_chain((signing,), newest, SEPTEMBER)


@pytest.mark.parametrize("name", OLDER)
def test_googles_oldest_certificates_lack_their_issuer(name: str) -> None:
    """`tpm_ek_intermediate_3` and its root are not pinned: no verdict, and the message names it."""
    (der,) = pem_ders(read(name))
    with pytest.raises(UndecidedError, match=r"lacks the certificate of its issuer, .*signer-0"):
        verify_chain((der,), built_in("google").roots, SEPTEMBER)


def fields(data: bytes) -> list[tuple[int, bytes | int]]:
    """Parse a protobuf message into its fields: numbers and byte strings."""
    pairs: list[tuple[int, bytes | int]] = []
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            octet = data[place]
            place, value, shift = place + 1, value | (octet & 0x7F) << shift, shift + 7
            if octet < 0x80:
                return value

    while place < len(data):
        tag = number()
        size = number()
        if tag & 7 == 2:
            pairs.append((tag >> 3, data[place : place + size]))
            place += size
        else:
            pairs.append((tag >> 3, size))
    return pairs


def one(message: list[tuple[int, bytes | int]], field: int) -> bytes:
    (value,) = (value for number, value in message if number == field)
    assert isinstance(value, bytes)
    return value


def test_a_google_machines_quotes() -> None:
    """The verifier reads the SHA-256 bank of three, with the nonce from the file's name."""
    message = fields(read("google-vtpm/gce-cos-85-nonce9009.pb"))
    public = one(message, 1)
    # TPMT_PUBLIC of an RSA key ends in its modulus of 256 octets; the exponent 0 means 65537.
    key = RSAPublicNumbers(65537, int.from_bytes(public[-256:])).public_key()
    banks = []
    for value in (value for number, value in message if number == 2 and isinstance(value, bytes)):
        quote = fields(value)
        attest, raw = one(quote, 1), one(quote, 2)
        signature = tpm.parse_signature(raw)
        signatures.verify_signature(key, signature, attest)
        attested = tpm.parse_quote(attest)
        assert attested.extra_data == bytes.fromhex("9009")
        registers = fields(one(quote, 3))
        (algorithm,) = (number for field, number in registers if field == 1)
        banks.append(algorithm)
        if algorithm != tpm.ALG_SHA256:
            with pytest.raises(EvidenceError, match="not SHA-256"):
                tpm.selected_pcrs(attested)
            continue
        pcrs = {}
        for entry in (value for field, value in registers if field == 2):
            assert isinstance(entry, bytes)
            index, digest = dict(fields(entry)).get(1, 0), one(fields(entry), 2)
            assert isinstance(index, int)
            pcrs[index] = digest
        selected = tpm.selected_pcrs(attested)
        assert tpm.pcr_digest(pcrs, selected, signature) == attested.pcr_digest
        log = event_log.parse(one(message, 3))
        values = event_log.replay(log, "sha256")
        assert values.items() <= pcrs.items()
    assert sorted(str(bank) for bank in banks) == ["11", "12", "4"]
    with pytest.raises(UndecidedError, match="tpm_ek_v1_cloud_host"):
        verify_chain((one(message, 6),), built_in("google").roots, SEPTEMBER)
