"""`./doit add` and `./doit update` edit aicert.toml as a person would, or change nothing."""

import re
from pathlib import Path

import pytest

from aicert.errors import AicertError, ConfigError
from rules.commands import editing
from rules.project import config, lock, locked
from rules.review import text as review_text
from tests.unit.review_project import TOML, commit, make, relock

CONFIG = "base_model: input:base\nlearning_rate: 0.1\ndatasets:\n  - path: input:data\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make(tmp_path / "project", monkeypatch)
    (root / "whole.yml").write_text(CONFIG)
    (root / "tiny.yml").write_text(CONFIG)
    relock(root)
    commit(root, "a whole config")
    return root


def test_add_keeps_comments_order_and_style_and_shows_the_change(root: Path) -> None:
    (root / "more.txt").write_text("x")
    review = editing.add(root, "tiny", "more", "path:more.txt", allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML.replace(
        'data = "path:data"\n', 'data = "path:data"\nmore = "path:more.txt"\n'
    )
    assert "input more: from" in review_text.text(review)
    editing.add(root, "tiny", "more", "path:more.txt", allow_pickle=True)
    text = (root / "aicert.toml").read_text()
    assert 'more = {from = "path:more.txt", allow-pickle = true}' in text
    editing.add(root, "tiny", "config", "path:whole.yml", allow_pickle=False)
    assert 'config  = "path:whole.yml"     # how' in (root / "aicert.toml").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # tomlkit assigns a comment before the next table to the table before it.
        ('[runs.a.inputs]\nmodel = "x"\nrows  = "y"\n\n# Next.\n', 'rows  = "y"\nmore  = "z"\n\n#'),
        ('[runs.a.inputs]\nmodel = "x"\nr = "y" # one\n', 'r = "y" # one\nmore = "z"\n'),
        ('[runs.a.inputs]\nmodel = "x"\n[machines.b]\n[runs.b]\n', '"x"\nmore  = "z"\n[mach'),
        ('inputs = {model = "x"}\n', 'more = "z"}\n'),
        ('inputs.model = "x"\n\n# Next.\n', 'inputs.model = "x"\ninputs.more  = "z"\n\n# Next.\n'),
        ('[runs.a.inputs]\nmodel = "x"', 'model = "x"\nmore  = "z"'),
    ],
)
def test_an_input_is_added_below_the_last_one(before: str, after: str) -> None:
    head = "[runs.a]\n"
    edited = editing.with_input(f"{head}{before}".encode(), "a", "more", "z", allow_pickle=False)
    assert after in edited.decode()
    assert edited.decode().count("more") == 1


def test_the_output_of_another_run_is_told_from_what_is_here(root: Path) -> None:
    output = root / "outputs" / "tiny" / "model"
    output.mkdir(parents=True)
    (output / "rows.jsonl").write_text("{}\n" * 3)
    editing.add(root, "next", "config", "path:whole.yml", allow_pickle=False)
    review = editing.add(root, "next", "base", "run:tiny/model", allow_pickle=False)
    assert "input base: rows.jsonl" in review_text.text(review)
    assert "3 rows, 9 B" in review_text.text(review)


