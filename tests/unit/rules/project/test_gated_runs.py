"""`audits` of a training in aicert.toml: which inputs it inherits, and what is refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked
from rules.project.config_check import check_config
from rules.project.lock import resolve
from tests.unit.rules.project.test_audit_runs import AUDIT, TOML

TRAINING = """
[runs.tiny]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
audits = ["look"]
[runs.tiny.inputs]
model = "path:base"
rows = "path:rows"
"""
BOTH = TOML.replace("[machines.here]", f"{TRAINING}\n[machines.here]")
CONFIG = """\
base_model: input:model
datasets: [{path: input:rows, type: alpaca}]
learning_rate: 0.001
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aicert.toml").write_text(BOTH)
    (tmp_path / "tiny.yml").write_text(CONFIG)
    (tmp_path / "audit.toml").write_text(AUDIT)
    for folder, file in (("base", "config.json"), ("rows", "train.jsonl")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text('{"url":"https://a.org"}\n')
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "domains").write_text("a.org\n")
    (tmp_path / ".aicert").mkdir()
    return tmp_path


def the_run(root: Path) -> config.Run:
    return config.load(root).run("tiny")


def test_what_an_audit_reads_beside_the_rows_is_locked_with_the_training(root: Path) -> None:
    run = the_run(root)
    assert [(item.name, item.source) for item in run.inputs] == [
        ("config", "path:tiny.yml"),
        ("look-config", "path:audit.toml"),
        ("look-opt-out", "path:domains"),
        ("look-record-key", "path:key"),
        ("model", "path:base"),
        ("rows", "path:rows"),
    ]
    lock.write(root, resolve(root, run))
    data = locked.read(root, "tiny")
    assert form.parse(data).audits == ("look",)
    assert lock.current(root, run).data == data
    assert [item.name for item in config.load(root).run("look").inputs] == [
        "alpaca", "config", "opt-out", "record-key",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('audits = ["look"]', 'audits = ["lok"]', "audits: unknown run 'lok', did you mean 'look"),
        ('audits = ["look"]', 'audits = ["tiny"]', "only audits may be listed"),
        ('audits = ["look"]', "audits = [1]", "audits is not a list of runs"),
        ('"results"]\n', '"results"]\naudits = ["look"]\n', "look: only audits may be listed"),
        ('model = "path:base"', 'look-config = "path:base"', "two inputs are called look-config"),
        ("look", f"l{'o' * 60}k", "is too long for an input name"),
    ],
)
def test_what_is_no_audit_or_cannot_be_named_is_refused(
    root: Path, old: str, new: str, words: str
) -> None:
    assert old in BOTH
    with pytest.raises(ConfigError, match=words):
        config.parse(root, BOTH.replace(old, new).encode())


def test_audits_are_not_too_many(root: Path) -> None:
    audit = TOML.partition("[machines")[0]
    names = [f"look{number}" for number in range(17)]
    toml = BOTH.replace('audits = ["look"]', f"audits = {names}")
    toml += "".join(audit.replace("look", name) for name in names)
    with pytest.raises(ConfigError, match=r"runs\.tiny\.audits: at most 16"):
        config.parse(root, toml.encode())


def test_a_lockfile_of_other_audits_is_stale(root: Path) -> None:
    run = the_run(root)
    lock.write(root, resolve(root, run))
    (root / "aicert.toml").write_text(BOTH.replace('audits = ["look"]\n', ""))
    with pytest.raises(LockError, match=r"audits\n  locked      look\n  aicert\.toml none"):
        lock.current(root, the_run(root))
    (root / "aicert.toml").write_text(BOTH)
    (root / "domains").write_text("b.org\n")
    with pytest.raises(LockError, match="stale: input look-opt-out"):
        lock.current(root, the_run(root))


def test_what_the_runner_would_refuse_of_an_audit_is_refused_early(root: Path) -> None:
    (root / "key").write_bytes(bytes(31))
    with pytest.raises(ConfigError, match=r"^run tiny: audit\.toml: records\.key"):
        check_config(root, resolve(root, the_run(root)))
    (root / "audit.toml").write_text(AUDIT.replace("input:opt-out", "input:rows"))
    with pytest.raises(ConfigError, match=r"names input rows, which the run does not have"):
        check_config(root, resolve(root, the_run(root)))
