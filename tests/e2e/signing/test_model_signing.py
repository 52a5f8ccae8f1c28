"""OpenSSF Model Signing against its reference implementation, in both directions."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.cli.main import main
from aicert.model_signature.reader import OLD_PREDICATE
from tests.oracles import environment
from tests.unit.signing_keys import certificate, pair

pytestmark = pytest.mark.slow


def odd_tree(root: Path) -> Path:
    """Make a tree with names and shapes that serialisations get wrong."""
    deep = root.joinpath(*(f"d{n}" for n in range(30)))
    deep.mkdir(parents=True)
    (deep / "leaf").write_bytes(b"deep")
    for name in (
        "empty", "Z", "a", "a.b", "a-b", "a b", "ä", "𝓶.bin", ".hidden", "-rf", "$(id)", "'\"<&>",
        "x.safetensors",
    ):  # fmt: skip
        (root / name).write_bytes(b"" if name == "empty" else name.encode())
    (root / "a_").mkdir()
    (root / "a_" / "b").write_bytes(b"1")
    (root / "large").write_bytes(b"0123456789abcdef" * 100_000)
    return root


def succeeds(*arguments: object) -> None:
    done = environment.model_signing(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def aicert(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_each_verifies_what_the_other_signs_with_a_key(
    tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    model, keys = odd_tree(tmp_path / "model"), pair(tmp_path, "k", curve)
    assert aicert("sign", model, "--key", keys.key) == 0
    signature = model / "model.sig"
    succeeds("verify", "key", "--public_key", keys.pub, "--signature", signature, model)
    assert aicert("verify-signature", model, "--key", keys.pub) == 0
    signature.unlink()
    theirs = tmp_path / "theirs.sig"
    succeeds("sign", "key", "--private_key", keys.key, "--signature", theirs, model)
    assert aicert("verify-signature", model, "--key", keys.pub, "--signature", theirs) == 0
    (model / "a").write_bytes(b"b")
    assert aicert("verify-signature", model, "--key", keys.pub, "--signature", theirs) == 1


def test_each_verifies_what_the_other_signs_with_a_certificate(tmp_path: Path) -> None:
    model = odd_tree(tmp_path / "model")
    root, middle, own = (pair(tmp_path, name) for name in ("kr", "km", "ko"))
    anchor = certificate(tmp_path, "root", root, ("root", root), ca=True)
    between = certificate(tmp_path, "middle", middle, ("root", root), ca=True)
    leaf = certificate(tmp_path, "leaf", own, ("middle", middle))
    assert (
        aicert(
            "sign", model, "--key", own.key, "--certificate", leaf, "--certificate-chain", between
        )
        == 0
    )
    signature = model / "model.sig"
    succeeds(
        "verify", "certificate", "--certificate_chain", anchor, "--signature", signature, model
    )
    assert aicert("verify-signature", model, "--certificate-chain", anchor) == 0
    signature.unlink()
    theirs = tmp_path / "theirs.sig"
    succeeds(
        "sign", "certificate", "--private_key", own.key, "--signing_certificate", leaf,
        "--certificate_chain", between, "--signature", theirs, model,
    )  # fmt: skip
    verify = ("verify-signature", model, "--certificate-chain", anchor, "--signature", theirs)
    assert aicert(*verify) == 0
    # The reference judges a certificate at the start of its own validity, so it never expires.
    assert aicert(*verify, "--at", "2100-01-01T00:00:00Z") == 1


def test_single_files(tmp_path: Path) -> None:
    keys, file = pair(tmp_path, "k"), tmp_path / "m.gguf"
    file.write_bytes(b"weights")
    assert aicert("sign", file, "--key", keys.key) == 0
    ours, theirs = tmp_path / "m.gguf.sig", tmp_path / "theirs.sig"
    succeeds("verify", "key", "--public_key", keys.pub, "--signature", ours, file)
    succeeds("sign", "key", "--private_key", keys.key, "--signature", theirs, file)
    for signature in (ours, theirs):
        command = ("verify-signature", file, "--key", keys.pub, "--signature", signature)
        assert aicert(*command) == 0
    file.write_bytes(b"others")
    assert aicert("verify-signature", file, "--key", keys.pub) == 1


# The reference's command line only knows its own default form; its library knows all.
HOW = """
import sys
from model_signing import hashing
*arguments, how = sys.argv[1:]
config = hashing.Config()
if how == "shards":
    config.use_shard_serialization(shard_size=500_000)
else:
    config.use_file_serialization(hashing_algorithm=how)
