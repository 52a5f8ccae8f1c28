import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats import statement
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.run_report import MAX_BYTES as MAX_REPORT_BYTES
from aicert.formats.statement import Dependency, Output, Statement, emit, parse

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
NAME = st.from_regex(r"[a-z0-9][a-z0-9-]{0,9}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\\"), max_size=20)
DIGEST = st.builds(Digest, st.sampled_from(("sha256", "dirHash")), HEX)
FILES = st.dictionaries(st.from_regex(r"[a-z]{1,3}/[0-9é]{1,3}", fullmatch=True), HEX)
TIME = st.datetimes().map(lambda time: time.strftime("2026-%m-%dT%H:%M:%SZ"))


def output(files: dict[str, str]) -> Output:
    return Output(digest=dir_digest(files), files=files)


STATEMENT = st.builds(
    Statement,
    run=NAME,
    trainer=NAME,
    lockfile=DIGEST,
    dependencies=st.lists(
        st.builds(Dependency, name=NAME, uri=TEXT, digest=DIGEST), max_size=3
    ).map(tuple),
    outputs=st.dictionaries(NAME, FILES.map(output), max_size=3),
    builder_id=TEXT,
    builder=st.dictionaries(NAME, DIGEST, max_size=3),
    nonce=st.binary(min_size=32, max_size=32),
    started=TIME,
    finished=TIME,
    report=st.binary(max_size=30),
    log=DIGEST,
)


OTHER_REPORT = "^statement: the run report does not have the digest given for it$"


def good() -> Statement:
    files = {"a.json": "a" * 64, "sub/b": "b" * 64}
    return Statement(
        run="tiny",
        trainer="axolotl",
        lockfile=of_bytes(b"lock"),
        dependencies=(Dependency(name="config", uri="path:c", digest=of_bytes(b"c")),),
        outputs={"model": output(files), "z": output({})},
        builder_id="urn:aicert:machine:local",
        builder={"root": of_bytes(b"root"), "runner": of_bytes(b"runner")},
        nonce=bytes(range(32)),
        started="2026-08-21T09:14:07Z",
        finished="2026-08-21T09:31:40Z",
        report=b"{}",
        log=of_bytes(b"log"),
    )


@given(STATEMENT)
def test_what_is_written_is_read(valid: Statement) -> None:
    data = emit(valid)
    assert parse(data) == valid
    assert emit(parse(data)) == data


def test_the_form_that_in_toto_and_slsa_give() -> None:
    document = json.loads(emit(good()))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(document["predicate"]) == {"buildDefinition", "runDetails"}
    assert [entry["name"] for entry in document["subject"]] == [
        "model",
        "model/a.json",
        "model/sub/b",
        "z",
    ]
    assert [set(entry["digest"]) for entry in document["subject"]] == [
        {"dirHash"},
        {"sha256"},
        {"sha256"},
        {"dirHash"},
    ]
    details = document["predicate"]["runDetails"]
    assert details["metadata"]["invocationId"] == bytes(range(32)).hex()
    assert details["byproducts"][0]["digest"] == {"sha256": hashlib.sha256(b"{}").hexdigest()}


def test_the_reports_digest() -> None:
    assert good().report_digest == of_bytes(b"{}")


Change = Callable[[dict[str, Any]], object]


