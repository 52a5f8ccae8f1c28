"""Reference values of Azure's platforms: dated, each with where it was seen (docs/spec/policy.md).

What a policy accepts because somebody published genuine evidence with it. Nobody of this project
has seen its own image on that hardware: `./doit azure_calibrate` prints what a first run must add.
PCR 4 and 11 are not here: they are predicted from the image (its lock) and are the same on Azure,
whose firmware starts the image as its first boot option (as the published values of 2024 show).
"""

from collections.abc import Mapping

from aicert.appraisal.policy import Firmware, IdKeySigner

# Trusted launch, generation 2. PCRs of the quote of June 2024 that mithril-security/blindllama-v2
# publishes, whose AK certificate chains to Azure's root; PCR 1 to 3 hold a separator and no more.
# PCR 7 is that machine's Secure Boot state and keys: unproven for another.
TRUSTED_LAUNCH = (
    Firmware(
        name="azure-trusted-launch-2024-06",
        pcrs={
            0: bytes.fromhex("d0d725f21ba5d701952888bcbc598e6dcef9aff4d1e03bb3606eb75368bab351"),
            1: bytes.fromhex("3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"),
            2: bytes.fromhex("3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"),
            3: bytes.fromhex("3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"),
            7: bytes.fromhex("912676b23ec83748aca6118737c82dc35ab30bf2f8fd8f737204a09a31781e39"),
        },
    ),
)

# Confidential machines have none: the published quote of one (kinvolk/azure-cvm-tooling, 2023)
# comes without a certificate for its key, so that nobody can tell whose values these are.

# Who starts Azure's confidential guests: the key whose digest is in the SEV-SNP report of a machine
# of June 2025 that openpcc/openpcc publishes (signed by a Genoa processor, GUEST_SVN 65545), and in
# the tokens of Microsoft's attestation service since 2023 (`x-ms-sevsnpvm-idkeydigest`).
ID_KEY_SIGNERS = (
    IdKeySigner(
        name="azure-paravisor",
        id_key=bytes.fromhex(
            "0356215882a825279a85b300b0b742931d113bf7e32dde2e"
            "50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3"
        ),
        minimum_svn=65545,
    ),
)

# The least firmware versions: `snp` of AMD-SB-3020 (CVE-2025-0033: a host may write to the RMP
# while it is made), `microcode` of AMD-SB-3027 (CVE-2025-29943), as published reviews cite these
# bulletins; `bootloader` as in the report of June 2025, which is itself too old for the other two.
# Milan is missing on purpose: arXiv 2605.12990 extracts the secret of all its reports by software.
CHIPS: Mapping[str, Mapping[str, int]] = {
    "amd-genoa": {"bootloader": 10, "tee": 0, "snp": 27, "microcode": 86},
}
