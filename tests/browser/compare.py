"""Ask `cryptography` and its stand-in the same.

`python -m tests.browser.compare SCENES CERTIFICATES LISTS`: how many of each.

Prints every case that the two say different things of, and leaves it beside the answers.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from tests.browser import cases
from tests.browser.judging import Answer, Case, judge

ROOT = Path(__file__).resolve().parents[2]


def stand_in(asked: Sequence[Case]) -> list[Answer]:
    """The stand-in's answers, from an interpreter of its own."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "cases"), Path(folder, "answers")
        question.write_text("".join(json.dumps(case) + "\n" for case in asked), encoding="utf-8")
        command = [sys.executable, "-m", "tests.browser.judging", "--stand-in"]
        subprocess.run([*command, question, answer], cwd=ROOT, check=True)
        return [json.loads(line) for line in answer.read_text(encoding="utf-8").splitlines()]


def library(asked: Iterable[Case]) -> list[Answer]:
    """The answers with `cryptography` itself, as JSON gives them back."""
    answers: list[Answer] = [json.loads(json.dumps(judge(case))) for case in asked]
    return answers


def differences(asked: Sequence[Case]) -> list[tuple[Case, Answer, Answer]]:
    """Each case that gets two answers: that of the library, and that of the stand-in."""
    pairs = zip(asked, library(asked), stand_in(asked), strict=True)
    return [(case, one, other) for case, one, other in pairs if one != other]


def main(arguments: Sequence[str]) -> int:
    """Compare so many scenes, certificates and lists; 0 if there is no difference."""
    scenes, mutants, lists = map(int, arguments)
    asked = chain(
        cases.scenes(scenes, "longer"),
        cases.mutants(mutants, "longer"),
        cases.lists(lists, "longer"),
    )
    count, differ = 0, 0
    while batch := [case for _, case in zip(range(2000), asked, strict=False)]:
        count += len(batch)
        for case, one, other in differences(batch):
            differ += 1
            print(json.dumps({"case": case, "library": one, "standIn": other}), file=sys.stderr)
    print(f"stand-in: {count} cases, {differ} differences", file=sys.stderr)
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
