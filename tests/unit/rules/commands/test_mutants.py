"""How `./doit mutants` uses mutmut's records, and which mutants it tries."""

import json
import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType

import pytest
from coverage import CoverageData

from rules.commands import mutants
from rules.commands.mutants import (
    MAPPED,
    MODULES,
    REACHED,
    TESTS,
    believe,
    records,
    refresh,
    reopen,
    score,
    total,
)
from tests.mutants.lines import Lines

ROOT = Path(__file__).resolve().parents[4]


def recorded(state: Path, module: str, **codes: int | None) -> None:
    meta = state / "mutants" / "aicert" / f"{module}.py.meta"
    meta.parent.mkdir(parents=True, exist_ok=True)
    results = {"exit_code_by_key": codes, "hash_by_function_name": {"f": "1"}}
    meta.write_text(json.dumps(results))


def test_a_mutant_is_killed_where_a_test_failed_crashed_or_ran_out_of_time(tmp_path: Path) -> None:
    recorded(tmp_path, "formats/tpm", a=1, b=0, c=33, d=-11, e=36, f=None, g=35)
    scored = score("formats/tpm", tmp_path)
    assert (scored.killed, scored.survived, scored.open) == (
        ("a", "d", "e"),
        ("b", "c", "g"),
        ("f",),
    )
    assert " ".join(str(scored).split()) == "formats/tpm 3 of 6 killed 50.0 %, 1 not tried"
    assert " ".join(str(score("dsse", tmp_path)).split()) == "dsse 0 of 0 killed -"


def test_survivors_are_tried_again_and_what_was_killed_is_believed(tmp_path: Path) -> None:
    recorded(tmp_path, "formats/tpm", a=1, b=0, f=None)
    recorded(tmp_path, "dsse", a=1)
    assert reopen(["formats/tpm"], set(), tmp_path)
    assert score("formats/tpm", tmp_path).open == ("b", "f")
    assert not reopen(["dsse"], {"formats/tpm", ""}, tmp_path)
    assert reopen(["dsse"], {"dsse"}, tmp_path)
    assert reopen(["statement"], set(), tmp_path)


def test_what_was_killed_is_believed_until_its_function_changes(tmp_path: Path) -> None:
    names = [
        f"aicert.formats.tpm.{function}__mutmut_1" for function in ("x_a", "x_b", "x_c", "x_d")
    ]
    codes: list[int | None] = [1, 0, -11, 1]
    recorded(tmp_path, "formats/tpm", **dict(zip(names, codes, strict=True)))
    before = records(tmp_path)
    (meta,) = before
    before[meta]["hash_by_function_name"] = dict.fromkeys(("x_a", "x_b", "x_c"), "1")
    recorded(tmp_path, "formats/tpm", **dict.fromkeys(names))
    results = json.loads(meta.read_bytes())
    results["hash_by_function_name"] = {"x_a": "1", "x_b": "1", "x_c": "2", "x_d": "1"}
    meta.write_text(json.dumps(results))
    recorded(tmp_path, "dsse", a=None)
    believe(before, tmp_path)
    assert score("formats/tpm", tmp_path).killed == (names[0],)
    assert score("formats/tpm", tmp_path).open == tuple(names[1:])
    assert score("dsse", tmp_path).open == ("a",)


def test_modules_count_together(tmp_path: Path) -> None:
    recorded(tmp_path, "formats/tpm", a=1, b=0)
    recorded(tmp_path, "dsse", c=1, d=None)
    scored = total(score(module, tmp_path) for module in ("formats/tpm", "dsse", "statement"))
    assert " ".join(str(scored).split()) == "together 2 of 3 killed 66.7 %, 1 not tried"


