"""What is signed when a training saves; tests/e2e shows that a real Trainer gets here."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from aicert.cli.main import main
from aicert.errors import ConfigError
from aicert.guard import hooks
from aicert.guard.memory import Guard
from aicert.guard.policy import Signing, load_policy
from aicert.guard.saving import load_key, sign_folder
from aicert.model_signature import reader
from aicert.model_signature.signed_by import key_text
from tests.unit.signing_keys import Pair, pair

BEGIN, END = b"<!-- aicert:begin -->", b"<!-- aicert:end -->"


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def guard(tmp_path: Path, keys: Pair) -> Guard:
    place = tmp_path / "guard.toml"
    place.write_text('[[signer]]\nkey = "k.pub"\n[sign]\nkey = "k.pem"\n')
    return Guard(load_policy(place))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    for name in ("model.bin", "_private", "runs/events", "checkpoint-3/model.bin", "sub/x.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def signed(folder: Path) -> set[str]:
    payload = reader.parse((folder / "model.sig").read_bytes()).payload
    return set(reader.read_manifest(payload).files)


def verified(folder: Path, keys: Pair) -> int:
    return main(["verify-signature", str(folder), "--key", str(keys.pub)])


def test_a_model_that_is_saved_is_signed_without_what_goes_on(
    guard: Guard, output: Path, keys: Pair
) -> None:
    calls: list[Any] = []
    save = hooks._model_saved(guard, lambda *words: calls.append(words[1:]))
    trainer = SimpleNamespace(args=SimpleNamespace(should_save=True, output_dir=str(output)))
    save(trainer, _internal_call=True)
    assert not (output / "model.sig").exists()
    save(trainer)
    assert signed(output) == {"model.bin", "_private", "sub/x.txt"}
    (output / "checkpoint-3/model.bin").write_text("of a later step")
    assert verified(output, keys) == 0
    save(trainer, str(output / "sub"))
    assert signed(output / "sub") == {"x.txt"}
    assert calls == [(None, True), (None, False), (str(output / "sub"), False)]


def test_a_checkpoint_is_signed_by_the_process_that_writes_it(
    guard: Guard, output: Path, keys: Pair
) -> None:
    save = hooks._checkpoint_saved(guard, lambda *_: "control")
    state = SimpleNamespace(global_step=3)
    arguments = SimpleNamespace(should_save=False, output_dir=str(output))
    assert save(None, arguments, state, None) == "control"
    assert not (output / "checkpoint-3/model.sig").exists()
    arguments.should_save = True
    assert save(None, arguments, state, None) == "control"
    assert verified(output / "checkpoint-3", keys) == 0


def test_what_axolotl_trained_is_signed_by_its_first_process(
    guard: Guard, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = hooks._trained(guard, lambda *_: "trained")
    monkeypatch.setenv("RANK", "1")
    assert train(SimpleNamespace(output_dir=str(output)), "rows") == "trained"
    assert not (output / "model.sig").exists()
    monkeypatch.delenv("RANK")
    assert train(SimpleNamespace(output_dir=str(output)), "rows") == "trained"
    assert signed(output) == {"model.bin", "_private", "sub/x.txt"}


@pytest.mark.parametrize(
    ("patterns", "covered", "handed_on"),
    [
        ({}, {"model.bin", "_private", "runs/events", "checkpoint-3/model.bin", "sub/x.txt"}, None),
        ({"ignore_patterns": ["_*", "checkpoint-*"]}, {"model.bin", "runs/events", "sub/x.txt"},
         None),
        ({"ignore_patterns": "*/"}, {"model.bin", "_private"}, None),
        ({"allow_patterns": "*.bin"}, {"model.bin", "checkpoint-3/model.bin"},
         ["*.bin", "model.sig"]),
        ({"allow_patterns": ["sub/*"]}, {"sub/x.txt"}, ["sub/*", "model.sig"]),
    ],
)  # fmt: skip
def test_the_signature_is_of_what_is_uploaded(
    guard: Guard, output: Path, patterns: dict[str, Any], covered: set[str], handed_on: Any
) -> None:
    asked: dict[str, Any] = {}
    upload = hooks._upload(guard, lambda *_, **named: asked.update(named))
    # An earlier signature is replaced, and does not count as a file of the folder.
    (output / "model.sig").write_text("{}")
    upload(folder_path=output, **patterns)
    assert signed(output) == covered
    assert asked["folder_path"] == output
    assert asked.get("allow_patterns") == handed_on


def uploaded(guard: Guard, folder: Path) -> None:
    hooks._upload(guard, lambda **_: None)(folder_path=folder)


@pytest.mark.parametrize(
    ("front", "text"),
    [
        (b"---\nlicense: mit\n---\n", b"# Mine\n"),
        (b"\xef\xbb\xbf---\r\n{}\r\n---\r\n", b"# Mine\r\n\r\n1. ```sh\r\n   x\r\n"),
        (b"", b"```\nopen"),
    ],
)
def test_a_card_that_goes_to_the_hub_says_who_signed(
    guard: Guard, output: Path, keys: Pair, front: bytes, text: bytes
) -> None:
    place = output / "README.md"
    place.write_bytes(front + text)
    uploaded(guard, output)
    after = place.read_bytes()
    block = after[after.index(BEGIN) : after.index(END) + len(END)]
    assert after.startswith(front)
    assert text in after
    assert key_text(keys.private.public_key()).encode() in block
    assert (b"\r\n" in block) is (b"\r\n" in text)
    assert b"--key publisher.pub" in block
    # The signature covers the card with its block, which is renewed and not repeated.
    assert verified(output, keys) == 0
    uploaded(guard, output)
    assert place.read_bytes() == after


def test_a_card_is_only_written_where_it_takes_a_block(
    guard: Guard, output: Path, keys: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    uploaded(guard, output)
    assert not (output / "README.md").exists()
    place = output / "README.md"
    for data, words in (
        (b"\xff", "it is not UTF-8"),
        (b"# Mine\n\n" + BEGIN + b"\n", "line 3 of the card is a mark that does not pair"),
    ):
        place.write_bytes(data)
        uploaded(guard, output)
        assert place.read_bytes() == data
        assert f"was given no block: {words}" in capsys.readouterr().err
        assert verified(output, keys) == 0
    # For a certified model, `aicert card` writes the block.
    (output / "certificate.json").write_text("{}")
    place.write_text("# Mine\n")
    uploaded(guard, output)
    assert place.read_text() == "# Mine\n"


def test_without_the_cards_extra_the_upload_goes_on(
    guard: Guard, output: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (output / "README.md").write_text("# Mine\n")
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    monkeypatch.delitem(sys.modules, "aicert.exports.card_places", raising=False)
    uploaded(guard, output)
    assert "was given no block: the package markdown_it is not installed" in capsys.readouterr().err
    assert "README.md" in signed(output)


def test_a_part_of_a_repository_is_not_signed(guard: Guard, output: Path) -> None:
    hooks._upload(guard, lambda **_: None)(folder_path=output, path_in_repo="checkpoints")
    assert not (output / "model.sig").exists()


def test_without_a_key_nothing_is_signed(tmp_path: Path, keys: Pair, output: Path) -> None:
    place = tmp_path / "guard.toml"
    place.write_text('[[signer]]\nkey = "k.pub"\n')
    guard = Guard(load_policy(place))
    hooks._upload(guard, lambda **_: None)(folder_path=output)
    arguments = SimpleNamespace(should_save=True, output_dir=str(output))
    hooks._model_saved(guard, lambda *_: None)(SimpleNamespace(args=arguments))
    state = SimpleNamespace(global_step=3)
    hooks._checkpoint_saved(guard, lambda *_: None)(None, arguments, state, None)
    hooks._trained(guard, lambda *_: None)(arguments)
    assert list(output.rglob("model.sig")) == []


def test_the_key_is_read_at_the_start(
    tmp_path: Path, keys: Pair, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "guard.toml"
    for sign, message in (
        ('key = "absent.pem"', "there is no key"),
        ('key = ""', "there is no key"),
        ('key = "k.pem"\nother = 1', "unknown key 'other'"),
        ('key = "k.pem"\npassword-env = "SECRET_OF_K"', "there is no environment variable"),
    ):
        place.write_text(f'[[signer]]\nkey = "k.pub"\n[sign]\n{sign}\n')
        with pytest.raises(ConfigError, match=message):
            Guard(load_policy(place))
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        keys.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    monkeypatch.setenv("SECRET_OF_K", "secret")
    sign_folder(output, load_key(Signing(key=str(locked), password_env="SECRET_OF_K")))
    assert verified(output, keys) == 0
