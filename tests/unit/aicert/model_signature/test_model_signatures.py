"""Model signatures: what is refused or printed, and what a partial or second signing reads."""

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from aicert.cache import digest_cache
from aicert.cli.main import main
from aicert.errors import EvidenceError
from aicert.files.tree import read_tree
from aicert.formats.dsse import pae
from aicert.formats.listing import dir_digest, listing
from aicert.formats.uncovered_names import ignored_paths
from aicert.model_signature import reader as bundle
from aicert.model_signature import writer
from aicert.signing import sign
from aicert.signing.keys import key_signer, load_signer
from aicert.signing.verify import NOTHING, SignatureResult
from tests.unit.signing_keys import Pair, Printed, pair


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"a")
    (root / "sub" / "b").write_bytes(b"bb")
    (root / "weights").write_bytes(b"w" * 400_000)
    return root


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def check(model: Path, keys: Pair, *more: object) -> int:
    return run("verify-signature", model, "--key", keys.pub, *more)


def test_signing_is_canonical_and_verifies(model: Path, keys: Pair, printed: Printed) -> None:
    assert run("sign", model, "--key", keys.key) == 0
    document = json.loads((model / "model.sig").read_bytes())
    payload = base64.b64decode(document["dsseEnvelope"]["payload"])
    statement = json.loads(payload)
    canonical = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert payload == canonical.encode()
    names = [resource["name"] for resource in statement["predicate"]["resources"]]
    assert names == ["a", "sub/b", "weights"]
    assert statement["predicate"]["serialization"] == {
        "allow_symlinks": False,
        "hash_type": "sha256",
        "ignore_paths": [
            ".cache/huggingface",
            ".eval_results",
            ".git",
            ".gitattributes",
            ".github",
            ".gitignore",
            "model.sig",
        ],
        "method": "files",
    }
    hint = document["verificationMaterial"]["publicKey"]["hint"]
    assert hint == hashlib.sha256(keys.pub.read_bytes()).hexdigest()
    printed()
    assert check(model, keys) == 0
    assert "PASSED    signed by the signer you named" in printed()[0]
    assert check(model, keys, "--format", "json") == 0
    result = json.loads(printed()[0])
    assert result["verdict"] == "passed"
    assert [entry["verdict"] for entry in result["checks"]] == ["ok"] * 4


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda m: (m / "a").write_bytes(b"b"), "changed   a"),
        (lambda m: (m / "a").unlink(), "missing   a"),
        (lambda m: (m / "new").write_bytes(b""), "unsigned  new"),
        (lambda m: (m / "a").rename(m / "c"), "unsigned  c"),
        (lambda m: (m / "sub/.git").write_bytes(b"x"), "unsigned  sub/.git"),
    ],
)
def test_other_files_fail(
    model: Path, keys: Pair, printed: Printed, change: Callable[[Path], object], shown: str
) -> None:
    run("sign", model, "--key", keys.key)
    change(model)
    printed()
    assert check(model, keys) == 1
    assert shown in printed()[0]


def test_what_is_left_out_is_printed_by_both(model: Path, keys: Pair, printed: Printed) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_bytes(b"x")
    (model / "notes").mkdir()
    assert run("sign", model, "--key", keys.key, "--ignore", "notes/") == 0
    out, _ = printed()
    assert "left out  .git\n" in out
    assert "left out  notes\n" in out
    assert check(model, keys) == 0
    assert "present, not signed: notes" in printed()[0]
    assert run("sign", model, "--key", keys.key, "--ignore", "../x") == 3


def link(model: Path) -> None:
    (model / "link").symlink_to("sub")


def empty(model: Path) -> None:
    for path in (model / "a", model / "sub/b", model / "weights"):
        path.unlink()
    (model / "sub").rmdir()


@pytest.mark.parametrize(
    "spoil",
    [
        link,
        lambda m: (m / "link").symlink_to("a"),
        lambda m: os.mkfifo(m / "pipe"),
        lambda m: (m / "folder").mkdir(),
        lambda m: (m / "A").write_bytes(b""),
        lambda m: (m / "a\nb").write_bytes(b""),
        lambda m: os.close(os.open(os.fsencode(m) + b"/\xff", os.O_CREAT)),
        empty,
    ],
)
def test_what_cannot_be_signed_is_an_error(
    model: Path, keys: Pair, printed: Printed, spoil: Callable[[Path], object]
) -> None:
    spoil(model)
    assert run("sign", model, "--key", keys.key) == 2
    assert not (model / "model.sig").exists()
    assert printed()[1].startswith("error: ")


def test_a_model_without_files_is_none_to_the_machine_either() -> None:
    with pytest.raises(EvidenceError, match="a model without files"):
        writer.statement("model", {})


