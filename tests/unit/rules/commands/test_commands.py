"""How `./doit` shows errors, finds options, exits, cleans and reports, on small checkouts."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from aicert.errors import ConfigError, ToolError
from rules.bench.benchmarks import BENCHMARKS, Row, imports_of, limit
from rules.commands import bench, clean, test
from rules.commands.help import OURS
from rules.commands.lanes import Ended
from rules.commands.test import Part, parts, run_parts
from rules.host import work
from rules.host.terminal import fitted, users_path

ROOT = Path(__file__).resolve().parents[4]
DODO = """
from aicert.errors import AicertError, ConfigError, RejectedError, ToolError
import json, sys

def fail(kind):
    error = {"config": ConfigError, "tool": ToolError}[kind]
    raise error("no \\x1b[31mgood\\nexpected  1\\nfound     2", hint="./doit lock")

def rejected():
    raise RejectedError("the evidence says no", None)

def task_config():
    "fails on purpose"
    return {"actions": [(fail, ["config"])]}

def task_rejected():
    return {"actions": [rejected]}

def task_after():
    return {"actions": [(fail, ["config"])], "task_dep": ["rejected"]}

def task_defect():
    return {"actions": [(lambda: 1 / 0,)]}

def task_false():
    return {"actions": [lambda: False]}

def task_unsure():
    return {"actions": [rejected], "uptodate": [(fail, ["tool"])]}

def task_same():
    return {"actions": [lambda: print(json.dumps({"a": 1}))], "uptodate": [True]}

def task_json():
    return {"actions": [lambda: print(json.dumps({"a": 1}))]}
"""
CONFIG = """
[tool.doit]
loader = "aicert"
dep_file = ".aicert/doit.db"
backend = "sqlite3"
verbosity = 2
[tool.doit.plugins.loader]
aicert = "rules.loader:Loader"
[tool.doit.plugins.command]
run = "rules.commands.base:RunTasks"
clean = "rules.commands.clean:Clean"
help = "rules.commands.help:Help"
list = "rules.commands.list:List"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dodo.py").write_text(DODO)
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    return tmp_path


def doit(project: Path, *arguments: str, **more: str) -> tuple[int, str, str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | more
    environment.pop("AICERT_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-m", "rules", *arguments],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_aicert_error_is_shown_without_traceback(project: Path) -> None:
    code, out, err = doit(project, "run", "config")
    assert (code, out) == (3, "")
    assert err == (
        "run   config\nerror: no \\x1b[31mgood\nexpected  1\nfound     2\nhint: ./doit lock\n"
    )


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("rejected",), 1),
        (("after",), 1),
        (("unsure",), 2),
        (("false",), 2),
        (("-c", "rejected", "config"), 1),
        (("-c", "config", "rejected"), 3),
        (("json",), 0),
    ],
)
def test_the_exit_code_is_that_of_the_first_failure(
    project: Path, names: tuple[str, ...], code: int
) -> None:
    done = doit(project, "run", *names)
    assert done[0] == code, done
    assert "Traceback" not in done[2]


def test_a_defect_keeps_its_traceback(project: Path) -> None:
    code, _, err = doit(project, "run", "defect")
    assert code == 2
    assert "ZeroDivisionError" in err


def test_stdout_carries_only_what_the_task_prints(project: Path) -> None:
    assert doit(project, "run", "json")[:2] == (0, '{"a": 1}\n')


def test_nothing_to_do_is_said(project: Path) -> None:
    code, out, err = doit(project, "run", "same")
    assert (code, out) == (0, "")
    assert err == "ok    same: up to date\nnothing to do: everything is up to date\n"


def test_an_error_in_a_creator_is_no_traceback(project: Path) -> None:
    (project / "dodo.py").write_text(DODO + "\ndef task_bad():\n    fail('config')\n")
    for command in ("list", "run"):
        code, _, err = doit(project, command)
        assert code == 3
        assert err.startswith("error: no ")


def test_options_may_follow_arguments(project: Path) -> None:
    code, _, err = doit(project, "run", "rejected", "config", "-c")
    assert code == 1
    assert "run   config\n" in err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("confg",), "hint: ./doit config\n"),
        (("claen",), "hint: ./doit clean\n"),
        (("xyzzy",), "hint: ./doit help\n"),
        (("",), "an argument is empty"),
        (("clean", "--nonsense"), "hint: ./doit help clean\n"),
        (("clean", "everything"), "there is no area 'everything'"),
        (("a=b",), "named 'a=b'"),
        (("help", "claen"), "hint: ./doit clean\n"),
        (("xyzzy", "--help"), "named 'xyzzy'"),
    ],
)
def test_a_wrong_command_line_is_exit_3_with_a_hint(
    project: Path, arguments: tuple[str, ...], shown: str
) -> None:
    code, out, err = doit(project, *arguments)
    assert (code, out) == (3, "")
    assert shown in err
    assert "Traceback" not in err


