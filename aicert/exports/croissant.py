"""The data that a certified run read, as Croissant 1.0 (JSON-LD), one document for each input.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html. The files of a document are the
canonical rows, whose SHA-256 the machine measured (docs/spec/records.md); `aicert records` writes
them again from the input. The roots of record trees come from audits that pass. Left out are
licence, creator, version, date and record sets, which no certificate contains.
"""

from urllib.parse import quote

from aicert.exports.facts import hub_source
from aicert.exports.verified import Verified
from aicert.formats.lockfile import LockedInput
from aicert.formats.run_report_facts import Records
from aicert.formats.strict_json import dumps

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
# The terms that are Croissant's own, from the context that its version 1.0 recommends.
_OWN = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty",
    "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
    "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: dict[str, object] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{word: f"cr:{word}" for word in _OWN},
}

Json = dict[str, object]


def documents(verified: Verified) -> dict[str, bytes]:
    """Return a document for each input from which the run read rows, by file name."""
    items = {item.name: item for item in verified.facts.lockfile.inputs}
    names = sorted({rows.name for rows in verified.records} & items.keys())
    return {f"{name}.croissant.json": dumps(_dataset(verified, items[name])) for name in names}


def _dataset(verified: Verified, item: LockedInput) -> Json:
    run, tier = verified.facts.lockfile.run, verified.result.tier
    selections = [rows for rows in verified.records if rows.name == item.name]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": item.name,
        "description": (
            f"Rows that certified run {run} (tier {tier}) read from its input {item.name}. "
            "Digests, rows and bytes are measured. "
            f"The name, and the source {item.uri}, are the builder's claims."
        ),
        "url": _url(item),
        "identifier": [
            _value("urn:aicert:input", str(item.digest)),
            _value("urn:aicert:certificate", str(verified.facts.digest)),
            *(_value("urn:aicert:signed-by", key) for key in (item.signed_by,) if key is not None),
        ],
        "distribution": [
            _file(verified, rows, number) for number, rows in enumerate(selections, start=1)
        ],
    }


def _url(item: LockedInput) -> str:
    """Return the page of the claimed source; if it has none, a URN made of the measured digest."""
    source = hub_source(item)
    if source is None:
        return f"urn:aicert:input:{item.digest}"
    return f"https://huggingface.co/{source.folder}{source.full_name}"


def _file(verified: Verified, rows: Records, number: int) -> Json:
    # The name of a split may contain any visible ASCII character.
    name = f"{rows.name}-{quote(rows.split, safe='')}.jsonl"
    return {
        "@type": "cr:FileObject",
        "@id": f"rows-{number}",
        "name": name,
        "description": (
            f"The canonical rows of split {rows.split}, as `aicert records` writes them: "
            f"{rows.rows} rows; {rows.unread_bytes} bytes of the source files are in no row."
        ),
        "contentUrl": name,
        "contentSize": f"{rows.bytes} B",
        "encodingFormat": "application/jsonlines",
        "sha256": rows.digest.hex,
        "identifier": [
            _value("urn:aicert:rows:count", str(rows.rows)),
            *(
                _value(
                    "urn:aicert:record-root",
                    f"sha256:{fact.rows.root.hex()}",
                    f"RFC 6962 tree of {fact.rows.count} salted rows, by audit {audit.run} "
                    f"(tier {audit.tier}), where they are {fact.name} {fact.split}; its results "
                    f"are {audit.digest}",
                )
                for audit, fact in verified.about_rows(rows)
            ),
        ],
    }


def _value(kind: str, value: str, description: str = "") -> Json:
    document: Json = {"@type": "sc:PropertyValue", "propertyID": kind, "value": value}
    return document | ({"description": description} if description else {})
