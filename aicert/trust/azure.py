"""Reference values of Azure's platforms, each with date and source (docs/spec/policy.md).

A policy accepts these values because somebody published genuine evidence that contains them. Nobody
in this project has seen its own image on that hardware: `./doit azure_calibrate` prints what a
first run must add. PCR 4 and 11 are not here: they are predicted from the image (its lock) and are
the same on Azure, whose firmware starts the image as its first boot option (as the values of 2024
and the log of 2026 show).
"""

from collections.abc import Mapping
from datetime import date

from aicert.appraisal.evidence.accepted import IdKeySigner, Td
from aicert.appraisal.policy import Firmware

# The value of a register into which firmware measures nothing but the separator.
_SEPARATOR = "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"

_BLINDLLAMA = "mithril-security/blindllama-v2"
_OPENPCC = "openpcc/openpcc"
_ROUTER = "Super-Protocol/confidential-router @ c0a5e613"
_FLASHBOTS = "flashbots/attested-tls @ 22334977"
_TRUSTEE = "confidential-containers/trustee @ 78962cd4"
# For each value below: when it was seen (by the evidence itself, or else by its publication), and
# in whose evidence.
SEEN: Mapping[str, tuple[str, str]] = {
    "azure-trusted-launch-2024-06": ("2024-06", _BLINDLLAMA),
    "azure-snp-milan-2026": ("2026", _TRUSTEE),
    "azure-snp-genoa-2026": ("2026", _TRUSTEE),
    "azure-tdx-2025-12": ("2025-12", _FLASHBOTS),
    "azure-paravisor-milan": ("2026-09", f"{_ROUTER}; {_TRUSTEE}"),
    "azure-paravisor-genoa": ("2026", _TRUSTEE),
    "azure-paravisor-2025": ("2025-06", _OPENPCC),
    "azure-paravisor-tdx-2025-12": ("2025-12", _FLASHBOTS),
    "intel-tdx": ("2026-02", _FLASHBOTS),
    "amd-milan": ("2026-09", f"{_ROUTER}; {_TRUSTEE}"),
    "amd-genoa": ("2026", _TRUSTEE),
}


def _firmware(name: str, family: str, *values: str) -> Firmware:
    """Return a set of values for PCRs 0, 1, 2, 3 and 7."""
    pcrs = dict(zip((0, 1, 2, 3, 7), map(bytes.fromhex, values), strict=True))
    return Firmware(name=name, family=family, pcrs=pcrs)


# PCR 0 (the firmware) differed on each of eight machines of Azure; PCR 7 (Secure Boot: its state,
# its keys, and who signed the boot loader) recurs. So sets of one family may be mixed.

# Trusted launch, generation 2: the values of a quote whose AK certificate chains to Azure's root.
# PCR 7 is that machine's Secure Boot state and keys; nothing shows that another machine has the
# same.
TRUSTED_LAUNCH = (
    _firmware(
        "azure-trusted-launch-2024-06",
        "azure-trusted-launch",
        "d0d725f21ba5d701952888bcbc598e6dcef9aff4d1e03bb3606eb75368bab351",
        _SEPARATOR,
        _SEPARATOR,
        _SEPARATOR,
        "912676b23ec83748aca6118737c82dc35ab30bf2f8fd8f737204a09a31781e39",
    ),
)

