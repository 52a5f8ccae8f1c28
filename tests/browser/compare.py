"""Compare the answers of `cryptography` and of its stand-in.

`python -m tests.browser.compare SCENES CERTIFICATES LISTS [SEED [FROM]]` takes the number of each.
Another seed draws other cases. FROM continues an interrupted run after that many cases.

It prints every case with two different answers, both answers, and its progress.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from tests.browser import cases
from tests.browser.judging import Answer, Case, judge

ROOT = Path(__file__).resolve().parents[2]
BATCH = 500


def stand_in(asked: Sequence[Case]) -> list[Answer]:
    """Return the stand-in's answers, from a separate interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder, "cases"), Path(folder, "answers")
        question.write_text("".join(json.dumps(case) + "\n" for case in asked), encoding="utf-8")
        command = [sys.executable, "-m", "tests.browser.judging", "--stand-in"]
        subprocess.run([*command, question, answer], cwd=ROOT, check=True)
        return [json.loads(line) for line in answer.read_text(encoding="utf-8").splitlines()]


def library(asked: Iterable[Case]) -> list[Answer]:
    """Return the answers with `cryptography` itself, in the types that JSON returns."""
    answers: list[Answer] = [json.loads(json.dumps(judge(case))) for case in asked]
    return answers


def differences(asked: Sequence[Case]) -> list[tuple[Case, Answer, Answer]]:
    """Return each case with different answers: the library's, then the stand-in's."""
    pairs = zip(asked, library(asked), stand_in(asked), strict=True)
    return [(case, one, other) for case, one, other in pairs if one != other]


def main(arguments: Sequence[str]) -> int:
    """Compare so many scenes, certificates and lists; return 0 if there is no difference."""
    numbers, rest = arguments[:3], [*arguments[3:], *("longer", "0")[len(arguments) - 3 :]]
    scenes, mutants, lists = map(int, numbers)
    seed, count = rest[0], int(rest[1])
    asked: Iterator[Case] = chain(
        cases.scenes(scenes, seed), cases.mutants(mutants, seed), cases.lists(lists, seed)
    )
    asked = islice(asked, count, None)
    differ = 0
    while batch := list(islice(asked, BATCH)):
        count += len(batch)
        for case, one, other in differences(batch):
            differ += 1
            print(json.dumps({"case": case, "library": one, "standIn": other}), file=sys.stderr)
        print(f"stand-in: {count} cases, {differ} differences", file=sys.stderr, flush=True)
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