def test_a_link_that_appears_later_fails(
    model: Path, keys: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """`aicert verify` fails in the same way: the folder differs from what was signed."""
    run("sign", model, "--key", keys.key)
    link(model)
    assert check(model, keys) == 1
    assert "is a symbolic link: only regular files can be certified" in capsys.readouterr().out


def forged(keys: Pair, model: Path, **changes: object) -> Path:
    """Sign a changed statement of ours with the trusted key."""
    files = {path: fact.sha256 for path, fact in read_tree(model).items()}
    statement = json.loads(writer.statement("model", files))
    predicate = statement["predicate"]
    predicate["resources"] = changes.get("resources", predicate["resources"])
    predicate["serialization"] |= changes.get("serialization", {})
    digests = [bytes.fromhex(resource["digest"]) for resource in predicate["resources"]]
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"".join(digests)).hexdigest()
    statement |= changes.get("statement", {})
    out = model.with_name("forged.sig")
    out.write_bytes(key_signer(keys.private).bundle(json.dumps(statement).encode()))
    return out


def resource(name: str, algorithm: str = "sha256", digest: str = "00" * 32) -> dict[str, str]:
    return {"name": name, "algorithm": algorithm, "digest": digest}


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": []},
        {"resources": [resource("../etc/passwd")]},
        {"resources": [resource("/etc/passwd")]},
        {"resources": [resource("a"), resource("a")]},
        {"resources": [resource("a"), resource("A")]},
        {"resources": [resource("a"), resource("a/b")]},
        {"resources": [resource("a\nb")]},
        {"resources": [resource("a", "md5", "00" * 16)]},
        {"resources": [resource("a", "sha256", "00" * 31)]},
        {"resources": [resource("a"), resource("b", "blake2b", "00" * 64)]},
        {
            "resources": [resource("a:0:1"), resource("a:2:3")],
            "serialization": {"method": "shards"},
        },
        {"resources": [resource("a:1:2")], "serialization": {"method": "shards"}},
        {
            "resources": [resource("a:0:2"), resource("a:1:3")],
            "serialization": {"method": "shards"},
        },
        {"resources": [resource("a:0:0")], "serialization": {"method": "shards"}},
        {"resources": [resource("a:0:-1")], "serialization": {"method": "shards"}},
        {"resources": [resource("a")], "serialization": {"method": "shards"}},
        {"serialization": {"method": "tensors"}},
        {"serialization": {"ignore_paths": ["../.."]}},
        {"statement": {"subject": []}},
        {"statement": {"predicateType": "https://slsa.dev/provenance/v1"}},
        {"statement": {"_type": "https://in-toto.io/Statement/v0.1"}},
        {"statement": {"subject": [{"name": "m", "digest": {"sha256": "00" * 32}}]}},
    ],
)
def test_a_signed_statement_that_is_not_sound_fails(
    model: Path, keys: Pair, printed: Printed, changes: dict[str, object]
) -> None:
    assert check(model, keys, "--signature", forged(keys, model, **changes)) == 1
    assert "FAILED  manifest.form" in printed()[0]


def test_nothing_is_signed_and_left_out_at_once(model: Path, keys: Pair, printed: Printed) -> None:
    signature = forged(keys, model, serialization={"ignore_paths": ["weights"]})
    assert check(model, keys, "--signature", signature) == 1
    assert "both signed and left out: 'weights'" in printed()[0]


@pytest.mark.parametrize(
    "path", [".git/config", ".cache/huggingface/x", "README.md/x", "model.sig"]
)
def test_what_a_machine_made_under_an_inert_name_is_signed_and_not_left_out(
    model: Path, keys: Pair, path: str, tmp_path: Path
) -> None:
    (model / path).parent.mkdir(parents=True, exist_ok=True)
    (model / path).write_bytes(b"made")
    files = {name: fact.sha256 for name, fact in read_tree(model).items()}
    signature = tmp_path / "sig"
    payload = writer.statement("model", files, ignored_paths())
    signature.write_bytes(load_signer(keys.key).bundle(payload))
    assert check(model, keys, "--signature", signature) == 0
    (model / path).write_bytes(b"else")
    assert check(model, keys, "--signature", signature) == 1


def test_the_order_of_other_signers_is_read(model: Path, keys: Pair) -> None:
    files = read_tree(model)
    backwards = [resource(p, digest=files[p].sha256) for p in sorted(files, reverse=True)]
    assert check(model, keys, "--signature", forged(keys, model, resources=backwards)) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff", b'{"mediaType": 1}', b"[" * 100_000,
        b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}',
        b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","mediaType":""}',
    ],
)  # fmt: skip
def test_no_signature_file_no_verdict(model: Path, keys: Pair, tmp_path: Path, data: bytes) -> None:
    bad = tmp_path / "bad.sig"
    bad.write_bytes(data)
    assert check(model, keys, "--signature", bad) == 2
    assert check(model, keys, "--signature", tmp_path / "none.sig") == 2
    assert check(tmp_path / "nowhere", keys) == 2


def test_another_key_fails(model: Path, keys: Pair, tmp_path: Path, printed: Printed) -> None:
    run("sign", model, "--key", keys.key)
    other = pair(tmp_path, "other")
    assert check(model, other) == 1
    assert "signed by a different key" in printed()[0]
    document = json.loads((model / "model.sig").read_bytes())
    document["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(
        other.pub.read_bytes()
    ).hexdigest()
    (model / "model.sig").write_text(json.dumps(document))
    assert check(model, other) == 1
    assert "FAILED  signature.valid" in printed()[0]