def test_help_and_list_teach(project: Path) -> None:
    code, out, err = doit(project, "help")
    assert (code, err) == (0, "")
    assert "./doit verify --policy local" in out
    assert "Exit codes" in out
    assert doit(project, "help", "clean")[1].startswith("usage: ./doit clean ")
    assert doit(project, "clean", "--help") == doit(project, "help", "clean")
    assert doit(project, "-h") == doit(project, "help")
    assert doit(project, "help", "config")[1].startswith("config")
    code, out, _ = doit(project, "list")
    assert code == 0
    assert re.search(r"^config +fails on purpose$", out, re.MULTILINE)


def test_a_hint_and_the_help_name_what_there_is() -> None:
    code, _, err = doit(ROOT, "reproduce")
    assert code == 3
    assert err.endswith("hint: ./doit reproduce tiny-alpaca\n")
    assert "--policy=ARG    default (if you give none), " in doit(ROOT, "help", "verify")[1]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("certify", "tiny-alpacca", "--accept"), "certify tiny-alpaca --accept"),
        (("verify", "--policy", "local", "tiny-alpacca"), "verify --policy local tiny-alpaca"),
        (("lock", "tiny-alpaca", "tiny-alpaca-measurd"), "lock tiny-alpaca tiny-alpaca-measured"),
        (("fetch", "tiny-alpacca"), "fetch tiny-alpaca"),
        (("why", "tiny-alpacca"), "why tiny-alpaca"),
        (("reproduce", "tiny-alpacca"), "reproduce tiny-alpaca"),
        (
            ("reproduce", "tiny-alpaca", "--machine", "locl"),
            "reproduce tiny-alpaca --machine local",
        ),
        (("update", "tiny-alpacca"), "update tiny-alpaca"),
        (("update", "tiny-alpaca", "alpacca"), "update tiny-alpaca alpaca"),
        (("add", "tiny-alpacca", "new", "path:a b"), "add tiny-alpaca new 'path:a b'"),
        (("add", "xyzzy", "new", "path:x"), "add xyzzy config path:examples/xyzzy.yml"),
        (("why", "xyzzy"), "help why"),
        (("tiny-alpacca",), "certify tiny-alpaca"),
        (("export", "tiny-alpacca"), "certify tiny-alpaca"),
        (("run", "lock:tiny-alpacca"), "lock:tiny-alpaca"),
    ],
)
def test_a_misspelt_name_is_hinted_as_the_command_that_was_meant(
    arguments: tuple[str, ...], hint: str
) -> None:
    code, out, err = doit(ROOT, *arguments)
    assert (code, out) == (3, "")
    assert err.endswith(f"\nhint: ./doit {hint}\n")


