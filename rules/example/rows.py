"""The instruction data set of the shipped example: 256 rows that this module writes (Apache-2.0).

Every row is a small task with its right answer. SHA-256 of the row's number chooses the content, so
the rows are the same on every machine and in every version of Python. No text comes from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

ROWS = 256
T = TypeVar("T")

_WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "lamp",
    "garden",
    "bridge",
    "candle",
    "forest",
    "window",
    "pencil",
    "anchor",
    "basket",
    "copper",
    "dragon",
    "engine",
    "feather",
    "glove",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "mirror",
    "needle",
    "orange",
    "pillow",
    "quartz",
    "ribbon",
    "saddle",
    "tunnel",
    "valley",
    "walnut",
    "yellow",
    "zebra",
]
_NAMES = [
    "Ada",
    "Boris",
    "Chen",
    "Dara",
    "Emil",
    "Fatma",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kofi",
    "Lena",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_OPPOSITES = (
    ("hot", "cold"), ("early", "late"), ("open", "closed"), ("heavy", "light"),
    ("full", "empty"), ("quiet", "loud"), ("narrow", "wide"), ("rough", "smooth"),
    ("above", "below"), ("always", "never"), ("true", "false"), ("deep", "shallow"),
    ("bright", "dark"), ("gain", "loss"), ("arrive", "leave"), ("push", "pull"),
)  # fmt: skip
_PLURALS = (
    ("leaf", "leaves"), ("child", "children"), ("box", "boxes"), ("city", "cities"),
    ("mouse", "mice"), ("foot", "feet"), ("bridge", "bridges"), ("story", "stories"),
    ("knife", "knives"), ("tooth", "teeth"), ("glass", "glasses"), ("key", "keys"),
    ("woman", "women"), ("watch", "watches"), ("river", "rivers"), ("half", "halves"),
)  # fmt: skip
_TERMS = (
    ("a digest", "A digest is a short number that changes when any byte of a file changes."),
    ("a lockfile", "A lockfile lists every input of a run together with its digest."),
    ("a certificate", "A certificate is a signed statement about which inputs gave an output."),
    ("a quote", "A quote is a signed list of what a machine has measured since it started."),
    ("a nonce", "A nonce is a number used once, so that an old answer cannot pass for a new one."),
    ("a verifier", "A verifier reads evidence and says whether it meets a policy."),
    ("training", "Training changes the weights of a model so that it fits its data better."),
    ("a tokenizer", "A tokenizer cuts text into pieces and gives each piece a number."),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the data set."""

    instruction: str
    input: str
    output: str


