"""Run the workflow's own steps with bash, on a real repository with a hostile change."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.review.text import MARKER
from tests.oracles.environment import workflow_checker

REPOSITORY = Path(__file__).resolve().parents[3]
WORKFLOWS = REPOSITORY / ".github" / "workflows"
# The folder of the files that `aicert init` writes.
STARTER = REPOSITORY / "rules" / "starter"
CODE = ("aicert", "dodo.py", "doit", "enclave_runner", "pyproject.toml", "rules")
TOML = """\
[runs.tiny]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.tiny.inputs]
data = "path:data"
[machines.here]
driver = "local"
"""
# The fewest settings that Axolotl accepts.
CONFIG = """\
datasets: [{path: input:data}]
micro_batch_size: 1
gradient_accumulation_steps: 1
bf16: false
"""


def workflow(name: str) -> Any:
    return yaml.safe_load((WORKFLOWS / name).read_text())


def steps(name: str, job: str) -> list[Any]:
    listed: list[Any] = workflow(name)["jobs"][job]["steps"]
    return listed


def step(name: str, job: str, title: str) -> Any:
    return next(s for s in steps(name, job) if s["name"] == title)


class Repository:
    """A git repository with this project's code and a run of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        for name in CODE:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root / name)
        (root / ".venv").symlink_to(Path(sys.prefix).resolve())
        (root / ".gitignore").write_text("/.aicert/\n/.venv\n__pycache__/\n")
        (root / "aicert.toml").write_text(TOML)
        (root / "tiny.yml").write_text("base_model: input:data\nlearning_rate: 0.1\n" + CONFIG)
        (root / "data").mkdir()
        (root / "data" / "train.jsonl").write_text("{}\n" * 3)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        author = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", *author, *arguments], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "x")
        return self.git("rev-parse", "HEAD")

    def doit(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(self.root / "doit"), *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True)


