"""Published evidence of Azure's confidential machines, on the path of our own certificates.

The evidence dates from 2023 to 2025, and no set is complete: the report that matches a chip
certificate has no quote, and the quotes have no report. `test_genuine_2026` has machines of 2026.
"""

import json
import re
from base64 import b64decode, urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from aicert.appraisal.ak_chain import verify_chain
from aicert.appraisal.evidence import amd_vcek, azure_hcl, snp_report
from aicert.appraisal.evidence.accepted import ChipRoot
from aicert.appraisal.result import AttestationResult
from aicert.errors import EvidenceError
from aicert.formats import certificate as certificates
from aicert.formats.certificate import PlatformReport
from aicert.trust import azure
from aicert.trust.built_in import built_in
from aicert.trust.roots import CHIP_FAMILIES, chip_root, pinned
from aicert.verifier import verify
from enclave_runner.attester.tpm import cut_padding
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene
from tests.unit.genuine import needs_vectors, pem_ders, read

pytestmark = needs_vectors

AT = datetime(2026, 3, 1, tzinfo=UTC)
# The TCB of the one report that matches a chip certificate, of June 2025.
THEN = {"bootloader": 10, "tee": 0, "snp": 23, "microcode": 84}
JUNE_2025 = datetime(2025, 6, 20, tzinfo=UTC)


def genoa_report() -> bytes:
    text = read("azure-hcl/azure_sevsnp_report.txt").decode()
    match = re.search("BEGIN REPORT-----(.*?)-----END", text, re.DOTALL)
    assert match is not None
    return b64decode(match[1])


def genoa_chip() -> bytes:
    return pem_ders(read("azure-hcl/sev_certificates.txt"))[-1]


def milan_chip() -> bytes:
    return pem_ders(read("azure-hcl/certs.pem"))[0]


def makers(**least: int) -> tuple[ChipRoot, ...]:
    return tuple(chip_root(family, THEN | least) for family in CHIP_FAMILIES)


def test_pinned_roots_are_the_published_ones() -> None:
    assert pem_ders(read("azure-hcl/certs.pem"))[1:] == [
        pinned("amd-milan-ask.pem"),
        pinned("amd-milan-ark.pem"),
    ]
    published = pem_ders(read("azure-hcl/sev_certificates.txt"))[:4]
    wanted = [
        f"amd-{family}-{part}.pem" for family in ("milan", "genoa") for part in ("ark", "ask")
    ]
    assert {pinned(name) for name in wanted} == set(published)
    for root in makers():
        amd_vcek.issuers(root)


@pytest.mark.parametrize(
    ("der", "family", "tcb"),
    [
        (genoa_chip, "amd-genoa", "bootloader 10, tee 0, snp 23, microcode 84"),
        (milan_chip, "amd-milan", "bootloader 3, tee 0, snp 8, microcode 115"),
    ],
)
def test_chip_certificates_chain_although_their_serial_number_is_zero(
    der: Any, family: str, tcb: str
) -> None:
    # Warnings are errors in these tests, so the serial number must not cause one.
    chip = amd_vcek.certify_chip(der(), makers(), AT)
    assert (chip.root.name, amd_vcek.tcb_text(chip.tcb)) == (family, tcb)
    with pytest.raises(EvidenceError, match="is valid from"):
        amd_vcek.certify_chip(der(), makers(), datetime(2040, 1, 1, tzinfo=UTC))
    other = [root for root in makers() if root.name != family]
    with pytest.raises(
        EvidenceError, match=f"is for a {family[4:].title()} processor .*{other[0].name}"
    ):
        amd_vcek.certify_chip(der(), other, AT)


def test_every_octet_that_a_maker_signed_counts() -> None:
    der = genoa_chip()
    for place in range(0, len(der) - 600, 7):
        flipped = bytearray(der)
        flipped[place] ^= 1
        with pytest.raises(EvidenceError):
            amd_vcek.certify_chip(bytes(flipped), makers(), AT)


