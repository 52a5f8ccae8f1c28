"""Signatures that others published are read and accepted, and for nothing but what they signed.

They were made by model_signing 0.2 to 1.1: keyless in Sigstore's public instance, with a key, with
a certificate. Each bundle is assembled from its figures (published_signatures.toml, which names
their source). That keeps bundles readable and checks itself: a wrong byte would break a signature,
the log's promise or its proof.
"""

import base64
import hashlib
import json
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.oracles import environment

pytestmark = pytest.mark.slow

PUBLISHED = tomllib.loads(Path(__file__).with_name("published_signatures.toml").read_text())
KEYLESS, KEY = PUBLISHED["keyless"], PUBLISHED["key"]
WHO = ("--identity", KEYLESS["identity"], "--issuer", KEYLESS["issuer"])
Figures = dict[str, Any]
# The files that each version signed. "signme-1\n" and "signme-1" are different files.
TREES = {
    "v0.2.0-certificate": ("signme-1", "signme-2"),
    "v0.3.1-sigstore": ("signme-1", "signme-2"),
    "v1.1.0-sigstore": ("signme-1", "signme-2"),
    "v1.1.0-elliptic-key": ("signme-1\n", "signme-2"),
}
FILES = ("v0.3.1-elliptic-key", "v1.0.0-elliptic-key")