def definition(document: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = document["predicate"]["buildDefinition"]
    return section


def details(document: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = document["predicate"]["runDetails"]
    return section


def metadata(key: str, value: object) -> Change:
    return lambda d: details(d)["metadata"].update({key: value})


def external(key: str, value: object) -> Change:
    return lambda d: definition(d)["externalParameters"].update({key: value})


def subject(*entries: tuple[str, str]) -> Change:
    subjects = [{"name": name, "digest": {kind: "0" * 64}} for name, kind in entries]
    return lambda d: d.update(subject=subjects)


MODEL, LAST = ("model", "dirHash"), ("z", "dirHash")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), "_type is not"),
        (lambda d: d.update(predicateType="x"), "predicateType is not"),
        (lambda d: d.update(more=1), "unknown key 'more'"),
        (lambda d: d["predicate"].update(more=1), "unknown key"),
        (lambda d: definition(d).update(buildType="x"), "buildType is not"),
        (lambda d: definition(d).update(internalParameters={}), "unknown key"),
        (external("more", 1), "unknown key"),
        (external("lockfile", "sha256:x"), "not a digest"),
        (external("outputs", ["z", "model"]), "not sorted names"),
        (external("outputs", ["model", "model"]), "not sorted names"),
        (external("outputs", ["Model"]), "not sorted names"),
        (external("outputs", ["model"]), "not in any declared output"),
        (external("outputs", ["a", "model", "z"]), "has no dirHash"),
        (external("run", "r" * 64), "longer than 63"),
        (lambda d: definition(d)["resolvedDependencies"][0].update(more=1), "unknown key"),
        (lambda d: definition(d)["resolvedDependencies"][0].update(digest={}), "exactly one"),
        (
            lambda d: definition(d)["resolvedDependencies"][0].update(
                digest={"sha256": "0" * 64, "dirHash": "0" * 64}
            ),
            "exactly one",
        ),
        (
            lambda d: definition(d)["resolvedDependencies"][0].update(digest={"sha256": 1}),
            r"resolvedDependencies\[0\]\.digest: expected a short string",
        ),
        (
            lambda d: definition(d)["resolvedDependencies"][0].update(digest={"sha1": "0" * 40}),
            "not a digest",
        ),
        (lambda d: details(d).update(more=1), "unknown key"),
        (lambda d: details(d)["builder"].update(version={}), "unknown key"),
        (lambda d: details(d)["builder"]["builderDependencies"].reverse(), "not sorted"),
        (
            lambda d: details(d)["builder"].update(
                builderDependencies=details(d)["builder"]["builderDependencies"][:1] * 2
            ),
            "a name twice",
        ),
        (
            lambda d: details(d)["builder"]["builderDependencies"][0].update(name="R"),
            r"outside \[a-z0-9-\]",
        ),
        (metadata("invocationId", "0" * 63), "not 64 hexadecimal"),
        (metadata("invocationId", "A" * 64), "not 64 hexadecimal"),
        (metadata("more", 1), "unknown key"),
        (metadata("startedOn", "2026-08-21 09:14:07Z"), "startedOn is not a UTC time"),
        (metadata("startedOn", "2026-08-21T09:14:07"), "startedOn is not a UTC time"),
        (metadata("finishedOn", "\u0662026-08-21T09:14:07Z"), "finishedOn is not a UTC time"),
        (lambda d: details(d).update(byproducts=[]), "two byproducts"),
        (lambda d: details(d)["byproducts"].append({}), "more than 2 items"),
        (lambda d: details(d)["byproducts"].reverse(), "name is not"),
        (lambda d: details(d)["byproducts"][0].update(content="e30"), "not base64|canonical"),
        (lambda d: details(d)["byproducts"][0].update(content="W10="), OTHER_REPORT),
        (lambda d: details(d)["byproducts"][0].update(mediaType="text/plain"), "mediaType"),
        (lambda d: details(d)["byproducts"][0].update(more=1), "unknown key"),
        (lambda d: details(d)["byproducts"][1].update(content=""), "unknown key"),
        (subject(MODEL), "has no dirHash"),
        (subject(("model", "sha256"), LAST), "repeated or is not a directory"),
        (subject(MODEL, MODEL, LAST), "repeated or is not a directory"),
        (subject(MODEL, ("model/a", "dirHash"), LAST), "repeated or is not a file"),
        (
            subject(MODEL, ("model/a", "sha256"), ("model/a", "sha256"), LAST),
            "repeated or is not a file",
        ),
        (subject(MODEL, ("other", "dirHash"), LAST), "not in any declared output"),
        (
            subject(("m" * 201, "dirHash"), LAST),
            f"^statement: subject '{'m' * 200}' is not in any declared output$",
        ),
        (
            subject(MODEL, ("model/" + "a" * 195, "dirHash"), LAST),
            f"^statement: subject 'model/{'a' * 194}' is repeated or is not a file$",
        ),
        (subject(MODEL, ("model/../a", "sha256"), LAST), "plain relative"),
        (subject(MODEL, ("model/", "sha256"), LAST), "path is empty"),
        (subject(MODEL, ("model/a", "sha256"), ("model/A", "sha256"), LAST), "differ only"),
        (subject(MODEL, ("model/a", "sha256"), ("model/a/b", "sha256"), LAST), "both a file"),
        (lambda d: d["subject"][0].update(uri="x"), "unknown key"),
        (lambda d: d.update(subject={}), "expected a list"),
    ],
)
def test_other_forms_are_refused(change: Change, message: str) -> None:
    document = json.loads(emit(good()))
    change(document)
    with pytest.raises(EvidenceError, match=message):
        parse(json.dumps(document).encode())


@pytest.mark.parametrize(
    "unwritable",
    [
        replace(good(), nonce=bytes(31)),
        replace(good(), started="now"),
        replace(good(), outputs={"model": output({}), "Z": output({})}),
        replace(good(), report=bytes(MAX_REPORT_BYTES + 1)),
        replace(good(), builder={"": of_bytes(b"")}),
    ],
)
def test_what_a_statement_cannot_hold(unwritable: Statement) -> None:
    with pytest.raises(EvidenceError):
        emit(unwritable)


def test_a_statement_too_large() -> None:
    with pytest.raises(EvidenceError, match="larger than"):
        parse(b" " * (statement.MAX_BYTES + 1))
