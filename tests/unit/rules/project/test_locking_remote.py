"""Locking, checking and fetching inputs from elsewhere, with the hub's real client."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from aicert.cli.sources import to_json, to_text
from aicert.errors import ConfigError, LockError, ToolError
from aicert.formats import lockfile as form
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.sources import compare
from aicert.sources.store import Store
from aicert.sources.transfer import Transfer
from rules.commands import lock as lock_command
from rules.project import config, fetch, lock, locked, relock, sources
from tests.unit import hub_server
from tests.unit.hub_server import COMMIT, File, Hub

NEXT = "b" * 40
TOML = """
[runs.tiny]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.tiny.inputs]
model = "hf:org/model@main"
data = {from = "hf:datasets/org/data@main", only = ["*.jsonl"]}
near = {from = "path:near", except = ["*.md"]}
[machines.here]
driver = "local"
"""
WEIGHTS = b"\x08\0\0\0\0\0\0\0{}      " + b"w" * 500_000
CONFIG = "datasets: [{path: input:near}]\nlearning_rate: 0.1\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server.running() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.front.url)
        template = running.front.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        running.add("org/model", files(WEIGHTS))
        data = {"train.jsonl": File(data=b'{"a": 1}\n', xet=True), "README.md": File(data=b"#")}
        running.add("datasets/org/data", data)
        yield running


def files(weights: bytes) -> dict[str, File]:
    return {
        "config.json": File(data=b"{}\n"),
        "model.safetensors": File(data=weights, lfs=True),
        "pytorch_model.bin": File(data=b"pickle", lfs=True),
    }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AICERT_CACHE", raising=False)
    (tmp_path / "aicert.toml").write_text(TOML)
    (tmp_path / "tiny.yml").write_text("base_model: input:model\n" + CONFIG)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "a.txt").write_text("a")
    (tmp_path / "near" / "b.md").write_text("b")
    (tmp_path / ".aicert").mkdir()
    return tmp_path


def the_run(root: Path) -> config.Run:
    return config.load(root).run("tiny")


def lock_tiny(root: Path) -> Lockfile:
    relock.write_lock(root, the_run(root))
    return form.parse(locked.read(root, "tiny"))


def check(root: Path) -> int:
    return lock_command._check(root, the_run(root))


def test_lock_names_commits_and_choices_and_needs_no_weights(root: Path, hub: Hub) -> None:
    lockfile = lock_tiny(root)
    assert lockfile.input("model").uri == f"hf:org/model@{COMMIT}"
    assert lockfile.input("data").only == ("*.jsonl",)
    assert lockfile.input("near").except_ == ("*.md",)
    assert b'only = ["*.jsonl"]\n' in locked.read(root, "tiny")
    listing = (root / "lockfiles/tiny/model.sha256").read_text()
    assert [line.split("  ")[1] for line in listing.splitlines()] == [
        "config.json",
        "model.safetensors",
    ]
    assert hub.cdn.requests == []
    asked = len(hub.front.requests)
    current = lock.current(root, the_run(root))
    assert len(hub.front.requests) == asked, "what is current is decided offline"
    assert current.data == locked.read(root, "tiny")


def test_a_config_that_no_run_could_be_made_with_is_not_locked(root: Path, hub: Hub) -> None:
    lock_tiny(root)
    before = locked.read(root, "tiny")
    (root / "tiny.yml").write_text("base_model: input:model/absent.json\n")
    with pytest.raises(ConfigError, match=r"run tiny: tiny\.yml: config: base_model"):
        relock.write_lock(root, the_run(root))
    assert locked.read(root, "tiny") == before


def test_fetch_brings_what_is_missing_and_nothing_twice(root: Path, hub: Hub) -> None:
    lock_tiny(root)
    current = lock.current(root, the_run(root))
    assert fetch.fetch_inputs(root, current) == ["data", "model"]
    model = current.paths["model"]
    assert (model / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(p.name for p in current.paths["near"].iterdir()) == ["a.txt"]
    stored = sources.store(root).file(hashlib.sha256(WEIGHTS).hexdigest())
    assert os.path.samefile(stored, model / "model.safetensors")
    asked = len(hub.front.requests)
    assert fetch.fetch_inputs(root, current) == []
    assert len(hub.front.requests) == asked


def test_damaged_bytes_are_noticed_and_fetched_again(root: Path, hub: Hub) -> None:
    lock_tiny(root)
    current = lock.current(root, the_run(root))
    fetch.fetch_inputs(root, current)
    weights = current.paths["model"] / "model.safetensors"
    before = weights.stat()
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.write(b"tampered")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fetch.fetch_inputs(root, current) == ["model"]
    assert weights.read_bytes() == WEIGHTS


def test_a_moved_branch_moves_no_pin(
    root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    old = lock_tiny(root)
    assert check(root) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"{'':<10} input data: hf:datasets/org/data@{COMMIT}: SHA-256 of 1 file",
        f"{'':<10} input model: hf:org/model@{COMMIT}: SHA-256 of 2 files",
    ]
    hub.add("org/model", files(b"\x08" + WEIGHTS), NEXT)
    assert check(root) == 1
    assert f"found   hf:org/model@{NEXT}" in capsys.readouterr().err
    assert lock_tiny(root) == old, "lock keeps a pin that aicert.toml still asks for"
    fetch.fetch_inputs(root, lock.current(root, the_run(root)))
    fresh = lock.resolve(root, the_run(root))
    before, after = locked.read(root, "tiny").splitlines(), fresh.data.splitlines()
    changed = [line for line in after if line not in before]
    assert [line.split(b" ")[0] for line in changed] == [b"uri", b"size", b"digest"]


def test_check_sees_a_source_that_has_other_bytes(
    root: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_tiny(root)
    hub.repositories["org/model"].commits[COMMIT] = files(WEIGHTS[:-1] + b"x")
    assert check(root) == 1
    assert f"hf:org/model@{COMMIT} has different bytes" in capsys.readouterr().err
    del hub.repositories["org/model"]
    assert check(root) == 1
    hub.front.close()
    hub.cdn.close()
    assert check(root) == 2
    assert "cannot reach 127.0.0.1" in capsys.readouterr().err
    # A locked input stays current without a network.
    assert lock.current(root, the_run(root))


def test_a_changed_source_is_stale_without_a_network(root: Path, hub: Hub) -> None:
    lock_tiny(root)
    for old, new in {
        "org/model@main": "org/model@v2",
        '["*.jsonl"]': '["*.json"]',
        "path:near": "path:far",
    }.items():
        (root / "aicert.toml").write_text(TOML.replace(old, new))
        asked = len(hub.front.requests)
        with pytest.raises(LockError, match="is stale: input"):
            lock.current(root, the_run(root))
        assert len(hub.front.requests) == asked


def test_only_a_changed_input_is_asked_again(root: Path, hub: Hub) -> None:
    before = lock_tiny(root)
    hub.add("org/model", files(b"other"), NEXT)
    (root / "aicert.toml").write_text(TOML.replace('["*.jsonl"]', '["*"]'))
    after = lock_tiny(root)
    assert after.input("model") == before.input("model")
    assert after.input("data") != before.input("data")


def test_a_damaged_listing(root: Path, hub: Hub) -> None:
    before = lock_tiny(root)
    (root / "lockfiles/tiny/model.sha256").write_text("x")
    with pytest.raises(LockError, match=r"model\.sha256 is missing or does not match"):
        lock.current(root, the_run(root))
    assert lock_tiny(root) == before


def test_pickles_need_words_in_the_lockfile(root: Path, hub: Hub) -> None:
    only = 'model = {from = "hf:org/model@main", only = ["*.bin"]}'
    (root / "aicert.toml").write_text(TOML.replace('model = "hf:org/model@main"', only))
    with pytest.raises(LockError, match=r"input model: .*'pytorch_model\.bin' is a pickle"):
        lock_tiny(root)
    allowed = only.replace("}", ", allow-pickle = true}")
    (root / "aicert.toml").write_text(TOML.replace('model = "hf:org/model@main"', allowed))
    assert lock_tiny(root).input("model").allow_pickle
    assert b"allow-pickle = true\n" in locked.read(root, "tiny")


def test_a_pickle_beside_us_is_refused_too(root: Path, hub: Hub) -> None:
    (root / "near" / "w.pkl").write_text("p")
    with pytest.raises(LockError, match=r"input near: 'w\.pkl' is a pickle"):
        lock_tiny(root)


def test_no_token_anywhere(root: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_S3CRET")
    lock_tiny(root)
    fetch.fetch_inputs(root, lock.current(root, the_run(root)))
    for path in root.rglob("*"):
        if path.is_file():
            assert b"hf_S3CRET" not in path.read_bytes(), path


def test_sources_of_a_lockfile_are_asked_at_the_pin(root: Path, hub: Hub) -> None:
    lockfile = lock_tiny(root)
    hub.add("org/model", files(b"moved on"), NEXT)
    answers = compare.compare_all(lockfile)
    verdicts = {one.name: one.verdict for one in answers}
    assert verdicts == {
        "config": "not-applicable",
        "data": "ok",
        "model": "ok",
        "near": "not-applicable",
    }
    assert compare.exit_code(answers) == 0
    assert f"ok      model            hf:org/model@{COMMIT}: SHA-256 of 2 files" in to_text(answers)
    assert json.loads(to_json(answers))["inputs"][0]["name"] == "config"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uri": f"hf:evil/model@{COMMIT}"}, "which does not belong to hf:org/model@main"),
        ({"uri": "path:model"}, "uri is path:model, but from is"),
        ({"size": 1}, "has different bytes"),
        ({"source": "hf:\x1b[31m", "uri": "hf:\x1b[31m"}, "not printable ASCII"),
        ({"uri": f"hf:org/model@{'c' * 40}"}, "no branch, tag or commit"),
    ],
)
def test_claims_that_a_source_denies(
    root: Path, hub: Hub, change: dict[str, object], words: str
) -> None:
    item = lock_tiny(root).input("model")
    facts = {name: getattr(item, name) for name in LockedInput.__slots__} | change
    store = Store(root / "other")
    with Transfer(store, pause=lambda seconds: None) as transfer:
        one = compare.Asker(transfer=transfer, pinned=True).compare(LockedInput(**facts))
    assert one.verdict == "failed"
    assert words in one.detail
    assert "\x1b" not in to_text([one])


RUNS = """
[runs.base]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.base.inputs]
near = "path:near"
[runs.next]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.next.inputs]
base = "run:base/model"
near = "path:near"
[machines.here]
driver = "local"
"""


def test_a_retrained_upstream_makes_the_lockfile_stale(root: Path) -> None:
    (root / "tiny.yml").write_text("base_model: input:near\n" + CONFIG)
    (root / "aicert.toml").write_text(RUNS)
    run = config.load(root).run("next")
    with pytest.raises(ToolError, match="run base has no output model here yet") as caught:
        lock.resolve(root, run)
    assert caught.value.hint == "./doit certify base"
    (root / "outputs/base/model").mkdir(parents=True)
    (root / "outputs/base/model/w.safetensors").write_bytes(b"one")
    relock.write_lock(root, run)
    assert lock.current(root, run).paths["base"] == root / "outputs/base/model"
    assert lock_command._check(root, run) == 0
    (root / "outputs/base/model/w.safetensors").write_bytes(b"two")
    assert lock_command._check(root, run) == 1
    with pytest.raises(LockError, match="is stale: input base"):
        lock.current(root, run)


def test_fetching_without_a_network_says_so(root: Path, hub: Hub) -> None:
    lock_tiny(root)
    hub.front.close()
    with pytest.raises(ToolError, match=r"input data: .*cannot fetch"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aicert.sources.download.FIRST_WAIT_S", 0.0)
            fetch.fetch_inputs(root, lock.current(root, the_run(root)))


def test_a_disk_that_is_too_small_is_not_begun_on(
    root: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_tiny(root)
    monkeypatch.setattr("shutil.disk_usage", lambda path: (1 << 40, 1 << 40, 100_000))
    with pytest.raises(
        ToolError, match=r"input model: it needs 488\.3 KiB, and 97\.7 KiB are free"
    ):
        fetch.fetch_inputs(root, lock.current(root, the_run(root)))
