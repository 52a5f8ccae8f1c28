"""Keys in a PKCS #11 token (SoftHSM) and in a TPM (swtpm), and keyless signatures.

The keyless ones are made by sigstore's real client with a Fulcio and a Rekor that are simulated on
this computer; the public instance is never contacted. Signatures that it made for others are judged
in test_published_signatures.py.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.cli.main import main
from rules.machines import swtpm
from rules.machines.ca import local_ca
from tests.e2e.signing.sigstore_instance import Instance
from tests.oracles import environment
from tests.unit.signing_keys import Pair, certificate, pair

pytestmark = pytest.mark.slow

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "47-11"


def aicert(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def tool(*command: str, **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "weights").write_bytes(b"weights")
    (root / "ä").write_bytes(b"")
    return root


class Token:
    """A SoftHSM token with the given keys."""

    def __init__(self, folder: Path) -> None:
        (folder / "tokens").mkdir()
        conf = folder / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(conf), "PIN": PIN}
        tool("softhsm2-util", "--init-token", "--free", "--label", "my models", "--pin", PIN,
             "--so-pin", "0000", **self.environment)  # fmt: skip

    def add(self, keys: Pair, label: str, number: str) -> None:
        tool("softhsm2-util", "--import", str(keys.key), "--token", "my models", "--label", label,
             "--id", number, "--pin", PIN, **self.environment)  # fmt: skip

    def sign(self, model: Path, uri: str, *more: object) -> "subprocess.CompletedProcess[str]":
        return environment.aicert("sign", model, "--pkcs11", uri, *more, **self.environment)


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return Token(tmp_path)


KEY = "token=my%20models;object=release"


def uri(query: str = f"module-path={MODULE}", path: str = KEY) -> str:
    return f"pkcs11:{path}?{query}"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_a_key_in_a_token_signs(
    tmp_path: Path, model: Path, token: Token, curve: ec.EllipticCurve
) -> None:
    keys, other = pair(tmp_path, "k", curve), pair(tmp_path, "other", curve)
    token.add(other, "other", "01")
    token.add(keys, "release", "A1")
    done = token.sign(model, uri(), "--password-env", "PIN")
    assert done.returncode == 0, done.stderr
    assert aicert("verify-signature", model, "--key", keys.pub) == 0
    assert aicert("verify-signature", model, "--key", other.pub) == 1
    signature = model / "model.sig"
    reference = ("verify", "key", "--public_key", keys.pub, "--signature", signature, model)
    assert environment.model_signing(*reference).returncode == 0
    # The key is named by its number, the PIN comes from a file, and there is a certificate.
    (tmp_path / "pin").write_text(PIN + "\n")
    query = f"module-path={MODULE}&pin-source=file:{tmp_path / 'pin'}"
    own = certificate(tmp_path, "own", keys, ("root", other))
    root = certificate(tmp_path, "root", other, ("root", other), ca=True)
    done = token.sign(model, uri(query, "token=my%20models;id=%a1"), "--certificate", own)
    assert done.returncode == 0, done.stderr
    assert aicert("verify-signature", model, "--certificate-chain", root) == 0
    assert (
        token.sign(model, uri(query, "token=my%20models;id=%01"), "--certificate", own).returncode
        == 3
    )


def test_a_token_that_does_not_sign_is_said_in_words(
    tmp_path: Path, model: Path, token: Token
) -> None:
    token.add(pair(tmp_path, "k"), "release", "A1")
    value = f"module-path={MODULE}&pin-value="
    wrong = {
        uri(value + "1"): (2, f"PinIncorrect\nhint: p11tool --provider={MODULE} --list-all"),
        uri(value + PIN, "token=my%20models;object=none"): (2, "NoSuchKey"),
        uri(value + PIN, "token=none;object=release"): (2, "NoSuchToken"),
        uri("module-path=/none.so"): (2, "hint: module-path needs the library of your token"),
        uri("pin-value=1"): (3, "expected a PKCS #11 URI with a module-path"),
        uri(path="token=x"): (3, "does not name a key"),
        uri(path="object=x;slot-id=0"): (3, "'slot-id=0' is unknown"),
        uri(path="object=x;object=y"): (3, "given twice"),
        "file:x": (3, "PKCS #11 URI"),
    }
    for text, (code, message) in wrong.items():
        done = token.sign(model, text)
        assert (done.returncode, message in done.stderr) == (code, True), (text, done.stderr)
    assert not (model / "model.sig").exists()


def test_without_the_extra_nothing_is_signed(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aicert("sign", model, "--pkcs11", uri()) == 2
    assert "pip install '.[pkcs11]'" in capsys.readouterr().err
    assert aicert("sign", model, "--sigstore") == 2
    assert "pip install '.[sigstore]'" in capsys.readouterr().err
    (model / "model.sig").write_bytes(b"{}")
    identity = ("--identity", "me@example.com", "--issuer", "https://example.com")
    assert aicert("verify-signature", model, *identity) == 2


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "tpm"
    folder.mkdir()
    with contextlib.chdir(folder), swtpm.platform(folder, local_ca(tmp_path, "local")) as tcti:
        monkeypatch.setenv("TPM2TOOLS_TCTI", tcti)
        yield "0x81010002"


def make_key(handle: str, attributes: str = "sign", auth: str = "") -> None:
    wanted = f"fixedtpm|fixedparent|sensitivedataorigin|userwithauth|{attributes}"
    more = ("-p", auth) if auth else ()
    tool("tpm2_createprimary", "-C", "o", "-G", "ecc256:ecdsa-sha256:null", "-a", wanted, "-c",
         "key", *more)  # fmt: skip
    tool("tpm2_evictcontrol", "-C", "o", "-c", "key", handle)
    tool("tpm2_flushcontext", "-t")
    tool("tpm2_readpublic", "-c", handle, "-f", "pem", "-o", "key.pub")


def test_a_key_in_the_tpm_signs(
    model: Path, tpm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_key(tpm, auth="secret")
    monkeypatch.setenv("AUTH", "secret")
    assert aicert("sign", model, "--tpm", tpm, "--password-env", "AUTH") == 0
    assert aicert("verify-signature", model, "--key", "key.pub") == 0
    (model / "model.sig").unlink()
    assert aicert("sign", model, "--tpm", tpm) == 2
    assert "hint: --password-env NAME" in capsys.readouterr().err
    assert aicert("sign", model, "--tpm", "0x81010003") == 2
    printed = capsys.readouterr().err
    assert "the TPM refuses to work with 0x81010003" in printed
    assert printed.endswith("hint: tpm2_getcap handles-persistent\n")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TPM2TOOLS_TCTI", "swtpm:path=/none")
        assert aicert("sign", model, "--tpm", tpm) == 2
    assert "hint: TPM2TOOLS_TCTI=" in capsys.readouterr().err
    # The platform's attestation key is an RSA key, and restricted.
    assert aicert("sign", model, "--tpm", "0x81000003") == 3
    assert aicert("sign", model, "--tpm", "key.pub") == 3
    monkeypatch.setenv("AUTH", "x" * 65)
    assert aicert("sign", model, "--tpm", tpm, "--password-env", "AUTH") == 3
    assert not (model / "model.sig").exists()


def test_a_restricted_key_signs_no_models(model: Path, tpm: str) -> None:
    make_key(tpm, "sign|restricted")
    assert aicert("sign", model, "--tpm", tpm) == 2
    assert not (model / "model.sig").exists()


WHO = ("--identity", "me@example.com", "--issuer", "https://login.example.com")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with Instance(tmp_path, identity=WHO[1], issuer=WHO[3]) as running:
        yield running


def keyless(model: Path, instance: Instance, *more: str) -> "subprocess.CompletedProcess[str]":
    root = ("--trusted-root", str(instance.trusted_root))
    return environment.aicert("verify-signature", model, *(more or WHO), *root)


def test_a_keyless_signature_is_made_and_verified_offline(
    tmp_path: Path, model: Path, instance: Instance
) -> None:
    done = environment.aicert(
        "sign", model, "--sigstore", "--trust-config", instance.trust_config, "--password-env",
        "TOKEN", TOKEN=instance.token,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    instance.stop()
    done = keyless(model, instance)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "me@example.com, by https://login.example.com" in done.stdout
    for other in (("--identity", "you@example.com", *WHO[2:]), (*WHO[:3], "https://example.org")):
        done = keyless(model, instance, *other)
        assert (done.returncode, "FAILED  signer.trusted" in done.stdout) == (1, True), done.stdout
    # The root is another instance's, then the one that the library comes with.
    (tmp_path / "other").mkdir()
    with Instance(tmp_path / "other", identity=WHO[1], issuer=WHO[3]) as stranger:
        assert keyless(model, stranger).returncode == 1
    assert environment.aicert("verify-signature", model, *WHO).returncode == 1
    (model / "weights").write_bytes(b"others")
    assert keyless(model, instance).returncode == 1


def test_a_keyless_signature_that_was_changed_fails(model: Path, instance: Instance) -> None:
    sign = ("sign", model, "--sigstore", "--trust-config", instance.trust_config)
    done = environment.aicert(*sign, "--password-env", "TOKEN", TOKEN=instance.token)
    assert done.returncode == 0, done.stderr
    good = json.loads((model / "model.sig").read_bytes())

    def changed(where: str, key: str, value: object) -> int:
        document = json.loads(json.dumps(good))
        entry = document["verificationMaterial"]["tlogEntries"][0]
        {"entry": entry, "promise": entry["inclusionPromise"], "proof": entry["inclusionProof"],
         "envelope": document["dsseEnvelope"]}[where][key] = value  # fmt: skip
        (model / "model.sig").write_text(json.dumps(document))
        return keyless(model, instance).returncode

    other = good["dsseEnvelope"]["payload"]
    assert changed("entry", "integratedTime", "1") == 1
    assert changed("promise", "signedEntryTimestamp", "MAYCAQECAQE=") == 1
    assert changed("proof", "rootHash", "A" * 43 + "=") == 1
    assert changed("envelope", "payload", other[:-8] + "AAAAfX0=") == 1


def test_services_that_refuse_or_are_gone_are_said_in_words(
    model: Path, instance: Instance
) -> None:
    sign = ("sign", model, "--sigstore", "--trust-config", instance.trust_config)
    done = environment.aicert(*sign, "--password-env", "TOKEN", TOKEN="none")
    assert (done.returncode, "could not identify the signer" in done.stderr) == (2, True), (
        done.stderr
    )
    for wrong, message in ((model / "weights", "is not a trust config"), (model, "Is a directory")):
        done = environment.aicert("sign", model, "--sigstore", "--trust-config", wrong)
        assert (done.returncode, message in done.stderr) == (3, True), done.stderr
    instance.stop()
    done = environment.aicert(*sign, "--password-env", "TOKEN", TOKEN=instance.token)
    assert (done.returncode, "Sigstore did not sign" in done.stderr) == (2, True), done.stderr
    assert not (model / "model.sig").exists()
