"""Model signatures by a key with a certificate: which chains prove who signed."""

from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from aicert.errors import EvidenceError
from aicert.export import signing
from aicert.export.certificates import certified
from aicert.export.signers import load_signer
from tests.unit.signing_keys import DAY, NOW, certificate, pair
from tests.unit.test_model_signatures import Said, run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(b"w")
    return root


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return capsys.readouterr


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
        signing.sign(model, signer)


def test_an_expired_certificate_fails_and_at_says_when(
    model: Path, tmp_path: Path, said: Said
) -> None:
    pki = Pki(tmp_path)
    pki.signs(model, pki.leaf(end=NOW - DAY))
    verify = ("verify-signature", model, "--certificate-chain", pki.anchor)
    assert run(*verify) == 1
    assert "nothing here tells when the signature was made" in said()[0]
    assert run(*verify, "--at", (NOW - 2 * DAY).isoformat()) == 0


def test_chains_that_prove_nothing_fail(model: Path, tmp_path: Path, said: Said) -> None:
    pki = Pki(tmp_path)
    verify = ("verify-signature", model, "--certificate-chain", pki.anchor)
    stranger = pair(tmp_path, "ks")
    alone = certificate(tmp_path, "alone", pki.own, ("alone", pki.own))
    pki.signs(model, alone)
    assert run(*verify) == 1
    signs_itself = certificate(tmp_path, "leaf", pki.own, ("root", stranger))
    pki.signs(model, signs_itself)
    assert run(*verify) == 1
    # A leaf that issues certificates is no CA.
    middle = pair(tmp_path, "km")
    between = certificate(tmp_path, "middle", middle, ("root", pki.root))
    pki.signs(model, certificate(tmp_path, "low", pki.own, ("middle", middle)), between)
    assert run(*verify) == 1
    run("sign", model, "--key", pki.own.key)
    assert run(*verify) == 1
    assert "it was made with a bare key" in said()[0]


@pytest.mark.parametrize(
    "changes", [{"may_sign": False}, {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}]
)
def test_certificates_for_other_purposes_do_not_sign(
    model: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    pki = Pki(tmp_path)
    with pytest.raises(EvidenceError, match="certificate"):
        pki.signs(model, pki.leaf(**changes))
