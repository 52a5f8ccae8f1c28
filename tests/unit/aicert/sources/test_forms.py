"""Source texts, the choice of files, and the store: the parts that need no network."""

import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.sources import choice, forms
from aicert.sources.choice import Choice, choose
from aicert.sources.forms import GitSource, HubSource, PathSource, RunSource, WebSource, parse
from aicert.sources.store import Store
from enclave_runner.inputs import pickles

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("path:a/b.txt", PathSource(path="a/b.txt")),
        ("run:base/model", RunSource(run="base", output="model")),
        ("hf:org/na.me@main", HubSource(kind="model", repository="org/na.me", revision="main")),
        (
            "hf:datasets/org/name@refs/pr/1",
            HubSource(kind="dataset", repository="org/name", revision="refs/pr/1"),
        ),
        (
            f"git+https://host.example:8443/a/b.git@{COMMIT}#sub/dir",
            GitSource(url="https://host.example:8443/a/b.git", revision=COMMIT, subdir="sub/dir"),
        ),
        (
            "git+https://host.example/a/b@feature/x",
            GitSource(url="https://host.example/a/b", revision="feature/x", subdir=""),
        ),
        ("https://host.example/f.jsonl?v=1", WebSource(url="https://host.example/f.jsonl?v=1")),
    ],
)
def test_every_form(text: str, source: forms.Source) -> None:
    assert parse(text) == source
    if isinstance(source, HubSource | GitSource):
        assert source.at(source.revision) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://host/x", "an unknown scheme"),
        ("http://host/x", "an unknown scheme"),
        ("git+ssh://host/x@main", "an unknown scheme"),
        ("hf:name@main", "hf:ORG/NAME@REVISION"),
        ("hf:datasets/name@main", "hf:datasets/ORG/NAME@REVISION"),
        ("hf:org/../x@main", "hf:ORG/NAME@REVISION"),
        ("hf:org/a--b@main", "hf:ORG/NAME@REVISION"),
        ("hf:org/name", "has no revision"),
        ("hf:org/name@", "has no revision"),
        ("hf:org/name@-x", "not a branch, tag or commit"),
        ("hf:org/name@a..b", "not a branch, tag or commit"),
        ("git+https://host/repo", "has no revision"),
        ("git+https://host/repo#x", "has no revision"),
        ("git+https://host/@main", "is not of the form"),
        ("git+https://host/repo@main#../up", "not a plain relative path"),
        ("git+https://host/repo@main#.", "not a plain relative path"),
        ("git+https://host/repo@main#a:b", "not a plain relative path"),
        ("git+https://user:s3cret@host/repo@main", "has a login in its address"),
        ("https://s3cret@host/x", "has a login in its address"),
        ("https://host/x?X-Amz-Signature=s3cret", "looks like a secret"),
        ("https://host/x?access_token=s3cret", "looks like a secret"),
        ("https://host/x#part", "has a fragment"),
        ("https://host/", "names no file"),
        ("https:///x", "names no host"),
        ("https://[x", "is not a URL"),
        ("https://host:99999999/x", "is not a URL"),
        ("https://h\u00f6st/x", "not printable ASCII"),
        ('path:a"b', "not printable ASCII"),
        ("run:base", "run:RUN/OUTPUT"),
        ("run:Base/model", "run:RUN/OUTPUT"),
        ("path:../up", "outside the repository"),
    ],
)
def test_every_mistake_is_named_and_no_secret_is_shown(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(text)
    assert "s3cret" not in caught.value.message


FILES = [
    "README.md",
    "config.json",
    "model.safetensors",
    "original/params.pth",
    "pytorch_model.bin",
    "model.gguf",
]


def test_one_format_of_weights_is_enough() -> None:
    assert choose(FILES, Choice(), weights=True) == FILES[:3]
    assert choose(FILES, Choice(allow_pickle=True), weights=True) == FILES[:3]
    without = [name for name in FILES if name != "model.safetensors"]
    with pytest.raises(LockError, match="is a pickle by its name"):
        choose(without, Choice(), weights=True)
    assert choose(without, Choice(allow_pickle=True), weights=True) == sorted(without)


def test_patterns_choose() -> None:
    assert choose(FILES, Choice(only=("*.json", "*.md"))) == ["README.md", "config.json"]
    only = Choice(only=("original/*", "*.bin"), allow_pickle=True)
    assert choose(FILES, only, weights=True) == ["original/params.pth", "pytorch_model.bin"]
    assert choose(FILES, Choice(except_=("*.bin", "original/*"))) == sorted(
        ["README.md", "config.json", "model.gguf", "model.safetensors"]
    )
    with pytest.raises(LockError, match=r"no file matches '\*.parquet'"):
        choose(FILES, Choice(only=("*.parquet",)))
    with pytest.raises(LockError, match="no file of the source is left"):
        choose(FILES, Choice(except_=("*",)))


def test_the_host_refuses_by_name_what_the_machine_refuses_by_name() -> None:
    # The content of a `.npy` decides, and the host may not have it.
    assert choice.PICKLES | {".npy"} == pickles._SUFFIXES


def test_twins_matter_only_among_the_chosen() -> None:
    with pytest.raises(LockError, match="differ only in case"):
        choose(["a.txt", "A.txt"], Choice())
    assert choose(["a.txt", "A.txt"], Choice(except_=("A*",))) == ["a.txt"]


def added(store: Store, data: bytes, size: int | None = None) -> FileFact:
    with store.scratch() as scratch:
        return store.add(io.BytesIO(data), "f", len(data) if size is None else size, scratch)


def test_a_tree_is_links_to_files_that_lie_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    fact = added(store, b"data")
    place = store.file(fact.sha256)
    tree = store.assemble("0" * 64, {"a": place, "sub/b": place})
    assert (tree / "sub" / "b").read_bytes() == b"data"
    assert place.stat().st_nlink == 3
    assert store.assemble("0" * 64, {"a": place}) == tree
    assert sorted(p.name for p in tree.parent.iterdir()) == ["0" * 64]
    assert os.access(tree, os.X_OK)


def test_without_links_a_tree_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    store = Store(tmp_path / "store")
    fact = added(store, b"data")
    tree = store.assemble("0" * 64, {"a": store.file(fact.sha256)})
    assert (tree / "a").read_bytes() == b"data"


def test_what_ends_early_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ToolError, match="ended after 3 of 4 bytes"):
        added(store, b"abc", 4)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ToolError, match="the disk is full"):
        with store.partial("x"):
            raise OSError(28, "No space left on device")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"exists|directory"):
        added(Store(tmp_path / "file"), b"")


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from aicert.sources.store import Store\n"
        "with Store(Path(sys.argv[1])).scratch() as folder:\n"
        " (folder / 'half').write_bytes(b'x' * 9)\n os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    with store.partial("kept") as partial:
        partial.write(b"half of it")
    with store.scratch() as mine:
        (mine / "data").write_bytes(b"mine")
        assert len(list((tmp_path / "scratch").iterdir())) == 2
        store.sweep()
        assert list((tmp_path / "scratch").iterdir()) == [mine]
        assert (mine / "data").read_bytes() == b"mine"
    assert list((tmp_path / "scratch").iterdir()) == []
    assert (tmp_path / "partial" / "kept").read_bytes() == b"half of it"
    assert store.begun("kept") == 10
    with store.partial("nothing came"):
        pass
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["kept"]


def test_two_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    store = Store(tmp_path)
    order: list[str] = []

    def second() -> None:
        with store.partial("x") as partial:
            order.append("second")
            assert partial.path.stat().st_size == 0

    with store.partial("x") as partial:
        thread = threading.Thread(target=second)
        thread.start()
        partial.write(b"data")
        order.append("first")
        partial.keep()
    thread.join()
    assert order == ["first", "second"]
    assert store.has(hashlib.sha256(b"data").hexdigest())
