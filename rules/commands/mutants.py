"""`./doit mutants`: make thousands of small changes to the trust core, and check that tests fail.

mutmut makes the mutants of every function, and `tests/mutants/lines.py` records which tests run
which lines. `tests/mutants/loop.py` then runs the tests of the changed line, in a fork of a process
that has loaded them all. The first failure kills the mutant. Only tests that run in this process
count. Everything happens in a copy in `.aicert/mutants/`, which also keeps the results: an
interrupted run continues where it stopped, survivors are tried again, and a killed mutant counts
until its function changes. Delete the folder to start afresh.

mutmut does not mutate constants of modules and classes, nor decorated functions. We also leave out
code that only shows results (`cli`, except its event logs), and `frozen`, which is like the
standard library's.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError, ToolError
from rules.commands.base import Command
from rules.commands.test import ensure_tools
from rules.host import extras
from rules.host.progress import say

LOCK = Path("tests/mutants/requirements.lock")
STATE = Path(".aicert/mutants")
REACHED = Path("mutants", "mutmut-stats.json")
# This file exists once mutmut has mapped the whole copy, which takes minutes.
MAPPED = Path("mapped")
# Whole folders, because tests also read files that are not code.
BESIDE = ("docs", "enclave_runner", "image", "lockfiles", "rules", "terraform")
COPIED = ("aicert", "tests", *BESIDE, "pyproject.toml")
LEFT_OUT = ("__pycache__",)
# The code that decides PASSED, and the code that parses hostile bytes for it.
MODULES = (
    "appraisal/ak_chain",
    "appraisal/appraise",
    "appraisal/checklist",
    "appraisal/checks/optional",
    "appraisal/checks/boot",
    "appraisal/checks/demands",
    "appraisal/checks/inputs",
    "appraisal/checks/kinds",
    "appraisal/checks/lineage",
    "appraisal/checks/model",
    "appraisal/checks/outputs",
    "appraisal/checks/platform",
    "appraisal/checks/quote",
    "appraisal/checks/run",
    "appraisal/checks/run_key",
    "appraisal/checks/training",
    "appraisal/evidence/amd_vcek",
    "appraisal/evidence/audits",
    "appraisal/evidence/azure_hcl",
    "appraisal/evidence/ceiling",
    "appraisal/evidence/compute",
    "appraisal/evidence/confidential",
    "appraisal/evidence/evaluations",
    "appraisal/evidence/google_instance",
    "appraisal/evidence/intel_collateral",
    "appraisal/evidence/maker_path",
    "appraisal/evidence/nvidia",
    "appraisal/evidence/nvidia_device",
    "appraisal/evidence/nvidia_ocsp",
    "appraisal/evidence/nvidia_rim",
    "appraisal/evidence/reproductions",
    "appraisal/evidence/revocation",
    "appraisal/evidence/snp_report",
    "appraisal/evidence/snp_guest",
    "appraisal/evidence/spdm_report",
    "appraisal/evidence/tdx_quote",
    "appraisal/evidence/tdx_guest",
    "appraisal/evidence/tlog",
    "appraisal/evidence/time_token",
    "appraisal/evidence/trusted_time",
    "appraisal/policy",
    "appraisal/result",
    "appraisal/revoked_images",
    "appraisal/words",
    "cli/show/event_log",
    "crypto/signatures",
    "crypto/simulated",
    "crypto/x509",
    "files/bounded",
    "files/tensors",
    "files/tree",
    "formats/binary",
    "formats/canonical_toml",
    "formats/certificate",
    "formats/der",
    "formats/digest",
    "formats/dsse",
    "formats/evaluated_tasks",
    "formats/evaluation",
    "formats/fields",
    "formats/gpu",
    "formats/image_lock",
    "formats/listing",
    "formats/lockfile",
    "formats/measurement",
    "formats/paths",
    "formats/run_report",
    "formats/run_report_facts",
    "formats/safetensors",
    "formats/statement",
    "formats/strict_json",
    "formats/tpm",
    "formats/uncovered_names",
    "trust/built_in",
    "trust/policy_demands",
    "trust/policy_file",
    "trust/policy_table",
    "trust/roots",
    "verifier/evidence",
    "verifier/model_directory",
    "verifier/verify",
)
# Fast in-process tests of these rooms, and the attack table.
TESTS = (
    "tests/unit/aicert/appraisal",
    "tests/unit/aicert/cli",
    "tests/unit/aicert/crypto",
    "tests/unit/aicert/files",
    "tests/unit/aicert/formats",
    "tests/unit/aicert/trust",
    "tests/unit/aicert/verifier",
    "tests/adversarial",
)
# Left out: tests that start processes without mutmut or its settings, tests that count calls by
# code object (all mutants share mutmut's wrapper), tests that measure time (forks disturb each
# other), and tests of other rooms.
NOT_ASKED = (
    "tests/adversarial/inputs",
    "tests/unit/aicert/appraisal/test_confidential.py::test_a_whole_appraisal_takes_a_few_milliseconds",
    "tests/unit/aicert/cli/test_audits.py",
    "tests/unit/aicert/cli/lease/test_broker.py",
    "tests/unit/aicert/cli/test_connect.py",
    "tests/unit/aicert/cli/lease/test_commands.py",
    "tests/unit/aicert/cli/lease/test_keys.py",
    "tests/unit/aicert/cli/test_main.py::test_what_a_library_warns_of_does_not_reach_the_user",
    "tests/unit/aicert/files/test_machine_code.py",
    "tests/unit/aicert/verifier/test_parse_once.py",
)
# Exit codes of a fork in which a test failed, crashed or timed out.
KILLED = frozenset((1, 3, -6, -7, -9, -11, -14, -24, 24, 36, 152, 255))
PYTEST = (
    "-p", "no:cacheprovider", "-p", "no:cov", "-p", "tests.mutants.quick_hypothesis",
    *(f"--deselect={path}" for path in NOT_ASKED),
)  # fmt: skip
# Nobody reads why a mutant fails, and a traceback takes ten times as long as the test.
TERSE = ("--tb=native", "--assert=plain")
CONFIG = """\
[mutmut]
source_paths = aicert
only_mutate =
{modules}
also_copy =
{beside}
pytest_add_cli_args =
{arguments}
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

    @property
    def decided(self) -> int:
        """How many were tried."""
        return len(self.killed) + len(self.survived)

    def __str__(self) -> str:
        share = f"{100 * len(self.killed) / self.decided:.1f} %" if self.decided else "-"
        rest = f", {len(self.open)} not tried" if self.open else ""
        return f"{self.module:<32} {len(self.killed):>5} of {self.decided:>5} killed  {share}{rest}"


