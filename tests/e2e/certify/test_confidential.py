"""A confidential machine's evidence through the runner, on a real swtpm that holds a report.

The TPM, its key, the quote and the index are real; the processor and the cloud that certifies the
key are the Forger's, since there is no such machine here.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from aicert.appraisal.appraise import appraise
from aicert.appraisal.policy import Firmware
from aicert.appraisal.result import AttestationResult
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from aicert.formats import gpu, image_lock
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.measurement import INPUT_PCR, ZERO
from enclave_runner.attester import gpus
from enclave_runner.attester.attest import attest, make_run_key, with_gpus
from enclave_runner.attester.tpm import Tpm
from tests.adversarial import ca_forge, chip_forge
from tests.adversarial.forger import AZURE_LIKE, VERITY, Scene
from tests.e2e.verify.make_evidence import fresh_tpm
from tests.nvml import Driver

INDEX = 0x01400001
# The largest index of a software TPM. Azure's index also had 2048 bytes, and has 2600 now.
SIZE = 2048
# No firmware started this software TPM, so it has measured nothing.
BOOT = dict.fromkeys((4, 11, 12, 13), ZERO)


@contextlib.contextmanager
def machine(content: bytes | None = None) -> Iterator[tuple[Tpm, rsa.RSAPublicKey]]:
    """Yield a prepared TPM and its AK; its index has `content`, by default a report that fits."""
    with fresh_tpm() as (tpm, _):
        key = x509.load_der_x509_certificate(tpm.ak_chain()[0]).public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        text = chip_forge.runtime([chip_forge.jwk("HCLAkPub", key)])
        body = chip_forge.report(chip_forge.guest(), chip_forge.report_data(text))
        hcl_report = chip_forge.hcl(chip_forge.signed(body, chip_forge.chip_key()), text)
        write(tpm, hcl_report.ljust(SIZE, b"\0") if content is None else content)
        yield tpm, key


def write(tpm: Tpm, content: bytes, index: int = INDEX) -> None:
    """Define the index and fill it, in pieces of the size that the TPM accepts."""
    import tpm2_pytss as tss

    def define(esapi: Any) -> None:
        public = tss.TPM2B_NV_PUBLIC(
            tss.TPMS_NV_PUBLIC(
                nvIndex=index,
                nameAlg=tss.TPM2_ALG.SHA256,
                attributes=tss.TPMA_NV.parse("ownerread|ownerwrite|authread|no_da"),
                dataSize=len(content),
            )
        )
        handle = esapi.nv_define_space(b"", public)
        for begin in range(0, len(content), 512):
            part = content[begin : begin + 512]
            esapi.nv_write(handle, part, begin, auth_handle=tss.ESYS_TR.OWNER)

    tpm.ask("define an index", define)


def certify(tpm: Tpm, driver: Driver | None = None) -> Certificate:
    """Do what the runner does at both ends of a run; ask `driver` for its GPUs, if there is one."""
    scene = Scene("confidential", 2)
    key = make_run_key(tpm, scene.get("nonce"))
    devices: tuple[gpu.DeviceReport, ...] = ()
    if driver is not None:
        devices = gpus.ask(gpus.Nvml(driver.library), gpu.nonce(key.nonce, key.run_key.name))
    for event in scene.get("input_events"):
        tpm.extend(INPUT_PCR, event)
    report, lockfile = scene.get("report"), scene.get("lockfile_bytes")
    statement = scene.get("statement")
    statement = replace(statement, builder=with_gpus(statement.builder, devices))
    attested = attest(tpm, key, statement, report, lockfile, devices)
    key.run_key.flush()
    return certificates.parse(attested)


def judged(
    certificate: Certificate, key: rsa.RSAPublicKey, kind: str = "confidential"
) -> AttestationResult:
    """Return the verdict under a policy for such machines, after the host has added the makers'
    documents.
    """
    scene = Scene(kind)
    lock = image_lock.emit(
        name="machine", disk=Digest("sha256", "ef" * 32), pcrs=BOOT, verity=VERITY
    )
    firmware = Firmware(name="none", pcrs=dict.fromkeys((0, 1, 2, 3, 7), ZERO))
    policy = replace(
        scene.get("policy"),
        accepted=frozenset((image_lock.parse(lock).digest,)),
        firmware=(firmware,),
    )
    chain = (ca_forge.issue(AZURE_LIKE, key, **scene.get("ak_options")),)
    platform = certificate.evidence.platform
    if platform is not None:
        platform = replace(platform, chip_certificate=chip_forge.vcek())
    devices = certificate.evidence.gpus
    if devices is not None:
        devices = replace(devices, collateral=scene.get("gpu_collateral"))
    evidence = replace(certificate.evidence, ak_chain=chain, platform=platform, gpus=devices)
    whole = certificates.emit(replace(certificate, evidence=evidence, image_lock=lock))
    model = scene.get("model")
    return appraise(certificates.parse(whole), model, policy, at=ca_forge.AT)


def test_the_runner_takes_the_platforms_report_along() -> None:
    with machine() as (tpm, key):
        certificate = certify(tpm)
        assert certificate.evidence.platform is not None
        assert certificate.evidence.platform.report == tpm.platform_report()
        assert len(certificate.evidence.platform.report) == SIZE
        assert certificate.evidence.platform.chip_certificate is None
        result = judged(certificate, key)
    assert (result.verdict, result.tier) == ("passed", "confidential"), result.failed


def test_the_runner_takes_along_what_gpus_say() -> None:
    with machine() as (tpm, key):
        result = judged(certify(tpm, Driver()), key, "gpu")
        assert (result.verdict, result.tier) == ("passed", "confidential-gpu"), result.failed
    # A GPU in developer mode can be inspected: its report is not recorded, so there is no verdict.
    with machine() as (tpm, key):
        certificate = certify(tpm, Driver(developers=1))
        assert certificate.evidence.gpus is None
        result = judged(certificate, key, "gpu")
    assert (result.verdict, result.undecided[0].id) == ("none", "platform.gpu")


def test_a_report_of_another_machine_in_the_index_is_refused() -> None:
    with machine(Scene("confidential").get("hcl")) as (tpm, key):
        result = judged(certify(tpm), key)
    assert [check.id for check in result.failed] == ["platform.binding"]
    assert result.tier is None


def test_a_machine_without_the_index_has_no_report() -> None:
    with fresh_tpm() as (tpm, _):
        assert tpm.platform_report() is None
        # The TPM now has a handle after the missing index, and answers with that one.
        write(tpm, b"something else", INDEX + 1)
        assert tpm.platform_report() is None
        key = x509.load_der_x509_certificate(tpm.ak_chain()[0]).public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        certificate = certify(tpm)
        assert certificate.evidence.platform is None
        result = judged(certificate, key)
    assert (result.verdict, result.undecided[0].id) == ("none", "platform.chip")


def test_an_index_that_holds_nothing_is_an_error() -> None:
    import tpm2_pytss as tss

    with fresh_tpm() as (tpm, _):
        public = tss.TPM2B_NV_PUBLIC(
            tss.TPMS_NV_PUBLIC(
                nvIndex=INDEX,
                nameAlg=tss.TPM2_ALG.SHA256,
                attributes=tss.TPMA_NV.parse("ownerread|ownerwrite|no_da"),
                dataSize=8,
            )
        )
        # The index is defined but was never written, so there is nothing to read.
        tpm.ask("define an index", lambda esapi: esapi.nv_define_space(b"", public))
        with pytest.raises(ToolError, match=r"read the platform's report \(NV 0x01400001\)"):
            tpm.platform_report()
