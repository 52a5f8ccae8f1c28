import json
import struct
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.lease import bundle, custody, keys
from aicert.lease.bundle import ContentKey
from aicert.lease.checks import RefusedError
from enclave_runner.serving import load
from tests.adversarial.forger import Scene
from tests.unit.aicert.leasing.test_packing import ALLOWED, laid_out, pack
from tests.vectors.leases import STRANGER

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0\0\0\0"
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": WEIGHTS}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return packed_with(tmp_path, {})


def packed_with(folder: Path, more: dict[str, bytes]) -> Path:
    scene = Scene().edit("outputs", lambda _: {"model": {**FILES, **more}})
    pack(laid_out(folder, scene=scene), folder, ALLOWED)
    (folder / "memory").mkdir()
    (folder / "copies").mkdir()
    return folder


def content_key(folder: Path) -> ContentKey:
    kept = custody.parse((folder / "bot.keys").read_bytes())
    header = (folder / "bot/header.json").read_bytes()
    return ContentKey(kept.tpm_half, kept.broker_half, header)


def decrypted(folder: Path) -> load.Offered:
    offered = load.read_bundle(folder / "bot")
    load.decrypt(offered, content_key(folder), folder / "memory")
    return offered


def test_what_was_packed_is_in_memory(packed: Path) -> None:
    offered = decrypted(packed)
    decrypted_files = {path.name: path.read_bytes() for path in (packed / "memory").iterdir()}
    assert decrypted_files == FILES
    shown = load.inert(
        offered, packed / "memory", packed / "copies", model_types=frozenset(("llama",))
    )
    assert set(shown) == set(FILES)


@pytest.mark.parametrize(
    ("settings", "context"),
    [
        ({"max_position_embeddings": 512}, 512), ({}, None), ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": True}, None), ({"max_position_embeddings": "512"}, None),
    ],
)  # fmt: skip
def test_the_context_is_what_the_models_settings_say(
    settings: dict[str, Any], context: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings))
    assert load.context_of({"config.json": path}) == context


def refused(check: str, folder: Path) -> None:
    with pytest.raises(RefusedError, match=rf"^{check}: "):
        decrypted(folder)
    assert not [path for path in (folder / "memory").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: bytes((data[0] ^ 1,)) + data[1:],
    ],
)
def test_bundle_chunks_of_a_host_that_lies(packed: Path, change: Any) -> None:
    """No part of the bundle stays in memory, not even the files before the bad one."""
    path = packed / "bot/data/1"
    path.write_bytes(change(path.read_bytes()))
    refused(r"bundle\.chunks", packed)


def test_bundle_chunks_of_another_file(packed: Path) -> None:
    one, other = packed / "bot/data/0", packed / "bot/data/1"
    one.write_bytes(other.read_bytes())
    refused(r"bundle\.chunks", packed)


def test_bundle_header_that_was_edited(packed: Path) -> None:
    path = packed / "bot/header.json"
    path.write_bytes(path.read_bytes().replace(b'"chunks":1', b'"chunks": 1'))
    refused(r"bundle\.header", packed)


def test_terms_digest_of_other_terms_or_another_custodian(packed: Path) -> None:
    path = packed / "bot/terms.toml"
    honest = path.read_bytes()
    path.write_bytes(honest.replace(b"tick-tokens = 1000", b"tick-tokens = 9999"))
    refused(r"terms\.digest", packed)
    path.write_bytes(honest)
    (packed / "bot/custodian.der").write_bytes(keys.spki_of(STRANGER.public_key()))
    refused(r"terms\.digest", packed)


def test_bundle_files_of_another_certificate(packed: Path) -> None:
    (packed / "bot/certificate.json").write_bytes(Scene("cloud").get("file"))
    refused(r"bundle\.files", packed)


def test_a_key_of_another_lease_opens_nothing(packed: Path) -> None:
    offered = load.read_bundle(packed / "bot")
    with pytest.raises(RefusedError, match=r"^bundle\.chunks"):
        load.decrypt(offered, ContentKey(bytes(32), bytes(32), b""), packed / "memory")


def test_links_and_missing_files_are_errors(packed: Path) -> None:
    (packed / "bot/data/0").rename(packed / "elsewhere")
    (packed / "bot/data/0").symlink_to(packed / "elsewhere")
    with pytest.raises(EvidenceError):
        decrypted(packed)
    (packed / "bot/data/0").unlink()
    with pytest.raises(EvidenceError):
        decrypted(packed)


def test_what_is_there_already_is_not_mixed_in(packed: Path) -> None:
    (packed / "memory/pytorch_model.bin").write_bytes(b"mine")
    with pytest.raises(ToolError, match="is not empty"):
        decrypted(packed)


@pytest.mark.parametrize(
    "more",
    [
        {"model.safetensors": b"\x80\x04pickle"},
        {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"},
    ],
)
def test_bundle_inert_or_nothing_is_served(tmp_path: Path, more: dict[str, bytes]) -> None:
    """A custodian sends code, a pickle or a pointer to attack the borrower."""
    folder = packed_with(tmp_path, more)
    offered = decrypted(folder)
    with pytest.raises(RefusedError, match=r"^bundle\.inert: "):
        load.inert(offered, folder / "memory", folder / "copies", model_types=frozenset(("llama",)))


def test_what_would_load_code_is_not_in_the_copy_that_the_engine_sees(tmp_path: Path) -> None:
    config = b'{"model_type": "llama", "auto_map": {"AutoModel": "x.Model"}}'
    folder = packed_with(tmp_path, {"config.json": config})
    shown = load.inert(
        decrypted(folder), folder / "memory", folder / "copies", model_types=frozenset(("llama",))
    )
    assert b"auto_map" not in shown["config.json"].read_bytes()


def test_code_and_pickles_beside_the_weights_are_not_shown(tmp_path: Path) -> None:
    folder = packed_with(tmp_path, {"modeling.py": b"import os", "optimizer.pt": b"\x80\x04"})
    offered = decrypted(folder)
    shown = load.inert(
        offered, folder / "memory", folder / "copies", model_types=frozenset(("llama",))
    )
    assert set(shown) == set(FILES)


def test_weights_are_in_memory_only(tmp_path: Path) -> None:
    load.require_memory(Path("/dev/shm"))  # noqa: S108 - a memory file system is what it is
    with pytest.raises(AicertError, match=r"is on a \w+ file system, not in memory"):
        load.require_memory(Path("/proc/self"))
    assert bundle.HEADER == "header.json"
