"""Provenance for the tools of in-toto and Sigstore: the DSSE envelope itself, and a SCAI report.

`provenance.intoto.jsonl` is the certificate's DSSE envelope on one line: SLSA Provenance v1, signed
by the run key. The SCAI attribute report (in-toto predicate v0.3) says what the hardware evidence
shows and where that evidence is. It is not signed, since everything in it can be checked with the
certificate that it names.
"""

from aicert.exports.facts import Facts
from aicert.formats.statement import TYPE
from aicert.formats.strict_json import dumps

SCAI_TYPE = "https://in-toto.io/attestation/scai/v0.3"
CERTIFICATE = "certificate.json"


def provenance(facts: Facts) -> bytes:
    """Return the signed statement as one line of JSON."""
    return dumps(facts.certificate.envelope.to_json()) + b"\n"


def scai(facts: Facts) -> bytes:
    """Return the attribute report, an in-toto statement about every output."""
    evidence = {
        "name": CERTIFICATE,
        "digest": {"sha256": facts.digest.hex},
        "mediaType": "application/json",
    }
    statement = facts.statement
    attributes: list[dict[str, object]] = [
        _attribute("INPUTS_MEASURED_BY_TPM", {"pcr": 14, "lockfile": str(facts.lockfile_digest)}),
        _attribute(
            "OUTPUTS_MEASURED_BY_TPM",
            {
                "pcr": 8,
                "exitCode": facts.report.exit_code,
                "outputs": {n: str(o.digest) for n, o in statement.outputs.items()},
                "runReport": str(statement.report_digest),
            },
        ),
        _attribute(
            "REGISTERS_QUOTED_BY_TPM",
            {"bank": "sha256", "pcrs": "0-15", "nonce": statement.nonce.hex()},
        ),
        _attribute(
            # The envelope's keyid is not used, since no signature covers it.
            "SIGNED_BY_KEY_OF_THE_SAME_BOOT",
            {"runKeyName": facts.run_key.name.hex()},
        ),
    ]
    for attribute in attributes:
        attribute["evidence"] = evidence
    return dumps(
        {
            "_type": TYPE,
            "subject": [
                {"name": name, "digest": {output.digest.kind: output.digest.hex}}
                for name, output in sorted(statement.outputs.items())
            ],
            "predicateType": SCAI_TYPE,
            "predicate": {
                "attributes": attributes,
                "producer": {"uri": statement.builder_id, "name": statement.run},
            },
        }
    )


def _attribute(name: str, conditions: dict[str, object]) -> dict[str, object]:
    return {"attribute": name, "conditions": conditions}
