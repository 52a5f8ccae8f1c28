import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats import certificate, gpu
from aicert.formats.certificate import (
    Certificate,
    Evidence,
    PlatformReport,
    Signed,
    core_digest,
    emit,
    parse,
)
from aicert.formats.digest import of_bytes
from aicert.formats.dsse import Envelope

ASCII = st.text(st.characters(codec="ascii"), max_size=20).map(str.encode)
BYTES = st.binary(max_size=40)
SIGNED = st.builds(Signed, attest=BYTES, signature=BYTES)
HASH = st.binary(min_size=32, max_size=32)
CERTIFICATE = st.builds(
    Certificate,
    envelope=st.builds(Envelope, payload=BYTES, signature=BYTES, keyid=ASCII.map(bytes.decode)),
    evidence=st.builds(
        Evidence,
        nonce=HASH,
        quote=SIGNED,
        pcrs=st.fixed_dictionaries(dict.fromkeys(range(16), HASH)),
        ak_chain=st.lists(BYTES, min_size=1, max_size=6).map(tuple),
        run_key=BYTES,
        run_key_certify=SIGNED,
        event_log=st.none() | BYTES,
        platform=st.none()
        | st.builds(PlatformReport, report=BYTES, chip_certificate=st.none() | BYTES),
        gpus=st.none()
        | st.builds(
            gpu.Gpus,
            devices=st.lists(
                st.builds(
                    gpu.DeviceReport,
                    report=BYTES,
                    chain=st.lists(BYTES, min_size=1, max_size=6).map(tuple),
                ),
                min_size=1,
                max_size=3,
            ).map(tuple),
            collateral=st.none() | BYTES,
        ),
        timestamps=st.lists(ASCII.map(bytes.decode), max_size=3).map(tuple),
    ),
    lockfile=ASCII,
    image_lock=st.none() | ASCII,
)


def good() -> Certificate:
    signed = Signed(attest=b"attest", signature=b"signature")
    return Certificate(
        envelope=Envelope(payload=b"{}", signature=b"sig", keyid="k"),
        evidence=Evidence(
            nonce=bytes(range(32)),
            quote=signed,
            pcrs={index: bytes([index]) * 32 for index in range(16)},
            ak_chain=(b"leaf", b"intermediate"),
            run_key=b"public",
            run_key_certify=signed,
            event_log=b"log",
        ),
        lockfile=b"version = 1\n",
        image_lock=b"image",
    )


@given(CERTIFICATE)
def test_what_is_written_is_read(certificate: Certificate) -> None:
    data = emit(certificate)
    if b"\\\\ud" not in data.lower():
        assert parse(data) == certificate
        assert emit(parse(data)) == data
        assert data.endswith(b"}\n")


Change = Callable[[dict[str, Any]], object]


