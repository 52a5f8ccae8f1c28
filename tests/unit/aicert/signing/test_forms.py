"""Signatures in other forms: parts of files, and links within the directory."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from aicert.cli.main import main
from aicert.signing.forms import Form
from aicert.signing.keys import load_signer
from aicert.signing.sign import sign
from tests.unit.signing_keys import Pair, Printed, pair


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "weights").write_bytes(b"0123456789")
    (root / "sub" / "b").write_bytes(b"b")
    return root


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: tuple(capsys.readouterr())  # type: ignore[return-value]


def run(command: str, model: Path, key: Path, *words: str) -> int:
    return main([command, str(model), "--key", str(key), *words])


def statement(model: Path) -> dict[str, Any]:
    bundle = json.loads((model / "model.sig").read_bytes())
    return dict(json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"])))


def test_files_are_signed_in_parts(model: Path, keys: Pair, printed: Printed) -> None:
    (model / "empty").write_bytes(b"")
    assert run("sign", model, keys.key, "--shard-size", "4") == 0
    assert "note      an empty file cannot be signed in parts: empty\n" in printed()[0]
    predicate = statement(model)["predicate"]
    names = [resource["name"] for resource in predicate["resources"]]
    assert names == ["sub/b:0:1", "weights:0:4", "weights:4:8", "weights:8:10"]
    assert {each["algorithm"] for each in predicate["resources"]} == {"sha256-sharded-4"}
    assert predicate["serialization"]["method"] == "shards"
    assert predicate["serialization"]["shard_size"] == 4
    assert predicate["serialization"]["hash_type"] == "sha256"
    assert run("verify-signature", model, keys.pub) == 0
    (model / "weights").write_bytes(b"012345678x")
    assert run("verify-signature", model, keys.pub) == 1
    assert "changed   weights" in printed()[0]


def test_one_file_is_signed_in_parts(model: Path, keys: Pair) -> None:
    file = model / "weights"
    assert run("sign", file, keys.key, "--shard-size", "4") == 0
    assert run("verify-signature", file, keys.pub) == 0
    file.write_bytes(b"012345678x")
    assert run("verify-signature", file, keys.pub) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard-size", "0"), "--shard-size is a number of bytes"),
        (("--shard-size", "4", "--hash", "blake3"), "--shard-size goes with SHA-256"),
        (("--shard-size", "4", "--cache", "c"), "--cache and --digests are for SHA-256 of whole"),
    ],
)
def test_forms_that_do_not_exist_are_errors(
    model: Path, keys: Pair, printed: Printed, words: tuple[str, ...], message: str
) -> None:
    assert run("sign", model, keys.key, *words) == 3
    assert message in printed()[1]
    assert not (model / "model.sig").exists()


def test_more_parts_than_a_verifier_reads_are_not_signed(
    model: Path, keys: Pair, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicert.signing.forms.MAX_FILES", 10)
    assert run("sign", model, keys.key, "--shard-size", "1") == 3
    assert "hint: --shard-size 16" in printed()[1]


def test_a_directory_of_empty_files_has_no_parts(
    tmp_path: Path, keys: Pair, printed: Printed
) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    (root / "a").write_bytes(b"")
    assert run("sign", root, keys.key, "--shard-size", "4") == 2
    assert "a model without files cannot be signed" in printed()[1]


@pytest.mark.parametrize("words", [(), ("--shard-size", "4")])
def test_a_link_within_the_directory_is_signed_as_its_file(
    model: Path, keys: Pair, printed: Printed, words: tuple[str, ...]
) -> None:
    (model / "link").symlink_to("sub/b")
    assert run("sign", model, keys.key, *words) == 2
    assert run("sign", model, keys.key, *words, "--allow-symlinks") == 0
    assert statement(model)["predicate"]["serialization"]["allow_symlinks"] is True
    printed()
    assert run("verify-signature", model, keys.pub) == 1
    out = printed()[0]
    assert "refused   'link'" in out
    assert "hint: --allow-symlinks" in out
    assert run("verify-signature", model, keys.pub, "--allow-symlinks") == 0
    out = printed()[0]
    assert "note    a link, read where it leads: link\n" in out
    assert "the signer followed symbolic links" not in out
    assert run("verify-signature", model, keys.pub, "--allow-symlinks", "--only", "link") == 0
    # After an upload it is an ordinary file.
    (model / "link").unlink()
    (model / "link").write_bytes(b"b")
    assert run("verify-signature", model, keys.pub) == 0
    (model / "link").unlink()
    (model / "link").symlink_to("weights")
    assert run("verify-signature", model, keys.pub, "--allow-symlinks") == 1
    assert "changed   link" in printed()[0]


@pytest.mark.parametrize("kind", ["outside", "a folder", "nothing", "itself", "a pipe"])
def test_other_links_are_refused_all_the_same(
    model: Path, tmp_path: Path, keys: Pair, kind: str
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    os.mkfifo(model / "pipe")
    if kind != "a pipe":
        (model / "pipe").unlink()
    targets = {
        "outside": "../secret", "a folder": "sub", "nothing": "x", "itself": "link",
        "a pipe": "pipe",
    }  # fmt: skip
    (model / "link").symlink_to(targets[kind])
    assert run("sign", model, keys.key, "--allow-symlinks") == 2
    assert not (model / "model.sig").exists()


def test_a_link_out_of_the_directory_is_no_signed_file(
    model: Path, tmp_path: Path, keys: Pair, printed: Printed
) -> None:
    (model / "link").symlink_to("sub/b")
    sign(model, load_signer(keys.key), form=Form(links=True))
    (tmp_path / "same").write_bytes(b"b")
    (model / "link").unlink()
    (model / "link").symlink_to(tmp_path / "same")
    assert run("verify-signature", model, keys.pub, "--allow-symlinks") == 1
    out = printed()[0]
    assert "refused   'link'" in out
    assert "hint:" not in out