def armoured(kind: str, der: str) -> str:
    lines = "\n".join(textwrap.wrap(der, 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


def logged(figures: Figures) -> Figures:
    """Return the entry of the transparency log (Rekor 0.0.1 `dsse`); its body follows from the
    rest.
    """
    pem = armoured("CERTIFICATE", figures["certificate"]).encode()
    payload = figures["payload"].encode()
    spec = {
        "envelopeHash": {"algorithm": "sha256", "value": figures["envelope-hash"]},
        "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
        "signatures": [
            {"signature": figures["signature"], "verifier": base64.b64encode(pem).decode()}
        ],
    }
    body = {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}
    index, root = figures["tree-index"], figures["root"]
    note = f"{KEYLESS['origin']}\n{index + 1}\n{root}\n\n— rekor.sigstore.dev "
    return {
        "logIndex": figures["log-index"],
        "logId": {"keyId": KEYLESS["log"]},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": figures["integrated-time"],
        "inclusionPromise": {"signedEntryTimestamp": figures["promise"]},
        "inclusionProof": {
            "logIndex": str(index),
            "rootHash": root,
            "treeSize": str(index + 1),
            "hashes": figures["path"],
            "checkpoint": {"envelope": f"{note}{figures['checkpoint']}\n"},
        },
        "canonicalizedBody": base64.b64encode(
            json.dumps(body, separators=(",", ":")).encode()
        ).decode(),
    }


def material(figures: Figures, version: str) -> Figures:
    if "certificate" in figures:
        stamps = [{"signedTimestamp": figures[k]} for k in ("timestamp",) if k in figures]
        return {
            "certificate": {"rawBytes": figures["certificate"]},
            "tlogEntries": [logged(figures)],
            "timestampVerificationData": {"rfc3161Timestamps": stamps} if stamps else {},
        }
    if "certificates" in figures:
        chain = [{"rawBytes": der} for der in figures["certificates"]]
        return {"x509CertificateChain": {"certificates": chain}}
    pem = armoured("PUBLIC KEY", KEY["public"]).encode()
    if version < "v1.1":
        raw = base64.b64encode(pem).decode()
        return {"publicKey": {"rawBytes": raw, "keyDetails": "PKIX_ECDSA_P384_SHA_384"}}
    return {"publicKey": {"hint": hashlib.sha256(pem).hexdigest()}, "tlogEntries": []}


def bundle(version: str, figures: Figures) -> str:
    envelope = {
        "payload": base64.b64encode(figures["payload"].encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": figures["signature"]}],
    }
    document = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material(figures, version),
        "dsseEnvelope": envelope,
    }
    return json.dumps(document)


class Published:
    """A version's signed files and signature, as a person would have them."""

    def __init__(self, folder: Path, version: str) -> None:
        self.version, self.figures = version, PUBLISHED[version]
        self.signature = folder / "model.sig"
        self.signature.write_text(bundle(version, self.figures))
        self.key = folder / "key.pub"
        self.key.write_text(armoured("PUBLIC KEY", KEY["public"]))
        if version in TREES:
            self.model = folder / "model"
            self.model.mkdir()
            for name, content in zip(("signme-1", "signme-2"), TREES[version], strict=True):
                (self.model / name).write_text(content)
        else:
            self.model = folder / "signme-1"
            self.model.write_text("signme-1\n")

    def verify(self, *trust: object) -> int:
        """Verify. Returns the exit code, which is 1 only with a check that failed; the printed
        verdict must agree.
        """
        command = ("verify-signature", self.model, "--signature", self.signature, *trust)
        done = environment.aicert(*command)
        assert ("PASSED" in done.stdout) is (done.returncode == 0), done.stdout + done.stderr
        return done.returncode

    def first_file(self) -> Path:
        return self.model / "signme-1" if self.model.is_dir() else self.model


@pytest.fixture
def published(tmp_path: Path, request: pytest.FixtureRequest) -> Published:
    return Published(tmp_path, request.param)


@pytest.mark.parametrize("published", ["v0.3.1-sigstore", "v1.1.0-sigstore"], indirect=True)
def test_keyless_signatures_of_the_public_instance_are_believed(published: Published) -> None:
    assert published.verify(*WHO) == 0
    assert published.verify("--identity", "eve@example.org", *WHO[2:]) == 1
    assert published.verify(*WHO[:2], "--issuer", "https://accounts.google.com") == 1
    published.first_file().write_text("signme-3")
    assert published.verify(*WHO) == 1


@pytest.mark.parametrize("published", ["v0.3.1-sigstore"], indirect=True)
@pytest.mark.parametrize("changed", ["log-index", "integrated-time", "root", "path", "payload"])
def test_a_keyless_signature_with_one_figure_changed_is_not_believed(
    published: Published, changed: str
) -> None:
    figures = dict(published.figures)
    other = {
        "log-index": "206342050",
        "integrated-time": "1746234603",
        "root": figures["path"][0],
        "path": figures["path"][::-1],
        "payload": figures["payload"].replace("signme-2", "signme-3"),
    }
    published.signature.write_text(bundle(published.version, figures | {changed: other[changed]}))
    if changed == "payload":
        (published.model / "signme-2").rename(published.model / "signme-3")
    assert published.verify(*WHO) == 1


@pytest.mark.parametrize("published", [*FILES, "v1.1.0-elliptic-key"], indirect=True)
def test_signatures_with_a_key_are_believed(published: Published) -> None:
    assert published.verify("--key", published.key) == 0
    command = ("verify", "key", "--public_key", published.key, "--signature", published.signature)
    oracle = environment.model_signing(*command, published.model)
    assert oracle.returncode == 0, oracle.stderr
    published.first_file().write_text("signme-1")
    assert published.verify("--key", published.key) == 1
    assert environment.model_signing(*command, published.model).returncode != 0


@pytest.mark.parametrize("published", ["v0.2.0-certificate"], indirect=True)
def test_a_signature_of_the_first_format_is_believed(published: Published, tmp_path: Path) -> None:
    """The root of its chain was not published, so the certificate below it is trusted instead."""
    issuer = tmp_path / "issuer.pem"
    issuer.write_text(armoured("CERTIFICATE", published.figures["certificates"][1]))
    at = ("--at", "2026-01-01T00:00:00Z")
    assert published.verify("--certificate-chain", issuer, *at) == 0
    assert published.verify("--key", published.key) == 0
    assert published.verify("--certificate-chain", issuer, "--at", "2036-01-01T00:00:00Z") == 1
    published.first_file().write_text("signme-1\n")
    assert published.verify("--key", published.key) == 1
