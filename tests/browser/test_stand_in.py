"""The stand-in for `cryptography` gives the original's answers, in the same words."""

import ast
import base64
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from browser.crypto.install import MODULES
from tests.browser import cases, odd
from tests.browser.compare import ROOT, differences, stand_in
from tests.browser.judging import Answer, Case
from tests.vectors import reading

SCENES, MUTANTS, LISTS = 500, 1000, 1000


def test_every_scenario_of_the_corpus_gets_the_same_answer() -> None:
    vectors = [reading.read(path) for path in reading.paths()]
    asked = [cases.of_vector(vector) for vector in vectors]
    assert differences(asked) == []
    answers = stand_in(asked[:20])
    assert [answer[0] for answer in answers] == [vector.verdict for vector in vectors[:20]]


def test_scenes_changed_at_random_get_the_same_answer() -> None:
    asked = list(cases.scenes(SCENES))
    assert len(asked) > SCENES * 0.9
    assert differences(asked) == []


def test_certificates_changed_at_random_get_the_same_answer() -> None:
    asked = list(cases.mutants(MUTANTS))
    assert differences(asked) == []
    # Some are accepted, and the others are refused for different reasons.
    kinds = {str(answer[:2]) for answer in stand_in(asked)}
    assert len(kinds) > 30


def test_lists_of_revoked_certificates_get_the_same_answer() -> None:
    asked = list(cases.lists(LISTS))
    assert differences(asked) == []
    answers = {str(answer[:2]) for answer in stand_in(asked)}
    revoked = "['read', \"'y' was revoked at 2026-01-01T00:00:00Z\"]"
    assert {"['read', None]", revoked} <= answers


def test_certificates_that_are_odd_by_hand_get_the_same_answer() -> None:
    asked: list[Case] = [{"der": base64.b64encode(der).decode()} for der in odd.certificates()]
    assert len(asked) > 500
    assert differences(asked) == []
    read = [answer for answer in stand_in(asked) if answer[0] == "read"]
    assert len(asked) / 10 < len(read) < len(asked)


# Rooms that the verifier may load; the page contains no others of aicert.
VERIFIER = ("appraisal", "crypto", "files", "formats", "trust", "verifier")


def asked_for() -> set[tuple[str, str]]:
    """Return every name that the verifier takes from `cryptography` when it runs."""
    names = set()
    for room in VERIFIER:
        for path in (ROOT / "aicert" / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                    node.body = [ast.Pass()]
            nodes = list(ast.walk(tree))
            modules = {}
            for node in nodes:
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("cryptography"):
                    for alias in node.names:
                        whole = f"{node.module}.{alias.name}"
                        if whole in MODULES:
                            modules[alias.name] = whole
                        else:
                            names.add((str(node.module), alias.name))
            names |= {
                (modules[node.value.id], node.attr)
                for node in nodes
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in modules
            }
    return names


def test_all_that_the_verifier_asks_for_is_there() -> None:
    asked = asked_for()
    # A variable may have a module's name: a name that the original lacks was not imported from it.
    asked = {(where, name) for where, name in asked if hasattr(import_module(where), name)}
    assert len(asked) > 25
    assert {(where, name) for where, name in asked if name not in MODULES[where]} == set()


def test_it_needs_the_standard_library_alone() -> None:
    for path in (ROOT / "browser/crypto").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            for module in modules:
                inside = module.startswith("browser.crypto")
                assert inside or module.partition(".")[0] in sys.stdlib_module_names, path


def test_it_comes_before_the_original_or_not_at_all(tmp_path: Path) -> None:
    code = "import cryptography; from browser.crypto.install import install; install()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cryptography was imported before its stand-in" in done.stderr


@pytest.mark.parametrize("answers", [[["passed", None]], []])
def test_a_difference_would_be_seen(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [cases.of_vector(reading.read(reading.paths()[0]))]
    monkeypatch.setattr("tests.browser.compare.stand_in", lambda _: answers)
    if answers:
        assert len(differences(asked)) == 1
    else:
        with pytest.raises(ValueError, match="shorter"):
            differences(asked)