def evidence(key: str, value: object) -> Change:
    return lambda d: d["evidence"].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(kind="x"), "kind is not"),
        (lambda d: d.update(version=0), "out of range"),
        (lambda d: d.update(version=3), "format version 3, but this program reads up to 2"),
        (lambda d: d.update(version="1"), "expected an integer"),
        (lambda d: d.update(more=1), "unknown key 'more'"),
        (lambda d: d.pop("lockfile"), "lockfile is missing"),
        (lambda d: d.update(lockfile="é"), "lockfile is not ASCII"),
        (lambda d: d.update(lockfile="a" * (1 << 20 | 1)), "lockfile is longer"),
        (lambda d: d.update(imageLock=None), "expected a string"),
        (lambda d: d.update(imageLock="é"), "imageLock is not ASCII"),
        (evidence("kind", "sgx"), "kind is not 'tpm2'"),
        (evidence("more", 1), "unknown key"),
        (evidence("nonce", "0" * 63), "nonce is not 64"),
        (evidence("nonce", "A" * 64), "nonce is not 64"),
        (evidence("nonce", " " + "0" * 62 + " "), "nonce is not 64"),
        (evidence("nonce", "g" * 64), "nonce is not 64"),
        (evidence("nonce", "0" * 65), r"^certificate\.evidence\.nonce is longer than 64"),
        (evidence("akChain", []), "akChain is empty"),
        (evidence("akChain", [""] * 7), "more than 6 items"),
        (evidence("akChain", [1]), "expected a string"),
        (evidence("akChain", ["e30"]), r"^certificate\.evidence\.akChain\.0 is not base64$"),
        (evidence("akChain", ["A" * 20000]), "too long|longer"),
        (evidence("timestamps", [1]), "a string of at most 131072 characters, found 1"),
        (evidence("timestamps", ["x" * 131_073]), "characters, found a string"),
        (evidence("timestamps", [""] * 9), "more than 8 items"),
        (evidence("eventLog", None), "expected a string"),
        (evidence("platform", None), "expected an object"),
        (evidence("platform", {"kind": "azure-hcl"}), "report is missing"),
        (evidence("platform", {"kind": "sev", "report": ""}), "kind is not one of azure-hcl, tdx"),
        (evidence("platform", {"kind": 1, "report": ""}), "expected a string"),
        (
            evidence("platform", {"kind": "tdx", "report": "", "quote": ""}),
            "unknown key 'quote'",
        ),
        (
            evidence("platform", {"kind": "azure-hcl", "report": "", "chipCertificate": None}),
            "expected a string",
        ),
        (lambda d: d["evidence"]["pcrs"].pop("0"), "pcrs.0 is missing"),
        (lambda d: d["evidence"]["pcrs"].update({"16": "0" * 64}), "unknown key '16'"),
        (lambda d: d["evidence"]["pcrs"].update({"01": "0" * 64}), "unknown key '01'"),
        (lambda d: d["evidence"]["pcrs"].update({"1": "0"}), "pcrs.1 is not 64"),
        (
            lambda d: d["evidence"]["pcrs"].update({"1": "0" * 65}),
            r"^certificate\.evidence\.pcrs\.1 is longer than 64",
        ),
        (lambda d: d["evidence"]["quote"].update(more=1), "unknown key"),
        (
            lambda d: d["evidence"]["quote"].update(attest="A" * 8000),
            "longer than 5464",
        ),
        (lambda d: d["evidence"]["runKey"].update(more=1), "unknown key"),
        (lambda d: d["evidence"]["runKey"].pop("certify"), "certify is missing"),
        (lambda d: d["envelope"].update(signatures=[]), "exactly one"),
    ],
)
def test_other_forms_are_refused(change: Change, message: str) -> None:
    document = json.loads(emit(good()))
    change(document)
    with pytest.raises(EvidenceError, match=message):
        parse(json.dumps(document).encode())


def test_optional_parts_may_be_absent() -> None:
    small = replace(good(), image_lock=None, evidence=replace(good().evidence, event_log=None))
    assert parse(emit(small)) == small
    document = json.loads(emit(small))
    assert "imageLock" not in document
    assert "eventLog" not in document["evidence"]


def test_a_newer_version_has_a_way_forward() -> None:
    document = json.loads(emit(good()))
    document["version"] = 3
    with pytest.raises(EvidenceError) as error:
        parse(json.dumps(document).encode())
    assert error.value.hint == "in a checkout of this project: git pull && pip install ."


def test_a_certificate_too_large() -> None:
    with pytest.raises(EvidenceError, match="larger than"):
        parse(b" " * (certificate.MAX_BYTES + 1))


def stamped(*entries: str) -> Certificate:
    certificate = good()
    return replace(certificate, evidence=replace(certificate.evidence, timestamps=entries))


def test_a_time_stamp_may_have_all_characters_that_are_allowed() -> None:
    longest = certificate.MAX_TIMESTAMP_CHARS * "x"
    assert parse(emit(stamped(longest))).evidence.timestamps == (longest,)


def test_the_digest_of_a_certificate_is_that_of_its_bytes_without_timestamps() -> None:
    bare = stamped()
    assert core_digest(bare) == of_bytes(emit(bare))
    assert core_digest(stamped("rfc3161:AAAA", "x")) == core_digest(bare)
    assert core_digest(replace(bare, lockfile=b"other")) != core_digest(bare)


def test_the_page_has_a_command_that_prints_the_digest() -> None:
    page = (Path(__file__).parents[4] / "docs/spec/certificate.md").read_text()
    command = page.partition("with `timestamps` empty:\n\n```sh\n")[2].partition("\n```")[0]
    certificate = replace(stamped("rfc3161:AAAA"), envelope=replace(good().envelope, keyid="é"))
    # The command gives the same digest however the JSON is written.
    document = json.dumps(json.loads(emit(certificate)), indent=1).encode()
    program, _, rest = command.partition(" <certificate.json | sha256sum")
    assert rest == ""
    code = program.removeprefix("python3 -c '").removesuffix("'")
    printed = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], input=document, capture_output=True, check=True
    )
    assert of_bytes(printed.stdout) == core_digest(parse(document))
