"""Add the certificate of a confidential machine's processor to the report that it signed.

The machine has no network, so its certificate contains the processor's report but nothing that
shows it is a real processor. The host asks AMD's server (AMD 57230, "VCEK/GET": by chip id and
firmware versions) and adds the answer, unsigned (docs/adr/0010). The answer is first checked as a
verifier will check it; if the host adds something else, the certificate does not pass. If the
driver cannot reach the server, it keeps the certificate without one, and this can be done later.

    .venv/bin/python -m rules.machines.azure.vcek certificates/RUN/certificate.json

Processors of manufacturers whose roots are not pinned are not supported.
"""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import amd_vcek, azure_hcl, snp_report
from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats import certificate as certificates
from aicert.text import error_lines
from aicert.trust.roots import chip_root
from aicert.verifier.verify import read_certificate
from rules.host.work import write_whole

if TYPE_CHECKING:
    import httpx2

MAKER = "https://kdsintf.amd.com/vcek/v1"
# A report does not always name the processor's family.
FAMILIES = {"Genoa": "amd-genoa", "Milan": "amd-milan"}
_PARTS = {"bl": "bootloader", "tee": "tee", "snp": "snp", "ucode": "microcode"}
_HINT = ".venv/bin/python -m rules.machines.azure.vcek certificates/RUN/certificate.json"


def attach(path: Path, server: str = MAKER) -> bool:
    """Complete the certificate file at `path`. Returns whether anything was added.

    Raises ToolError if the server cannot be reached or has no matching certificate.
    """
    certificate = read_certificate(path)
    platform = certificate.evidence.platform
    if platform is None or platform.chip_certificate is not None:
        return False
    try:
        report = snp_report.parse(azure_hcl.parse(platform.report).hardware)
    except EvidenceError:
        # Another manufacturer's processor: the certificate can still be appraised as a cloud
        # machine's.
        return False
    platform = replace(platform, chip_certificate=_fetch(report, server))
    evidence = replace(certificate.evidence, platform=platform)
    write_whole(path, certificates.emit(replace(certificate, evidence=evidence)))
    return True


def _fetch(report: snp_report.Report, server: str) -> bytes:
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
                    f"cannot ask AMD for the processor's certificate: {type(error).__name__}",
                    hint=_HINT,
                ) from None
            if status == 200:
                return _judged(data, report, pinned)
            answers.append(f"{family} {status}")
    raise ToolError(
        "AMD has no certificate for the processor\n"
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
                    raise ToolError("AMD's answer is too large")
        return response.status_code, data


def _judged(data: bytes, report: snp_report.Report, family: str) -> bytes:
    try:
        chip = amd_vcek.certify_chip(data, (chip_root(family, {}),), datetime.now(UTC))
        snp_report.verify(report, chip.key)
    except AicertError as error:
        raise ToolError(
            f"AMD sent a certificate that does not match: {error.message}",
            hint=_HINT,
        ) from None
    return data


def main(paths: list[str]) -> int:
    """Complete the certificates at `paths`. Returns 0 if none lacks anything now."""
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