def score(module: str, state: Path = STATE) -> Score:
    """Return what is known about a module's mutants."""
    meta = _meta(module, state)
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


def total(scores: Iterable[Score]) -> Score:
    """Return the scores of all modules together."""
    every = list(scores)
    return Score(
        module="together",
        killed=tuple(name for one in every for name in one.killed),
        survived=tuple(name for one in every for name in one.survived),
        open=tuple(name for one in every for name in one.open),
    )


def refresh(state: Path = STATE) -> set[str]:
    """Update the copy. Returns the modules whose source has changed since last time, and "" if
    anything else has.
    """
    changed = set()
    for top in COPIED:
        source = Path(top)
        files = [source] if source.is_file() else _files(source)
        wanted = {state / path: path for path in files}
        for stale in set(_files(state / top)) - set(wanted) if source.is_dir() else ():
            stale.unlink()
        for target, path in wanted.items():
            # mutmut compares times, so an unchanged file must keep its own.
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                (state / MAPPED).unlink(missing_ok=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                changed.add(_module(path) if top == "aicert" else "")
    if changed - {""}:
        # mutmut maps only new tests, so no test would seem to reach a new function.
        (state / REACHED).unlink(missing_ok=True)
    for module in MODULES:
        source, mutated = (
            folder / "aicert" / f"{module}.py" for folder in (state, state / "mutants")
        )
        if mutated.is_file() and b"_mutmut" not in mutated.read_bytes():
            # Copied by earlier runs that made no mutants of it.
            source.touch()
    text = CONFIG.format(
        modules="\n".join(f"    aicert/{name}.py" for name in MODULES),
        beside="\n".join(f"    {folder}" for folder in BESIDE),
        arguments="\n".join(f"    {word}" for word in PYTEST),
        tests="\n".join(f"    {path}" for path in TESTS),
    )
    settings = state / "setup.cfg"
    if not settings.is_file() or settings.read_text() != text:
        (state / MAPPED).unlink(missing_ok=True)
        settings.write_text(text)
    vectors = Path("..", "shared").resolve()
    if vectors.is_dir() and not (state / "shared").exists():
        # Tests look for published evidence next to the checkout, so it must also be next to the
        # copy.
        (state / "shared").symlink_to(vectors)
    return changed


def _module(path: Path) -> str:
    """Return the name of a file of `aicert/` in MODULES."""
    return str(path.relative_to("aicert").with_suffix(""))


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not set(path.parts).intersection(LEFT_OUT)
    ]


def _meta(module: str, state: Path) -> Path:
    return state / "mutants" / "aicert" / f"{module}.py.meta"


def reopen(modules: Iterable[str], changed: set[str], state: Path = STATE) -> bool:
    """Forget which mutants survived, because a new test may kill them. Returns whether there is
    anything to try in these modules, given what has `changed`.
    """
    work = False
    for module in modules:
        known = score(module, state)
        work = work or module in changed or not known.decided or bool(known.open or known.survived)
        if known.survived:
            meta = _meta(module, state)
            record = json.loads(meta.read_bytes())
            record["exit_code_by_key"] |= dict.fromkeys(known.survived)
            meta.write_text(json.dumps(record))
    return work


