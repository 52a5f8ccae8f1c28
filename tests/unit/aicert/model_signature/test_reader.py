"""Signature files and signed statements with one fault each: every fault has its message."""

import base64
import json
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.model_signature import reader, writer

HEX = "ab" * 32


def bundle(**changes: Any) -> bytes:
    """Return a signature file with a key's hint, and an unchecked signature."""
    content = base64.b64encode(b"x").decode()
    document: dict[str, Any] = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "k"}},
        "dsseEnvelope": {
            "payload": content,
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": content}],
        },
    }
    for path, value in changes.items():
        *parents, name = path.split("_")
        inner = document
        for parent in parents:
            inner = inner[parent]
        inner[name] = value
    return json.dumps(document).encode()


def statement(kind: str, subject: list[Any], **predicate: Any) -> bytes:
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": kind,
            "subject": subject,
            "predicate": predicate,
        }
    ).encode()


def signed(resources: list[Any], digest: str = HEX, **serialization: Any) -> bytes:
    return statement(
        writer.PREDICATE_TYPE,
        [{"name": "m", "digest": {"sha256": digest}}],
        serialization={"method": "files", **serialization},
        resources=resources,
    )


def test_a_bundle_has_one_signature() -> None:
    content = base64.b64encode(b"x").decode()
    for signatures in ([], [{"sig": content}] * 2):
        with pytest.raises(EvidenceError, match="expected exactly one"):
            reader.parse(bundle(dsseEnvelope_signatures=signatures))


def test_a_bundle_is_of_a_version_that_is_read() -> None:
    kind = "application/vnd.dev.sigstore.bundle"
    for media in (".v0.1+json", ".v0.3+json", "+json;version=0.1", "+json;version=0.3"):
        reader.parse(bundle(mediaType=kind + media))
    for media in ("", ".v0.4+json", ".v9+json", "+json;version=0.4", ".v0.3+json;x", "X+json"):
        with pytest.raises(EvidenceError, match=r"v0\.1 to v0\.3"):
            reader.parse(bundle(mediaType=kind + media))


def test_a_certificate_alone_is_a_chain_of_one() -> None:
    raw = {"rawBytes": base64.b64encode(b"der").decode()}
    parsed = reader.parse(bundle(verificationMaterial={"certificate": raw}))
    assert (parsed.certificates, parsed.hint, parsed.keyless) == ((b"der",), None, False)
    parsed = reader.parse(
        bundle(verificationMaterial={"certificate": raw, "tlogEntries": [{}]}),
    )
    assert parsed.keyless


def test_what_other_signers_followed_is_noted() -> None:
    resource = {"name": "a", "algorithm": "sha256", "digest": HEX}
    digest = writer.subject_digest([HEX])
    manifest = reader.read_manifest(signed([resource], digest, allow_symlinks=True))
    assert manifest.notes == (
        "the signer followed symbolic links; here every file must be a regular one",
    )
    assert reader.read_manifest(signed([resource], digest, allow_symlinks=False)).notes == ()


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ([{"name": "a", "digest": {"sha256": HEX}}] * 2, "the signature names a file twice"),
        ([], "the signature covers no files"),
        ([{"name": "a", "digest": {"sha256": "AB" * 32}}], "is not 64 hexadecimal digits"),
        ([{"name": "../a", "digest": {"sha256": HEX}}], r"'\.\./a'"),
    ],
)
def test_old_statements_are_refused_for_their_files(subject: list[Any], words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        reader.read_manifest(statement(reader.OLD_PREDICATE, subject))


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ("a", "expected an object"),
        ({"name": "a", "algorithm": "sha256"}, "expected name, algorithm and digest"),
        ({"name": "a", "algorithm": "sha256", "digest": 1}, "name, algorithm and digest"),
    ],
)
def test_a_resource_is_an_object_of_three_texts(resource: Any, words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        reader.read_manifest(signed([resource]))


def test_a_part_beyond_any_size_is_refused() -> None:
    resource = {"name": f"a:0:{10**18}", "algorithm": "sha256-sharded-1", "digest": HEX}
    data = signed([resource], writer.subject_digest([HEX]), method="shards")
    with pytest.raises(EvidenceError, match="a part of a file beyond any possible size"):
        reader.read_manifest(data)


def test_a_statement_without_files_is_refused_in_each_format() -> None:
    for data in (signed([]), statement(reader.OLD_PREDICATE, [])):
        with pytest.raises(EvidenceError) as caught:
            reader.read_manifest(data)
        assert caught.value.message == "the signature covers no files"


def test_an_old_statement_says_nothing_of_files_left_out() -> None:
    data = statement(reader.OLD_PREDICATE, [{"name": "a", "digest": {"sha256": HEX}}])
    manifest = reader.read_manifest(data)
    assert (manifest.name, manifest.algorithm, dict(manifest.files)) == ("", "sha256", {"a": HEX})
    assert [note.partition(",")[0] for note in manifest.notes] == [
        "the format is that of model_signing 0.2"
    ]


def test_a_bundle_without_any_key_names_nobody() -> None:
    parsed = reader.parse(bundle(verificationMaterial={}))
    assert (parsed.hint, parsed.certificates, parsed.keyless) == (None, (), False)
