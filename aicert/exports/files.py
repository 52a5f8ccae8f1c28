"""The standard files that stand beside a certificate, each computed from it alone."""

from aicert.exports import cyclonedx, packages, provenance, spdx
from aicert.exports.facts import Facts

# File name → what writes it. The names are on the verifier's closed list
# (aicert.formats.uncovered_names).
WRITERS = {
    "provenance.intoto.jsonl": provenance.provenance,
    "scai.intoto.json": provenance.scai,
    "bom.cdx.json": cyclonedx.bom,
    "bom.spdx.json": spdx.document,
    "run-key.pem": Facts.run_key_pem,
}


IMAGE_BOM = "bom.image.cdx.json"


def exports(facts: Facts) -> dict[str, bytes]:
    """Every file, by name; that of the image where the certificate carries its lock (a claim)."""
    written = {name: write(facts) for name, write in WRITERS.items()}
    if facts.certificate.image_lock is not None:
        written[IMAGE_BOM] = packages.image_bom(facts.certificate.image_lock)
    return written
