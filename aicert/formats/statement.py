"""The statement that the run key signs: in-toto Statement v1 with SLSA Provenance v1.

https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.0/provenance. Every field is read by
`parse` and none is ignored: an unknown key is an error, so nothing is carried that no check covers.
"""

import base64
import re
from collections.abc import Mapping

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.dsse import MAX_PAYLOAD, b64decode
from aicert.formats.lockfile import MAX_INPUTS, NAME
from aicert.formats.lockfile import MAX_NAME as MAX_RUN_NAME
from aicert.formats.paths import MAX_FILES, check_paths
from aicert.formats.run_report import MAX_BYTES as MAX_REPORT_BYTES
from aicert.formats.strict_json import Fields, dumps, loads, string
from aicert.frozen import dataclass

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:aicert:build:run:v1"
REPORT_NAME = "run-report"
LOG_NAME = "training-log"
# 20,000 output files (strict_json.MAX_TOKENS) need some 4 MiB; the rest is for long names and the
# report.
MAX_BYTES = MAX_PAYLOAD
# An output, a slash and the longest path, with some room.
MAX_NAME = 8192
MAX_BUILDER_ID = 200
# The runner, the image, the trainer's environment, and some room.
MAX_BUILDER_FACTS = 20
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One resolved dependency: an input of the lockfile, as hashed in the machine."""

    name: str
    uri: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One declared output: its dirHash and its files `{path: sha256 hex}`."""

    digest: Digest
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the machine says about one run. `builder`: what it knows about itself, name → digest."""

    run: str
    trainer: str
    lockfile: Digest
    dependencies: tuple[Dependency, ...]
    outputs: Mapping[str, Output]
    builder_id: str
    builder: Mapping[str, Digest]
    nonce: bytes
    started: str
    finished: str
    report: bytes
    log: Digest

    @property
    def report_digest(self) -> Digest:
        """The digest of the run report, as PCR 8 has it."""
        return of_bytes(self.report)


def emit(statement: Statement) -> bytes:
    """Return the statement's bytes, which are what is signed. `parse(emit(s)) == s`."""
    subject: list[object] = []
    for name in sorted(statement.outputs):
        output = statement.outputs[name]
        subject.append({"name": name, "digest": _digest_set(output.digest)})
        subject += [
            {"name": f"{name}/{path}", "digest": {"sha256": output.files[path]}}
            for path in sorted(output.files)
        ]
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {
            "lockfile": str(statement.lockfile),
            "outputs": sorted(statement.outputs),
            "run": statement.run,
            "trainer": statement.trainer,
        },
        "resolvedDependencies": [
            {"name": d.name, "uri": d.uri, "digest": _digest_set(d.digest)}
            for d in statement.dependencies
        ],
    }
    data = dumps(
        {
            "_type": TYPE,
            "subject": subject,
            "predicateType": PREDICATE_TYPE,
            "predicate": {"buildDefinition": definition, "runDetails": _run_details(statement)},
        }
    )
    parse(data)
    return data


def _run_details(statement: Statement) -> dict[str, object]:
    return {
        "builder": {
            "id": statement.builder_id,
            "builderDependencies": [
                {"name": name, "digest": _digest_set(statement.builder[name])}
                for name in sorted(statement.builder)
            ],
        },
        "metadata": {
            "invocationId": statement.nonce.hex(),
            "startedOn": statement.started,
            "finishedOn": statement.finished,
        },
        "byproducts": [
            {
                "name": REPORT_NAME,
                "mediaType": "application/json",
                "digest": _digest_set(statement.report_digest),
                "content": base64.b64encode(statement.report).decode("ascii"),
            },
            {"name": LOG_NAME, "digest": _digest_set(statement.log)},
        ],
    }


