"""`--copy`: the verified and loaded bytes are in memory, where no other process can write."""

import ctypes
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.errors import ConfigError
from aicert.guard import file_system, hooks
from aicert.guard.copies import Copies
from aicert.guard.judge import RefusedError
from aicert.guard.memory import Guard
from aicert.guard.policy import load_policy
from tests.unit.signing_keys import Pair, pair

ROOT = Path(__file__).resolve().parents[4]
GET_DUMPABLE, SET_DUMPABLE = 3, 4
WEIGHTS = b"weights" * 1000


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def guard(tmp_path: Path, keys: Pair) -> Iterator[Guard]:
    place = tmp_path / "guard.toml"
    place.write_text('unsigned = "warn"\n[[signer]]\nkey = "k.pub"\n')
    libc = ctypes.CDLL(None)
    before = libc.prctl(GET_DUMPABLE)
    yield Guard(load_policy(place), copies=Copies())
    assert libc.prctl(GET_DUMPABLE) == 0
    libc.prctl(SET_DUMPABLE, before)


@pytest.fixture
def model(tmp_path: Path, keys: Pair) -> Path:
    folder = tmp_path / "model"
    (folder / "sub/empty").mkdir(parents=True)
    (folder / "sub/empty/x").write_text("")
    (folder / "config.json").write_text("{}")
    (folder / "sub/weights.bin").write_bytes(WEIGHTS)
    sign(folder, keys)
    return folder


def sign(target: Path, keys: Pair) -> None:
    assert main(["sign", str(target), "--key", str(keys.key)]) == 0


def refused(guard: Guard, path: Path) -> str:
    with pytest.raises(RefusedError) as raised:
        guard.check(path)
    return raised.value.message


def test_what_was_verified_is_what_is_read_whatever_is_written_since(
    guard: Guard, model: Path
) -> None:
    with guard.loading():
        place = Path(guard.check(model))
        (model / "sub/weights.bin").write_bytes(b"others")
        shutil.rmtree(model / "sub")
        assert (place / "sub/weights.bin").read_bytes() == WEIGHTS
    # The copy may be read late; the next load reads the folder as it is then.
    assert (place / "sub/empty/x").exists()
    assert "sub/weights.bin" in refused(guard, model)
    assert str(model) in refused(guard, model / "config.json")


def test_one_copy_serves_each_file_and_each_load(guard: Guard, model: Path, keys: Pair) -> None:
    place = guard.check(model)
    for path in (model / "config.json", model / "sub/weights.bin", model / "sub"):
        with guard.loading():
            assert guard.check(path) == f"{place}/{path.relative_to(model)}"
    assert guard.check(model) == place
    (model / "config.json").write_text("[]")
    sign(model, keys)
    newer = Path(guard.check(model))
    assert str(newer) != place
    assert ((newer / "config.json").read_text(), Path(place, "config.json").read_text()) == (
        "[]",
        "{}",
    )


def test_the_copy_is_known_by_each_of_its_names(guard: Guard, model: Path) -> None:
    place = guard.check(model)
    real = os.path.realpath(place)
    assert real == str(place).replace("self", str(os.getpid()))
    assert Path(real, "config.json").read_text() == "{}"
    for path in (place, f"{place}/config.json", f"{real}/sub/weights.bin"):
        assert guard.check(path) == path
    # The mount gives access to no other path.
    assert not os.path.exists(f"{place}/../../../../../../etc")


