"""Mistakes that people make when they sign or verify a model, and the messages they get."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from aicert.cli import progress
from aicert.cli.main import main
from aicert.files.tree import read_tree
from aicert.formats.listing import listing
from aicert.signing import sign as signing
from tests.unit.sample_certificate import sample
from tests.unit.signing_keys import Pair, certificate, pair


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "a").write_bytes(b"a")
    (root / "weights").write_bytes(b"w" * 400_000)
    return root


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def hint(run: tuple[int, str, str], code: int) -> str:
    """Return the hint of a command that ended with this code."""
    assert run[0] == code, run
    return run[2].rpartition("hint: ")[2].strip()


def test_no_key_yet(model: Path, tmp_path: Path, run: Run) -> None:
    command = hint(run("sign", model, "--key", tmp_path / "none"), 3)
    assert command == f"openssl ecparam -name prime256v1 -genkey -noout -out {tmp_path / 'none'}"
    run("sign", model, "--key", pair(tmp_path, "k").key)
    command = hint(run("verify-signature", model, "--key", tmp_path / "none"), 3)
    assert command == f"openssl pkey -in key.pem -pubout -out {tmp_path / 'none'}"
    assert "hint" not in run("sign", model, "--key", tmp_path)[2]


def test_keys_that_are_not_pem(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoding, form = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    Path("my key.der").write_bytes(keys.private.private_bytes(encoding, form, plain))
    paste(hint_command(run("sign", model, "--key", "my key.der")))
    assert run("sign", model, "--key", "my key.der.pem")[0] == 0
    public = keys.private.public_key()
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    Path("pub.der").write_bytes(public.public_bytes(encoding, spki))
    done = run("verify-signature", model, "--key", "pub.der")
    paste(hint_command(done))
    assert run("verify-signature", model, "--key", "pub.der.pem")[0] == 0


def test_no_hint_writes_over_what_is_there(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openssl truncates its output file even when it then reads no input."""
    monkeypatch.chdir(tmp_path)
    run("sign", model, "--key", keys.key)
    shutil.copy(keys.key, "key.pem")
    for name in ("key", "key-2.pem", "key.pub"):
        Path(name).write_text("mine")
    make = "openssl ecparam -name secp256k1 -genkey -noout -out p256.pem"
    cert = "openssl req -x509 -key key.pem -subj /CN=me -out signer.pem"
    paste(f"{make} && {cert}")
    there = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for words in (
        ("sign", model, "--key", "key"),
        ("sign", model, "--key", "p256.pem"),
        ("sign", model, "--key", "key.pem", "--certificate", "signer.pem"),
        ("verify-signature", model, "--key", "key"),
        ("verify-signature", model, "--key", "key.pem"),
        ("verify-signature", model, "--certificate-chain", "key"),
    ):
        command = hint(run(*words), 3).removeprefix("if it is one in DER: ")
        assert command.startswith("openssl ")
        subprocess.run(["sh", "-c", command], check=False, capture_output=True)
    assert {path: path.read_bytes() for path in there} == there


def paste(command: str) -> None:
    """Run a hint as a person would."""
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)


def hint_command(done: tuple[int, str, str]) -> str:
    text = hint(done, 3)
    assert text.startswith("if it is one in DER: openssl ")
    return text.partition(": ")[2]