def test_add_makes_a_run_from_its_config(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    review = editing.add(root, "next", "config", "path:whole.yml", allow_pickle=False)
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "next: ./doit add next base SOURCE", "next: ./doit add next data SOURCE",
    ]  # fmt: skip
    assert [section.title for section in review.sections] == ["run next"]
    project = config.load(root)
    assert project.run("next").machine.name == "here"
    with pytest.raises(ConfigError, match="no run 'absent'"):
        editing.add(root, "absent", "data", "path:data", allow_pickle=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONFIG.replace("base_model: input:base\n", ""), "base_model: missing"),
        (CONFIG.replace("input:base", "org/base"), "base_model: 'org/base' is a hub name"),
        (CONFIG.replace("learning_rate", "learning_rat"), "no such key"),
        (CONFIG.replace("learning_rate: 0.1\n", ""), "learning_rate"),
        ("- a\n", "not a mapping"),
    ],
)
def test_a_config_that_no_inputs_could_mend_is_not_added(root: Path, text: str, words: str) -> None:
    (root / "bad.yml").write_text(text)
    before = (root / "aicert.toml").read_bytes()
    with pytest.raises(ConfigError, match=words):
        editing.add(root, "next", "config", "path:bad.yml", allow_pickle=False)
    assert (root / "aicert.toml").read_bytes() == before
    assert not (root / "lockfiles/next.lock.toml").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # A person who replaces one input after another may begin with a config whose inputs come
        # later.
        ("a.yml", CONFIG.replace("input:data", "input:data/other.jsonl")),
        ("a.yml", CONFIG.replace("input:data", "input:rows/a.csv") + "# input:old\n"),
        ("a.yml", CONFIG + "    split: validation\n"),
        ("a.yml", "base_model: input:base\nlora_model_dir: input:adapter\n"),
        ("a.toml", '[overlap]\nagainst = "input:other"\n'),
    ],
)
def test_a_config_may_come_before_its_inputs(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    editing.add(root, "tiny", "config", f"path:{name}", allow_pickle=False)
    editing.add(root, "next", "config", f"path:{name}", allow_pickle=False)


@pytest.mark.parametrize("source", ["path:absent", "path:../x", "what:ever"])
def test_add_that_fails_changes_nothing(root: Path, source: str) -> None:
    before = locked.read(root, "tiny")
    with pytest.raises(AicertError):
        editing.add(root, "tiny", "more", source, allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML
    assert locked.read(root, "tiny") == before


def test_add_that_is_interrupted_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lock, "resolve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        editing.add(root, "tiny", "more", "path:tiny.yml", allow_pickle=False)
    assert (root / "aicert.toml").read_text() == TOML


def test_update_shows_what_moved(root: Path) -> None:
    (root / "base").mkdir()
    (root / "base" / "config.json").write_text('{"model_type": "llama"}')
    editing.add(root, "tiny", "base", "path:base", allow_pickle=False)
    (root / "data" / "test.csv").unlink()
    (root / "data" / "train.jsonl").write_text("{}\n")
    runs = list(config.load(root).runs.values())
    assert "train.jsonl" in review_text.text(editing.update(root, runs, "data"))
    # The last commit shows what the value was.
    (root / "tiny.yml").write_text(CONFIG.replace("0.1", "0.2"))
    text = review_text.text(editing.update(root, runs, "config"))
    assert re.search(r"config: learning_rate +0\.1 -> 0\.2\n", text)
    with pytest.raises(ConfigError, match="no input 'datum'"):
        editing.update(root, runs, "datum")


def test_what_resolves_inputs_again_refuses_a_config_that_no_run_could_use(root: Path) -> None:
    """Otherwise somebody would review a lockfile in vain."""
    (root / "tiny.yml").write_text(CONFIG.replace("learning_rate", "learning_rat"))
    (root / "data" / "train.jsonl").write_text("{}\n")
    (root / "more.txt").write_text("x")
    before = locked.read(root, "tiny")
    runs = list(config.load(root).runs.values())
    for name in (None, "data", "config"):
        with pytest.raises(ConfigError, match="no such key"):
            editing.update(root, runs, name)
    with pytest.raises(ConfigError, match="no such key"):
        editing.add(root, "tiny", "more", "path:more.txt", allow_pickle=False)
    assert locked.read(root, "tiny") == before
    assert (root / "aicert.toml").read_text() == TOML
    # What the inputs lack may be added next; only `lock` and `update` need all of them.
    (root / "tiny.yml").write_text(CONFIG)
    editing.add(root, "tiny", "more", "path:more.txt", allow_pickle=False)
    with pytest.raises(ConfigError, match="base"):
        editing.update(root, list(config.load(root).runs.values()), None)


def test_add_keeps_the_line_ends(root: Path) -> None:
    file = root / "aicert.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    before = file.read_bytes()
    (root / "more.txt").write_text("rows\n")
    editing.add(root, "tiny", "more", "path:more.txt", allow_pickle=False)
    after = file.read_bytes()
    assert after.count(b"\r\n") == after.count(b"\n") == before.count(b"\n") + 1
    assert set(before.splitlines()) < set(after.splitlines())