def test_nobody_writes_to_the_copy(guard: Guard, model: Path) -> None:
    file = f"{guard.check(model)}/sub/weights.bin"
    with pytest.raises(OSError, match="Read-only"):
        os.open(file, os.O_RDWR)
    with pytest.raises(OSError, match="Read-only"):
        os.rename(file, f"{file}.old")
    other = file.replace("self", str(os.getpid()))
    # Other processes of the same user do not see the copy at all; root finds it read-only.
    ended = subprocess.run(["sh", "-c", 'echo other > "$0"', other], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "Read-only" in ended.stderr if os.geteuid() == 0 else "denied" in ended.stderr
    assert Path(file).read_bytes() == WEIGHTS


def test_a_file_with_a_signature_of_its_own(guard: Guard, tmp_path: Path, keys: Pair) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(WEIGHTS)
    sign(file, keys)
    place = Path(guard.check(file))
    file.write_bytes(b"others")
    assert (place.name, place.read_bytes()) == ("model.safetensors", WEIGHTS)
    assert "model.safetensors" in refused(guard, file)


def test_a_snapshot_of_the_hubs_cache(guard: Guard, model: Path, keys: Pair) -> None:
    cache = model.parent / "models--org--name"
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for index, name in enumerate(("config.json", "model.sig", "sub/weights.bin", "sub/empty/x")):
        blob = cache / "blobs" / (f"{index}" * 40)
        blob.write_bytes((model / name).read_bytes())
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(f"{'../' * (name.count('/') + 2)}blobs/{blob.name}")
    place = guard.check(snapshot / "config.json")
    # The path still contains the part that tells transformers the revision.
    assert str(place).endswith(f"/snapshots/{'a' * 40}/config.json")
    (cache / "blobs" / ("2" * 40)).write_bytes(b"others")
    assert Path(place).with_name("sub").joinpath("weights.bin").read_bytes() == WEIGHTS


def test_links_and_other_things_are_refused_as_they_are_in_place(guard: Guard, model: Path) -> None:
    elsewhere = model.parent / "elsewhere"
    (model / "sub/weights.bin").rename(elsewhere)
    (model / "sub/weights.bin").symlink_to(elsewhere)
    assert "sub/weights.bin" in refused(guard, model)
    (model / "sub/weights.bin").unlink()
    elsewhere.rename(model / "sub/weights.bin")
    os.mkfifo(model / "pipe")
    assert "pipe" in refused(guard, model)


def test_what_git_and_the_hubs_client_keep_is_not_copied(guard: Guard, model: Path) -> None:
    for name in (".git", ".cache/huggingface", "lost+found"):
        (model / name).mkdir(parents=True)
    (model / ".git/index").write_bytes(b"index")
    place = Path(guard.check(model))
    assert list((place / ".git").iterdir()) == []
    assert (place / "config.json").read_text() == "{}"


def test_rows_and_what_nobody_signed_are_read_where_they_are(
    guard: Guard, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard.check(model, is_rows=True) == model
    (model / "model.sig").unlink()
    assert guard.check(model) == model
    assert "has no signature" in capsys.readouterr().err


def test_each_hook_loads_from_the_copy(guard: Guard, model: Path) -> None:
    def given(*words: object, **named: object) -> object:
        return words, named

    place = guard.check(model)
    file, copied = model / "config.json", f"{place}/config.json"
    load = hooks._from_pretrained(guard, given)
    assert load("class", model, x=1) == (("class", place), {"x": 1})
    assert load("class", "model", str(model)) == (("class", "model", place), {})
    assert load("class", path=model) == (("class",), {"path": place})
    cached = hooks._cached(guard, lambda folder, *_: [f"{folder}/config.json", str(file)])
    assert cached(model, "config.json") == [copied, copied]
    assert hooks._cached(guard, lambda *_: str(file))("org/m", "config.json") == copied
    assert hooks._from_cache(guard, lambda *_: str(file))("org/m", "f") == copied
    assert hooks._snapshot(guard, lambda *_, **__: str(model))("org/m") == place
    opened = hooks._safe_open(guard, io.FileIO)
    with opened(file) as weights:
        file.write_text("[]")
        assert weights.read() == b"{}"


LACKING = "from aicert.guard.copies import Copies\ntry:\n Copies()\nexcept Exception as error:\n"


def test_where_no_copy_can_be_made_the_guard_does_not_start() -> None:
    refusing = [sys.executable, str(ROOT / "tests/refusing.py"), "EPERM", "unshare"]
    text = f"{LACKING} print(type(error).__name__, error)"
    ended = subprocess.run(
        [*refusing, sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True
    )
    words = "ConfigError --copy: this system does not let users create a file system in memory"
    assert ended.stdout.startswith(words), ended.stderr
    assert ended.stderr == ""


def test_a_python_that_makes_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "close_to_others", lambda: None)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ConfigError, match="No such file"):
        Copies()
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(ConfigError, match="the program that makes it ended"):
        Copies()