def test_a_certificate_for_a_key_and_the_other_way_round(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = certificate(tmp_path, "own", keys, ("root", keys))
    for words in (("sign", model, "--key", own), ("verify-signature", model, "--key", own)):
        run("sign", model, "--key", keys.key)
        assert "it holds a certificate" in run(*words)[2]
    der = subprocess.run(
        ["openssl", "x509", "-in", own, "-outform", "DER"], check=True, capture_output=True
    ).stdout
    Path("own.der").write_bytes(der)
    done = run("verify-signature", model, "--certificate-chain", "own.der")
    paste(hint_command(done))
    assert Path("own.der.pem").read_bytes() == own.read_bytes()
    bare = run("verify-signature", model, "--certificate-chain", own)
    assert bare[0] == 1
    assert bare[1].endswith("it was made with a bare key\nhint: --key PUB\n")


def test_a_certificate_that_says_nothing_of_signing(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(keys.key, "key.pem")
    make = ["openssl", "req", "-x509", "-key", "key.pem", "-subj", "/CN=me", "-out", "bare.pem"]
    subprocess.run(make, check=True, capture_output=True)
    command = hint(run("sign", model, "--key", "key.pem", "--certificate", "bare.pem"), 3)
    paste(command)
    assert run("sign", model, "--key", "key.pem", "--certificate", "signer.pem")[0] == 0
    assert run("verify-signature", model, "--certificate-chain", "signer.pem")[0] == 0


def test_an_encrypted_key_without_its_password(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked.pem"
    how = serialization.BestAvailableEncryption(b"secret")
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(keys.private.private_bytes(encoding, form, how))
    assert hint(run("sign", model, "--key", locked), 3).startswith("--password-env NAME")
    monkeypatch.setenv("PASS", "")
    words = ("sign", model, "--key", locked, "--password-env", "PASS")
    assert hint(run(*words), 3).startswith("--password-env NAME")
    monkeypatch.setenv("PASS", "wrong")
    assert "not a usable private key: the password is wrong\n" in run(*words)[2]


def test_the_key_is_not_signed(model: Path, keys: Pair, run: Run) -> None:
    inside = model / "my key.pem"
    shutil.copy(keys.key, inside)
    done = run("sign", model, "--key", inside)
    assert hint(done, 3) == "keep it elsewhere, or --ignore 'my key.pem'"
    assert not (model / "model.sig").exists()
    assert run("sign", model, "--key", inside, "--ignore", "my key.pem")[0] == 0
    assert run("sign", keys.key, "--key", keys.key)[0] == 3


def test_a_listing_with_the_key_is_not_signed(
    model: Path, keys: Pair, tmp_path: Path, run: Run
) -> None:
    shutil.copy(keys.key, model / "key.pem")
    known = tmp_path / "known"
    known.write_bytes(listing(read_tree(model)))
    words = ("sign", model, "--digests", known, "--key")
    assert run(*words, model / "key.pem")[0] == 3
    assert run(*words, keys.key)[0] == 0


def test_a_listing_of_another_form(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (model / "Z").write_bytes(b"")
    Path("listing.sha256").write_text(f"{'0' * 64}  ./a\n")
    command = hint(run("sign", "model", "--key", keys.key, "--digests", "listing.sha256"), 3)
    paste(command)
    code, out, _ = run("sign", "model", "--key", keys.key, "--digests", "listing.sha256")
    assert (code, out) == (0, "signed    3 files: model/model.sig\n")
    assert run("verify-signature", "model", "--key", keys.pub)[0] == 0
    Path("listing.sha256").write_text(f"{'0' * 64}  model/a\n")
    _, out, _ = run("sign", "model", "--key", keys.key, "--digests", "listing.sha256")
    assert "note      1 signed file not there, such as model/a\n" in out


def test_what_may_not_have_been_meant_is_told(
    model: Path, keys: Pair, tmp_path: Path, run: Run
) -> None:
    sign = ("sign", model, "--key", keys.key)
    assert "note" not in run(*sign)[1]
    assert "note      the previous model.sig was replaced\n" in run(*sign)[1]
    code, _, err = run(*sign, "--ignore", "*.md")
    assert code == 3
    assert "error: --ignore names '*.md', but nothing is there\nhint: paths are relative" in err
    _, out, _ = run(*sign, "--signature", tmp_path / "other", "--format", "json")
    assert json.loads(out)["notes"] == ["model.sig, another signature, is among the signed files"]


def test_names_are_shown_as_they_are(tmp_path: Path, keys: Pair, run: Run) -> None:
    root = tmp_path / "Modèle 模型"
    root.mkdir()
    (root / "a").write_bytes(b"")
    assert run("sign", root, "--key", keys.key)[1].endswith("/Modèle 模型/model.sig\n")


def test_paths_of_only(model: Path, keys: Pair, run: Run) -> None:
    run("sign", model, "--key", keys.key)
    check = ("verify-signature", model, "--key", keys.pub, "--only")
    assert hint(run(*check, "./a"), 3) == "--only a"
    code, out, _ = run(*check, "model/a")
    assert (code, out.splitlines()[-1]) == (1, "hint: --only wants paths relative to the directory")
    run("sign", model / "a", "--key", keys.key)
    assert run("verify-signature", model / "a", "--key", keys.pub, "--only", ".")[0] == 0


def test_one_file_of_a_signed_model(model: Path, keys: Pair, run: Run) -> None:
    run("sign", model, "--key", keys.key)
    advice = hint(run("verify-signature", model / "a", "--key", keys.pub), 2)
    assert advice == f"aicert verify-signature {model} --only a, with your key"
    (model / "model.sig").unlink()
    assert hint(run("verify-signature", model, "--key", keys.pub), 2) == "--signature FILE"
    assert hint(run("verify-signature", model / "a", "--key", keys.pub), 2) == "--signature FILE"
    (model / "model.sig").mkdir()
    assert "is not a regular file" in run("verify-signature", model, "--key", keys.pub)[2]


def test_a_link_to_the_model(model: Path, keys: Pair, tmp_path: Path, run: Run) -> None:
    (tmp_path / "link").symlink_to("model")
    advice = hint(run("sign", tmp_path / "link", "--key", keys.key), 2)
    assert advice == f"name the directory itself: {model}"


def test_places_that_cannot_be_written(
    model: Path, keys: Pair, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "my results/x.sig"
    sign = ("sign", model, "--key", keys.key, "--signature")
    assert hint(run(*sign, missing), 2) == f"mkdir -p '{missing.parent}'"
    cert = tmp_path / "certificate.json"
    cert.write_bytes(sample())
    assert hint(run("report", cert, "-o", missing), 2) == f"mkdir -p '{missing.parent}'"
    assert hint(run("card", cert, missing), 2) == f"mkdir -p '{missing.parent}'"
    assert hint(run("card", cert, model), 2) == "name a file"
    # As a user who is not root: no file is read if the signature cannot be written.
    monkeypatch.setattr(os, "access", lambda *_: False)
    done = run("sign", model, "--key", keys.key)
    assert "the directory is not writable" in done[2]
    assert hint(done, 2) == "name a file in another directory"


def test_a_name_that_is_empty_is_not_the_current_directory(
    model: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert = tmp_path / "certificate.json"
    cert.write_bytes(sample())
    monkeypatch.chdir(model)
    before = sorted(model.iterdir())
    assert run("export", cert, "")[0] == 3
    for place in ("", ".", ".."):
        assert hint(run("report", cert, "-o", place), 2) == "name a file"
    assert sorted(model.iterdir()) == before


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_of_signing(
    model: Path, keys: Pair, run: Run, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    (model / "sub").mkdir()
    (model / "sub/b").write_bytes(b"")
    monkeypatch.setattr(progress, "BAR_AFTER", -1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    for target in (model, model / "a"):
        for words in (("sign", target, "--key", keys.key), ("verify-signature", target, "--key",
                      keys.pub)):  # fmt: skip
            code, out, err = run(*words, "--format", "json")
            assert (code, err.count("reading the model, 0.0 GiB") == 0) == (0, terminal)
            json.loads(out)


def test_nothing_is_said_of_what_is_soon_read(model: Path, keys: Pair, run: Run) -> None:
    assert run("sign", model, "--key", keys.key)[2] == ""


def test_ctrl_c_while_signing(
    model: Path, keys: Pair, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signing, "sign", cut)
    assert run("sign", model, "--key", keys.key) == (130, "", "\ninterrupted\n")


def test_a_report_as_json_is_one_document(tmp_path: Path, run: Run) -> None:
    cert, out = tmp_path / "certificate.json", tmp_path / "p.html"
    cert.write_bytes(sample())
    code, printed, err = run("report", cert, "-o", out, "--format", "json")
    plain, _, _ = run("verify", cert, "--format", "json")
    assert (code, json.loads(printed)["verdict"]) == (plain, "failed")
    assert err == f"\nwritten  {out}\n"
    assert run("export", tmp_path, tmp_path)[2].endswith("then MODEL_DIR\n")


def test_a_card_wants_its_certificate_beside_it(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my model").mkdir()
    Path("certificate.json").write_bytes(sample())
    card = ("card", "certificate.json", "my model/README.md")
    first_line = run(*card)[1].splitlines()[0]
    note = "note     the card names certificate.json, which is not beside it: "
    assert first_line.startswith(note)
    paste(first_line.removeprefix(note))
    assert run(*card) == (0, "nothing to do: the card already says so\n", "")
    assert hint(run(*card, "--output", "none"), 3) == "--output model"


def test_an_export_with_standard_error_closed(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert = tmp_path / "certificate.json"
    cert.write_bytes(sample())
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["export", str(cert), str(tmp_path)]) == 0
