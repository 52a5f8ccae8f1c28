"""The platform roots that this project pins, with their SHA-256 and the source of each certificate.

An X.509 certificate is a public fact; the PEM files in `pinned/` are those that Microsoft, AMD,
Intel, NVIDIA and Google publish. Every file is compared with the fingerprint below when it is read,
so that a changed file in an installation is an error and not another root. Left out: roots that no
policy uses.
"""

import hashlib
import os
from collections.abc import Mapping

from aicert.appraisal.ak_chain import Root
from aicert.appraisal.evidence.accepted import ChipRoot, GpuRoot, TdRoot
from aicert.crypto.x509 import trim_padding
from aicert.errors import ConfigError

PINNED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pinned")
# Enough for one certificate and text beside it: the base64 of x509.MAX_CERTIFICATE has 11 kB.
MAX_PEM = 65536
PEM_HINT = "name a file with one -----BEGIN CERTIFICATE----- and its end"

# Maps each file to the SHA-256 of its DER.
FINGERPRINTS = {
    # Subject: Azure Virtual TPM Root Certificate Authority 2023, valid 2023-06-01 to 2048-06-01.
    # http://www.microsoft.com/pkiops/certs/
    #   Azure%20Virtual%20TPM%20Root%20Certificate%20Authority%202023.crt
    "azure-vtpm-root-2023.pem": "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95",
    # Subject: Global Virtual TPM CA - 01, issued by that root, valid 2023-06-08 to 2025-11-03.
    # Sent along by machines of that time; attestation keys do not name its address (no AIA).
    "azure-vtpm-ca-01.pem": "a2daccd149cd2eadb82045d3cd24336699a0b2d4e50237a76448d107896cf8c7",
    # Subject: Global Virtual TPM CA - 03, issued by that root, valid 2025-04-24 to 2027-04-24.
    "azure-vtpm-ca-03.pem": "fd7c92dabce4dcec9feaa30f8b087ada0598413189182152b881f5564064a29c",
    # Subject: Azure Cloud Virtual TPM CA 2025, issued by that root, valid 2025-08-06 to 2031-08-05;
    # and Azure Cloud Virtual TPM CA - 11, issued by it, valid 2025-10-02 to 2028-10-01. As the
    # evidence of a machine of September 2026 has them (Super-Protocol/confidential-router @
    # c0a5e613). Others of that number are in use: a policy file can add them ([[intermediate]]).
    "azure-vtpm-ca-2025.pem": "41a1675dc1b7df8a5c59c8101c697ce500d0fa5f09bcdaa431bc4a3652363b14",
    "azure-vtpm-ca-11.pem": "4e3a03fd2434c56fc3b9c8ef071d6e7a95471ec6eec820770fb09d36836a669f",
    # Subject: EK/AK CA Root of Google Cloud, valid 2022-07-08 to 2122-07-08, and two of its
    # intermediates, all with one name: of machines since 2024, valid from 2024-02-22, as
    # openpcc/openpcc publishes it with the root
    # (privateca-content-62d71773-0000-21da-852e-f4f5e80d7778.storage.googleapis.com); and of those
    # before, valid from 2022-08-23, as google/go-tpm-tools has it
    # (server/ca-certs/gcp_ek_ak_ca_intermediate_v3.crt).
    "google-ek-ak-root.pem": "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2",
    "google-ek-ak-ca.pem": "84606234dae2d85dc110f94216b388dabc973ebef8bee1edbcd732208c8b3d5d",
    "google-ek-ak-ca-2022.pem": "c84de8116dfaf5a908f21e810487791f5437e206d00ad8025050cca6bd2ff627",
    # Subject: Intel SGX Root CA, valid 2018-05-21 to 2049-12-31; it certifies the processors whose
    # quotes of SGX and TDX count (certificates.trustedservices.intel.com/IntelSGXRootCA.der).
    "intel-sgx-root.pem": "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
    # Subject: NVIDIA Device Identity CA, valid 2021-11-05 to 9999-12-31; it certifies GPUs and
    # switches. And NVIDIA CoRIM signing Root CA, valid 2023-03-16 to 2053-03-08; it certifies what
    # signs their reference measurements. As NVIDIA/attestation-sdk @ 73c032ea publishes both.
    "nvidia-device-root.pem": "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
    "nvidia-rim-root.pem": "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1",
    # AMD's roots (ARK) and the certificates that they issued to certify chips (ASK), one pair for
    # each family, from https://kdsintf.amd.com/vcek/v1/{Milan,Genoa}/cert_chain, valid for 25
    # years. Turin's pair is left out: nobody in this project has seen it, nor a report of such a
    # processor.
    "amd-genoa-ark.pem": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "amd-genoa-ask.pem": "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
    "amd-milan-ark.pem": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "amd-milan-ask.pem": "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
}
CHIP_FAMILIES = ("amd-genoa", "amd-milan")
INTEL_TDX = "intel-tdx"
NVIDIA = "nvidia"
# Published attacks that no firmware version fixes; a verdict shows them
# (docs/spec/confidential.md).
_KNOWN = {
    "amd-milan": "arXiv 2605.12990 extracts the secret behind this family's reports by software",
}

