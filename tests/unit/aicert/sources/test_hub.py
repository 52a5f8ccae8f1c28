"""`hf:` against the hub's real client and a server that answers as the hub does."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.listing import dir_digest
from aicert.sources import remote
from aicert.sources.choice import Choice
from aicert.sources.store import Store
from aicert.sources.transfer import READ_S, Transfer
from tests.unit import hub_server
from tests.unit.hub_server import COMMIT, SIGNATURE, File, Hub
from tests.unit.servers import Reply

WEIGHTS = os.urandom(3_000_000)
MODEL = {
    "config.json": File(data=b'{"a": 1}\n'),
    "empty.txt": File(data=b""),
    "model-00001.safetensors": File(data=WEIGHTS, lfs=True),
    "model-00002.safetensors": File(data=b"second" * 1000, xet=True),
    "pytorch_model.bin": File(data=b"pickle", lfs=True),
    "sub/tokenizer.json": File(data=b"{}"),
}
SAFE = [name for name in MODEL if not name.endswith(".bin")]
ALL = Choice()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server.running() as running:
        # The effect of HF_ENDPOINT in the environment when the client is imported.
        monkeypatch.setattr(constants, "ENDPOINT", running.front.url)
        template = running.front.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "hf_not-for-the-cdn")
        running.token = "hf_not-for-the-cdn"
        running.add("org/model", dict(MODEL))
        yield running


@pytest.fixture
def transfer(tmp_path: Path) -> Iterator[Transfer]:
    with Transfer(Store(tmp_path / "store"), pause=lambda seconds: None) as running:
        yield running


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wanted(*names: str) -> dict[str, str]:
    return {name: sha256(MODEL[name].data) for name in names}


def test_locking_takes_digests_from_metadata_and_hashes_small_files(
    hub: Hub, transfer: Transfer
) -> None:
    resolved = remote.resolve("hf:org/model@main", ALL, transfer)
    assert resolved.uri == f"hf:org/model@{COMMIT}"
    assert {p: f.sha256 for p, f in resolved.files.items()} == wanted(*SAFE)
    assert resolved.size == sum(len(MODEL[name].data) for name in SAFE)
    assert resolved.digest == dir_digest(resolved.files)
    assert hub.cdn.requests == []
    asked = {request.path.partition("/org/")[0] for request in hub.front.requests}
    assert asked == {"/api/models", ""}, "nothing but the repository is asked for"


def test_fetching_brings_the_bytes_and_keeps_the_token_from_the_cdn(
    hub: Hub, transfer: Transfer
) -> None:
    remote.fetch(f"hf:org/model@{COMMIT}", wanted(*SAFE), transfer)
    for name in SAFE:
        assert transfer.store.file(sha256(MODEL[name].data)).read_bytes() == MODEL[name].data
    assert len(hub.cdn.requests) == 2
    assert any(r.headers.get("Authorization") for r in hub.front.requests)
    asked = len(hub.front.requests)
    remote.fetch(f"hf:org/model@{COMMIT}", wanted(*SAFE), transfer)
    assert len(hub.front.requests) == asked


def test_a_data_set(hub: Hub, transfer: Transfer) -> None:
    hub.add("datasets/org/data", {"train.jsonl": File(data=b"{}\n"), "x.gguf": File(data=b"g")})
    resolved = remote.resolve("hf:datasets/org/data@main", ALL, transfer)
    assert resolved.uri == f"hf:datasets/org/data@{COMMIT}"
    assert set(resolved.files) == {"train.jsonl", "x.gguf"}
    only = remote.resolve("hf:datasets/org/data@main", Choice(only=("*.jsonl",)), transfer)
    assert set(only.files) == {"train.jsonl"}


def test_a_model_of_200_files_and_140_gb_is_locked_by_metadata_alone(
    hub: Hub, transfer: Transfer
) -> None:
    size = 140_000_000_000 // 190
    files = {
        f"model-{i:05}-of-00190.safetensors": File(
            lfs=True, simulated=(size, sha256(str(i).encode()))
        )
        for i in range(190)
    }
    files |= {f"part/{i}.json": File(data=b"{}" * 2000) for i in range(10)}
    hub.add("org/large", files)
    sent = hub.sent
    resolved = remote.resolve("hf:org/large@main", ALL, transfer)
    assert hub.sent - sent <= 1_000_000
    assert len(resolved.files) == 200
    assert resolved.size > 139_000_000_000


def test_a_cut_is_resumed_where_it_was(hub: Hub, transfer: Transfer) -> None:
    name = "model-00001.safetensors"
    hub.faults[name] = [Reply(cut=1_000_000), Reply(cut=500_000)]
    remote.fetch(f"hf:org/model@{COMMIT}", wanted(name), transfer)
    ranges = [request.headers.get("Range") for request in hub.cdn.requests]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]
    assert transfer.store.file(sha256(WEIGHTS)).read_bytes() == WEIGHTS


def test_another_process_resumes_what_a_dead_one_left(hub: Hub, transfer: Transfer) -> None:
    name = "model-00001.safetensors"
    hub.faults[name] = [Reply(cut=1_000_000), *[Reply(status=503)] * 5]
    with pytest.raises(ToolError, match="1000000 bytes are kept") as caught:
        remote.fetch(f"hf:org/model@{COMMIT}", wanted(name), transfer)
    assert SIGNATURE not in caught.value.message
    assert not transfer.store.has(sha256(WEIGHTS))
    sent = hub.cdn.sent
    with Transfer(transfer.store) as other:
        remote.fetch(f"hf:org/model@{COMMIT}", wanted(name), other)
    assert transfer.store.file(sha256(WEIGHTS)).read_bytes() == WEIGHTS
    assert hub.cdn.sent - sent < 2_001_000


def test_wrong_bytes_are_refused_by_name_and_not_kept(hub: Hub, transfer: Transfer) -> None:
    name = "model-00001.safetensors"
    hub.faults[name] = [Reply(body=WEIGHTS[:-1] + b"x")]
    with pytest.raises(
        LockError, match=r"127\.0\.0\.1 serves different bytes for 'model-00001"
    ) as caught:
        remote.fetch(f"hf:org/model@{COMMIT}", wanted(name), transfer)
    assert sha256(WEIGHTS) in caught.value.message
    assert list((transfer.store.root / "partial").iterdir()) == []
    remote.fetch(f"hf:org/model@{COMMIT}", wanted(name), transfer)


def test_what_was_left_wrong_is_fetched_anew(hub: Hub, transfer: Transfer) -> None:
    partial = transfer.store.root / "partial"
    partial.mkdir(parents=True)
    (partial / sha256(WEIGHTS)).write_bytes(b"wrong")
    remote.fetch(f"hf:org/model@{COMMIT}", wanted("model-00001.safetensors"), transfer)
    assert transfer.store.file(sha256(WEIGHTS)).read_bytes() == WEIGHTS


def test_a_server_that_ignores_ranges_or_lies_about_them(hub: Hub, transfer: Transfer) -> None:
    name = "model-00001.safetensors"
    lie = Reply(status=206, body=b"zz", headers={"Content-Range": "bytes 5-6/7"})
    hub.faults[name] = [Reply(cut=100_000), lie, Reply(cut=100_000), Reply(body=WEIGHTS)]
    remote.fetch(f"hf:org/model@{COMMIT}", wanted(name), transfer)
    assert transfer.store.file(sha256(WEIGHTS)).read_bytes() == WEIGHTS


def test_an_error_does_not_wait_for_a_file_whose_server_stalls(
    hub: Hub, transfer: Transfer
) -> None:
    hold = threading.Event()
    names = ("model-00001.safetensors", "model-00002.safetensors")
    hub.faults[names[0]] = [Reply(cut=1000, hold=hold)]
    hub.faults[names[1]] = [Reply(status=404)]
    started = time.monotonic()
    try:
        with pytest.raises(LockError, match=r"refuses 'model-00002\.safetensors': status 404"):
            remote.fetch(f"hf:org/model@{COMMIT}", wanted(*names), transfer)
        assert time.monotonic() - started < READ_S / 2
    finally:
        hold.set()


def test_small_files_are_checked_against_the_metadata(hub: Hub, transfer: Transfer) -> None:
    hub.faults["config.json"] = [Reply(body=b'{"a": 2}\n')]
    with pytest.raises(LockError, match=r"different bytes for 'config\.json'"):
        remote.resolve("hf:org/model@main", ALL, transfer)


def test_a_busy_hub_is_asked_again_as_it_says(hub: Hub, tmp_path: Path) -> None:
    pauses: list[float] = []
    hub.api_faults = [Reply(status=429, headers={"Retry-After": "7"}), Reply(status=502)]
    hub.faults["config.json"] = [Reply(status=429, headers={"Retry-After": "3"})]
    with Transfer(Store(tmp_path), pause=pauses.append) as transfer:
        remote.resolve("hf:org/model@main", ALL, transfer)
    assert pauses == [7.0, 1.0, 3.0]


def test_a_hub_that_wants_hours_of_patience(hub: Hub, transfer: Transfer) -> None:
    hub.api_faults = [Reply(status=429, headers={"Retry-After": "7200"})]
    with pytest.raises(ToolError, match="status 429"):
        remote.resolve("hf:org/model@main", ALL, transfer)
    hub.faults["config.json"] = [Reply(status=429, headers={"Retry-After": "7200"})]
    with pytest.raises(ToolError, match="asks to wait 7200 seconds"):
        remote.resolve("hf:org/model@main", ALL, transfer)


def test_gated_private_missing_and_deleted(
    hub: Hub, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/gated", dict(MODEL)).gated = True
    hub.add("org/private", dict(MODEL)).private = True
    assert remote.resolve("hf:org/gated@main", ALL, transfer).files
    cases = {
        "hf:org/absent@main": "no such repository, or it is private",
        "hf:org/model@gone": "no branch, tag or commit 'gone'",
        f"hf:org/model@{'b' * 40}": "no branch, tag or commit 'bbb",
    }
    for source, words in cases.items():
        with pytest.raises(LockError, match=words):
            remote.resolve(source, ALL, transfer)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for source, words in {
        "hf:org/gated@main": "gated, and your account has no access",
        "hf:org/private@main": "no such repository for this account: status 401",
    }.items():
        with pytest.raises(LockError, match=words) as caught:
            remote.resolve(source, ALL, transfer)
        assert "HF_TOKEN" in (caught.value.hint or "")
        assert "hf_wrong" not in caught.value.message


def test_a_commit_that_was_deleted_after_locking(hub: Hub, transfer: Transfer) -> None:
    remote.resolve("hf:org/model@main", ALL, transfer)
    hub.repositories["org/model"].commits.clear()
    with pytest.raises(
        LockError, match=r"refuses 'model-00001\.safetensors': status 404"
    ) as caught:
        remote.fetch(f"hf:org/model@{COMMIT}", wanted("model-00001.safetensors"), transfer)
    assert "change it in aicert.toml" in (caught.value.hint or "")


def test_no_network(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ToolError, match=r"cannot reach 127\.0\.0\.1: ConnectError"):
        remote.resolve("hf:org/model@main", ALL, transfer)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["../up.txt"], "not a plain relative path"),
        (["a.txt", "A.txt"], "differ only in case"),
        (["x\u202ey.txt"], "control or invisible character"),
        (["weights.pt"], r"'weights\.pt' is a pickle by its name"),
        ([], "no file of the source is left"),
    ],
)
def test_repositories_that_cannot_be_an_input(
    hub: Hub, transfer: Transfer, names: list[str], words: str
) -> None:
    hub.add("org/odd", {name: File(data=b"x") for name in names})
    with pytest.raises(LockError, match=words):
        remote.resolve("hf:org/odd@main", ALL, transfer)


def test_answers_that_no_hub_gives(hub: Hub, transfer: Transfer) -> None:
    hub.api_faults = [Reply(body=b"<html>", headers={"Content-Type": "text/html"})]
    with pytest.raises(LockError, match="does not answer like a hub"):
        remote.resolve("hf:org/model@main", ALL, transfer)
    hub.add("org/big", {"data.csv": File(simulated=(1 << 40, "0" * 64))})
    with pytest.raises(LockError, match="no SHA-256 in the metadata"):
        remote.resolve("hf:org/big@main", ALL, transfer)
    hub.add("org/bad", {"w.safetensors": File(lfs=True, simulated=(5, "xyz"))})
    with pytest.raises(AicertError, match="not a size and a SHA-256"):
        remote.resolve("hf:org/bad@main", ALL, transfer)


def test_a_full_disk(hub: Hub, transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aicert.sources.store.Partial.write", full)
    with pytest.raises(ToolError, match="the disk is full") as caught:
        remote.fetch(f"hf:org/model@{COMMIT}", wanted("config.json"), transfer)
    assert "AICERT_CACHE" in (caught.value.hint or "")
