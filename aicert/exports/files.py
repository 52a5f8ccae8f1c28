"""The standard export files beside a certificate.

Most are computed from the certificate alone; some also say what was verified.
"""

from collections.abc import Mapping

from aicert.exports import (
    croissant,
    cyclonedx,
    evaluated,
    packages,
    provenance,
    spdx,
    training_summary,
)
from aicert.exports.evaluated import DataSet
from aicert.exports.facts import Facts
from aicert.exports.verified import Verified

IMAGE_BOM = "bom.image.cdx.json"


def exports(
    facts: Facts, cyclonedx_version: cyclonedx.Version = cyclonedx.SPEC
) -> dict[str, bytes]:
    """Return every file by name, also the image's if the certificate has its lock (a claim).

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


def verified_exports(
    verified: Verified,
    cyclonedx_version: cyclonedx.Version = cyclonedx.SPEC,
    places: Mapping[str, DataSet] | None = None,
) -> dict[str, bytes]:
    """Return the files of `exports`, and those that only a pass supports, by name.

    The bill of materials also has the evaluations, and the further files are the summary of
    training content and the descriptions of the data. Their names are on no list: they may not lie
    among a model's files. `places`: data sets of tasks, for results in the hub's form.
    """
    outputs = verified.facts.statement.outputs
    named = [one for output in outputs for one in evaluated.named_results(verified, output)]
    return exports(verified.facts, cyclonedx_version) | {
        "bom.cdx.json": cyclonedx.bom(verified.facts, cyclonedx_version, verified),
        "training-content.md": training_summary.markdown(verified),
        "training-content.json": training_summary.document(verified),
        **croissant.documents(verified),
        **evaluated.eval_results(named if len(outputs) == 1 else (), places or {}),
    }
