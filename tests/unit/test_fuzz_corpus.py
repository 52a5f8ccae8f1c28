"""The short, deterministic run of the fuzz targets; `./doit fuzz` is the long one."""

import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import AicertError
from tests.fuzz.mutate import mutated
from tests.fuzz.run import MEGABYTES, SECONDS
from tests.fuzz.seeds import seeds, write
from tests.fuzz.targets import TARGETS
from tests.fuzz.worst import comparable

ROOT = Path(__file__).parents[2]
ROUNDS = 600


def test_every_target_has_seeds() -> None:
    assert set(seeds()) == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_accepted(target: str) -> None:
    for data in seeds()[target]:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_end_in_one_typed_error_and_soon(target: str) -> None:
    chance = Random(target)  # noqa: S311 - the same inputs on every machine
    corpus = list(seeds()[target])
    refused = 0
    for _ in range(ROUNDS):
        data = mutated(chance, corpus)
        started = time.process_time()
        try:
            TARGETS[target](data)
        except AicertError:
            refused += 1
        took = time.process_time() - started
        assert took < SECONDS or comparable(took) < SECONDS, data
    assert refused > ROUNDS // 4


@given(st.sampled_from(sorted(TARGETS)), st.binary(max_size=300))
def test_noise_ends_in_one_typed_error(target: str, data: bytes) -> None:
    try:
        TARGETS[target](data)
    except AicertError:
        pass


def test_the_worst_inputs_are_cheap() -> None:
    command = [sys.executable, "-m", "tests.fuzz.worst"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    costs = [json.loads(line) for line in done.stdout.splitlines()]
    targets = {cost["target"] for cost in costs}
    assert targets >= {"certificate", "statement", "event-log", "rows-csv", "rows-json"}
    for cost in costs:
        assert cost["outcome"].startswith(("accepted", "refused")), cost
        # A quadratic parser exceeds this by far; `./doit bench hostile` enforces the second itself.
        assert cost["seconds"] <= 5 * SECONDS, cost
        assert cost["megabytes"] <= MEGABYTES, cost


def test_the_corpus_can_be_written(tmp_path: Path) -> None:
    write(tmp_path)
    written = sorted(path.read_bytes() for path in tmp_path.glob("quote/*"))
    assert written == sorted(set(seeds()["quote"]))


def test_a_run_without_atheris_finds_nothing_in_the_seeds(tmp_path: Path) -> None:
    write(tmp_path)
    code = "import sys; sys.modules['atheris'] = None; from tests.fuzz.run import main; "
    code += f"sys.exit(main(['quote', {str(tmp_path / 'quote')!r}, '1']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "blind mutation" in done.stderr
    assert "no finding" in done.stderr
