"""Runs of the trainer `audit` in aicert.toml: what is locked, and what is refused early."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from aicert.formats import lockfile as form
from rules.project import config, lock, locked
from rules.project.config_check import check_config
from rules.project.lock import resolve
from tests.unit.rules.project.one_run import checked, lay_out, the_run

TOML = """
[runs.look]
config = "path:audit.toml"
machine = "here"
outputs = ["results"]
trainer = "audit"
[runs.look.inputs]
alpaca = "path:rows"
record-key = "path:key"
opt-out = "path:domains"
[machines.here]
driver = "local"
"""
AUDIT = """\
[records]
key = "input:record-key"
[[check]]
name = "opt-out"
kind = "domains/v1"
column = "url"
list = "input:opt-out"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    files: dict[str, str | bytes] = {
        "aicert.toml": TOML,
        "audit.toml": AUDIT,
        "rows/train.jsonl": '{"url":"https://a.org"}\n',
        "key": bytes(32),
        "domains": "a.org\n",
    }
    return lay_out(tmp_path, files)


def test_an_audit_is_locked_with_its_trainer(root: Path) -> None:
    assert checked(root) is None
    lock.write(root, resolve(root, the_run(root)))
    data = locked.read(root, "look")
    assert form.parse(data).trainer == "audit"
    assert lock.current(root, the_run(root)).data == data


def test_a_lockfile_of_another_trainer_is_stale(root: Path) -> None:
    lock.write(root, resolve(root, the_run(root)))
    (root / "aicert.toml").write_text(TOML.replace('trainer = "audit"\n', ""))
    with pytest.raises(LockError, match=r"trainer\n  locked      audit\n  aicert\.toml axolotl"):
        lock.current(root, the_run(root))


def test_an_unknown_trainer_is_refused_with_the_nearest(root: Path) -> None:
    (root / "aicert.toml").write_text(TOML.replace('"audit"', '"audi"'))
    with pytest.raises(ConfigError, match="trainer is unknown: 'audi'") as caught:
        config.load(root)
    assert "audit" in str(caught.value.message)


def test_what_the_runner_would_refuse_is_refused_early(root: Path) -> None:
    (root / "key").write_bytes(bytes(31))
    with pytest.raises(ConfigError, match=r"^run look: audit\.toml: records\.key") as caught:
        checked(root)
    assert caught.value.hint is not None
    (root / "audit.toml").write_text(AUDIT.replace("domains/v1", "domains/v2"))
    with pytest.raises(ConfigError, match=r"run look: audit\.toml: check\[0\]\.kind"):
        checked(root)


def test_a_config_that_is_not_here_yet_is_left_to_certify(root: Path) -> None:
    resolved = resolve(root, the_run(root))
    (root / "audit.toml").unlink()
    assert check_config(root, resolved) is None
