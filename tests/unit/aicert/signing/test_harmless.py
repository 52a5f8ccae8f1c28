"""Harmless things on a disk do not fail a verification: a hub cache, lost+found, honest names."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.errors import EvidenceError
from aicert.files.harmless import blob_of, is_lost_and_found
from aicert.formats.digest import Defect, FileFact
from aicert.formats.paths import OddNameError, UnclearNameError, check_path
from aicert.model_signature import writer
from aicert.signing import hashing
from aicert.signing import keys as signers
from aicert.verifier.model_directory import read_model
from tests.unit.signing_keys import Pair, pair

FILES = {"config.json": b"{}", "sub/weights.bin": b"weights"}
COMMIT = "a" * 40


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "keys")


def snapshot(folder: Path, cache: str = "models--org--tiny") -> Path:
    """Lay out a snapshot as huggingface_hub does, with links into `blobs/`."""
    root = folder / cache / "snapshots" / COMMIT
    blobs = folder / cache / "blobs"
    blobs.mkdir(parents=True)
    for path, data in FILES.items():
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(f"{'../' * (path.count('/') + 2)}blobs/{name}")
    return root


def signature(folder: Path, keys: Pair, files: dict[str, bytes]) -> Path:
    """Write a signature by the trusted key, made elsewhere by other rules."""
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    payload = writer.statement("tiny", dict.fromkeys(("a",), "0" * 64))
    statement = json.loads(payload)
    statement["predicate"]["resources"] = [
        {"name": name, "algorithm": "sha256", "digest": digest}
        for name, digest in sorted(digests.items())
    ]
    raw = b"".join(bytes.fromhex(digest) for _, digest in sorted(digests.items()))
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(raw).hexdigest()
    place = folder / "theirs.sig"
    place.write_bytes(signers.load_signer(str(keys.key)).bundle(json.dumps(statement).encode()))
    return place


def check(root: Path, keys: Pair, place: Path, *more: str) -> int:
    words = ["verify-signature", root, "--key", keys.pub, "--signature", place, *more]
    return main([str(word) for word in words])


def test_the_signature_of_a_snapshot_is_in_its_cache_too(tmp_path: Path, keys: Pair) -> None:
    root = snapshot(tmp_path)
    signed = signature(tmp_path, keys, FILES)
    blob = root.parents[1] / "blobs" / hashlib.sha256(signed.read_bytes()).hexdigest()
    signed.rename(blob)
    (root / "model.sig").symlink_to(f"../../blobs/{blob.name}")
    words = ["verify-signature", str(root), "--key", str(keys.pub)]
    assert main(words) == 0
    blob.rename(tmp_path / "elsewhere.sig")
    blob.symlink_to(tmp_path / "elsewhere.sig")
    assert main(words) == 2
    (root / "model.sig").unlink()
    (root / "model.sig").symlink_to(tmp_path / "elsewhere.sig")
    assert main(words) == 2


def test_a_snapshot_of_the_hubs_cache_is_verified_in_place(tmp_path: Path, keys: Pair) -> None:
    root = snapshot(tmp_path)
    wanted = {path: FileFact(len(d), hashlib.sha256(d).hexdigest()) for path, d in FILES.items()}
    assert read_model(root) == wanted
    place = signature(tmp_path, keys, FILES)
    assert check(root, keys, place) == 0
    assert check(root, keys, place, "--only", "sub/weights.bin") == 0
    blob = blob_of(root, "sub/weights.bin")
    assert blob is not None
    blob.write_bytes(b"WEIGHTS")
    assert check(root, keys, place) == 1
    assert check(root, keys, place, "--only", "sub/weights.bin") == 1
    blob.unlink()
    os.mkfifo(blob)
    assert isinstance(read_model(root)["sub/weights.bin"], Defect)
    # A pipe, and a name that could be mistaken for another.
    os.mkfifo(root / "pipe")
    assert isinstance(read_model(root)["pipe"], Defect)
    assert blob_of(root, "a\nb") is None
    (root / "sub" / "bad.safetensors").symlink_to(root / "config.json")
    assert isinstance(read_model(root)["sub/bad.safetensors"], Defect)


def elsewhere(root: Path) -> str:
    (root.parents[1] / "other").write_bytes(b"{}")
    return "../../other"


def of_another_cache(root: Path) -> str:
    name = hashlib.sha256(b"{}").hexdigest()
    snapshot(root.parents[2] / "theirs")
    return f"../../../theirs/models--org--tiny/blobs/{name}"


def absolute(root: Path) -> str:
    return str(root.parents[1] / "blobs" / hashlib.sha256(b"{}").hexdigest())


def dangling(root: Path) -> str:
    return f"../../blobs/{'0' * 64}"


@pytest.mark.parametrize("target", [elsewhere, of_another_cache, absolute, dangling])
def test_any_other_link_of_a_snapshot_fails(tmp_path: Path, keys: Pair, target: object) -> None:
    root = snapshot(tmp_path)
    place = signature(tmp_path, keys, FILES)
    assert callable(target)
    (root / "config.json").unlink()
    (root / "config.json").symlink_to(target(root))
    assert isinstance(read_model(root)["config.json"], Defect)
    assert check(root, keys, place) in ((1, 2) if target is dangling else (1,))


def test_links_count_only_where_the_hub_makes_them(tmp_path: Path) -> None:
    for cache in ("models", "models--a b", "model--org--tiny"):
        root = snapshot(tmp_path / cache.replace(" ", "_"), cache)
        assert blob_of(root, "config.json") is None
    root = snapshot(tmp_path / "moved")
    root.parents[1].joinpath("blobs").rename(tmp_path / "blobs")
    root.parents[1].joinpath("blobs").symlink_to(tmp_path / "blobs")
    assert blob_of(root, "config.json") is None
    assert blob_of(tmp_path, "config.json") is None
    assert blob_of(Path("/"), "config.json") is None
    whole = snapshot(tmp_path / "twins")
    (whole / "CONFIG.json").symlink_to(os.readlink(whole / "config.json"))
    assert isinstance(read_model(whole)["."], Defect)
    with pytest.raises(EvidenceError, match="differ only in case"):
        hashing.whole_files(whole, (), refused=lambda path, error: None)


@pytest.mark.parametrize("parts", [False, True])
def test_a_signature_of_another_hash_reads_a_snapshot_too(
    tmp_path: Path, keys: Pair, *, parts: bool
) -> None:
    root = snapshot(tmp_path)
    payload = json.loads(writer.statement("tiny", {"a": "0" * 64}))
    digests = {path: hashlib.blake2b(data).hexdigest() for path, data in sorted(FILES.items())}
    suffix = "-sharded-1000" if parts else ""
    payload["predicate"]["resources"] = [
        {
            "name": f"{name}:0:{len(FILES[name])}" if parts else name,
            "algorithm": f"blake2b{suffix}",
            "digest": digest,
        }
        for name, digest in digests.items()
    ]
    payload["predicate"]["serialization"] |= {"hash_type": "blake2b"}
    if parts:
        payload["predicate"]["serialization"] |= {"method": "shards", "shard_size": 1000}
    raw = b"".join(bytes.fromhex(digest) for digest in digests.values())
    payload["subject"][0]["digest"]["sha256"] = hashlib.sha256(raw).hexdigest()
    place = tmp_path / "theirs.sig"
    place.write_bytes(signers.load_signer(str(keys.key)).bundle(json.dumps(payload).encode()))
    assert check(root, keys, place) == 0
    (root / "more").symlink_to("config.json")
    assert check(root, keys, place) == 1


def test_an_empty_lost_and_found_is_the_file_systems(tmp_path: Path, keys: Pair) -> None:
    root = tmp_path / "model"
    (root / "lost+found").mkdir(parents=True)
    (root / "config.json").write_bytes(b"{}")
    assert read_model(root).keys() == {"config.json"}
    assert main(["sign", str(root), "--key", str(keys.key)]) == 0
    assert main(["verify-signature", str(root), "--key", str(keys.pub)]) == 0
    # In another folder, or with content, lost+found is an ordinary folder.
    (root / "sub" / "lost+found").mkdir(parents=True)
    assert isinstance(read_model(root)["sub/lost+found/"], Defect)
    (root / "sub" / "lost+found").rmdir()
    (root / "sub").rmdir()
    (root / "lost+found" / "#12").write_bytes(b"x")
    assert "lost+found/#12" in read_model(root)
    assert main(["verify-signature", str(root), "--key", str(keys.pub)]) == 1
    assert not is_lost_and_found(tmp_path, "lost+found/")


def test_what_only_root_may_look_into_is_no_loaders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost+found").mkdir()

    def refuse(path: object) -> object:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    assert is_lost_and_found(tmp_path, "lost+found/")


# A file of macOS; a joiner in Persian; an emoji of two characters; one that Python may not know; an
# emoji style.
HONEST = (
    "cafe\u0301.txt",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.txt",
    "\U0001f469\u200d\U0001f52c.txt",
    "\U0001fadf\U0001faeb.txt",
    "\u2764\ufe0f.txt",
)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_name_in_a_valid_signature_is_no_verdict(
    tmp_path: Path, keys: Pair, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / name).write_bytes(b"text")
    place = signature(tmp_path, keys, {name: b"text"})
    if is_plain(name):
        assert check(root, keys, place) == 0
        return
    assert check(root, keys, place) == 2
    assert "FAILED" not in capsys.readouterr().out
    # On signing, the message names the rule and what to do.
    assert main(["sign", str(root), "--key", str(keys.key)]) == 2
    printed = capsys.readouterr().err
    assert "hint: rename it" in printed
    assert ("convmv" in printed) == (name == HONEST[0])


def is_plain(name: str) -> bool:
    try:
        check_path(name)
    except UnclearNameError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a\\b", "without the character U+005C"),
        ("a\nb", "without the character U+000A"),
        ("a\u202eb", "without the character U+202E"),
        ("a\u3164b", "without the character U+3164"),
    ],
)
def test_a_name_that_deceives_is_evidence(tmp_path: Path, keys: Pair, name: str, hint: str) -> None:
    with pytest.raises(OddNameError) as caught:
        check_path(name)
    assert not isinstance(caught.value, UnclearNameError)
    assert hint in (caught.value.advice or "")
    # A person who only verifies cannot rename a file.
    assert caught.value.hint is None
    root = tmp_path / "model"
    root.mkdir()
    (root / "a").write_bytes(b"text")
    assert check(root, keys, signature(tmp_path, keys, {name: b"text"})) == 1


def test_results_of_evaluations_are_not_signed(
    tmp_path: Path, keys: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "model"
    (root / ".eval_results").mkdir(parents=True)
    (root / "config.json").write_bytes(b"{}")
    (root / ".eval_results" / "mmlu.yaml").write_text("value: 1\n")
    assert main(["sign", str(root), "--key", str(keys.key)]) == 0
    assert "left out  .eval_results\n" in capsys.readouterr().out
    # The hub adds other people's results.
    (root / ".eval_results" / "mmlu.yaml").write_text("value: 2\n")
    (root / ".eval_results" / "gsm8k.yaml").write_text("value: 1\n")
    assert main(["verify-signature", str(root), "--key", str(keys.pub)]) == 0


def test_results_of_evaluations_may_be_beside_a_model(tmp_path: Path, keys: Pair) -> None:
    root = tmp_path / "model"
    (root / ".eval_results").mkdir(parents=True)
    (root / "config.json").write_bytes(b"{}")
    (root / ".eval_results" / "mmlu.yaml").write_text("value: 1\n")
    place = signature(tmp_path, keys, {"config.json": b"{}"})
    assert check(root, keys, place) == 0
    assert read_model(root)[".eval_results/"] == Defect("not read")