"""
SIGN_OTHERS = f"""{HOW}
from model_signing import signing
key, model, out = arguments
signer = signing.Config().use_elliptic_key_signer(private_key=key)
signer.set_hashing_config(config).sign(model, out)
"""


# Run `aicert` of this checkout in the reference's interpreter, which has the package blake3.
OURS = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
from aicert.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", ["blake2", "shards"])
def test_other_hashes_and_parts_of_files_are_read(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, keys = odd_tree(tmp_path / "model"), pair(tmp_path, "k")
    signature = tmp_path / "theirs.sig"
    done = environment.run(SIGN_OTHERS, keys.key, model, signature, how)
    assert done.returncode == 0, done.stderr
    verify = ("verify-signature", model, "--key", keys.pub, "--signature", signature)
    assert aicert(*verify) == 0
    assert ("cannot be signed in parts: empty" in capsys.readouterr().out) == (how == "shards")
    data = bytearray((model / "large").read_bytes())
    data[-1] ^= 1
    (model / "large").write_bytes(data)
    assert aicert(*verify) == 1
    (model / "large").write_bytes(data + b"more")
    assert aicert(*verify) == 1
    assert aicert(*verify, "--only", "a") == 0


def test_blake3_is_read_where_its_package_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, keys = odd_tree(tmp_path / "model"), pair(tmp_path, "k")
    signature = tmp_path / "theirs.sig"
    assert environment.run(SIGN_OTHERS, keys.key, model, signature, "blake3").returncode == 0
    command = ("verify-signature", model, "--key", keys.pub, "--signature", signature)
    assert aicert(*command) == 2
    assert "pip install '.[blake3]'" in capsys.readouterr().err
    assert environment.run(OURS, *command).returncode == 0
    (model / "a").write_bytes(b"b")
    assert environment.run(OURS, *command).returncode == 1


VERIFY_OTHERS = f"""{HOW}
from model_signing import verifying
pub, model, signature = arguments
config.set_ignored_paths(paths=["model.sig"])
verifier = verifying.Config().use_elliptic_key_verifier(public_key=pub)
verifier.set_hashing_config(config).verify(model, signature)
"""


@pytest.mark.parametrize(
    ("how", "words"), [("blake3", ("--hash", "blake3")), ("shards", ("--shard-size", "500000"))]
)
def test_other_hashes_and_parts_of_files_are_written(
    tmp_path: Path, how: str, words: tuple[str, ...]
) -> None:
    model, keys = odd_tree(tmp_path / "model"), pair(tmp_path, "k")
    signed = environment.run(OURS, "sign", model, "--key", keys.key, *words)
    assert signed.returncode == 0, signed.stderr
    signature = model / "model.sig"
    verify = (VERIFY_OTHERS, keys.pub, model, signature, how)
    done = environment.run(*verify)
    assert done.returncode == 0, done.stderr
    ours = (OURS, "verify-signature", model, "--key", keys.pub)
    assert environment.run(*ours).returncode == 0
    with (model / "large").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert environment.run(*verify).returncode != 0
    assert environment.run(*ours).returncode == 1


def test_links_within_the_directory_are_signed_and_verified_where_both_say_so(
    tmp_path: Path,
) -> None:
    model, keys = odd_tree(tmp_path / "model"), pair(tmp_path, "k")
    (model / "link").symlink_to("a_/b")
    assert aicert("sign", model, "--key", keys.key, "--allow-symlinks") == 0
    signature = model / "model.sig"
    theirs = ("verify", "key", "--public_key", keys.pub, "--signature", signature, model)
    succeeds(*theirs, "--allow_symlinks")
    assert environment.model_signing(*theirs).returncode != 0
    verify = ("verify-signature", model, "--key", keys.pub)
    assert aicert(*verify, "--allow-symlinks") == 0
    assert aicert(*verify) == 1
    signature.unlink()
    other = tmp_path / "theirs.sig"
    succeeds(
        "sign", "key", "--private_key", keys.key, "--signature", other, "--allow_symlinks", model
    )
    assert aicert(*verify, "--allow-symlinks", "--signature", other) == 0


def test_signatures_of_version_0_2_are_read(tmp_path: Path) -> None:
    """The signatures are made by hand as that version made them; that the reference reads them
    confirms the form.
    """
    model, keys = tmp_path / "model", pair(tmp_path, "k")
    model.mkdir()
    (model / "w").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    payload = json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "w", "digest": {"sha256": empty}}],
            "predicateType": OLD_PREDICATE,
            "predicate": {},
        }
    ).encode()
    kind = "application/vnd.in-toto+json"
    text = f"DSSEV1 {len(kind)} {kind} {len(payload)} {payload!r}".encode()
    sealed = keys.private.sign(text, ec.ECDSA(hashes.SHA256()))
    signature = tmp_path / "old.sig"
    signature.write_text(
        json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": {"publicKey": {}},
                "dsseEnvelope": {
                    "payload": base64.b64encode(payload).decode(),
                    "payloadType": kind,
                    "signatures": [{"sig": base64.b64encode(sealed).decode(), "keyid": ""}],
                },
            }
        )
    )
    succeeds("verify", "key", "--public_key", keys.pub, "--signature", signature, model)
    command = ("verify-signature", model, "--key", keys.pub, "--signature", signature)
    assert aicert(*command) == 0
    (model / "w").write_bytes(b"x")
    assert aicert(*command) == 1
