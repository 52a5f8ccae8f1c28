"""`./doit mutants`: change the trust core thousands of times, a little, and see tests fail.

mutmut makes the mutants of every function and runs, for each, the tests that reach the function, in
a fork of a process that has loaded them all; the first failure kills the mutant. Only tests that
run in process are asked. Everything happens in a copy in `.aicert/mutants/`, which also keeps what
was found: a run that is stopped goes on where it was, survivors are tried again, and what was
killed is believed until its function changes. Delete the folder to start afresh.

What mutmut leaves out: constants of modules and classes, and decorated functions.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError, ToolError
from rules import extras
from rules.command import Command
from rules.progress import say
from rules.test_command import ensure_tools

LOCK = Path("tests/mutants/requirements.lock")
STATE = Path(".aicert/mutants")
COPIED = ("aicert", "enclave_runner", "rules", "tests", "pyproject.toml")
# Slow, or about programs and not about functions.
LEFT_OUT = ("e2e", "vectors", "__pycache__")
# What decides PASSED, and what reads hostile bytes for it.
MODULES = (
    "appraisal",
    "appraise_boot",
    "appraise_evidence",
    "appraise_lineage",
    "appraise_model",
    "appraise_run",
    "certificate",
    "chain",
    "digest",
    "dsse",
    "ledger",
    "lockfile",
    "measurement",
    "policy",
    "result",
    "safetensors",
    "statement",
    "strict_json",
    "tpm",
)
# Tests in process and fast, by the module that they are about; and the attack table.
TESTS = (*MODULES, "event_log", "genuine", "image_lock", "platform_ca", "report_form", "roots")
# mutmut's exit codes of a fork in which a test failed, that crashed, or that ran out of time.
KILLED = frozenset((1, 3, -11, -9, 24, -24, 36, 152, 255))
CONFIG = """\
[mutmut]
source_paths = aicert
only_mutate =
{modules}
also_copy =
    enclave_runner
    rules
pytest_add_cli_args =
    -p
    no:cacheprovider
    -p
    no:cov
    -p
    tests.mutants.quick_hypothesis
pytest_add_cli_args_test_selection =
{tests}
use_git_change_detection = false
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The mutants of one module, by name."""

    module: str
    killed: tuple[str, ...]
    survived: tuple[str, ...]
    open: tuple[str, ...]

    def __str__(self) -> str:
        decided = len(self.killed) + len(self.survived)
        share = f"{100 * len(self.killed) / decided:.1f} %" if decided else "-"
        rest = f", {len(self.open)} not tried" if self.open else ""
        return f"{self.module:<18} {len(self.killed):>5} of {decided:>5} killed  {share}{rest}"


def score(module: str, state: Path = STATE) -> Score:
    """What is known of a module's mutants."""
    meta = state / "mutants" / "aicert" / f"{module}.py.meta"
    codes: dict[str, int | None] = {}
    if meta.is_file():
        codes = json.loads(meta.read_bytes())["exit_code_by_key"]
    return Score(
        module=module,
        killed=tuple(name for name, code in codes.items() if code in KILLED),
        survived=tuple(
            name for name, code in codes.items() if code is not None and code not in KILLED
        ),
        open=tuple(name for name, code in codes.items() if code is None),
    )


def refresh(state: Path = STATE) -> set[str]:
    """Bring the copy up to date; the modules whose source changed since the last time."""
    changed = set()
    for top in COPIED:
        source = Path(top)
        files = [source] if source.is_file() else _files(source)
        wanted = {state / path: path for path in files}
        for stale in set(_files(state / top)) - set(wanted) if source.is_dir() else ():
            stale.unlink()
        for target, path in wanted.items():
            # mutmut goes by times: a file that is the same must keep its own.
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                changed.add(path.stem if top == "aicert" else "")
    tests = [f"tests/unit/test_{name}.py" for name in TESTS]
    known = [path for path in tests if Path(path).is_file()]
    text = CONFIG.format(
        modules="\n".join(f"    aicert/{name}.py" for name in MODULES),
        tests="\n".join(f"    {path}" for path in (*known, "tests/adversarial")),
    )
    (state / "setup.cfg").write_text(text)
    vectors = Path("..", "shared").resolve()
    if vectors.is_dir() and not (state / "shared").exists():
        # Where published evidence lies beside the checkout, its tests find it beside the copy.
        (state / "shared").symlink_to(vectors)
    return changed


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not set(path.parts).intersection(LEFT_OUT)
    ]


def to_try(modules: Iterable[str], changed: set[str], state: Path = STATE) -> list[str]:
    """The mutants that no test has killed; every one of a module that is new or changed."""
    names: list[str] = []
    for module in modules:
        known = score(module, state)
        if module in changed or not (known.killed or known.survived or known.open):
            names.append(f"aicert.{module}.*")
        else:
            names += [*known.open, *known.survived]
    return names


def report(scores: list[Score], show: Iterable[str]) -> None:
    """The survivors, each as its change, then the score of each module."""
    for changes in show:
        print(changes)
    for one in scores:
        print(one)


class Mutants(Command):
    """The mutation tester's command line."""

    doc_purpose = "mutation testing of the trust core (hours; it can be stopped and goes on)"
    doc_usage = "[MODULE…] [--jobs N] [--known]"
    doc_description = (
        "Modules by name: chain, tpm. The survivors that stay are explained in docs/mutants.md. "
        "Exit codes: 0 at least 95 % of each module's mutants are killed, 1 they are not, "
        "2 mutmut failed, 3 there is no such module."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "jobs",
            "short": "j",
            "long": "jobs",
            "type": int,
            "default": 0,
            "help": "how many mutants are tried at once (default: one per core)",
        },
        {
            "name": "known",
            "short": "k",
            "long": "known",
            "type": bool,
            "default": False,
            "help": "only print what earlier runs found",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Try what is open, then print scores and survivors."""
        for name in args:
            if name not in MODULES:
                raise ConfigError(f"there is no module {name!r}, there are {', '.join(MODULES)}")
        modules = args or list(MODULES)
        tools = extras.install("mutants", LOCK)
        if tools is None:
            raise ToolError("mutmut cannot be installed here", hint="pip download mutmut")
        if not params["known"]:
            ensure_tools()
            self._try(modules, tools, params["jobs"] or len(os.sched_getaffinity(0)))
        scores = [score(name) for name in modules]
        survived = [name for one in scores for name in one.survived]
        report(scores, (_changes(name, tools) for name in survived))
        return int(any(20 * len(one.killed) < 19 * _decided(one) for one in scores))

    def _try(self, modules: list[str], tools: Path, jobs: int) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        names = to_try(modules, refresh())
        if not names:
            return
        say(f"mutants  {len(names)} to try in {', '.join(modules)}")
        log = STATE / "log"
        with log.open("wb") as output:
            # On a terminal mutmut's own line tells how far it is.
            shown = None if sys.stderr.isatty() else output
            command = _command("run", "--max-children", str(jobs), *names)
            code = subprocess.run(
                command, cwd=STATE, env=_environment(tools), stdout=shown, stderr=shown
            ).returncode
        if code != 0:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise ToolError(f"mutmut failed with exit code {code}\n{said}")


def _decided(one: Score) -> int:
    return len(one.killed) + len(one.survived)


def _changes(name: str, tools: Path) -> str:
    """What a mutant changes, as a diff."""
    done = subprocess.run(
        _command("show", name), cwd=STATE, env=_environment(tools), capture_output=True, text=True
    )
    return done.stdout


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *arguments]


def _environment(tools: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tools.absolute()), "PYTHONUTF8": "1"}