# The common names that the hierarchy gives to the attestation keys of trusted launch and
# confidential virtual machines; other keys that it may certify one day are not accepted.
AZURE_CONFIDENTIAL = (
    ".ConfidentialVM.Azure.Microsoft",
    ".ConfidentialVM.Azure.windows.net",
)
AZURE_SUBJECTS = (
    ".TrustedVM.Azure.Microsoft",
    ".TrustedVM.Azure.windows.net",
    *AZURE_CONFIDENTIAL,
)
# The intermediates, in the order in which chains are most often completed.
AZURE_INTERMEDIATES = (
    "azure-vtpm-ca-11.pem",
    "azure-vtpm-ca-2025.pem",
    "azure-vtpm-ca-03.pem",
    "azure-vtpm-ca-01.pem",
)
# TCG EK Credential Profile, 3.5.15: tcg-kp-EKCertificate, which all of Google's certificates have.
EKU_EK = "2.23.133.8.1"


def azure_vtpm_2023() -> Root:
    """Return Azure's 2023 root of virtual TPMs, with the intermediates that machines may
    not send.
    """
    return _azure_2023("azure-vtpm-2023", "vtpm", AZURE_SUBJECTS)


def azure_confidential_2023(tier: str = "confidential") -> Root:
    """Return Azure's 2023 root, for the virtual TPMs of confidential machines only.

    With tier `confidential-gpu`, it is for confidential machines with GPUs, whose reports are then
    required.
    """
    return _azure_2023(f"azure-{tier}-2023", tier, AZURE_CONFIDENTIAL)


def _azure_2023(name: str, tier: str, subjects: tuple[str, ...]) -> Root:
    return Root(
        name=name,
        der=pinned("azure-vtpm-root-2023.pem"),
        tier=tier,
        # The intermediates also certify endorsement keys (2.23.133.8.1).
        needs_eku=True,
        subjects=subjects,
        intermediates=tuple(map(pinned, AZURE_INTERMEDIATES)),
    )


def google_2022() -> Root:
    """Return Google's root for endorsement and attestation keys of Compute Engine's virtual TPMs.

    Its CAs have the key purpose of endorsement keys, its newer AK certificates have none: an AK is
    told apart by its key usage.
    """
    return Root(
        name="google-ek-ak-2022",
        der=pinned("google-ek-ak-root.pem"),
        tier="vtpm",
        needs_eku=False,
        eku=EKU_EK,
        intermediates=(pinned("google-ek-ak-ca.pem"), pinned("google-ek-ak-ca-2022.pem")),
        instance=True,
    )


def chip_root(family: str, minimum: Mapping[str, int]) -> ChipRoot:
    """Return the pinned root of one of CHIP_FAMILIES, with the policy's minimum firmware
    versions.
    """
    return ChipRoot(
        name=family,
        root=pinned(f"{family}-ark.pem"),
        issuer=pinned(f"{family}-ask.pem"),
        minimum=minimum,
        known=_KNOWN.get(family, ""),
    )


def intel_tdx(statuses: frozenset[str], minimum_evaluation: int) -> TdRoot:
    """Return the pinned root of Intel's processors, with what the policy accepts of their
    firmware.
    """
    return TdRoot(
        name=INTEL_TDX,
        root=pinned("intel-sgx-root.pem"),
        statuses=statuses,
        minimum_evaluation=minimum_evaluation,
    )


def nvidia(drivers: frozenset[str] = frozenset(), vbios: frozenset[str] = frozenset()) -> GpuRoot:
    """Return the pinned roots of NVIDIA's GPUs, with the versions that a policy accepts (empty:
    any).
    """
    return GpuRoot(
        name=NVIDIA,
        root=pinned("nvidia-device-root.pem"),
        rim_root=pinned("nvidia-rim-root.pem"),
        drivers=drivers,
        vbios=vbios,
    )


def pinned(name: str) -> bytes:
    """Return the DER of a pinned certificate; ConfigError if its file is missing or was changed."""
    path = os.path.join(PINNED, name)
    try:
        with open(path, "rb") as file:
            der = pem_to_der(file.read(MAX_PEM), name)
    except OSError as error:
        raise ConfigError(f"cannot read pinned certificate {name}: {error.strerror}") from None
    if hashlib.sha256(der).hexdigest() != FINGERPRINTS[name]:
        raise ConfigError(
            f"pinned certificate {name} was changed in this installation",
            hint="in a checkout of this project: pip install --force-reinstall --no-deps .",
        )
    return der


def pem_to_der(data: bytes, what: str) -> bytes:
    """Return the DER of the only certificate in a PEM text.

    Several certificates, or a body that is not base64, are a ConfigError.
    """
    import base64
    import binascii

    head, tail = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    if data.count(head) != 1 or data.count(tail) != 1 or not data.rstrip().endswith(tail):
        raise ConfigError(f"{what} is not one PEM certificate", hint=PEM_HINT)
    body = data[data.index(head) + len(head) : data.index(tail)]
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise ConfigError(f"{what} is not one PEM certificate", hint=PEM_HINT) from None
    return trim_padding(der)
