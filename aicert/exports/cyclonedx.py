"""Export a certificate as CycloneDX 1.7 or 1.6: the model, its inputs, its making, the evidence.

https://cyclonedx.org/docs/1.7/json/; nothing is used that 1.6 lacks. The JSON is canonical: the
same certificate gives the same bytes. CycloneDX has no kind of hash for a directory's dirHash, so
that is in the property `aicert:digest`; a model's files are components of their own with SHA-256.
Left out: energy, which no part of the system measures, and licences, which the certificate does not
cover.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Literal
from urllib.parse import quote

from aicert.appraisal.checks.kinds import KINDS
from aicert.exports.facts import METRICS, Facts, Kind, hub_source, kind_of
from aicert.exports.provenance import CERTIFICATE
from aicert.exports.verified import Verified
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import BY_DIGEST, Task, TaskResults
from aicert.formats.evaluation import Results
from aicert.formats.lockfile import LockedInput
from aicert.formats.run_report import Value
from aicert.formats.statement import Output
from aicert.formats.strict_json import dumps
from aicert.verifier.evidence import Evaluation
from aicert.verifier.facts import fact_items

Version = Literal["1.7", "1.6"]
VERSIONS: tuple[Version, ...] = ("1.7", "1.6")
SPEC: Version = "1.7"
NAMESPACE = uuid.UUID("6f0f7a3e-5c0b-5d43-9a6e-5d6e2c0a7d11")
_TYPES: dict[Kind, str] = {"model": "machine-learning-model", "data": "data", "config": "data"}
_DATA: dict[Kind, str] = {"data": "dataset", "config": "configuration", "model": "other"}
_INFERRED = {"name": "aicert:kind", "value": "inferred from the input's name and source"}

Json = dict[str, object]


def head(spec: Version) -> Json:
    """Return the fields that identify a CycloneDX document and its version."""
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "version": 1,
    }


def bom(facts: Facts, spec: Version = SPEC, verified: Verified | None = None) -> bytes:
    """Return the bill of materials of all outputs of the run.

    If `verified` is given, it also has the verified evaluations of the outputs.
    """
    statement = facts.statement
    names = sorted(statement.outputs)
    outputs = []
    for name in names:
        output = statement.outputs[name]
        evaluations = [] if verified is None else verified.about_output(output.digest)
        about = _model(facts, evaluations) if facts.has_model else _results(name)
        outputs.append(_output(facts, name, output, evaluations) | about)
    inputs = [_input(item) for item in facts.lockfile.inputs]
    machine = _machine(facts)
    packages = [package("pypi", n, v) for n, v in facts.packages().items()]
    parts = [_ref(part) for part in (*inputs, machine, *packages)]
    document: Json = head(spec) | {
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, facts.digest.hex)}",
        "metadata": {
            "timestamp": statement.finished,
            "lifecycles": [{"phase": "build"}],
            "component": outputs[0],
            "properties": _properties(
                ("aicert:lockfile", str(facts.lockfile_digest)),
                ("aicert:certificate", str(facts.digest)),
                ("aicert:timestamp", "the machine's own clock"),
            ),
        },
        "components": [*outputs[1:], *inputs, machine, *packages],
        "dependencies": [
            *({"ref": _ref(output), "dependsOn": parts} for output in outputs),
            *({"ref": part} for part in parts),
        ],
        "formulation": [_formula(facts, inputs, outputs)],
        "declarations": _declarations(facts, names),
    }
    return dumps(document)


def package(kind: str, name: str, version: str, hashes: Iterable[str] = ()) -> Json:
    """Describe a software package by its package URL; `hashes` are SHA-256 of its distributions."""
    # package-url/purl-spec: PyPI names have no underscore, and delimiters are escaped.
    known_as = name.replace("_", "-") if kind == "pypi" else name
    purl = f"pkg:{kind}/{quote(known_as)}@{quote(version, safe=':')}"
    component: Json = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    listed = [{"alg": "SHA-256", "content": value} for value in hashes]
    return component | ({"hashes": listed} if listed else {})


def _model(facts: Facts, evaluations: Sequence[Evaluation]) -> Json:
    """Return what only an output that is a model has."""
    bases = [item for item in facts.lockfile.inputs if kind_of(item) == "model"]
    data = [item for item in facts.lockfile.inputs if kind_of(item) == "data"]
    card: Json = {}
    # What a model is calibrated on, it is not trained on.
    if data and facts.kind == "train":
        card["modelParameters"] = {"datasets": [{"ref": f"input:{d.name}"} for d in data]}
    if metrics := _metrics(facts) + [one for each in evaluations for one in _evaluated(each)]:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    component: Json = {"type": "machine-learning-model", "modelCard": card}
    if bases:
        component["pedigree"] = {"ancestors": [_plain(base) for base in bases]}
    return component


def _results(name: str) -> Json:
    """Return what only an output that is no model has."""
    return {"type": "data", "data": [{"type": "other", "name": name}]}


def _output(facts: Facts, name: str, output: Output, evaluations: Sequence[Evaluation]) -> Json:
    return {
        "bom-ref": f"output:{name}",
        "name": f"{facts.statement.run}/{name}",
        "properties": _properties(
            ("aicert:digest", str(output.digest)),
            *(("aicert:evaluation", _of_evaluation(each)) for each in evaluations),
        ),
        "components": [
            {
                "type": "file",
                "bom-ref": f"output:{name}/{path}",
                "name": path,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
            for path, digest in sorted(output.files.items())
        ],
        "externalReferences": [
            {
                "type": "attestation",
                "url": CERTIFICATE,
                "hashes": [{"alg": "SHA-256", "content": facts.digest.hex}],
            }
        ],
    }


def _metrics(facts: Facts) -> list[Json]:
    metrics = []
    losses = facts.log.get("losses")
    if losses is not None and isinstance(losses.data, tuple) and losses.data:
        last = Value(losses.origin, losses.data[-1])
        metrics.append(_metric("training loss, last", last))
    metrics += [_metric(key, facts.log[key]) for key in sorted(METRICS) if key in facts.log]
    return metrics


def _evaluated(evaluation: Evaluation) -> list[Json]:
    """Only whole tasks of the image have a name: digests are what is known of others."""
    results = evaluation.results
    if isinstance(results, TaskResults):
        return [
            {
                "type": f"{metric.key} (measured)",
                "value": str(metric.value),
                "slice": _task(task),
            }
            for task in results.tasks
            for metric in task.metrics
        ]
    rows = ", ".join(str(read.digest) for read in results.data)
    return [{"type": "loss per token (measured)", "value": str(results.loss), "slice": rows}]


def _task(task: Task) -> str:
    known = BY_DIGEST.get(task.digest)
    return f"task {task.digest}" if known is None else f"{known.name}, task {task.digest}"


def _of_evaluation(evaluation: Evaluation) -> str:
    results = evaluation.results
    words = f"run {evaluation.run}, tier {evaluation.tier}, results {evaluation.digest}: "
    words += _of_tasks(results) if isinstance(results, TaskResults) else _of_loss(results)
    return words + (f"; loaded on {results.base.digest}" if results.adapter is not None else "")


def _of_loss(results: Results) -> str:
    return (
        f"loss {results.loss} per token over {results.tokens} tokens"
        f" ({results.template_tokens} from templates) of {results.rows} rows"
        f", {results.left_out} left out"
    )


def _of_tasks(results: TaskResults) -> str:
    return "; ".join(
        f"{_task(task)}: {metric.key} {metric.value} over {task.samples} samples"
        for task in results.tasks
        for metric in task.metrics
    )


def _metric(name: str, value: Value) -> Json:
    return {"type": f"{name} ({value.origin})", "value": str(value.data)}


def _plain(item: LockedInput) -> Json:
    component: Json = {
        "type": _TYPES[kind_of(item)],
        "name": item.name,
        "description": f"claimed source: {item.uri}",
        "properties": [
            *_properties(("aicert:digest", str(item.digest))),
            *(_properties(("aicert:signed-by", item.signed_by)) if item.signed_by else ()),
            _INFERRED,
        ],
    }
    return component | _hashes(item.digest) | _from_hub(item)


def _from_hub(item: LockedInput) -> Json:
    """Return package URL, version and supplier, as far as the claimed source names them."""
    source = hub_source(item)
    if source is None:
        return {}
    fields: Json = {
        "purl": source.purl,
        "supplier": {"name": source.organisation, "url": [source.supplier_url]},
    }
    return fields | ({} if source.commit is None else {"version": source.commit})


def _input(item: LockedInput) -> Json:
    kind = kind_of(item)
    component = _plain(item) | {"bom-ref": f"input:{item.name}"}
    if kind != "model":
        component["data"] = [{"type": _DATA[kind], "name": item.name}]
    return component


def _machine(facts: Facts) -> Json:
    statement = facts.statement
    known = [(f"aicert:{name}", str(digest)) for name, digest in statement.builder.items()]
    known += [
        (f"aicert:{key}", f"{facts.log[key].data} ({facts.log[key].origin})")
        for key in ("kernel", "processor", "processorFeatures")
        if key in facts.log
    ]
    return {
        "type": "operating-system",
        "bom-ref": "machine",
        "name": statement.builder_id,
        "properties": _properties(*known),
    }


def _formula(facts: Facts, inputs: list[Json], outputs: list[Json]) -> Json:
    statement = facts.statement
    steps = [
        {"name": step, "description": text}
        for step, text in (
            ("measure-inputs", "every input is hashed and extended into PCR 14"),
            (
                KINDS.get(statement.trainer, "run"),
                f"trainer {statement.trainer}, ended with {facts.report.exit_code}",
            ),
            ("measure-outputs", "every output is hashed and extended into PCR 8"),
            ("quote", "the TPM signs PCRs 0 to 15 with nonce, run key and statement"),
        )
    ]
    return {
        "bom-ref": "formula",
        "workflows": [
            {
                "bom-ref": "workflow",
                "uid": statement.nonce.hex(),
                "name": statement.run,
                "taskTypes": ["build"],
                "trigger": {
                    "bom-ref": "trigger",
                    "uid": f"{statement.nonce.hex()}-start",
                    "type": "manual",
                },
                "steps": steps,
                "inputs": [{"resource": {"ref": _ref(item)}} for item in inputs],
                "outputs": [{"type": "artifact", "resource": {"ref": _ref(o)}} for o in outputs],
                "timeStart": statement.started,
                "timeEnd": statement.finished,
                "properties": _properties(
                    ("aicert:lockfile", str(facts.lockfile_digest)),
                    *((f"aicert:override:{o.key}", o.used) for o in facts.report.overrides),
                    *((f"aicert:{word}", line) for word, line in fact_items(facts.report.facts)),
                ),
            }
        ],
    }


def _declarations(facts: Facts, names: list[str]) -> Json:
    claims = [
        {
            "bom-ref": f"claim:{name}",
            "target": f"output:{name}",
            "predicate": "came out of the run that the lockfile names, on the machine quoted",
            "evidence": ["evidence:certificate"],
        }
        for name in names
    ]
    return {
        "claims": claims,
        "evidence": [
            {
                "bom-ref": "evidence:certificate",
                "propertyName": "aicert:certificate",
                "description": (
                    f"TPM quote, run key and signed statement in {CERTIFICATE}, {facts.digest}; "
                    "decided by `aicert verify`"
                ),
            }
        ],
    }


def _hashes(digest: Digest) -> Json:
    if digest.kind != "sha256":
        return {}
    return {"hashes": [{"alg": "SHA-256", "content": digest.hex}]}


def _properties(*pairs: tuple[str, str]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in pairs]


def _ref(component: Json) -> str:
    return str(component["bom-ref"])
