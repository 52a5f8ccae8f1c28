"""Put the certificate of a confidential machine's processor beside the report that it signed.

The machine has no network, so its certificate says what the processor reported and not who says
that it is one. The host asks the maker's server (AMD 57230, "VCEK/GET": by chip id and firmware
versions) and adds the answer, unsigned (docs/adr/0010). It is judged first as a verifier will; a
host that adds another makes a certificate that does not pass. A driver that cannot reach the server
keeps the certificate without: this can be done later.

    .venv/bin/python -m rules.machines.azure.vcek certificates/RUN/certificate.json

Leaves out: processors whose maker's roots are not pinned.
"""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import amd_vcek, azure_hcl, sev_snp
from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats import certificate as certificates
from aicert.text import error_lines
from aicert.trust.roots import chip_root
from aicert.verifier.verify import read_certificate
from rules.host.work import write_whole

if TYPE_CHECKING:
    import httpx2

MAKER = "https://kdsintf.amd.com/vcek/v1"
# The report of a machine does not always say of which family its processor is.
FAMILIES = {"Genoa": "amd-genoa", "Milan": "amd-milan"}
_PARTS = {"bl": "bootloader", "tee": "tee", "snp": "snp", "ucode": "microcode"}
_HINT = ".venv/bin/python -m rules.machines.azure.vcek certificates/RUN/certificate.json"


def attach(path: Path, server: str = MAKER) -> bool:
    """Complete the certificate file at `path`; whether there was anything to add.

    ToolError where the server cannot be reached, or has no certificate that fits.
    """
    certificate = read_certificate(path)
    platform = certificate.evidence.platform
    if platform is None or platform.chip_certificate is not None:
        return False
    try:
        report = sev_snp.parse(azure_hcl.parse(platform.report).hardware)
    except EvidenceError:
        # Of another maker's processor: as a cloud's machine it can still be judged.
        return False
    platform = replace(platform, chip_certificate=_fetch(report, server))
    evidence = replace(certificate.evidence, platform=platform)
    write_whole(path, certificates.emit(replace(certificate, evidence=evidence)))
    return True


def _fetch(report: sev_snp.Report, server: str) -> bytes:
    import httpx2

    from aicert.sources.transfer import new_client

    places = {part: report.tcb[amd_vcek.COMPONENTS[name]] for part, name in _PARTS.items()}
    query = "&".join(f"{part}SPL={version:02}" for part, version in places.items())
    answers = []
    with new_client() as client:
        for family, pinned in FAMILIES.items():
            url = f"{server}/{family}/{report.chip_id.hex()}?{query}"
            try:
                status, data = _get(client, url)
            except httpx2.HTTPError as error:
                raise ToolError(
                    f"cannot ask the processor's maker for its certificate: {type(error).__name__}",
                    hint=_HINT,
                ) from None
            if status == 200:
                return _judged(data, report, pinned)
            answers.append(f"{family} {status}")
    raise ToolError(
        "the processor's maker has no certificate for it\n"
        f"chip      {report.chip_id.hex()}\nfirmware  {amd_vcek.tcb_text(report.tcb)}\n"
        f"answers   {', '.join(answers)}",
        hint=_HINT,
    )


def _get(client: "httpx2.Client", url: str) -> tuple[int, bytes]:
    data = b""
    with client.stream("GET", url) as response:
        if response.status_code == 200:
            for part in response.iter_bytes():
                data += part
                if len(data) > certificates.MAX_CERT_BYTES:
                    raise ToolError("the answer of the processor's maker is too large")
        return response.status_code, data


def _judged(data: bytes, report: sev_snp.Report, family: str) -> bytes:
    try:
        chip = amd_vcek.certify_chip(data, (chip_root(family, {}),), datetime.now(UTC))
        sev_snp.verify(report, chip.key)
    except AicertError as error:
        raise ToolError(
            f"the processor's maker sent a certificate that does not match: {error.message}",
            hint=_HINT,
        ) from None
    return data


def main(paths: list[str]) -> int:
    """Complete the certificates at `paths`; 0 where nothing is missing any more."""
    try:
        for path in paths:
            added = attach(Path(path))
            print(f"{path}: {'added' if added else 'nothing to add'}")
    except AicertError as error:
        print(error_lines(error.message, error.hint), end="", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
