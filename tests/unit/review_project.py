"""A git repository with one locked run, for tests of reviews and of edits."""

import subprocess
from pathlib import Path

import pytest

from rules.project import config, lock
from rules.review import review, text
from rules.review.check import Check, check
from rules.review.revisions import Checkout, Revision
from tests.adversarial.forger import Scene

TOML = """\
# What to certify.
[runs.tiny]
config  = "path:tiny.yml"     # how
machine = "here"
outputs = ["model"]

[runs.tiny.inputs]            # from what
data = "path:data"

[machines.here]
driver = "local"
"""


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD")


def relock(root: Path) -> None:
    for run in config.load(root).runs.values():
        lock.write(root, lock.resolve(root, run))


def make(root: Path, monkeypatch: pytest.MonkeyPatch, *, within: bool = False) -> Path:
    """Make the repository at `root` and change into it; its cache lies beside it.

    With `within`, the repository is the folder above.
    """
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("AICERT_CACHE", str(root.with_name("cache")))
    (root / "aicert.toml").write_text(TOML)
    (root / ".gitignore").write_text("/.aicert/\n")
    (root / "tiny.yml").write_text("learning_rate: 0.1\ndatasets:\n  - path: input:data\n")
    (root / "data").mkdir()
    (root / "data" / "train.jsonl").write_text('{"a": 1}\n' * 10)
    (root / "data" / "test.csv").write_text('a,b\n1,"x\ny"\n')
    git(root.parent if within else root, "init", "--quiet")
    if within:
        (root.parent / "README").write_text("models and more\n")
        git(root.parent, "add", "README")
        git(root.parent, "commit", "--quiet", "--message", "first")
    relock(root)
    commit(root, "base")
    return root


def reviewed_text(root: Path, base: str = "HEAD") -> str:
    return text.text(review.review(root, Revision(root, base), Checkout(root)))


def checks_of(root: Path) -> dict[str, Check]:
    return {c.what: c for c in check(root, Revision(root, "HEAD"), Scene().get("policy"))}