def parse(data: bytes) -> Statement:
    """Read a statement strictly; raises EvidenceError. The caller has authenticated `data`."""
    fields = Fields(loads(data, what="statement", max_bytes=MAX_BYTES), "statement")
    fields.const("_type", TYPE)
    fields.const("predicateType", PREDICATE_TYPE)
    entries = fields.items("subject", _named_digest, max_items=MAX_FILES)
    predicate = fields.fields("predicate")
    fields.done()
    definition = predicate.fields("buildDefinition")
    details = predicate.fields("runDetails")
    predicate.done()
    definition.const("buildType", BUILD_TYPE)
    external = definition.fields("externalParameters")
    dependencies = definition.items("resolvedDependencies", _dependency, max_items=MAX_INPUTS)
    definition.done()
    builder = details.fields("builder")
    metadata = details.fields("metadata")
    byproducts = details.items("byproducts", Fields, max_items=2)
    details.done()
    builder_id = builder.text("id", max_length=MAX_BUILDER_ID)
    builder_facts = builder.items("builderDependencies", _named_digest, max_items=MAX_BUILDER_FACTS)
    builder.done()
    declared = external.items("outputs", string, max_items=MAX_INPUTS)
    report, log = _byproducts(byproducts)
    statement = Statement(
        run=external.text("run", max_length=MAX_RUN_NAME),
        trainer=external.text("trainer", max_length=MAX_RUN_NAME),
        lockfile=Digest.parse(external.text("lockfile", max_length=80)),
        dependencies=dependencies,
        outputs=_outputs(entries, declared),
        builder_id=builder_id,
        builder=_unique(builder_facts, "builderDependencies"),
        nonce=bytes.fromhex(metadata.hex("invocationId")),
        started=_time(metadata, "startedOn"),
        finished=_time(metadata, "finishedOn"),
        report=report,
        log=log,
    )
    external.done()
    metadata.done()
    return statement


def _digest_set(digest: Digest) -> dict[str, str]:
    return {digest.kind: digest.hex}


def _read_digest(fields: Fields) -> Digest:
    digest = fields.fields("digest")
    rest = digest.rest()
    if len(rest) != 1:
        raise EvidenceError(f"{digest.where}: expected exactly one digest")
    ((kind, value),) = rest.items()
    return Digest.parse(f"{kind}:{string(value, digest.where)}")


def _named_digest(value: object, where: str) -> tuple[str, Digest]:
    fields = Fields(value, where)
    entry = (fields.text("name", max_length=MAX_NAME), _read_digest(fields))
    fields.done()
    return entry


def _dependency(value: object, where: str) -> Dependency:
    fields = Fields(value, where)
    dependency = Dependency(
        name=fields.text("name", max_length=MAX_RUN_NAME),
        uri=fields.text("uri"),
        digest=_read_digest(fields),
    )
    fields.done()
    return dependency


def _unique(entries: tuple[tuple[str, Digest], ...], where: str) -> dict[str, Digest]:
    result = dict(entries)
    if len(result) != len(entries) or list(result) != sorted(result):
        raise EvidenceError(f"statement: {where} is not sorted, or has a name twice")
    if not all(NAME.fullmatch(name) for name in result):
        raise EvidenceError(f"statement: {where} has a name outside [a-z0-9-]")
    return result


def _outputs(
    entries: tuple[tuple[str, Digest], ...], declared: tuple[str, ...]
) -> dict[str, Output]:
    """Sort the flat subject list into outputs: `NAME` is a dirHash, `NAME/PATH` a file."""
    if list(declared) != sorted(set(declared)) or not all(NAME.fullmatch(n) for n in declared):
        raise EvidenceError("statement: outputs are not sorted names")
    digests: dict[str, Digest] = {}
    files: dict[str, dict[str, str]] = {name: {} for name in declared}
    for name, digest in entries:
        output, slash, path = name.partition("/")
        if output not in files:
            raise EvidenceError(f"statement: subject {name[:200]!a} is not in any declared output")
        if slash:
            if digest.kind != "sha256" or path in files[output]:
                raise EvidenceError(
                    f"statement: subject {name[:200]!a} is repeated or is not a file"
                )
            files[output][path] = digest.hex
        elif digest.kind != "dirHash" or output in digests:
            raise EvidenceError(
                f"statement: subject {name[:200]!a} is repeated or is not a directory"
            )
        else:
            digests[output] = digest
    if set(digests) != set(declared):
        raise EvidenceError("statement: an output has no dirHash among the subjects")
    for listed in files.values():
        check_paths(listed)
    return {name: Output(digest=digests[name], files=files[name]) for name in declared}


def _byproducts(byproducts: tuple[Fields, ...]) -> tuple[bytes, Digest]:
    if len(byproducts) != 2:
        raise EvidenceError("statement: expected two byproducts, run report and training log")
    report, log = byproducts
    report.const("name", REPORT_NAME)
    report.const("mediaType", "application/json")
    content = b64decode(report, "content", max_bytes=MAX_REPORT_BYTES)
    if _read_digest(report) != of_bytes(content):
        raise EvidenceError("statement: the run report does not have the digest given for it")
    report.done()
    log.const("name", LOG_NAME)
    digest = _read_digest(log)
    log.done()
    return content, digest


def _time(metadata: Fields, key: str) -> str:
    text = metadata.text(key, max_length=20)
    if not _TIME.fullmatch(text):
        raise EvidenceError(f"statement: {key} is not a UTC time like 2026-08-21T09:14:07Z")
    return text
