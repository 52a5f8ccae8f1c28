"""The files for Sigstore's tools: the entry, the bundle, the trusted root."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_der_public_key

from aicert.audits.merkle import root_of
from aicert.errors import ConfigError, EvidenceError
from aicert.exports.facts import read
from aicert.formats import certificate as certificates
from aicert.formats.der import INTEGER, SEQUENCE, one
from aicert.formats.dsse import pae
from aicert.frozen import replace
from aicert.log import check, sigstore
from aicert.tlog import proofs
from aicert.tlog.checkpoints import open_checkpoint
from aicert.tlog.notes import ED25519, VerifierKey
from tests.adversarial.forger import Scene
from tests.unit.aicert.log.logs import Bench

FILE: bytes = Scene("cloud", 2).get("file")
CERTIFICATE = certificates.parse(FILE)
KEY = VerifierKey(name="log.example", algorithm=ED25519, public=bytes(range(32)))


def unbase64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def test_the_run_key_is_the_one_that_is_exported() -> None:
    key = load_der_public_key(sigstore.run_key(CERTIFICATE))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    assert key.public_bytes(serialization.Encoding.PEM, form) == read(FILE).run_key_pem()


RSA = bytes.fromhex("0001000b00040472000000100014000b080000000000" + "0100" + "11" * 256)
P384 = CERTIFICATE.evidence.run_key[:-72] + bytes.fromhex("00040010" + ("0030" + "22" * 48) * 2)


@pytest.mark.parametrize("public", [RSA, P384], ids=["rsa", "p384"])
def test_another_kind_of_run_key_is_refused(public: bytes) -> None:
    evidence = replace(CERTIFICATE.evidence, run_key=public)
    with pytest.raises(EvidenceError, match="the run key is not a P-256 key"):
        sigstore.run_key(replace(CERTIFICATE, evidence=evidence))


def test_an_entry_names_what_was_signed_and_by_which_key() -> None:
    entry: Any = json.loads(sigstore.leaf_of(CERTIFICATE))
    assert (entry["apiVersion"], entry["kind"]) == ("0.0.2", "hashedrekord")
    spec = entry["spec"]["hashedRekordV002"]
    signed = hashlib.sha256(pae(CERTIFICATE.envelope.payload)).digest()
    assert unbase64(spec["data"]["digest"]) == signed
    assert unbase64(spec["signature"]["content"]) == CERTIFICATE.envelope.signature
    key = spec["signature"]["verifier"]["publicKey"]["rawBytes"]
    assert unbase64(key) == sigstore.run_key(CERTIFICATE)
    # Time stamps, which are added later, change nothing.
    evidence = replace(CERTIFICATE.evidence, timestamps=("rfc3161:AAAA",))
    stamped = replace(CERTIFICATE, evidence=evidence)
    assert sigstore.leaf_of(stamped) == sigstore.leaf_of(CERTIFICATE)


def test_a_bundle_carries_envelope_proof_and_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "log.example")
    leaf = sigstore.leaf_of(CERTIFICATE)
    bench.grow(5)
    bench.append(leaf)
    bench.grow(3)
    index, proof = check.prove(bench.folder, bench.key, leaf)
    token = bytes.fromhex("3003020105")
    data = sigstore.bundle(CERTIFICATE, bench.key, proofs.parse(proof), token)
    bundle: Any = json.loads(data)
    envelope = bundle["dsseEnvelope"]
    assert unbase64(envelope["payload"]) == CERTIFICATE.envelope.payload
    (signature,) = envelope["signatures"]
    assert (signature["keyid"], unbase64(signature["sig"])) == ("", CERTIFICATE.envelope.signature)
    (entry,) = bundle["verificationMaterial"]["tlogEntries"]
    assert unbase64(entry["canonicalizedBody"]) == leaf
    inclusion = entry["inclusionProof"]
    note = inclusion["checkpoint"]["envelope"].encode()
    checkpoint = open_checkpoint(note, bench.key)
    assert (int(inclusion["treeSize"]), int(inclusion["logIndex"])) == (checkpoint.size, index)
    path = tuple(map(unbase64, inclusion["hashes"]))
    root = unbase64(inclusion["rootHash"])
    assert root_of(leaf, index, checkpoint.size, path) == root == checkpoint.root
    assert unbase64(entry["logId"]["keyId"])[:4] == bench.key.id
    stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    response = one(unbase64(stamps[0]["signedTimestamp"]), SEQUENCE, "response")
    assert response.inside(SEQUENCE).take(INTEGER).content == b"\0"
    assert response.take(SEQUENCE).encoded == token
    response.done()


@pytest.mark.parametrize("name", ["log.example/models", "log.example:443", "Log.example", "a..b"])
def test_a_log_whose_name_is_no_hosts_is_refused(name: str) -> None:
    key = replace(KEY, name=name)
    proof = proofs.Proof(index=0, path=(), checkpoint=b"")
    with pytest.raises(ConfigError, match="cosign knows logs by host name"):
        sigstore.bundle(CERTIFICATE, key, proof, b"")
    with pytest.raises(ConfigError, match="cosign knows logs by host name"):
        sigstore.trusted_root([key], [])


def test_a_trusted_root_names_logs_and_authorities() -> None:
    authority = sigstore.Authority(name="our time", chain=(b"between", b"root"))
    root: Any = json.loads(sigstore.trusted_root([KEY], [authority]))
    (log,) = root["tlogs"]
    assert log["baseUrl"] == "https://log.example"
    key = load_der_public_key(unbase64(log["publicKey"]["rawBytes"]))
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert key.public_bytes(*raw) == KEY.public
    assert unbase64(log["logId"]["keyId"]) == sigstore.log_id(KEY)
    (time,) = root["timestampAuthorities"]
    chain = [unbase64(one["rawBytes"]) for one in time["certChain"]["certificates"]]
    assert chain == [b"between", b"root"]
