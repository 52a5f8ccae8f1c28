"""The conformance suite as a stranger runs it, on verifiers that agree and on others."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vectors import conformance, generate, reading

ADAPTERS = reading.FOLDER / "adapters"
SCRIPT = reading.FOLDER / "aicert-conformance"
# Every kind of certificate and verdict; without and with a model, a nonce, a lineage.
SOME = "forged/quote-"


def called(entrypoint: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # A limit that even a busy computer stays below.
        [SCRIPT, entrypoint, "--limit", "600", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )


def suite(entrypoint: str, *words: str) -> tuple[int, str]:
    done = called(entrypoint, *words)
    assert done.returncode != 2, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", ["first", "second"])
def test_two_verifiers_agree(name: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    entrypoint = f"{sys.executable} {ADAPTERS / name}.py"
    code, output = suite(entrypoint, "--only", SOME, "--report", str(report))
    assert code == 0, output
    outcomes = json.loads(report.read_bytes())["outcomes"]
    assert len(outcomes) > 5
    assert f"{len(outcomes)} of {len(outcomes)} agree" in output
    assert f"{len(outcomes)} named their check" in output
    assert all(not outcome["why"] for outcome in outcomes)


def test_every_word_of_the_protocol_is_used(tmp_path: Path) -> None:
    words: set[str] = set()
    for path in reading.paths():
        folder = tmp_path / path.parent.name / path.stem
        folder.mkdir(parents=True)
        words |= {w for w in conformance.written(reading.read(path), folder) if w[:2] == "--"}
    text = (reading.FOLDER / "PROTOCOL.md").read_text()
    assert words == {line.split("`")[1].split()[0] for line in text.splitlines() if "| `--" in line}


@pytest.mark.parametrize("name", ["first", "second"])
@pytest.mark.parametrize(
    "path", ["honest/code-of-an-ancestor-allowed", "forged/answers-another-challenge"]
)
def test_adapters_take_every_word(name: str, path: str) -> None:
    vector = reading.FOLDER / f"{path}.json"
    outcome = conformance.run([sys.executable, str(ADAPTERS / f"{name}.py")], vector, 600)
    assert outcome.why == ""


def verifier(folder: Path, script: str) -> str:
    program = folder / "verifier"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_a_verifier_that_accepts_all_is_found_out(tmp_path: Path) -> None:
    code, output = suite(verifier(tmp_path, "exit 0"), "--only", "honest/local-run")
    assert code == 0, output
    code, output = suite(verifier(tmp_path, "exit 0"), "--only", SOME)
    assert code == 1
    assert "expected failed, found passed" in output
    assert "\n0 of " in f"\n{output.splitlines()[-1]}"


def test_a_check_that_is_named_must_be_the_one(tmp_path: Path) -> None:
    code, output = suite(verifier(tmp_path, "echo runkey.time; exit 1"), "--only", SOME)
    assert code == 1
    assert "expected quote.structure, found runkey.time" in output
    code, output = suite(verifier(tmp_path, "exit 1"), "--only", SOME)
    assert "; 0 named their check" in output


def test_other_exit_codes_and_no_answer_differ(tmp_path: Path) -> None:
    path = reading.paths()[0]
    assert "found exit 7" in conformance.run([verifier(tmp_path, "exit 7")], path, 600).why
    slow = conformance.run([verifier(tmp_path, "exec sleep 600")], path, 0.2)
    assert (slow.code, slow.why) == (None, "no answer within 0.2 s")


def test_what_is_known_to_differ(tmp_path: Path) -> None:
    paths = [path for path in reading.paths() if SOME in str(path)]
    known = tmp_path / "known.txt"
    known.write_text("".join(f"{path.relative_to(reading.FOLDER)}\n" for path in paths))
    code, output = suite(verifier(tmp_path, "exit 0"), "--only", SOME, "--xfail", str(known))
    assert code == 0
    assert f"{len(paths)} of the others were expected to differ" in output
    entrypoint = f"{sys.executable} {ADAPTERS / 'first'}.py"
    code, output = suite(entrypoint, "--only", str(paths[0].name), "--xfail", str(known))
    assert "AGREES" in output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("./no-such-verifier",), "there is no program"),
        (("'",), "No closing quotation"),
        (("true", "--only", "no such scenario"), "no scenario's path has"),
        (("true", "--only", SOME, "--xfail", "none.txt"), "No such file"),
        (("true", "--only", SOME, "--xfail", "typo.txt"), "'forged/typo.json'"),
        (("true", "--only", SOME, "--report", "."), "Is a directory"),
        (("true", "--only", SOME, "--keep", "kept"), "Not a directory"),
    ],
)
def test_bad_words_are_said(
    words: tuple[str, ...], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typo.txt").write_text("forged/typo.json\n")
    (tmp_path / "kept").write_text("")
    done = called(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert why in done.stderr


def test_why_a_program_ended_otherwise_is_shown(tmp_path: Path) -> None:
    path = reading.paths()[0]
    script = "echo once >&2; echo 'no such option' >&2; exit 7"
    why = conformance.run([verifier(tmp_path, script)], path, 600).why
    assert why.endswith("found exit 7: 'no such option'")
    (tmp_path / "verifier").write_text("no program")
    why = conformance.run([str(tmp_path / "verifier")], path, 600).why
    assert why.endswith("cannot be run: Exec format error")


def test_a_scenario_can_be_kept_and_asked_by_hand(tmp_path: Path) -> None:
    entrypoint = f"{sys.executable} {ADAPTERS / 'second'}.py"
    kept = tmp_path / "kept"
    code, output = suite(
        entrypoint, "--only", "forged/answers-another-challenge", "--keep", str(kept)
    )
    assert code == 0
    (call,) = output.splitlines()
    done = subprocess.run(["sh", "-c", call], capture_output=True, text=True)
    assert call.endswith(f"# {done.returncode}, {done.stdout.strip()}")


def test_scenarios_whose_evidence_nobody_reads_yet_can_be_left_out(tmp_path: Path) -> None:
    index = json.loads((reading.FOLDER / generate.INDEX).read_bytes())
    some = [one for one in index["scenarios"] if one["needs"] == []]
    assert 100 < len(some) < len(index["scenarios"])
    assert {need for one in index["scenarios"] for need in one["needs"]} == set(reading.NEEDS)
    words = [word for need in reading.NEEDS for word in ("--without", need)]
    _, output = suite("true", *words, "--keep", str(tmp_path / "kept"))
    assert len(output.splitlines()) == len(some)


def test_the_index_is_current_and_can_be_checked_with_sha256sum() -> None:
    data = (reading.FOLDER / generate.INDEX).read_bytes()
    files = {
        path.relative_to(reading.FOLDER).as_posix(): path.read_bytes() for path in reading.paths()
    }
    assert data == generate.index(files), "python -m tests.vectors.generate"
    index = json.loads(data)
    listing = "".join(f"{one['sha256']}  {one['path']}\n" for one in index["scenarios"])
    assert index["digest"] == f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"
    done = subprocess.run(["sha256sum", "-c", "--quiet"], input=listing, text=True,
                          cwd=reading.FOLDER, capture_output=True)  # fmt: skip
    assert done.returncode == 0