def test_a_wrong_command_line_is_3(
    model: Path, keys: Pair, tmp_path: Path, printed: Printed
) -> None:
    run("sign", model, "--key", keys.key)
    assert run("verify-signature", model) == 3
    assert check(model, keys, "--certificate-chain", keys.pub) == 3
    assert run("verify-signature", model, "--key", keys.key) == 3
    assert f"hint: openssl pkey -in {keys.key} -pubout -out key.pub" in printed()[1]
    assert run("verify-signature", model, "--key", tmp_path / "none") == 3
    assert run("verify-signature", model, "--key", model / "model.sig") == 3
    assert "is not a public key" in printed()[1]
    assert run("sign", model, "--key", keys.pub) == 3
    assert "is a public key, but signing needs the private one\nhint: --key key.pem" in printed()[1]
    assert run("sign", model, "--key", keys.key, "--certificate-chain", keys.pub) == 3
    verify = ("verify-signature", model, "--certificate-chain", keys.pub)
    assert run(*verify, "--at", "yesterday") == 3
    assert "not a time with a zone" in printed()[1]


def test_one_file_can_be_verified_alone(model: Path, keys: Pair, printed: Printed) -> None:
    run("sign", model, "--key", keys.key)
    (model / "weights").unlink()
    printed()
    assert check(model, keys, "--only", "a", "--only", "sub/b") == 0
    assert "2 of 3 files" in printed()[0]
    assert check(model, keys, "--only", "weights") == 1
    assert check(model, keys, "--only", "nothing") == 1
    (model / "a").write_bytes(b"b")
    assert check(model, keys, "--only", "a") == 1


def test_signing_again_reads_only_what_changed(
    model: Path, keys: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The files look as if they were written long ago, so that none is too young to remember.
    monkeypatch.setattr(digest_cache, "GUARD", -3600 * 10**9)
    signer, cache = load_signer(keys.key), tmp_path / "cache.sqlite"
    read: list[int] = []
    sign.sign(model, signer, cache=cache, on_bytes=read.append)
    assert sum(read) == 400_003
    (model / "a").write_bytes(b"xyz")
    read.clear()
    sign.sign(model, signer, cache=cache, on_bytes=read.append)
    assert sum(read) == 3
    assert check(model, keys) == 0


def test_digests_from_elsewhere_are_signed_unread(
    model: Path, keys: Pair, tmp_path: Path, printed: Printed
) -> None:
    known = tmp_path / "model.sha256"
    known.write_bytes(listing(read_tree(model)))
    hidden = model.rename(tmp_path / "elsewhere")
    sig = tmp_path / "model.sig"
    assert run("sign", model, "--key", keys.key, "--signature", sig, "--digests", known) == 0
    hidden.rename(model)
    assert check(model, keys, "--signature", sig) == 0


def test_a_password_comes_from_the_environment(
    model: Path, keys: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        keys.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert run("sign", model, "--key", locked) == 3
    assert run("sign", model, "--key", locked, "--password-env", "PASS") == 3
    monkeypatch.setenv("PASS", "secret")
    assert run("sign", model, "--key", locked, "--password-env", "PASS") == 0
    assert check(model, keys) == 0


def test_the_subject_digest_covers_no_names_and_ours_does() -> None:
    """Other weights under the loaded name leave the OMS subject digest as it was."""
    good, bad = "11" * 32, "22" * 32
    left = {"model.safetensors": good, "unused.bin": bad}
    right = {"attic.bin": good, "model.safetensors": bad}
    digests = [
        writer.subject_digest(files[path] for path in sorted(files)) for files in (left, right)
    ]
    assert digests[0] == digests[1]
    assert dir_digest(left) != dir_digest(right)


def test_a_renamed_model_is_refused_though_its_subject_digest_is_the_same(
    model: Path, keys: Pair, printed: Printed
) -> None:
    run("sign", model, "--key", keys.key)
    before = subject(model)
    (model / "a").rename(model / "aa")
    run("sign", model, "--key", keys.key, "--signature", model.parent / "second.sig",
        "--ignore", "model.sig")  # fmt: skip
    assert subject(model, model.parent / "second.sig") == before
    assert check(model, keys) == 1


def subject(model: Path, signature: Path | None = None) -> str:
    read = bundle.parse((signature or model / "model.sig").read_bytes())
    value = json.loads(read.payload)["subject"][0]["digest"]["sha256"]
    return str(value)


def test_a_result_is_neither_true_nor_false() -> None:
    with pytest.raises(TypeError):
        bool(
            SignatureResult(
                checks=(), subject="", covered=(0, 0), notes=(), ignoring=NOTHING, unsigned=()
            )
        )


def test_the_signature_is_over_the_payload_as_sent(keys: Pair) -> None:
    payload = writer.statement("m", {"a": "00" * 32})
    read = bundle.parse(key_signer(keys.private).bundle(payload))
    assert read.payload == payload
    assert pae(payload).endswith(payload)