# Confidential machines: quotes by attestation keys for which a processor's report vouches, through
# the paravisor that it names. Their PCR 7 is that of a system that Microsoft's keys signed; Secure
# Boot is off for our image, so a first run adds a set (docs/azure.md).
CONFIDENTIAL = (
    _firmware(
        "azure-snp-milan-2026",
        "azure-confidential",
        "e15c44796beabf46abcec7c57e590942041e47497e4ec27571c8b7664f48dced",
        "7d81f145b4e06122a02048a39c4eb5832c3e4dd1d13abef1d802f5ad8d4f26e5",
        _SEPARATOR,
        _SEPARATOR,
        "3b20e022416fdf61d72e4da32b4354781be3de0608116976d28ffdad8c341d2a",
    ),
    _firmware(
        "azure-snp-genoa-2026",
        "azure-confidential",
        "afd689d0bb1c5f36f023fbaf574135f555a28a10c1f6b938d2a25e70c7783338",
        "c58c15ef414e8d0cdc143cc79af0ff0048d9ca8ee9b514ca14f47671255455ed",
        _SEPARATOR,
        _SEPARATOR,
        "3b20e022416fdf61d72e4da32b4354781be3de0608116976d28ffdad8c341d2a",
    ),
    # A machine with Intel's processor that booted a unified kernel image by itself. Its Secure Boot
    # state is not published.
    _firmware(
        "azure-tdx-2025-12",
        "azure-confidential-tdx",
        "561f6f2ff90bf46e5f01b8d7c1bf960c2d64b6483325f18d78217c84630fd353",
        _SEPARATOR,
        "bdc04cc10b4fcd6e9f791a695be684c7c7f2aff19cc452eb663a1c35522f4b1c",
        _SEPARATOR,
        "124daf47b4d67179a77dc3c1bcca198ae1ee1d094a2a879974842e44ab98bb06",
    ),
)

# The signers of what Azure's confidential guests are started with. The versions (GUEST_SVN) of one
# key are separate on each generation of processors: reports of 2026 have 3, 10 and 12 on Milan, and
# 65547 on Genoa.
_KEY_2026 = bytes.fromhex(
    "942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7"
    "555b92f7f3d32d0e006767648cba5b102af3d65756af4177"
)
# The key before that, known from the report of June 2025 and from the tokens of Microsoft's
# attestation service since 2023 (`x-ms-sevsnpvm-idkeydigest`). No report of 2026 has it.
_KEY_2023 = bytes.fromhex(
    "0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3"
)
ID_KEY_SIGNERS = (
    IdKeySigner(name="azure-paravisor-milan", id_key=_KEY_2026, minimum_svn=3, chip="amd-milan"),
    IdKeySigner(
        name="azure-paravisor-genoa", id_key=_KEY_2026, minimum_svn=65547, chip="amd-genoa"
    ),
    IdKeySigner(
        name="azure-paravisor-2025",
        id_key=_KEY_2023,
        minimum_svn=65545,
        chip="amd-genoa",
        until=date(2025, 12, 31),
    ),
)

# The minimum firmware versions, as genuine machines report them. AMD's bulletins ask for more on
# Genoa: `snp` 27 (AMD-SB-3020, CVE-2025-0033: a host may write to the RMP while it is made) and
# `microcode` 86 (AMD-SB-3027, CVE-2025-29943), which no published machine of Azure has. Verdicts
# say which attacks on Milan are known (`roots._KNOWN`). A policy can ask for more, or refuse a
# family (docs/spec/confidential.md).
CHIPS: Mapping[str, Mapping[str, int]] = {
    "amd-milan": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219},
    "amd-genoa": {"bootloader": 10, "tee": 0, "snp": 23, "microcode": 84},
}

# On Intel's processors, a TD is built with Azure's paravisor; nothing extends its registers. The
# value is from a quote of 2 December 2025, whose attestation key signed a TPM quote and has a
# certificate of Azure's. An updated paravisor has another value: a policy file adds it ([[td]]).
TDS = (
    Td(
        name="azure-paravisor-tdx-2025-12",
        mrtd=bytes.fromhex(
            "12bdbc1609ef066db7a9ec7b26d7509346f4ca46e8462740"
            "96cb25939b1e711944061ca19a30c6743f1e599148eee451"
        ),
    ),
)
# Intel's words for accepted firmware, and the number of Intel's evaluation in that machine's
# collateral of February 2026: by it, processor, TDX module and quoting enclave are all up to date.
TDX_STATUSES = frozenset(("UpToDate",))
TDX_EVALUATION = 18
