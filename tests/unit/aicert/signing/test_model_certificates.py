"""Model signatures by a certified key: which chains prove who signed."""

import base64
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aicert.errors import ConfigError
from aicert.signing import sign
from aicert.signing.keys import load_signer
from aicert.signing.x509_signers import certified
from tests.unit.aicert.model_signature.test_model_signatures import run
from tests.unit.signing_keys import DAY, NOW, Printed, certificate, pair


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(b"w")
    return root


class Pki:
    """A root, and leaves that it should not have issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = pair(folder, "kr")
        self.own = pair(folder, "ko")
        self.anchor = certificate(folder, "root", self.root, ("root", self.root), ca=True)

    def leaf(self, **changes: object) -> Path:
        return certificate(self.folder, "leaf", self.own, ("root", self.root), **changes)  # type: ignore[arg-type]  # whatever `certificate` takes

    def signs(self, model: Path, leaf: Path, *chain: Path) -> None:
        signer = certified(load_signer(self.own.key), leaf, chain)
        sign.sign(model, signer)


def test_an_expired_certificate_fails_and_at_says_when(
    model: Path, tmp_path: Path, printed: Printed
) -> None:
    pki = Pki(tmp_path)
    pki.signs(model, pki.leaf(end=NOW - DAY))
    verify = ("verify-signature", model, "--certificate-chain", pki.anchor)
    assert run(*verify) == 1
    assert "nothing here tells when the signature was made" in printed()[0]
    assert run(*verify, "--at", (NOW - 2 * DAY).isoformat()) == 0


def test_chains_that_prove_nothing_fail(model: Path, tmp_path: Path, printed: Printed) -> None:
    pki = Pki(tmp_path)
    verify = ("verify-signature", model, "--certificate-chain", pki.anchor)
    stranger = pair(tmp_path, "ks")
    alone = certificate(tmp_path, "alone", pki.own, ("alone", pki.own))
    pki.signs(model, alone)
    assert run(*verify) == 1
    signs_itself = certificate(tmp_path, "leaf", pki.own, ("root", stranger))
    pki.signs(model, signs_itself)
    assert run(*verify) == 1
    # A leaf that issues certificates is not a CA.
    middle = pair(tmp_path, "km")
    between = certificate(tmp_path, "middle", middle, ("root", pki.root))
    pki.signs(model, certificate(tmp_path, "low", pki.own, ("middle", middle)), between)
    assert run(*verify) == 1
    run("sign", model, "--key", pki.own.key)
    assert run(*verify) == 1
    assert "it was made with a bare key" in printed()[0]


@pytest.mark.parametrize(
    "changes", [{"may_sign": False}, {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}]
)
def test_certificates_for_other_purposes_do_not_sign(
    model: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    pki = Pki(tmp_path)
    with pytest.raises(ConfigError, match="certificate"):
        pki.signs(model, pki.leaf(**changes))


def der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


def organisation(name: str) -> x509.DirectoryName:
    return x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)]))


@pytest.mark.parametrize(
    ("names", "address", "code"),
    [
        (x509.NameConstraints([organisation("A")], None), None, 1),
        (x509.NameConstraints(None, [organisation("A")]), None, 1),
        (x509.NameConstraints([x509.RFC822Name("a.example")], None), "me@b.example", 1),
        (x509.NameConstraints([x509.RFC822Name("a.example")], None), None, 0),
        (x509.NameConstraints([x509.DNSName("a.example")], None), "me@b.example", 0),
    ],
)
def test_an_issuer_that_may_name_some_only_names_no_others(
    model: Path, tmp_path: Path, names: x509.NameConstraints, address: str | None, code: int
) -> None:
    pki, middle = Pki(tmp_path), pair(tmp_path, "km")
    more = [(names, False)]
    between = certificate(tmp_path, "middle", middle, ("root", pki.root), ca=True, extensions=more)
    leaf = certificate(tmp_path, "leaf", pki.own, ("middle", middle), address=address)
    pki.signs(model, leaf, between)
    assert run("verify-signature", model, "--certificate-chain", pki.anchor) == code


def test_a_certificate_that_cannot_be_read_certifies_nobody(
    model: Path, tmp_path: Path, printed: Printed
) -> None:
    pki = Pki(tmp_path)
    pki.signs(model, pki.leaf())
    good = der(tmp_path / "leaf.crt")
    signature = model / "model.sig"
    document = json.loads(signature.read_bytes())
    chain = document["verificationMaterial"]["x509CertificateChain"]["certificates"]
    broken = {
        # RFC 5280, 4.1.2.1: there is no version 5.
        "version": good.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1),
        "name": good.replace(b"\x55\x04\x03\x0c", b"\x55\x04\x03\x05"),
        "bits": good.replace(b"\x55\x04\x03\x0c", b"\x55\x04\x03\x03"),
        "usage": good.replace(b"\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03", bytes.fromhex(
            "0603551d0f0101ff040405")),
    }  # fmt: skip
    for what, data in broken.items():
        assert data != good, what
        chain[0]["rawBytes"] = base64.b64encode(data).decode()
        signature.write_text(json.dumps(document))
        assert run("verify-signature", model, "--certificate-chain", pki.anchor) == 1, what
        assert "no well-formed X.509 certificate" in printed()[0], what


def test_a_certificate_that_cannot_be_read_is_not_sent_along(
    model: Path, tmp_path: Path, printed: Printed
) -> None:
    pki = Pki(tmp_path)
    purposes = x509.UnrecognizedExtension(x509.ExtendedKeyUsage.oid, b"\x05\x00")
    leaf = pki.leaf(purposes=(), extensions=[(purposes, False)])
    assert run("sign", model, "--key", pki.own.key, "--certificate", leaf) == 3
    assert "is not a well-formed X.509 certificate" in printed()[1]