def test_every_octet_of_a_report_counts() -> None:
    chip = amd_vcek.certify_chip(genoa_chip(), makers(), AT)
    hardware = azure_hcl.parse(genoa_report()).hardware
    snp_report.verify(snp_report.parse(hardware), chip.key)
    # Up to the end of r and s: the zeros after them are not signed.
    for place in range(0x2A0 + 144):
        flipped = bytearray(hardware)
        flipped[place] ^= 1
        with pytest.raises(EvidenceError):
            snp_report.verify(snp_report.parse(bytes(flipped)), chip.key)


def judged(
    report: bytes, chip: bytes | None, at: datetime = AT, **policy: Any
) -> AttestationResult:
    """Appraise a certificate with this report.

    A test CA certifies the AK that the report names.
    """
    scene = Scene("confidential")
    scene.at = at
    # The test CA's certificates begin in 2026.
    scene.edit("ak_options", lambda options: options | {"start": datetime(2025, 1, 1, tzinfo=UTC)})
    old = ca_forge.issue(
        scene.ca_name, scene.ca_key, issuer=scene.ca_name, issuer_key=scene.ca_key, ca=True,
        start=datetime(2025, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    scene.put("root", old)
    modulus, exponent = azure_hcl.attestation_key(azure_hcl.parse(genoa_report()).runtime)
    key = RSAPublicNumbers(exponent, modulus).public_key()
    ak = ca_forge.issue("vm.ConfidentialVM.Azure.windows.net", key, **scene.get("ak_options"))
    scene.put("chain", (ak,))
    scene.put("platform", PlatformReport(report=report, chip_certificate=chip))
    given = {"chips": makers(), "id_key_signers": azure.ID_KEY_SIGNERS} | policy
    scene.edit("policy", lambda default: replace(default, **given))
    return scene.appraise()


def platform_verdicts(result: AttestationResult) -> dict[str, str]:
    return {c.id: c.verdict for c in result.checks if c.id.startswith("platform.")}


def test_a_genuine_machine_is_confidential() -> None:
    result = judged(genoa_report(), genoa_chip(), JUNE_2025)
    verdicts = platform_verdicts(result)
    assert verdicts.pop("platform.gpu") == "not-applicable"
    assert set(verdicts.values()) == {"ok"}
    assert result.tier == "confidential"
    # Only that machine could have signed the quote.
    assert result.failed[0].id == "quote.signature"


def test_its_paravisor_is_retired_since() -> None:
    result = judged(genoa_report(), genoa_chip())
    assert (result.failed[0].id, result.tier) == ("platform.guest", None)
    assert "azure-paravisor-2025 (SVN 65545 or newer, until 2025-12-31)\n" in (
        result.check("platform.guest").detail
    )


def test_its_firmware_is_too_old_for_whoever_wants_what_amd_published_since() -> None:
    chips = makers(snp=27, microcode=86)
    result = judged(genoa_report(), genoa_chip(), JUNE_2025, chips=chips)
    assert result.check("platform.guest").detail.startswith(
        "the processor's firmware is too old for policy test on amd-genoa: "
        "snp 23 is below 27, microcode 84 is below 86\n"
    )
    assert (result.failed[0].id, result.tier) == ("platform.guest", None)


def test_a_genuine_report_with_another_machines_chip_certificate() -> None:
    result = judged(genoa_report(), milan_chip())
    assert "for a different processor" in result.check("platform.chip").detail
    result = judged(read("azure-hcl/hcl-report-snp.bin"), milan_chip())
    assert "for a different processor" in result.check("platform.chip").detail
    assert result.failed[0].id == "platform.chip"


def test_a_genuine_tdx_report_is_not_one_of_sev_snp() -> None:
    result = judged(read("azure-hcl/hcl-report-tdx.bin"), genoa_chip())
    chip = result.check("platform.chip")
    assert chip.verdict == "not-checked"
    assert "names no maker of processors with TDX" in chip.detail


def test_an_older_genuine_report_binds_its_runtime_data() -> None:
    """The chip's certificate is not published, so every part but the signature is checked."""
    read_ = azure_hcl.parse(read("azure-hcl/hcl-report-snp.bin"))
    report = snp_report.parse(read_.hardware)
    snp_report.check_guest(report)
    assert report.report_data == azure_hcl.report_data(read_.runtime)
    modulus, exponent = azure_hcl.attestation_key(read_.runtime)
    assert (modulus.bit_length(), exponent) == (2048, 65537)
    # A paravisor older than those whose keys the policy names.
    assert report.id_key not in {one.id_key for one in azure.ID_KEY_SIGNERS}


def test_runtime_data_of_another_machine() -> None:
    """The runtime data is published alone; the AK it names is not that of the quote beside it."""
    text = read("azure-hcl/var-data.bin")
    document = json.loads(text)
    modulus = urlsafe_b64decode(document["keys"][0]["n"] + "==")
    assert azure_hcl.attestation_key(text)[0] == int.from_bytes(modulus)
    key = load_pem_public_key(read("azure-hcl/akpub.pem"))
    assert isinstance(key, RSAPublicKey)
    numbers = key.public_numbers()
    assert azure_hcl.attestation_key(text) != (numbers.n, numbers.e)


def nv_contents() -> list[bytes]:
    """Return genuine contents of NV 0x01C101D0.

    One has the index's padding; none has intermediates.
    """
    mismatched = read("azure-vtpm-mismatched-ak/akcert_0x01C101D0.der")
    return [*pem_ders(read("azure-ca/azure_ak_certificates.txt")), mismatched]


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("cut", [True, False])
def test_what_a_machine_reads_from_its_tpm_reaches_the_root(
    index: int, cut: bool, tmp_path: Path
) -> None:
    """Use the runner's reading, the certificate file and the verifier, without an intermediate."""
    content = nv_contents()[index]
    scene = Scene("cloud").put("chain", (cut_padding(content) if cut else content,))
    file = tmp_path / "certificate.json"
    file.write_bytes(scene.get("file"))
    assert certificates.parse(file.read_bytes()).evidence.ak_chain == scene.get("chain")
    result = verify.check_files(file, None, at=datetime(2026, 8, 1, tzinfo=UTC))
    assert result.check("platform.chain").detail.endswith("root azure-vtpm-2023")
    assert (result.tier, result.failed[0].id) == ("vtpm", "quote.signature")


@pytest.mark.parametrize("index", [0, 1])
def test_a_confidential_machines_certificate_without_its_report(index: int, tmp_path: Path) -> None:
    scene = Scene("cloud").put("chain", (cut_padding(nv_contents()[index]),))
    file = tmp_path / "certificate.json"
    file.write_bytes(scene.get("file"))
    result = verify.check_files(file, None, policy="confidential", at=AT)
    assert platform_verdicts(result)["platform.chain"] == "ok"
    assert (
        platform_verdicts(result)["platform.chip"]
        == platform_verdicts(result)["platform.tier"]
        == "not-checked"
    )
    assert (result.tier, result.trusts) == (None, ())


def test_a_trusted_launch_key_is_none_of_a_confidential_machine() -> None:
    document = json.loads(read("azure-trusted-launch-2024/sample_azure_attestation.json"))
    chain = [pem_ders(pem.encode())[0] for pem in document["cert_chain"]]
    at = datetime(2024, 6, 1, tzinfo=UTC)
    assert verify_chain(chain, built_in("default").roots, at).root.tier == "vtpm"
    with pytest.raises(EvidenceError, match="does not certify attestation keys of"):
        verify_chain(chain, built_in("confidential").roots, at)


def test_pinned_firmware_is_that_of_the_published_quote() -> None:
    from tests.unit.aicert.appraisal.test_genuine import azure_2024_quote

    _, _, pcrs = azure_2024_quote()
    (firmware,) = built_in("default").firmware
    assert firmware.pcrs == {index: pcrs[index] for index in (0, 1, 2, 3, 7)}