def test_the_copy_keeps_the_times_of_what_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("aicert/formats", "tests/vectors", *mutants.COPIED[1:-1]):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "aicert/formats/tpm.py").write_text("1")
    (tmp_path / "aicert/old.py").write_text("1")
    (tmp_path / "tests/vectors/x.json").write_text("1")
    monkeypatch.chdir(tmp_path)
    state = Path("state")
    state.mkdir()
    assert refresh(state) == {"formats/tpm", "old", ""}
    assert "aicert/formats/tpm.py" in (state / "setup.cfg").read_text()
    # Before Linux 6.13 file times advance in ticks: all of this may happen in one tick.
    os.utime(state / "aicert/formats/tpm.py", (1, 1))
    before = (state / "aicert/formats/tpm.py").stat().st_mtime_ns
    (tmp_path / "aicert/old.py").unlink()
    assert refresh(state) == set()
    assert (state / "aicert/formats/tpm.py").stat().st_mtime_ns == before
    assert not (state / "aicert/old.py").exists()
    # Tests in process import some of these files.
    assert (state / "tests/vectors/x.json").exists()
    # Mutants of `tpm` are only made if its copy looks newer than they are.
    (state / "mutants/aicert/formats").mkdir(parents=True)
    (state / "mutants/aicert/formats/tpm.py").write_text("1")
    assert refresh(state) == set()
    assert (state / "aicert/formats/tpm.py").stat().st_mtime_ns > before
    mapped = state / MAPPED
    mapped.touch()
    assert refresh(state) == set()
    assert mapped.exists()
    reached = state / REACHED
    reached.write_text("which tests reach which function")
    (tmp_path / "pyproject.toml").write_text("other")
    assert refresh(state) == {""}
    assert reached.exists()
    assert not mapped.exists()
    (tmp_path / "aicert/formats/tpm.py").write_text("2")
    assert refresh(state) == {"formats/tpm"}
    assert not reached.exists()


# Parts of these rooms that decide no verdict: they carry, write or show, or read for the machine
# alone (`gguf`). Code that runs on import has run before a mutant is chosen.
DECIDES_NOTHING = {
    "formats/gguf", "formats/lfs", "formats/machine_io", "verifier/facts", "verifier/hints",
}  # fmt: skip
RUNS_WHEN_IMPORTED = {"formats/known_tasks", "trust/azure"}


def test_every_module_that_decides_a_verdict_has_mutants() -> None:
    functions = {
        str(path.relative_to(ROOT / "aicert").with_suffix(""))
        for room in ("appraisal", "crypto", "formats", "trust", "verifier")
        for path in (ROOT / "aicert" / room).rglob("*.py")
        if "def " in path.read_text()
    }
    assert functions - set(MODULES) == DECIDES_NOTHING | RUNS_WHEN_IMPORTED


def test_the_modules_and_their_tests_exist() -> None:
    assert all((ROOT / "aicert" / f"{name}.py").is_file() for name in MODULES)
    assert [path for path in TESTS if not (ROOT / path).is_dir()] == []
    # pytest silently skips a path that does not exist.
    for name in mutants.NOT_ASKED:
        path, _, test = name.partition("::")
        assert (ROOT / path).exists()
        assert not test or f"def {test}(" in (ROOT / path).read_text()
    assert (ROOT / mutants.LOCK).is_file()


SOURCE = """\
class Both:
    @staticmethod
    def kept(
        given: int,
        least: int = {least},
    ) -> int:
        if given > least:
            return {high}
        return max(
            given,
            0,
        )


low = Both.kept
"""


def code_in(path: Path, text: str) -> CodeType:
    path.write_text(text)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    code: CodeType = module.low.__code__
    return code


@pytest.mark.parametrize(
    ("changes", "tests"),
    [
        # The changed line alone; the function's head runs when the function is defined.
        ({"high": "8"}, {"above"}),
        ({"least": "9"}, None),
    ],
)
def test_a_mutant_is_asked_the_tests_that_run_what_it_changes(
    tmp_path: Path, changes: dict[str, str], tests: set[str] | None
) -> None:
    usual = {"least": "5", "high": "7"}
    codes = [
        code_in(tmp_path / f"{name}.py", SOURCE.format_map(words))
        for name, words in (("usual", usual), ("mutant", usual | changes))
    ]
    data = CoverageData(str(tmp_path / "data"))
    for test, ran in (("above", {7, 8}), ("below", {7, 9, 10})):
        data.set_context(test)
        data.add_lines({str(tmp_path / "usual.py"): ran})
    assert Lines(data).tests(codes[0], codes[1]) == tests


def test_a_line_without_code_of_its_own_is_of_what_begins_before_it(tmp_path: Path) -> None:
    text = "def low(a):\n    return max(\n        a,\n        0,\n    )\n"
    codes = [
        code_in(tmp_path / "usual.py", text),
        code_in(tmp_path / "mutant.py", text.replace("0,", "1,")),
    ]
    data = CoverageData(str(tmp_path / "data"))
    data.set_context("all")
    data.add_lines({str(tmp_path / "usual.py"): {2, 3}})
    assert Lines(data).tests(codes[0], codes[1]) == {"all"}
    assert Lines(CoverageData(str(tmp_path / "none"))).tests(codes[0], codes[1]) == set()
