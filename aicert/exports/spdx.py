"""Export a certificate as SPDX 3.0.1 (JSON-LD): profiles core, software, build; ai, dataset
elements.

https://spdx.github.io/spdx-spec/v3.0.1/. Element ids are URNs derived from the certificate's
digest, so the same certificate gives the same bytes. SPDX has no dirHash: a directory's digest is
an external identifier of type `other`, and a model's files are elements with SHA-256. Conformance
to the profiles ai and dataset is not claimed: they require the supplier, release date and origin of
each model and data set, which no certificate has.
"""

from aicert.exports.facts import METRICS, Facts, hub_source, kind_of
from aicert.exports.provenance import CERTIFICATE
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput
from aicert.formats.statement import BUILD_TYPE, Output
from aicert.formats.strict_json import dumps
from aicert.verifier.facts import fact_items

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
SPEC = "3.0.1"
_CREATION = "_:creation"

Json = dict[str, object]


def document(facts: Facts) -> bytes:
    """Return the SPDX document of all outputs of the run."""
    return dumps({"@context": CONTEXT, "@graph": _Graph(facts).elements()})


class _Graph:
    """Collects the elements and their relationships, in a fixed order."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.base = f"urn:aicert:certificate:{facts.digest.hex}"
        self.nodes: list[Json] = []
        self.count = 0

    def elements(self) -> list[Json]:
        """Return all elements, the document last."""
        facts, statement = self.facts, self.facts.statement
        tool = self._add("SoftwareAgent", "aicert", name="aicert")
        inputs = [self._input(item) for item in facts.lockfile.inputs]
        build = self._build()
        self._relate("hasInput", build, inputs)
        outputs = []
        for name, output in sorted(statement.outputs.items()):
            element = self._model(name, output) if facts.has_model else self._results(name, output)
            self._files(element, name, output)
            outputs.append(element)
            self._evidence(element)
            for item, given in zip(facts.lockfile.inputs, inputs, strict=True):
                if kind_of(item) == "data" and facts.kind == "train":
                    self._relate("trainedOn", element, [given])
                elif kind_of(item) == "model" and facts.has_model:
                    self._relate("descendantOf", element, [given])
        self._relate("hasOutput", build, outputs)
        # Tools that want a bill of materials look for this element.
        sbom = self._add(
            "software_Sbom",
            "sbom",
            name=statement.run,
            profileConformance=["core", "software", "build"],
            rootElement=outputs,
            element=[str(element["spdxId"]) for element in self.nodes],
            software_sbomType=["build"],
        )
        agent: Json = {
            "type": "CreationInfo",
            "@id": _CREATION,
            "specVersion": SPEC,
            "created": statement.finished,
            "createdBy": [tool],
        }
        root: Json = {
            "type": "SpdxDocument",
            "spdxId": f"{self.base}:document",
            "creationInfo": _CREATION,
            "name": statement.run,
            "rootElement": [sbom],
            "element": [str(element["spdxId"]) for element in self.nodes],
            "profileConformance": ["core", "software", "build"],
        }
        return [agent, *self.nodes, root]

    def _add(self, kind: str, local: str, **fields: object) -> str:
        identity = f"{self.base}:{local}"
        self.nodes.append({"type": kind, "spdxId": identity, "creationInfo": _CREATION, **fields})
        return identity

    def _relate(self, kind: str, source: str, targets: list[str]) -> None:
        if not targets:
            return
        self.count += 1
        self._add(
            "Relationship",
            f"relationship:{self.count}",
            relationshipType=kind,
            completeness="complete",
            **{"from": source, "to": targets},
        )

    def _input(self, item: LockedInput) -> str:
        fields: Json = {
            "name": item.name,
            "comment": f"claimed source: {item.uri}; what it is, is inferred from its name",
            **_identified(item.digest),
        }
        kind = kind_of(item)
        if kind == "config":
            return self._add("software_File", f"input:{item.name}", **fields)
        fields |= self._from_hub(item)
        fields["software_primaryPurpose"] = kind
        if kind == "model":
            return self._add("ai_AIPackage", f"input:{item.name}", **fields)
        # Nobody has looked at what kind of data it is.
        fields["dataset_datasetType"] = ["noAssertion"]
        fields["dataset_datasetSize"] = item.size
        return self._add("dataset_DatasetPackage", f"input:{item.name}", **fields)

    def _from_hub(self, item: LockedInput) -> Json:
        """Return package URL, version and supplier, as far as the claimed source names them."""
        source = hub_source(item)
        if source is None:
            return {}
        local = f"supplier:{source.organisation}"
        supplier = f"{self.base}:{local}"
        if all(element["spdxId"] != supplier for element in self.nodes):
            self._add("Organization", local, name=source.organisation)
        fields: Json = {"software_packageUrl": source.purl, "suppliedBy": supplier}
        version = {} if source.commit is None else {"software_packageVersion": source.commit}
        return fields | version

    def _build(self) -> str:
        facts, statement = self.facts, self.facts.statement
        config = next(item for item in facts.lockfile.inputs if kind_of(item) == "config")
        return self._add(
            "build_Build",
            "build",
            build_buildType=BUILD_TYPE,
            build_buildId=statement.nonce.hex(),
            build_buildStartTime=statement.started,
            build_buildEndTime=statement.finished,
            build_configSourceUri=[f"urn:aicert:lockfile:{facts.lockfile_digest.hex}"],
            build_configSourceEntrypoint=[config.name],
            build_configSourceDigest=[_hash(facts.lockfile_digest)],
            build_environment=[_entry(name, version) for name, version in facts.packages().items()],
            build_parameter=[_entry(o.key, o.used) for o in facts.report.overrides],
        )

    def _model(self, name: str, output: Output) -> str:
        facts = self.facts
        settings = {key: facts.log[key] for key in METRICS if key in facts.log}
        return self._add(
            "ai_AIPackage",
            f"output:{name}",
            name=f"{facts.statement.run}/{name}",
            software_primaryPurpose="model",
            builtTime=facts.statement.finished,
            ai_informationAboutTraining=(
                f"made by {facts.statement.trainer} on a measured machine; see {CERTIFICATE}"
            ),
            ai_metric=[
                *(_entry(f"{k} ({v.origin})", str(v.data)) for k, v in settings.items()),
                *(
                    _entry(word, line)
                    for word, line in fact_items(facts.report.facts)
                    if word in ("rows", "loss")
                ),
            ],
            **_identified(output.digest),
        )

    def _results(self, name: str, output: Output) -> str:
        """Add an output that is no model."""
        trainer = self.facts.statement.trainer
        return self._add(
            "software_Package",
            f"output:{name}",
            name=f"{self.facts.statement.run}/{name}",
            software_primaryPurpose="data",
            builtTime=self.facts.statement.finished,
            comment=f"made by {trainer} on a measured machine; see {CERTIFICATE}",
            **_identified(output.digest),
        )

    def _files(self, element: str, name: str, output: Output) -> None:
        files = [
            self._add(
                "software_File",
                f"file:{name}:{number}",
                name=path,
                software_primaryPurpose="file",
                verifiedUsing=[_hash(Digest("sha256", digest))],
            )
            for number, (path, digest) in enumerate(sorted(output.files.items()))
        ]
        self._relate("contains", element, files)

    def _evidence(self, element: str) -> None:
        name = f"evidence:{self.count}"
        evidence = self._add(
            "software_File",
            name,
            name=CERTIFICATE,
            software_primaryPurpose="evidence",
            verifiedUsing=[_hash(self.facts.digest)],
        )
        self._relate("hasEvidence", element, [evidence])


def _identified(digest: Digest) -> Json:
    if digest.kind == "sha256":
        return {"verifiedUsing": [_hash(digest)]}
    identifier: Json = {
        "type": "ExternalIdentifier",
        "externalIdentifierType": "other",
        "identifier": str(digest),
        "comment": "in-toto dirHash: the SHA-256 of the sha256sum listing sorted by path",
    }
    return {"externalIdentifier": [identifier]}


def _hash(digest: Digest) -> Json:
    return {"type": "Hash", "algorithm": "sha256", "hashValue": digest.hex}


def _entry(key: str, value: str) -> Json:
    return {"type": "DictionaryEntry", "key": key, "value": value}
