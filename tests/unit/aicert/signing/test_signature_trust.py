"""Certificates that cannot sign models, and bytes compared with other digests."""

import hashlib
import importlib
import importlib.util
import json
import os
import ssl
import tracemalloc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.cli.main import main
from aicert.cli.signing import EXTRAS
from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.model_signature.reader import SINGLE, Bundle, Manifest, Piece
from aicert.signing import hashing
from aicert.signing.keys import load_signer, verify
from aicert.signing.x509_signers import certified, trust_chain
from tests.unit.signing_keys import DAY, NOW, certificate, pair

DATA = b"weights" * 1000


def carrying(*ders: bytes) -> Bundle:
    return Bundle(payload=b"", signature=b"", hint=None, certificates=ders, keyless=False)


def test_a_certificate_of_another_key_or_of_none(tmp_path: Path) -> None:
    root, own = pair(tmp_path, "kr"), pair(tmp_path, "ko")
    issued = certificate(tmp_path, "leaf", own, ("root", root))
    with pytest.raises(ConfigError, match="for a different key than the private key"):
        certified(load_signer(root.key), issued, ())
    (tmp_path / "not.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    with pytest.raises(ConfigError, match="holds no certificate in PEM"):
        certified(load_signer(own.key), tmp_path / "not.crt", ())


def test_a_certificate_of_no_known_version(tmp_path: Path) -> None:
    own = pair(tmp_path, "ko")
    path = certificate(tmp_path, "own", own, ("own", own))
    der = ssl.PEM_cert_to_DER_cert(path.read_text())
    third, sixth = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"
    path.write_text(ssl.DER_cert_to_PEM_cert(der.replace(third, sixth, 1)))
    with pytest.raises(ConfigError, match="holds no certificate in PEM"):
        certified(load_signer(own.key), path, ())
    with pytest.raises(ConfigError, match="holds no certificate in PEM"):
        trust_chain(carrying(der), [path], NOW)


def test_a_bundle_that_holds_no_certificate(tmp_path: Path) -> None:
    root = pair(tmp_path, "kr")
    anchor = certificate(tmp_path, "root", root, ("root", root), ca=True)
    with pytest.raises(EvidenceError, match=r"no well-formed X\.509 certificate"):
        trust_chain(carrying(b"\x30\x00"), [anchor], NOW)


def test_an_issuer_that_may_not_certify(tmp_path: Path) -> None:
    root, middle, own = (pair(tmp_path, name) for name in ("kr", "km", "ko"))
    anchor = certificate(tmp_path, "root", root, ("root", root), ca=True)
    between = certificate(tmp_path, "middle", middle, ("root", root), ca=True, may_sign=False)
    leaf = certificate(tmp_path, "leaf", own, ("middle", middle))
    signer = certified(load_signer(own.key), leaf, [between])
    with pytest.raises(EvidenceError, match="chains to no root that you named"):
        trust_chain(carrying(*signer.certificates), [anchor], NOW)


def manifest(algorithm: str, path: str, *, parts: tuple[Piece, ...] = ()) -> Manifest:
    digest = (hashlib.blake2b if algorithm == "blake2b" else hashlib.sha256)(DATA).hexdigest()
    files = {path: "" if parts else digest}
    return Manifest(
        name="m", algorithm=algorithm, files=files, parts={path: parts} if parts else None
    )


def halves() -> tuple[Piece, ...]:
    def piece(start: int, end: int) -> Piece:
        digest = hashlib.sha256(DATA[start:end]).hexdigest()
        return Piece(digest=digest, start=start, end=end)

    return piece(0, 3000), piece(3000, len(DATA))


@pytest.mark.parametrize("algorithm", ["sha256", "blake2b"])
def test_one_file_alone_is_compared(tmp_path: Path, algorithm: str) -> None:
    target, read = tmp_path / "weights", list[int]()
    target.write_bytes(DATA)
    wanted = manifest(algorithm, SINGLE)
    assert hashing.compare(target, wanted, [SINGLE], read.append) == {SINGLE: True}
    assert sum(read) == len(DATA)
    assert hashing.names(target, ()) == {SINGLE: len(DATA)}
    target.write_bytes(DATA[:-1] + b"x")
    assert hashing.compare(target, wanted, [SINGLE]) == {SINGLE: False}


def test_every_part_of_a_file_counts_and_so_does_its_end(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    wanted = manifest("sha256", "weights", parts=halves())
    for data, same in ((DATA, True), (b"x" + DATA[1:], False), (DATA + b"x", False)):
        path.write_bytes(data)
        assert hashing.compare(tmp_path, wanted, ["weights"]) == {"weights": same}


def test_a_file_that_grows_while_it_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)

    def grow(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"x")

    wanted = manifest("sha256", "weights", parts=halves())
    with pytest.raises(EvidenceError, match="file changed while it was read: 'weights'"):
        hashing.compare(tmp_path, wanted, ["weights"], grow)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights")
    wanted = manifest("blake2b", "weights")
    with pytest.raises(EvidenceError, match="weights"):
        hashing.compare(tmp_path, wanted, ["weights"])


def test_a_hash_whose_package_is_missing_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ToolError, match="BLAKE3, which needs an extra package") as caught:
        hashing.compare(tmp_path, manifest("blake3", "weights"), ["weights"])
    assert "pip install '.[blake3]'" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sign", "--key", "KEY", "--certificate-chain", "c"], "goes with --certificate"),
        (["sign", "--key", "KEY", "--trust-config", "c"], "--trust-config goes with --sigstore"),
        (["sign", "--sigstore", "--certificate", "c"], "--certificate goes with your own key"),
        (["verify-signature", "--identity", "a@b"], "--identity and --issuer go together"),
        (["verify-signature", "--key", "KEY", "--trusted-root", "r"], "goes with --identity"),
        (["verify-signature", "--identity", "a@b", "--issuer", ""], "must not be empty"),
        (
            [
                "verify-signature",
                "--identity",
                "a",
                "--issuer",
                "b",
                "--at",
                "2026-01-01T00:00:00Z",
            ],
            "--at goes with --certificate-chain",
        ),
        (["verify-signature", "--identity", "", "--issuer", "https://a"], "must not be empty"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    key = pair(tmp_path, "k")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_bytes(b"a")
    (tmp_path / "model" / "model.sig").write_bytes(b"{}")
    command, *options = (str(key.key) if word == "KEY" else word for word in arguments)
    assert main([command, str(tmp_path / "model"), *options]) == 3
    assert words in capsys.readouterr().err


def test_a_password_that_is_no_text_is_a_wrong_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = pair(tmp_path, "k")
    monkeypatch.setenv("SECRET", "\udcff")
    words = ["sign", str(tmp_path), "--key", str(key.key), "--password-env", "SECRET"]
    assert main(words) == 3
    assert "'SECRET' is not UTF-8" in capsys.readouterr().err


def test_programs_are_told_what_was_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, model = pair(tmp_path, "k"), tmp_path / "model"
    model.mkdir()
    (model / "a").write_bytes(b"a")
    (model / ".gitignore").write_bytes(b"a")
    assert main(["sign", str(model), "--key", str(key.key), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "signature": str(model / "model.sig"),
        "files": 1,
        "leftOut": [".gitignore"],
        "notes": [],
    }


def test_a_huge_payload_is_not_encoded_as_old_signers_did(tmp_path: Path) -> None:
    # Python's escaped text of this payload is four times as long, and is made several times.
    payload = b"\x80" * (1 << 26)
    signature = pair(tmp_path, "other").private.sign(b"else", ec.ECDSA(hashes.SHA256()))
    sent = Bundle(payload=payload, signature=signature, hint=None, certificates=(), keyless=False)
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceError, match="not signed by this key"):
            verify(sent, pair(tmp_path, "k").private.public_key())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * len(payload)


def test_what_needs_another_package_is_found_where_it_is_loaded_from() -> None:
    # A missing module of ours would look like a package that is not installed.
    for module in EXTRAS:
        assert importlib.util.find_spec(f"aicert.signing.{module}") is not None, module


def test_an_issuer_that_has_expired_is_said_to_have(tmp_path: Path) -> None:
    root, middle, own = (pair(tmp_path, name) for name in ("kr", "km", "ko"))
    anchor = certificate(tmp_path, "root", root, ("root", root), ca=True)
    between = certificate(tmp_path, "middle", middle, ("root", root), ca=True, end=NOW - DAY)
    leaf = certificate(tmp_path, "leaf", own, ("middle", middle))
    signer = certified(load_signer(own.key), leaf, [between])
    with pytest.raises(EvidenceError) as caught:
        trust_chain(carrying(*signer.certificates), [anchor], NOW)
    message = caught.value.message
    assert message.startswith("the certificate of 'leaf' is by 'middle', whose own is valid from ")
    assert "depth" not in message
    old = certificate(tmp_path, "old", root, ("old", root), ca=True, end=NOW - DAY)
    direct = certificate(tmp_path, "direct", own, ("old", root))
    signer = certified(load_signer(own.key), direct, [])
    with pytest.raises(EvidenceError, match="'direct' is by 'old', whose own is valid from"):
        trust_chain(carrying(*signer.certificates), [old], NOW)


def test_an_internal_ca_is_judged_with_all_its_certificates(tmp_path: Path) -> None:
    root, middle, own = (pair(tmp_path, name) for name in ("kr", "km", "ko"))
    anchor = certificate(tmp_path, "root", root, ("root", root), ca=True)
    between = certificate(tmp_path, "middle", middle, ("root", root), ca=True)
    leaf = certificate(tmp_path, "leaf", own, ("middle", middle))
    # The bundle carries the leaf alone: the verifier has the intermediate, in one file or two.
    bundle = carrying(*certified(load_signer(own.key), leaf, []).certificates)
    both = tmp_path / "ca.pem"
    both.write_bytes(between.read_bytes() + anchor.read_bytes())
    for roots in ([both], [anchor, between], [between, anchor]):
        assert "leaf <- middle <- root" in trust_chain(bundle, roots, NOW).why
    # A verifier who names only the intermediate trusts that one.
    assert "leaf <- middle\n" in trust_chain(bundle, [between], NOW).why
    stranger = certificate(tmp_path, "stranger", own, ("stranger", own), ca=True)
    assert "leaf <- middle\n" in trust_chain(bundle, [between, stranger], NOW).why
    # The root's limits on the certificates below it apply.
    old = certificate(tmp_path, "root", root, ("root", root), ca=True, end=NOW - DAY)
    with pytest.raises(EvidenceError, match="'middle' is by 'root', whose own is valid from"):
        trust_chain(bundle, [old, between], NOW)
    narrow = certificate(tmp_path, "root", root, ("root", root), ca=True, path_length=0)
    low = certificate(tmp_path, "low", middle, ("root", root), ca=True)
    lower = certificate(tmp_path, "lower", own, ("low", middle), ca=True)
    last = certificate(tmp_path, "last", own, ("lower", own))
    bundle = carrying(*certified(load_signer(own.key), last, []).certificates)
    with pytest.raises(EvidenceError, match="'last' chains to no root that you named"):
        trust_chain(bundle, [narrow, low, lower], NOW)


def test_a_chain_to_nobody_is_said_in_our_words(tmp_path: Path) -> None:
    root, own = pair(tmp_path, "kr"), pair(tmp_path, "ko")
    anchor = certificate(tmp_path, "root", root, ("root", root), ca=True)
    # Issued under the root's name, by another key.
    leaf = certificate(tmp_path, "leaf", own, ("root", own))
    signer = certified(load_signer(own.key), leaf, [])
    with pytest.raises(EvidenceError) as caught:
        trust_chain(carrying(*signer.certificates), [anchor], NOW)
    assert caught.value.message == "the certificate of 'leaf' chains to no root that you named"


def test_what_a_library_says_of_pem_is_not_repeated(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    with pytest.raises(ConfigError) as caught:
        trust_chain(carrying(b""), [bad], NOW)
    assert caught.value.message == f"{str(bad)!a} holds no certificate in PEM that can be read"
    assert caught.value.hint == f"openssl x509 -in {bad} -noout -text"
    for text in ("PRIVATE KEY", "EC PRIVATE KEY"):
        bad.write_text(f"-----BEGIN {text}-----\nAAAA\n")
        with pytest.raises(ConfigError, match="it is cut short, damaged or of an unsupported kind"):
            load_signer(bad)