class _Picker:
    """Numbers from SHA-256 of the row and a counter."""

    def __init__(self, row: int) -> None:
        self._row = row
        self._count = 0

    def number(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`."""
        self._count += 1
        text = f"aicert example row {self._row} {self._count}"
        value = int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[:8], "big")
        return low + value % (high - low + 1)

    def words(self, count: int) -> list[str]:
        left = list(_WORDS)
        return [left.pop(self.number(0, len(left) - 1)) for _ in range(count)]

    def one(self, of: Sequence[T]) -> T:
        return of[self.number(0, len(of) - 1)]


def _add(pick: _Picker) -> Row:
    left, right = pick.number(2, 99), pick.number(2, 99)
    return Row(instruction="Add the two numbers.", input=f"{left} and {right}",
               output=f"{left} + {right} = {left + right}")  # fmt: skip


def _subtract(pick: _Picker) -> Row:
    left, right = pick.number(50, 99), pick.number(1, 49)
    return Row(instruction=f"What is {left} minus {right}?", input="",
               output=f"{left} minus {right} is {left - right}.")  # fmt: skip


def _multiply(pick: _Picker) -> Row:
    left, right = pick.number(2, 12), pick.number(2, 12)
    return Row(instruction=f"Multiply {left} by {right}.", input="", output=str(left * right))


def _sort(pick: _Picker) -> Row:
    words = pick.words(4)
    return Row(instruction="Put these words in alphabetical order.", input=", ".join(words),
               output=", ".join(sorted(words)))  # fmt: skip


def _largest(pick: _Picker) -> Row:
    numbers = [pick.number(10, 999) for _ in range(4)]
    return Row(instruction="Which of these numbers is the largest?",
               input=" ".join(map(str, numbers)), output=str(max(numbers)))  # fmt: skip


def _spell(pick: _Picker) -> Row:
    word = pick.words(1)[0]
    return Row(instruction="Spell the word, one letter at a time.", input=word,
               output="-".join(word.upper()))  # fmt: skip


def _backwards(pick: _Picker) -> Row:
    word = pick.words(1)[0]
    return Row(instruction=f"Write the word '{word}' backwards.", input="", output=word[::-1])


def _count(pick: _Picker) -> Row:
    words = pick.words(pick.number(3, 7))
    return Row(instruction="Count the words.", input=" ".join(words),
               output=f"There are {len(words)} words.")  # fmt: skip


def _day(pick: _Picker) -> Row:
    day, later = pick.number(0, 6), pick.number(1, 6)
    unit = "day" if later == 1 else "days"
    return Row(instruction=f"Today is {_DAYS[day]}. Which day is it in {later} {unit}?", input="",
               output=f"In {later} {unit} it is {_DAYS[(day + later) % 7]}.")  # fmt: skip


def _month(pick: _Picker) -> Row:
    month = pick.number(0, 10)
    return Row(instruction="Name the month that follows.", input=_MONTHS[month],
               output=f"After {_MONTHS[month]} comes {_MONTHS[month + 1]}.")  # fmt: skip


def _opposite(pick: _Picker) -> Row:
    word, other = pick.one(_OPPOSITES)
    return Row(instruction="Give the opposite of the word.", input=word, output=other)


def _plural(pick: _Picker) -> Row:
    one, many = pick.one(_PLURALS)
    return Row(instruction="Write the plural.", input=one, output=f"one {one}, two {many}")


def _older(pick: _Picker) -> Row:
    first, second = pick.number(0, 5), pick.number(6, 11)
    left, right = pick.number(20, 40), pick.number(41, 70)
    text = f"{_NAMES[first]} is {left} years old and {_NAMES[second]} is {right}."
    answer = f"{_NAMES[second]}, by {right - left} years."
    return Row(instruction="Who is older, and by how many years?", input=text, output=answer)


def _even(pick: _Picker) -> Row:
    number = pick.number(10, 500)
    kind = "odd" if number % 2 else "even"
    return Row(instruction="Is the number even or odd?", input=str(number),
               output=f"{number} is {kind}.")  # fmt: skip


def _change(pick: _Picker) -> Row:
    name, price = pick.one(_NAMES), pick.number(3, 19)
    text = f"{name} buys one {pick.words(1)[0]} for {price} coins and pays with 20."
    return Row(instruction="How many coins come back?", input=text, output=f"{20 - price} coins.")


def _term(pick: _Picker) -> Row:
    term, meaning = pick.one(_TERMS)
    ask = pick.one(("What is {}?", "Explain {} in one sentence.", "Say what {} is."))
    return Row(instruction=ask.format(term), input="", output=meaning)


_KINDS: tuple[Callable[[_Picker], Row], ...] = (
    _add, _subtract, _multiply, _sort, _largest, _spell, _backwards, _count,
    _day, _month, _opposite, _plural, _older, _even, _change, _term,
)  # fmt: skip


def rows() -> list[Row]:
    """ROWS distinct rows; the kinds take turns until each has no new row."""
    unique: list[Row] = []
    number = 0
    while len(unique) < ROWS:
        row = _KINDS[number % len(_KINDS)](_Picker(number))
        number += 1
        if row not in unique:
            unique.append(row)
    return unique


def jsonl() -> bytes:
    """Return the rows as JSON lines."""
    lines = (
        json.dumps({"instruction": row.instruction, "input": row.input, "output": row.output})
        for row in rows()
    )
    return "".join(line + "\n" for line in lines).encode("ascii")