def test_a_reader_that_went_away_is_no_traceback(project: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "rules", "help"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


def test_users_paths_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICERT_INVOKED_FROM", "/some/where else")
    assert users_path("x.toml") == Path("/some/where else/x.toml")
    assert users_path("/abs") == Path("/abs")


def filled(project: Path) -> None:
    for name in (
        ".aicert/runs/old/work/file",
        ".aicert/digests.sqlite",
        ".aicert/ca/local.key",
        ".aicert/envs/training-1/complete",
        "outputs/tiny/model/weights",
        "certificates/tiny/certificate.json",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(b"x" * 5000)


def test_clean_removes_caches_only_unless_named(project: Path) -> None:
    filled(project)
    code, out, _ = doit(project, "clean", "--yes")
    assert code == 0
    assert "\nremoved 2 files and folders\n" in out
    assert re.search(r"^keep +azure ", out, re.MULTILINE)
    assert re.search(r"^keep +certificates +[1-9][0-9.]* (B|KiB)  certificates$", out, re.MULTILINE)
    assert not (project / ".aicert/runs/old/work").exists()
    assert not (project / ".aicert/digests.sqlite").exists()
    for kept in (".aicert/ca/local.key", ".aicert/envs", "outputs/tiny", "certificates/tiny"):
        assert (project / kept).exists(), kept


def test_clean_removes_what_is_named(project: Path) -> None:
    filled(project)
    assert doit(project, "clean", "outputs", "envs", "--yes")[0] == 0
    assert not (project / "outputs/tiny").exists()
    assert not (project / ".aicert/envs/training-1").exists()
    for kept in (".aicert/ca/local.key", ".aicert/digests.sqlite", "certificates/tiny"):
        assert (project / kept).exists(), kept


def test_a_line_is_fitted_under_its_indent_and_no_word_is_cut() -> None:
    digest = f"dirHash:{64 * 'a'}"
    assert fitted("short  line") == ["short  line"]
    assert fitted(f"  locked  path:rows  1200 bytes  {digest}") == [
        "  locked  path:rows  1200 bytes",
        f"    {digest}",
    ]
    assert fitted("x" * 100) == ["x" * 100]


def test_clean_asks_first(project: Path) -> None:
    filled(project)
    code, out, err = doit(project, "clean", "certificates")
    assert code == 3
    assert "certificates" in out
    assert err.endswith("hint: ./doit clean certificates --yes\n")
    assert doit(project, "clean", "certificates", "--dry-run")[0] == 0
    assert (project / "certificates/tiny/certificate.json").exists()


def test_clean_leaves_a_run_that_is_going_on(project: Path) -> None:
    filled(project)
    with (project / ".aicert/runs/old/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert doit(project, "clean", "--yes")[0] == 0
        assert "work  in use: kept" in doit(project, "clean", "--dry-run")[1]
        assert (project / ".aicert/runs/old/work/file").exists()
        assert clean.in_use(project / ".aicert/runs/old/work") is True
    assert clean.in_use(project / ".aicert/runs/old/work") is False


def test_clean_leaves_the_databases_of_tasks_that_run(project: Path) -> None:
    filled(project)
    with work.using(project):
        assert doit(project, "clean", "--yes")[0] == 0
        assert (project / ".aicert/digests.sqlite").exists()
        assert "digests.sqlite  in use: kept" in doit(project, "clean", "--dry-run")[1]
        # A folder that the run does not use is removed.
        assert not (project / ".aicert/runs/old/work").exists()
    assert doit(project, "clean", "--yes")[0] == 0
    assert not (project / ".aicert/digests.sqlite").exists()


@pytest.mark.parametrize(
    ("state", "other"),
    [
        (b"", "terraform.tfstate.backup"),
        (b'{"version": 4', "terraform.tfstate.backup"),
        (None, "terraform.tfstate.backup"),
        (None, "applying"),
        (b"[]", "applying"),
    ],
)
def test_clean_keeps_what_may_be_paid_for(project: Path, state: bytes | None, other: str) -> None:
    folder = project / ".aicert/azure/aicert0123456789ab"
    folder.mkdir(parents=True)
    for name, data in (("terraform.tfstate", state), (other, b"")):
        if data is not None:
            (folder / name).write_bytes(data)
    code, _, err = doit(project, "clean", "--yes")
    assert code == 2
    assert "resource group aicert0123456789ab may exist and cost money" in err
    assert folder.is_dir()


def test_clean_empties_a_run_and_leaves_its_lock(project: Path) -> None:
    filled(project)
    lock = project / ".aicert/runs/old/lock"
    lock.touch()
    before = lock.stat().st_ino
    assert doit(project, "clean", "runs", "--yes")[0] == 0
    assert lock.stat().st_ino == before
    assert not (lock.parent / "work").exists()


def test_clean_leaves_an_environment_that_a_run_uses(project: Path) -> None:
    filled(project)
    marker = project / ".aicert/envs/training-1/complete"
    marker.touch()
    with work.held(marker):
        assert doit(project, "clean", "envs", "--yes")[0] == 0
        assert marker.exists()
    assert doit(project, "clean", "envs", "--yes")[0] == 0
    assert not marker.exists()


@pytest.mark.parametrize("name", [*OURS, ""])
def test_help_fits_a_terminal(name: str) -> None:
    code, out, _ = doit(ROOT, "help", *([name] if name else []))
    assert code == 0
    assert not [line for line in out.splitlines() if len(line) > 80]


def test_a_benchmark_of_imports_does_not_take_a_failure_for_few_imports() -> None:
    with pytest.raises(ToolError, match="no luck"):
        imports_of([sys.executable, "-X", "importtime", "-c", "import sys; sys.exit('no luck')"])
    assert "json" in imports_of([sys.executable, "-X", "importtime", "-c", "import json"])


def test_sizes_count_blocks_and_not_what_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("d")
    assert clean.size_of(tmp_path / "d") >= 100_000
    assert clean.size_of(tmp_path / "link") < 10_000
    assert clean.size_of(tmp_path / "gone") == 0


def named(part: Part) -> list[str]:
    return [word for word in part.command if word.startswith("tests/")]


def test_test_runs_everything_without_arguments_and_only_pytest_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AICERT_INVOKED_FROM", str(ROOT / "tests"))
    every = parts([])
    names = [part.name for part in every]
    assert names[:3] == ["ruff check", "ruff format", "mypy"]
    beside = ["programs", "measured machine", "more programs", "all other tests"]
    assert [part.name for part in every if part.beside] == names[3:7] == beside
    # Every folder of tests and every file of programs belongs to one of the two groups, and their
    # coverage is combined.
    programs, _, later, rest = every[3:7]
    folders = named(programs)
    for part, elsewhere in ((rest, folders), (programs, named(later))):
        assert [word for word in part.command if word.startswith("--ignore=")] == [
            f"--ignore={place}" for place in elsewhere
        ]
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert all((ROOT / place).exists() for place in named(later))
    assert all(place.startswith(tuple(folders)) for place in named(later))
    covered = (programs.coverage, later.coverage, rest.coverage)
    assert every[7].command == ("coverage", "combine", *covered)
    assert len(set(covered)) == 3
    assert [name.partition(" of ")[0] for name in names[7:]] == ["coverage"] * 3
    only = parts(["unit/test_layering.py::test_x", "-k", "a or b", "-x"])
    located = f"{ROOT}/tests/unit/test_layering.py::test_x"
    assert only == [Part(name="pytest", command=("pytest", located, "-k", "a or b", "-x"))]


def test_test_runs_all_parts_and_names_at_the_end_what_failed() -> None:
    lines: list[str] = []
    todo = [Part(name=name, command=(name,), beside=name in "bc") for name in "abcd"]
    ran: list[str] = []

    def run(together: Sequence[Part]) -> list[Ended]:
        ran.append("".join(part.name for part in together))
        failures = {"b": ("FAILED tests/test_b.py::test_x - assert 1 == 2",)}
        return [
            Ended(
                name=part.name,
                code=int(part.name == "b"),
                seconds=1,
                failures=failures.get(part.name, ()),
            )
            for part in together
        ]

    assert run_parts(todo, run, log=lines.append) == 1
    assert ran == ["a", "bc", "d"]
    words = [line.split()[:2] for line in lines[-5:-1]]
    assert words == [["ok", "a"], ["FAILED", "b"], ["ok", "c"], ["ok", "d"]]
    assert lines[-1] == "FAILED tests/test_b.py::test_x - assert 1 == 2"
    assert run_parts([todo[0]], run, log=lines.append) == 0
    assert test.Test.__test__ is False


def test_tests_run_beside_each_other_with_coverage_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.py").write_text("import os\nprint(os.environ['COVERAGE_FILE'])\n")
    Path("two.py").write_text("import os\nraise SystemExit('COVERAGE_FILE' in os.environ)\n")
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    one = Part(name="one", command=("one",), coverage=".coverage-one")
    ended = test._run([one, Part(name="two", command=("two",))])
    assert sorted((part.name, part.code) for part in ended) == [("one", 0), ("two", 0)]
    assert ".coverage-one\n" in capfd.readouterr().out
    (alone,) = test._run([Part(name="two", command=("two",))])
    assert (alone.name, alone.code) == ("two", 0)


def test_benchmarks_keep_the_sections_that_were_not_measured() -> None:
    one = bench.section(BENCHMARKS["verify"], [Row(what="w", measured="1 ms")], "2026-01-01")
    first = bench.merged("", {"verify": one})
    slow = [limit("wall", 2.0, 1.0, "s")]
    other = bench.section(BENCHMARKS["noop"], slow, "2026-01-02")
    both = bench.merged(first, {"noop": other})
    assert both.index("## noop") < both.index("## verify")
    assert "| wall | 2.00 s | ≤ 1 s | **missed** |" in both
    assert bench.merged(both, {"verify": one}) == both


def test_benchmarks_are_chosen_by_name() -> None:
    assert "training" not in bench.chosen([], every=False)
    assert "training" in bench.chosen([], every=True)
    assert bench.chosen(["training"], every=False) == ["training"]
    with pytest.raises(ConfigError, match="no benchmark 'x'"):
        bench.chosen(["x"], every=False)
