"""Which lines of a trainer's log show the error, and when a failed run is tried again."""

from pathlib import Path

import pytest

from rules.host import places
from rules.project import config, lock
from rules.runs import failed
from rules.runs.failed import last_error
from tests.unit.review_project import make

TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 1, in <module>
    raise error
"""
TORCHRUN = """E1128 05:23:43.568000 2 torch/distributed/elastic/multiprocessing/api.py:1002] failed
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============
axolotl.cli.train FAILED
  traceback : Signal 15 (SIGTERM) received by PID 4
"""


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (TRACEBACK + "ValueError: no\n", ["ValueError: no"]),
        (TRACEBACK + "KeyError: 1\n" + TRACEBACK + "a.b.MyError\n", ["a.b.MyError"]),
        (TRACEBACK + "x.ValidationError: 1 error\nkey\n  no number\n",
         ["x.ValidationError: 1 error", "key", "  no number"]),
        (TRACEBACK + "[rank1]: RuntimeError: no\n" + TORCHRUN, ["[rank1]: RuntimeError: no"]),
        ("aicert: the audit hook ends the training: 'x'\n",
         ["aicert: the audit hook ends the training: 'x'"]),
        ("step 1\nno luck today\n\n", ["no luck today"]),
        ("", []),
    ],
)  # fmt: skip
def test_the_last_error_is_found(tmp_path: Path, log: str, lines: list[str]) -> None:
    (tmp_path / "log").write_text(log)
    assert last_error(tmp_path / "log") == lines


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert last_error(tmp_path / "log") == []


def test_an_error_of_many_lines_is_cut(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff" * 100_000 + b"\nValueError: x\n" + b"line\n" * 100)
    assert last_error(tmp_path / "log") == ["ValueError: x", *["line"] * 11]


def test_a_failed_run_is_known_in_a_repository_of_its_own_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's code is in the package, not in that repository."""
    monkeypatch.setattr(places, "IS_CHECKOUT", False)
    root = make(tmp_path / "project", monkeypatch)
    run = config.load(root).run("tiny")
    current = lock.resolve(root, run)
    assert not failed.is_known(root, run, current)
    failed.remember(root, run, current)
    assert failed.is_known(root, run, current)
    (root / "data" / "train.jsonl").write_text('{"a": 2}\n')
    assert not failed.is_known(root, run, lock.resolve(root, run))
