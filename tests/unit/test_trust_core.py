"""The code that decides PASSED is small enough to read, and loads only what was asked for."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.unit.test_layering import ROOMS
from tests.vectors import reading

ROOT = Path(__file__).resolve().parents[2]
# Lines of code that decide for every certificate, and of one kind of evidence beside it.
MOST_LINES = 2000
MOST_LINES_OF_A_KIND = 500
KINDS = sorted(
    path for path in (ROOT / "aicert/appraisal/evidence").glob("*.py") if path.stem != "__init__"
)
# The records of what a policy accepts of each kind, which every policy has.
RECORDS = "accepted"
# This module puts a result into words, and decides nothing.
WORDS = ROOT / "aicert/appraisal/words.py"
CORE = sorted(
    path
    for room in ("appraisal", "crypto")
    for path in (ROOT / "aicert" / room).rglob("*.py")
    if path not in (*KINDS, WORDS)
)
EVIDENCE = "aicert.appraisal.evidence"
# Rooms that decide nothing.
OUTSIDE = {f"aicert.{room}" for room in ("cli", "exports", "signing", "sources", "cache")}
_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def lines_of_code(source: str) -> int:
    """Return how many lines are neither blank nor a comment nor part of a docstring."""
    words: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            words.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - words)


def test_lines_of_code_are_counted() -> None:
    source = (
        '"""Doc\n\nstring."""\n\n# why\nX = (\n    1,  # one\n)\n\n\ndef f():\n    """Doc."""\n'
    )
    assert lines_of_code(source) == 4
    assert lines_of_code(source + '    return """\n\ntext"""\n') == 7


def test_what_decides_is_small_enough_to_be_read() -> None:
    assert len(CORE) > 20
    counts = {path.name: lines_of_code(path.read_text()) for path in CORE}
    assert 0 < sum(counts.values()) < MOST_LINES, counts


def test_what_is_not_counted_sees_only_names_and_numbers_and_returns_only_text() -> None:
    tree = ast.parse(WORDS.read_text())
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module for node in imported if isinstance(node, ast.ImportFrom)}
    assert len(imported) == 2
    assert modules == {"collections.abc", "aicert.appraisal.result"}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(functions) == 4
    text = "tuple[str, ...]"
    plain = {"str", "str | None", "int", "bool", text, "Sequence[str]", "Sequence[int]"}
    for function in functions:
        assert function.returns is not None
        assert ast.unparse(function.returns) == text
        taken = {ast.unparse(one.annotation) for one in function.args.args if one.annotation}
        assert taken <= {*plain, f"Sequence[{text}]"}


@pytest.mark.parametrize("path", KINDS, ids=lambda path: path.stem)
def test_each_kind_of_evidence_is_small_enough_to_be_read(path: Path) -> None:
    assert 0 < lines_of_code(path.read_text()) < MOST_LINES_OF_A_KIND


@pytest.mark.parametrize("room", ["appraisal", "crypto", "formats", "files"])
def test_what_decides_or_rejects_may_import_nothing_that_does_not(room: str) -> None:
    assert not OUTSIDE & set(ROOMS[f"aicert.{room}"])


def loaded(vector: str, folder: Path) -> set[str]:
    """Return the modules of aicert that `aicert verify` loads for a vector."""
    scenario = reading.read(reading.FOLDER / f"honest/{vector}.json")
    (folder / "certificate.json").write_bytes(scenario.certificate)
    policy = reading.write_policy(scenario, folder)
    words = ["verify", str(folder / "certificate.json"), "--policy", str(policy)]
    words += ["--certificate-only", "--format", "json", "--at", scenario.at.isoformat()]
    code = "import json, sys; from aicert.cli.main import main\n"
    code += f"code = main({words!r}); print(json.dumps([code, *sys.modules]), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    exit_code, *names = json.loads(done.stderr)
    assert exit_code == 0, done.stdout
    return {name for name in names if name.startswith("aicert.")}


@pytest.mark.parametrize("vector", ["local-run-version-2", "qemu-run", "cloud-run"])
def test_a_kind_of_evidence_is_loaded_only_where_the_policys_root_asks_for_it(
    vector: str, tmp_path: Path
) -> None:
    names = loaded(vector, tmp_path)
    assert "aicert.appraisal.checks.platform" in names
    kinds = {f"{EVIDENCE}.{path.stem}" for path in KINDS} - {f"{EVIDENCE}.{RECORDS}"}
    assert not names & kinds
    assert not {name for name in names if name.startswith(("aicert.exports", "aicert.signing"))}


def test_a_root_of_confidential_machines_loads_its_kind_of_evidence(tmp_path: Path) -> None:
    names = loaded("confidential-run", tmp_path)
    kinds = {"amd_vcek", "azure_hcl", "confidential", "snp_report", "snp_guest"}
    assert {f"aicert.appraisal.evidence.{kind}" for kind in kinds} <= names
    for kind in ("google_instance", "intel_collateral", "tdx_guest", "tdx_quote"):
        assert f"aicert.appraisal.evidence.{kind}" not in names


def test_a_trust_domain_loads_its_kind_of_evidence(tmp_path: Path) -> None:
    kinds = {"azure_hcl", "intel_collateral", "tdx_guest", "tdx_quote"}
    of_intel = {f"aicert.appraisal.evidence.{kind}" for kind in kinds}
    for vector in ("azure-td-run", "bare-td-run"):
        assert of_intel <= loaded(vector, tmp_path)


@pytest.mark.parametrize("vector", ["time-stamp", "earlier-time-stamp"])
def test_a_policy_that_names_a_time_authority_loads_its_reader(vector: str, tmp_path: Path) -> None:
    kinds = {name for name in loaded(vector, tmp_path) if name.startswith(EVIDENCE)}
    assert kinds - {EVIDENCE, f"{EVIDENCE}.{RECORDS}"} == {
        f"{EVIDENCE}.time_token",
        f"{EVIDENCE}.trusted_time",
    }


@pytest.mark.parametrize(
    # A witness may also attest when a run began.
    ("vector", "wanted"),
    [("in-a-log", {"tlog"}), ("in-a-log-cosigned", {"tlog", "time_token", "trusted_time"})],
)
def test_a_policy_that_names_a_log_loads_its_reader(
    vector: str, wanted: set[str], tmp_path: Path
) -> None:
    kinds = {name for name in loaded(vector, tmp_path) if name.startswith(EVIDENCE)}
    assert kinds - {EVIDENCE, f"{EVIDENCE}.{RECORDS}"} == {f"{EVIDENCE}.{one}" for one in wanted}


def test_gpus_load_their_kind_of_evidence(tmp_path: Path) -> None:
    kinds = {path.stem for path in KINDS if path.stem.startswith(("nvidia", "spdm"))}
    assert {f"aicert.appraisal.evidence.{kind}" for kind in kinds} <= loaded(
        "run-with-a-gpu", tmp_path
    )
    others = loaded("confidential-run", tmp_path)
    assert not {f"aicert.appraisal.evidence.{kind}" for kind in kinds} & others


def test_contributing_says_how_to_read_all_of_it() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    heading = "\n## Reading the trust core in an afternoon\n"
    section = text.partition(heading)[2].partition("\n## ")[0]
    assert f"under {MOST_LINES:,} lines" in " ".join(section.split())
    assert f"under {MOST_LINES_OF_A_KIND:,}" in section
    named = set(re.findall(r"`([a-z0-9_/]+\.py)`", section))
    for path in CORE:
        if path.stem != "__init__":
            inside = path.relative_to(ROOT / "aicert").as_posix()
            assert inside.removeprefix("appraisal/") in named or inside in named, inside
    # The modules that judge what a policy may ask for besides, and the records of that.
    asked = (ROOT / "aicert/appraisal/checks/optional.py").read_text()
    judges = set(re.findall(rf"from {re.escape(EVIDENCE)} import ([a-z_]+)", asked))
    assert len(judges) > 3
    for judge in (*judges, RECORDS):
        assert f"evidence/{judge}.py" in named, judge
