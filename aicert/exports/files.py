"""The standard files that stand beside a certificate, each computed from it alone."""

from aicert.exports import cyclonedx, packages, provenance, spdx
from aicert.exports.facts import Facts

IMAGE_BOM = "bom.image.cdx.json"


def exports(
    facts: Facts, cyclonedx_version: cyclonedx.Version = cyclonedx.SPEC
) -> dict[str, bytes]:
    """Every file, by name; that of the image where the certificate carries its lock (a claim).

    The names are on the verifier's closed list (aicert.formats.uncovered_names).
    """
    written = {
        "provenance.intoto.jsonl": provenance.provenance(facts),
        "scai.intoto.json": provenance.scai(facts),
        "bom.cdx.json": cyclonedx.bom(facts, cyclonedx_version),
        "bom.spdx.json": spdx.document(facts),
        "run-key.pem": facts.run_key_pem(),
    }
    if facts.certificate.image_lock is not None:
        lock = facts.certificate.image_lock
        written[IMAGE_BOM] = packages.image_bom(lock, cyclonedx_version)
    return written
