"""A certificate's entry in a transparency log: its digest, and what people search for.

An entry is a function of the certificate, so nobody can log a certificate and leave something out:
a verifier computes the entry again, and only that leaf counts (docs/spec/log.md). Like the core
digest, it leaves out time stamps, which are added afterwards. Nothing here is believed.

`entry_of` reads a certificate that may be forged; `parse` reads what anybody may have logged, and
an entry is only a claim until its certificate is verified.
"""

from typing import Final

from aicert.errors import EvidenceError
from aicert.formats import lockfile as lockfiles
from aicert.formats import run_report
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate, core_digest
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import MAX_INPUTS
from aicert.formats.statement import MAX_BUILDER_FACTS, MAX_BUILDER_ID
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass

KIND: Final = "aicert-log-entry"
VERSION: Final = 1
# C2SP tlog-tiles: an entry's length is an unsigned number of two bytes.
MAX_BYTES: Final = (1 << 16) - 1
# The length of a digest: its kind, a colon, 64 digits.
_MAX_DIGEST: Final = 80
# The key of the run report's value that names the input from which the run began
# (formats.run_report).
_BASE: Final = "baseInput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An input or an output. `uri`: what the builder calls an input's source; None if not given."""

    name: str
    digest: Digest
    uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a log.

    `certificate`: the core digest; `base`: the input with the model that the run began from;
    `code`: what the machine says it ran, by name: its image, its runner.
    """

    certificate: Digest
    lockfile: Digest
    run: str
    trainer: str
    builder: str
    code: tuple[Item, ...]
    inputs: tuple[Item, ...]
    outputs: tuple[Item, ...]
    base: str | None = None


def entry_of(certificate: Certificate) -> bytes:
    """Return the entry of a certificate as it is logged; EvidenceError or LockError if it has none.

    The URIs of sources are left out if they would make it too large. An entry that is still too
    large cannot be logged, since anything else that was left out could not be searched for.
    """
    statement = statements.parse(certificate.envelope.payload)
    lockfile = lockfiles.parse(certificate.lockfile)
    report = run_report.parse(statement.report)
    named = report.values.get(_BASE)
    base = "" if named is None else str(named.data).partition("/")[0]
    names = {item.name for item in lockfile.inputs}
    entry = Entry(
        certificate=core_digest(certificate),
        lockfile=of_bytes(certificate.lockfile),
        run=statement.run,
        trainer=statement.trainer,
        builder=statement.builder_id,
        code=tuple(Item(name=name, digest=one) for name, one in statement.builder.items()),
        inputs=tuple(Item(name=i.name, digest=i.digest, uri=i.uri) for i in lockfile.inputs),
        outputs=tuple(Item(name=name, digest=o.digest) for name, o in statement.outputs.items()),
        base=base if base in names else None,
    )
    data = emit(entry)
    if len(data) > MAX_BYTES:
        data = emit(entry, uris=False)
    if len(data) > MAX_BYTES:
        raise EvidenceError(
            f"a log's entry has at most {MAX_BYTES} bytes: this run has too many inputs or outputs"
        )
    return data


def emit(entry: Entry, *, uris: bool = True) -> bytes:
    """Return the entry's bytes, in our canonical JSON."""
    document: dict[str, object] = {
        "kind": KIND,
        "version": VERSION,
        "certificate": str(entry.certificate),
        "lockfile": str(entry.lockfile),
        "run": entry.run,
        "trainer": entry.trainer,
        "builder": entry.builder,
        "code": [_to_json(item, uris=uris) for item in entry.code],
        "inputs": [_to_json(item, uris=uris) for item in entry.inputs],
        "outputs": [_to_json(item, uris=uris) for item in entry.outputs],
    }
    if entry.base is not None:
        document["base"] = entry.base
    return dumps(document)


def parse(data: bytes) -> Entry:
    """Read an entry; EvidenceError for anything but the canonical form of one. It is a claim."""
    fields = Fields(loads(data, what="log entry", max_bytes=MAX_BYTES), "log entry")
    fields.const("kind", KIND)
    fields.const("version", VERSION)
    entry = Entry(
        certificate=_digest(fields, "certificate"),
        lockfile=_digest(fields, "lockfile"),
        run=fields.text("run", max_length=lockfiles.MAX_NAME),
        trainer=fields.text("trainer", max_length=lockfiles.MAX_NAME),
        builder=fields.text("builder", max_length=MAX_BUILDER_ID),
        code=fields.items("code", _item, max_items=MAX_BUILDER_FACTS),
        inputs=fields.items("inputs", _item, max_items=MAX_INPUTS),
        outputs=fields.items("outputs", _item, max_items=MAX_INPUTS),
        base=fields.optional_text("base", max_length=lockfiles.MAX_NAME),
    )
    fields.done()
    if emit(entry) != data:
        raise EvidenceError("log entry is not in canonical form")
    return entry


def _to_json(item: Item, *, uris: bool) -> dict[str, str]:
    uri = {} if item.uri is None or not uris else {"uri": item.uri}
    return {"name": item.name, "digest": str(item.digest), **uri}


def _digest(fields: Fields, key: str) -> Digest:
    return Digest.parse(fields.text(key, max_length=_MAX_DIGEST))


def _item(value: object, where: str) -> Item:
    fields = Fields(value, where)
    item = Item(
        name=fields.text("name", max_length=lockfiles.MAX_NAME),
        digest=_digest(fields, "digest"),
        uri=fields.optional_text("uri", max_length=lockfiles.MAX_VALUE),
    )
    fields.done()
    return item