def bash(script: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a step as GitHub does."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def origin(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "origin")
    locked = repository.doit("lock")
    assert locked.returncode == 0, locked.stderr
    repository.commit()
    return repository


def reviewed(origin: Repository, head: str, tmp_path: Path) -> tuple[int, str]:
    """Run the workflow on the change `head`. Returns its exit code and its comment."""
    base = origin.git("rev-parse", "main")
    origin.git("update-ref", "refs/pull/7/head", head)
    work = tmp_path / "work"
    origin.git("clone", "--quiet", "--branch", "main", ".", str(work))
    (work / ".venv").symlink_to(Path(sys.prefix).resolve())
    (tmp_path / "temp").mkdir()
    environment = {
        "REPOSITORY": str(origin.root),
        "NUMBER": "7",
        "HEAD_SHA": head,
        "BASE_SHA": base,
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    fetched = bash(
        step("review.yml", "review", "Fetch the change as data")["run"], work, **environment
    )
    assert fetched.returncode == 0, fetched.stderr
    ended = bash(step("review.yml", "review", "Compare and check")["run"], work, **environment)
    comment = (tmp_path / "temp" / "review" / "comment.md").read_text()
    assert (tmp_path / "summary").read_text() == comment
    return ended.returncode, comment


def test_an_honest_change_is_told_and_passes(origin: Repository, tmp_path: Path) -> None:
    origin.git("checkout", "--quiet", "-b", "change")
    (origin.root / "data" / "train.jsonl").write_text("{}\n" * 5)
    assert origin.doit("lock").returncode == 0
    code, comment = reviewed(origin, origin.commit(), tmp_path)
    assert code == 0, comment
    assert comment.startswith(MARKER)
    assert "<code>3 rows, 9 B</code> | <code>5 rows, 15 B</code>" in comment
    assert "| ok | <code>lockfile of run tiny</code> |" in comment


def test_a_hostile_change_runs_nothing_and_is_seen(origin: Repository, tmp_path: Path) -> None:
    origin.git("checkout", "--quiet", "-b", "change")
    trap = tmp_path / "ran"
    evil = f"import pathlib; pathlib.Path({str(trap)!r}).touch()\n"
    root = origin.root
    for path in (
        "rules/__init__.py",
        "rules/review/review.py",
        "dodo.py",
        "aicert/cli/main.py",
        "sitecustomize.py",
    ):
        (root / path).write_text(evil)
    (root / "doit").write_text(f"#!/bin/sh\ntouch {trap}\n")
    (root / ".gitattributes").write_text("certificates/** export-ignore\n* filter=evil\n")
    (root / ".github").mkdir()
    (root / "data" / "train.jsonl").write_text("{}\n" * 9)
    (root / "certificates" / "tiny").mkdir(parents=True)
    (root / "certificates" / "tiny" / "certificate.json").write_text('{"kind": "@everyone <b>"}')
    (root / "examples").symlink_to("/etc")
    code, comment = reviewed(origin, origin.commit(), tmp_path)
    assert code == 1
    assert not trap.exists()
    assert "| **FAILED** | <code>lockfile of run tiny</code> |" in comment
    assert "| **FAILED** | <code>certificate of run tiny</code> |" in comment
    assert "@everyone" not in comment
    assert "<b>" not in comment


@pytest.mark.parametrize("name", ["review.yml", "review-comment.yml"])
def test_workflows_grant_little_and_interpolate_nothing_into_scripts(name: str) -> None:
    document = workflow(name)
    assert document["permissions"] == {}
    for job in document["jobs"].values():
        writes = [key for key, value in job["permissions"].items() if value == "write"]
        assert writes == ([] if name == "review.yml" else ["pull-requests"])
        for entry in job["steps"]:
            assert "${{" not in entry.get("run", "")
            if "uses" in entry:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", entry["uses"])
    text = (WORKFLOWS / name).read_text()
    assert "secrets." not in text
    assert "cache" not in re.sub(r"#.*", "", text)


@pytest.mark.parametrize("folder", [WORKFLOWS, STARTER])
def test_checkers_that_we_did_not_write_find_nothing(folder: Path) -> None:
    paths = sorted(folder.glob("*.yml"))
    schema = ("--builtin-schema", "vendor.github-workflows")
    form = workflow_checker("check-jsonschema", *schema, *paths)
    assert form.returncode == 0, form.stdout
    # zizmor checks with its strictest persona. Two triggers are ignored, each with a reason in
    # place.
    audit = ("--offline", "--no-progress", "--persona=auditor")
    audited = workflow_checker("zizmor", *audit, *paths)
    assert audited.returncode == 0, audited.stdout
    assert sum(path.read_text().count("zizmor: ignore") for path in paths) == 2


def test_checkers_find_what_is_wrong(tmp_path: Path) -> None:
    text = (WORKFLOWS / "review.yml").read_text()
    (tmp_path / "b.yml").write_text(text.replace("runs-on:", "runs_on:"))
    schema = ("--builtin-schema", "vendor.github-workflows")
    assert workflow_checker("check-jsonschema", *schema, tmp_path / "b.yml").returncode
    title = "${{ github.event.pull_request.title }}"
    injected = text.replace('test "$(git', f'echo "{title}"; test "$(git')
    (tmp_path / "c.yml").write_text(injected)
    audited = workflow_checker("zizmor", "--offline", "--no-progress", tmp_path / "c.yml")
    assert "template-injection" in audited.stdout


def test_only_the_base_revision_is_checked_out() -> None:
    checkout = steps("review.yml", "review")[0]
    assert checkout["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert checkout["with"]["persist-credentials"] is False
    # The job that has write permission runs no code from the repository.
    assert all("uses" not in entry for entry in steps("review-comment.yml", "comment"))


STUB = """#!/bin/sh
case $1 in
run) mkdir -p "$RUNNER_TEMP/review" && cp "$ARTIFACT" "$RUNNER_TEMP/review/comment.md" ;;
api) echo "$@" >> "$LOG"; case $* in *--paginate*) echo "$OLD" ;; esac ;;
esac
"""


@pytest.mark.parametrize(
    ("title", "body", "old", "posted"),
    [
        ("review of #7", f"{MARKER}\nhello", "", "--method POST repos/o/r/issues/7/comments"),
        ("review of #7", f"{MARKER}\nhello", "55", "--method PATCH repos/o/r/issues/comments/55"),
        ("review of #7", "no marker", "", None),
        ("review of #7; rm -rf /", f"{MARKER}\n", "", None),
        ("another title", f"{MARKER}\n", "", None),
    ],
)
def test_the_second_job_posts_only_what_the_first_made(
    tmp_path: Path, title: str, body: str, old: str, posted: str | None
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gh").write_text(STUB)
    (tools / "gh").chmod(0o755)
    (tmp_path / "artifact").write_text(body)
    output = tmp_path / "output"
    output.touch()
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "ARTIFACT": str(tmp_path / "artifact"),
        "LOG": str(tmp_path / "log"),
        "OLD": old,
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(output),
        "GH_REPO": "o/r",
        "RUN_ID": "1",
        "TITLE": title,
    }
    codes = []
    for entry in steps("review-comment.yml", "comment"):
        match = re.search(r"number=(\d+)", output.read_text())
        number = match[1] if match else ""
        codes.append(bash(entry["run"], tmp_path, **environment, NUMBER=number).returncode)
        if codes[-1]:
            break
    log = tmp_path / "log"
    calls = log.read_text() if log.exists() else ""
    if posted is None:
        assert "--method" not in calls
    else:
        assert posted in calls
    assert (codes[-1] == 0) is (posted is not None)
