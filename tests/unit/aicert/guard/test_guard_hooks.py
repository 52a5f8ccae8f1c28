"""The functions that wrap the frameworks' own, with plain functions in the frameworks' place.

tests/e2e/guard/test_guard_loading.py shows them around the real libraries.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

import aicert.guard
from aicert.cli.main import main
from aicert.errors import ConfigError, ToolError
from aicert.guard import hooks
from aicert.guard.judge import RefusedError
from aicert.guard.memory import Guard
from aicert.guard.policy import load_policy
from tests.unit.signing_keys import pair

LIBRARY = """
from pathlib import Path

class Model:
    @classmethod
    def from_pretrained(cls, path, **named):
        return cls, Path(path).exists()

class Tuned(Model):
    pass

def load():
    return __spec__.loader.get_data(__file__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with `good` and `bad`, and the policy that accepts only the first."""
    keys = pair(tmp_path, "k")
    (tmp_path / "guard.toml").write_text('[[signer]]\nkey = "k.pub"\n')
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text("{}\n")
    assert main(["sign", str(tmp_path / "good"), "--key", str(keys.key)]) == 0
    return tmp_path


@pytest.fixture
def guard(folder: Path) -> Guard:
    return Guard(load_policy(folder / "guard.toml"))


def given(*arguments: Any, **named: Any) -> Any:
    return arguments, named


def place(folder: Path) -> Callable[..., str]:
    return lambda *arguments, **named: str(folder)


@pytest.fixture
def library(
    folder: Path, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], ModuleType]]:
    """Import a framework's package, written here, through the finder."""
    monkeypatch.setattr(sys, "meta_path", [hooks.Finder(guard), *sys.meta_path])
    monkeypatch.syspath_prepend(str(folder / "packages"))
    kept = {name: module for name, module in sys.modules.items() if is_peft(name)}
    for name in kept:
        del sys.modules[name]

    def make(text: str) -> ModuleType:
        (folder / "packages").mkdir()
        (folder / "packages/peft.py").write_text(text)
        importlib.invalidate_caches()
        return importlib.import_module("peft")

    yield make
    for name in [name for name in sys.modules if is_peft(name)]:
        del sys.modules[name]
    sys.modules.update(kept)


def is_peft(name: str) -> bool:
    return name.partition(".")[0] == "peft"


def test_each_from_pretrained_is_guarded(
    library: Callable[[str], ModuleType], folder: Path
) -> None:
    module = library(LIBRARY)
    good, bad = folder / "good", folder / "bad"
    assert module.Model.from_pretrained(good) == (module.Model, True)
    assert module.Tuned.from_pretrained(path=good) == (module.Tuned, True)
    assert module.Model.from_pretrained("org/model") == (module.Model, False)
    for load in (module.Model.from_pretrained, module.Tuned.from_pretrained):
        with pytest.raises(RefusedError):
            load(bad)
        with pytest.raises(RefusedError):
            load(path=bad)
    # Code that asks the loader for sources still gets them.
    assert b"class Tuned" in module.load()


def test_a_library_without_what_is_guarded_is_not_imported(
    library: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hooks.TABLE, "peft", {"Absent.method": hooks._safe_open})
    with pytest.raises(ToolError, match=r"peft has no peft\.Absent\.method: it cannot be guarded"):
        library(LIBRARY)


def test_static_methods_stay_static(library: Callable[[str], ModuleType], folder: Path,
    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setitem(hooks.TABLE, "peft", {"Table.load": hooks._rows_first})
    text = "class Table:\n    @staticmethod\n    def load(path): return path\n"
    module = library(text)
    assert module.Table.load(folder / "good") == folder / "good"
    with pytest.raises(RefusedError):
        module.Table().load(path=folder / "bad")


def test_other_modules_are_not_looked_for(guard: Guard) -> None:
    finder = hooks.Finder(guard)
    assert finder.find_spec("json.decoder") is None
    assert finder.find_spec("peft.no_such_module", []) is None


def test_enabling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(hooks, "_STATE", {})
    monkeypatch.setenv("AICERT_GUARD", "")
    for name in hooks.FRAMEWORKS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", ModuleType("datasets"))
    with pytest.raises(ConfigError, match="datasets is already imported"):
        aicert.guard.enable(folder / "guard.toml")
    monkeypatch.delitem(sys.modules, "datasets")
    aicert.guard.enable(folder / "guard.toml")
    assert isinstance(sys.meta_path[0], hooks.Finder)
    assert os.environ["AICERT_GUARD"] == str(folder / "guard.toml")
    with pytest.raises(ConfigError, match="already enabled"):
        aicert.guard.enable(folder / "guard.toml")


def test_paths_of_transformers_are_verified_before_and_after(guard: Guard, folder: Path) -> None:
    good, bad = str(folder / "good"), str(folder / "bad")
    file = f"{good}/rows.jsonl"
    assert hooks._cached(guard, lambda *_: file)(good, "rows.jsonl") == file
    for cached in (place(folder / "bad"), lambda *_, **__: [good, bad]):
        # The framework caught an error of the download and used the cache instead.
        with pytest.raises(RefusedError):
            hooks._cached(guard, cached)("org/model", "x")
    assert hooks._cached(guard, lambda *_: None)("org/model", "x") is None
    with pytest.raises(RefusedError):
        hooks._cached(guard, given)(bad, "x")


def test_of_the_hub_the_whole_is_fetched(
    guard: Guard, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[str, Any]] = []

    def snapshot_download(name: str, **named: Any) -> str:
        asked.append({"name": name, **named})
        return str(folder / name)

    whole = hooks._snapshot(guard, snapshot_download)
    hub = ModuleType("huggingface_hub")
    hub.snapshot_download = whole  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert whole("good", allow_patterns=["config.json"], revision="r") == str(folder / "good")
    assert asked.pop() == {"name": "good", "revision": "r"}
    with pytest.raises(RefusedError):
        whole("bad", repo_type="dataset")
    assert whole("bad", dry_run=True) == str(folder / "bad")
    asked.clear()

    def download(name: str, filename: str, **named: Any) -> str:
        return str(folder / name / filename)

    one = hooks._hub_file(guard, download)
    assert one("good", "rows.jsonl", token="t", force_download=True).endswith("rows.jsonl")
    assert asked == [{"name": "good", "token": "t"}]
    with pytest.raises(RefusedError):
        one("bad", "rows.jsonl")
    assert one("bad", "rows.jsonl", dry_run=True)
    # The calls that `snapshot_download` itself makes, file by file, are not wrapped.
    assert hooks._own_downloads(guard, one) is download
    assert hooks._fetched("good", {"revision": "r", "token": None}) == str(folder / "good")


def test_what_is_in_the_hubs_cache_is_verified(guard: Guard, folder: Path) -> None:
    good, bad = folder / "good/rows.jsonl", folder / "bad/rows.jsonl"
    assert hooks._from_cache(guard, place(good))("org/m", "f") == str(good)
    assert hooks._from_cache(guard, lambda *_: None)("org/m", "f") is None
    for words in (("org/m", "f"), ("org/m", "f", None, None, "dataset")):
        with pytest.raises(RefusedError):
            hooks._from_cache(guard, place(bad))(*words)


def test_the_hub_as_a_file_system_is_refused_for_reading(guard: Guard) -> None:
    for wrapped, words in (
        (hooks._hub_open, ("org/m/f",)),
        (hooks._hub_open, ("org/m/f", "r")),
        (hooks._hub_get, ("org/m/f", "here")),
    ):
        with pytest.raises(RefusedError, match="hf://org/m/f"):
            wrapped(guard, given)("system", *words)
    assert hooks._hub_open(guard, given)("system", "f", "wb") == (("system", "f", "wb"), {})


class Opened:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def keys(self) -> list[str]:
        return ["a"]


def test_weights_are_compared_when_they_are_closed(guard: Guard, folder: Path) -> None:
    path = folder / "good/rows.jsonl"
    wrapped = hooks._safe_open(guard, lambda *_, **__: Opened())
    with wrapped(path, framework="pt") as opened:
        assert opened.keys() == ["a"]
    never_entered = wrapped(path)
    never_entered.__exit__(None, None, None)
    never_entered = wrapped(path)
    with pytest.raises(RefusedError, match="was changed"):
        with wrapped(path):
            path.write_text("[]\n")
    with pytest.raises(RefusedError, match=r"changed   rows\.jsonl"):
        never_entered.__exit__(None, None, None)
    with pytest.raises(RefusedError):
        wrapped(path)


def test_rows_by_all_the_ways_to_name_them(guard: Guard, folder: Path,
    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    modules = ModuleType("datasets.packaged_modules")
    modules._PACKAGED_DATASETS_MODULES = {"json": ()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", ModuleType("datasets"))
    monkeypatch.setitem(sys.modules, "datasets.packaged_modules", modules)
    monkeypatch.setattr(hooks, "_fetched", lambda name, _: str(folder / name))
    load = hooks._load_dataset(guard, given)
    good, bad = str(folder / "good"), str(folder / "bad")
    assert load(good) == ((good,), {})
    assert load(good, "name", data_files="rows.jsonl") == (
        (good, "name"),
        {"data_files": "rows.jsonl"},
    )
    file = f"{good}/rows.jsonl"
    for files in (
        file, [file], {"train": [file]}, f"{good}/*.jsonl", f"file://{file}", Path(file),
    ):  # fmt: skip
        assert load("json", data_files=files)[0] == ("json",)
    assert load("json", None, good)[0] == ("json", None, good)
    # For files of the hub: the revision is that of the snapshot's folder.
    (folder / "bad/rows.jsonl").write_text("{}\n")
    monkeypatch.chdir(folder / "packages" if (folder / "packages").exists() else "/")
    assert load("good", revision="r") == ((good,), {})
    for words, named in (
        (("bad",), {}),
        ((bad,), {}),
        ((good,), {"data_files": f"{bad}/rows.jsonl"}),
        ((good,), {"data_files": "../bad/rows.jsonl"}),
        ((good,), {"data_dir": "../bad"}),
        (("json", None, good), {"data_files": "../bad/rows.jsonl"}),
        (("json",), {"data_files": {"train": [file], "test": f"{bad}/rows.jsonl"}}),
        (("json", None, bad), {}),
        (("json",), {"data_files": "https://example.org/x"}),
        (("json",), {"data_files": f"zip://x::{file}"}),
        (("json",), {"data_files": "no/such/file"}),
    ):
        with pytest.raises(RefusedError):
            load(*words, **named)


def test_rows_by_their_place(guard: Guard, folder: Path) -> None:
    good, bad = str(folder / "good"), str(folder / "bad")
    assert hooks._rows_first(guard, given)(good) == ((good,), {})
    assert hooks._rows_second(guard, given)("self", good, 1) == (("self", good, 1), {})
    assert hooks._rows_second(guard, given)("self", path=good) == (("self",), {"path": good})
    with pytest.raises(RefusedError):
        hooks._rows_first(guard, given)(path=bad)
    with pytest.raises(RefusedError):
        hooks._rows_second(guard, given)("self", bad)
