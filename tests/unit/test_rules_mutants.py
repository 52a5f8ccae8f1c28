"""What `./doit mutants` makes of mutmut's records, and which mutants it tries."""

import json
from pathlib import Path

import pytest

from rules import mutants_command
from rules.mutants_command import MODULES, TESTS, refresh, score, to_try

ROOT = Path(__file__).resolve().parents[2]


def recorded(state: Path, module: str, **codes: int | None) -> None:
    folder = state / "mutants" / "aicert"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))


def test_a_mutant_is_killed_where_a_test_failed_crashed_or_ran_out_of_time(tmp_path: Path) -> None:
    recorded(tmp_path, "tpm", a=1, b=0, c=33, d=-11, e=36, f=None, g=35)
    found = score("tpm", tmp_path)
    assert (found.killed, found.survived, found.open) == (("a", "d", "e"), ("b", "c", "g"), ("f",))
    assert " ".join(str(found).split()) == "tpm 3 of 6 killed 50.0 %, 1 not tried"
    assert " ".join(str(score("dsse", tmp_path)).split()) == "dsse 0 of 0 killed -"


def test_what_is_open_or_survived_is_tried_and_what_is_new_or_changed(tmp_path: Path) -> None:
    recorded(tmp_path, "tpm", a=1, b=0, f=None)
    assert to_try(["tpm", "dsse"], set(), tmp_path) == ["f", "b", "aicert.dsse.*"]
    assert to_try(["tpm"], {"tpm"}, tmp_path) == ["aicert.tpm.*"]


def test_the_copy_keeps_the_times_of_what_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("aicert", "tests/vectors", "rules", "enclave_runner"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "aicert/tpm.py").write_text("1")
    (tmp_path / "aicert/old.py").write_text("1")
    (tmp_path / "tests/vectors/x.json").write_text("1")
    monkeypatch.chdir(tmp_path)
    state = Path("state")
    state.mkdir()
    assert refresh(state) == {"tpm", "old", ""}
    before = (state / "aicert/tpm.py").stat().st_mtime_ns
    (tmp_path / "aicert/old.py").unlink()
    assert refresh(state) == set()
    assert (state / "aicert/tpm.py").stat().st_mtime_ns == before
    assert not (state / "aicert/old.py").exists()
    assert not (state / "tests/vectors").exists()
    (tmp_path / "aicert/tpm.py").write_text("2")
    assert refresh(state) == {"tpm"}


def test_the_modules_and_their_tests_exist() -> None:
    assert all((ROOT / "aicert" / f"{name}.py").is_file() for name in MODULES)
    missing = [name for name in TESTS if not (ROOT / f"tests/unit/test_{name}.py").is_file()]
    # The appraisal is tested as a whole, by the attack table.
    assert all(name.startswith("appraise_") for name in missing)
    assert (ROOT / mutants_command.LOCK).is_file()