def records(state: Path = STATE) -> dict[Path, dict[str, Any]]:
    """mutmut's results for each module."""
    metas = (state / "mutants" / "aicert").rglob("*.py.meta")
    return {meta: json.loads(meta.read_bytes()) for meta in metas}


def believe(before: dict[Path, dict[str, Any]], state: Path = STATE) -> None:
    """Restore the mutants killed `before` in unchanged functions. mutmut forgets them all when a
    test file is new, although a new test cannot save a mutant.
    """
    for meta, record in records(state).items():
        known = before.get(meta, {"exit_code_by_key": {}, "hash_by_function_name": {}})
        hashes, old = record["hash_by_function_name"], known["hash_by_function_name"]
        same = {name for name, digest in hashes.items() if old.get(name) == digest}
        record["exit_code_by_key"] |= {
            name: code
            for name, code in known["exit_code_by_key"].items()
            if code in KILLED and name.partition("__mutmut_")[0].rpartition(".")[2] in same
        }
        meta.write_text(json.dumps(record))


def report(scores: list[Score], show: Iterable[str]) -> None:
    """Print each survivor as a diff, then the score of each module and of all."""
    for changes in show:
        print(changes)
    for one in (*scores, total(scores)):
        print(one)


class Mutants(Command):
    """The `mutants` command."""

    doc_purpose = "run mutation tests of the trust core (hours; it can be stopped and continued)"
    doc_usage = "[MODULE…] [--jobs N] [--known]"
    doc_description = (
        "MODULE is a file of aicert/: appraisal/ak_chain, formats/tpm. Survivors that we accept "
        "are explained in docs/mutants.md. "
        "Exit codes: 0 all mutants were tried and at least 95 % of them killed, 1 otherwise, "
        "2 mutmut failed, 3 no such module."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "jobs",
            "short": "j",
            "long": "jobs",
            "type": int,
            "default": 0,
            "help": "how many mutants to try at once (default: one per core)",
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
        """Try the open mutants, then print scores and survivors."""
        for name in args:
            if name not in MODULES:
                raise ConfigError(f"there is no module {name!r}; there are {', '.join(MODULES)}")
        modules = args or list(MODULES)
        tools = extras.install("mutants", LOCK)
        if not params["known"]:
            ensure_tools()
            self._try(modules, tools, params["jobs"] or len(os.sched_getaffinity(0)))
        scores = [score(name) for name in modules]
        survived = [name for one in scores for name in one.survived]
        report(scores, (_changes(name, tools) for name in survived))
        tried = all(one.decided and not one.open for one in scores)
        together = total(scores)
        return int(not tried or 20 * len(together.killed) < 19 * together.decided)

    def _try(self, modules: list[str], tools: Path, jobs: int) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        if not reopen(modules, refresh()):
            return
        say(f"mutants  of {', '.join(modules)}")
        if not (STATE / MAPPED).exists():
            _map(tools, jobs)
        asked = {"AICERT_MUTANTS": " ".join(modules), "AICERT_MUTANTS_JOBS": str(jobs)}
        _pytest("loop", _environment(tools) | asked)


def _pytest(plugin: str, environment: dict[str, str]) -> None:
    """Run the tests with the mutants in place of their functions, and a plugin of
    `tests/mutants`.
    """
    plugins = ["-p", "tests.mutants.exchange", "-p", f"tests.mutants.{plugin}"]
    command = [sys.executable, "-m", "pytest", "--rootdir=.", *PYTEST, *TERSE, *plugins, *TESTS]
    environment |= {"MUTANT_UNDER_TEST": ""}
    # Left out: tests about folders outside any repository, because the copy is in one.
    with tempfile.TemporaryDirectory() as folder:
        folders = [f"--basetemp={folder}/tests", "-otmp_path_retention_policy=none"]
        _logged([*command, *folders], STATE / "mutants", environment)


def _map(tools: Path, jobs: int) -> None:
    """Make all mutants, and record which tests reach which functions and lines. Only the mutants of
    a small module are tried.
    """
    few = _command("run", "--max-children", str(jobs), "aicert.formats.measurement.*__mutmut_1")
    before = records()
    _logged(few, STATE, _environment(tools))
    believe(before)
    _pytest("lines", _environment(tools))
    (STATE / MAPPED).touch()


def _logged(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    log = STATE / "log"
    with log.open("wb") as output:
        code = subprocess.run(
            command, cwd=folder, env=environment, stdout=output, stderr=output
        ).returncode
    if code != 0:
        last_lines = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise ToolError(f"{command[2]} failed with exit code {code}\n{last_lines}")


def _changes(name: str, tools: Path) -> str:
    """Return a mutant as a diff."""
    done = subprocess.run(
        _command("show", name), cwd=STATE, env=_environment(tools), capture_output=True, text=True
    )
    return done.stdout


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *arguments]


def _environment(tools: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tools.absolute()), "PYTHONUTF8": "1"}
