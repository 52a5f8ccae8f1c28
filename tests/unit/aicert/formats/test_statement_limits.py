"""The maximum length of each text and list in a statement, and the message for one more."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.formats.statement import emit, parse
from tests.unit.aicert.formats.test_statement import good

EXTERNAL = ("predicate", "buildDefinition", "externalParameters")
DEPENDENCY = ("predicate", "buildDefinition", "resolvedDependencies", 0)
METADATA = ("predicate", "runDetails", "metadata")
BUILDER = ("predicate", "runDetails", "builder")
Path = tuple[str | int, ...]
TEXTS: list[tuple[Path, int]] = [
    ((*EXTERNAL, "run"), 63),
    ((*EXTERNAL, "trainer"), 63),
    ((*EXTERNAL, "lockfile"), 80),
    ((*DEPENDENCY, "name"), 63),
    ((*DEPENDENCY, "uri"), 4096),
    ((*METADATA, "startedOn"), 20),
    ((*METADATA, "finishedOn"), 20),
    ((*BUILDER, "id"), 200),
    (("subject", 0, "name"), 8192),
    ((*BUILDER, "builderDependencies", 0, "name"), 8192),
]


def where(path: Path) -> str:
    return "statement" + "".join(f"[{key}]" if type(key) is int else f".{key}" for key in path)


def refusal_of(path: Path, change: Callable[[Any], Any]) -> str | None:
    """Return why `parse` refuses a statement whose value at `path` is changed, or None."""
    document = json.loads(emit(good()))
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = change(place[path[-1]])
    return refusal(json.dumps(document).encode())


def refusal(data: bytes) -> str | None:
    try:
        parse(data)
    except EvidenceError as error:
        return error.message
    return None


@pytest.mark.parametrize(("path", "limit"), TEXTS, ids=[where(path) for path, _ in TEXTS])
def test_a_text_is_as_long_as_its_limit_at_most(path: Path, limit: int) -> None:
    wanted = f"{where(path)} is longer than {limit} characters"
    assert refusal_of(path, lambda _: "a" * (limit + 1)) == wanted
    assert "longer" not in (refusal_of(path, lambda _: "a" * limit) or "")


def test_lists_have_their_limits_too() -> None:
    entry = {"digest": {"sha256": "00" * 32}}
    path: Path = (*BUILDER, "builderDependencies")
    many = [entry | {"name": f"n{number:02}"} for number in range(21)]
    assert refusal_of(path, lambda _: many[:20]) is None
    assert refusal_of(path, lambda _: many) == f"{where(path)} has more than 20 items"
    path = ("predicate", "runDetails", "byproducts")
    assert refusal_of(path, lambda two: [*two, two[0]]) == f"{where(path)} has more than 2 items"
    two = "statement: expected two byproducts, run report and training log"
    assert refusal_of(path, lambda two: two[:1]) == two


def test_what_is_no_statement() -> None:
    assert refusal(b"1") == "statement: expected an object, found 1"
    assert (refusal(b"x") or "").startswith("statement is not JSON: ")
    assert refusal(b"{}") == "statement._type is not 'https://in-toto.io/Statement/v1'"


def test_lists_of_digests_are_sorted_and_say_each_name_once() -> None:
    path = (*BUILDER, "builderDependencies")
    wrong = "statement: builderDependencies is not sorted, or has a name twice"
    assert refusal_of(path, lambda two: two[::-1]) == wrong
    assert refusal_of(path, lambda two: [two[0], two[0]]) == wrong
    named = "statement: builderDependencies has a name outside [a-z0-9-]"
    assert refusal_of((*path, 0, "name"), lambda _: "Root") == named


def test_a_digest_is_exactly_one() -> None:
    path = ("subject", 0, "digest")
    wanted = f"{where(path)}: expected exactly one digest"
    assert refusal_of(path, lambda one: one | {"sha256": "00" * 32}) == wanted
    assert refusal_of(path, lambda _: {}) == wanted


def test_nonce_and_times_have_their_form() -> None:
    place = (*METADATA, "invocationId")
    nonce = f"{where(place)} is not 64 hexadecimal digits"
    for change in (lambda text: text[:-1] + "G", lambda text: text + "0", str.upper):
        assert refusal_of(place, change) == nonce
    for key in ("startedOn", "finishedOn"):
        wanted = f"statement: {key} is not a UTC time like 2026-08-21T09:14:07Z"
        assert refusal_of((*METADATA, key), lambda text: text.replace("Z", "z")) == wanted


def test_subjects_belong_to_declared_outputs_once() -> None:
    def subject(name: str) -> str:
        return f"statement: subject '{name}' is "

    first = ("subject", 0, "name")
    assert refusal_of(first, lambda _: "other") == subject("other") + "not in any declared output"
    assert (
        refusal_of(first, lambda _: "model/x") == subject("model/x") + "repeated or is not a file"
    )
    listed = ("subject",)
    twice = refusal_of(listed, lambda every: [every[0], *every])
    assert twice == subject("model") + "repeated or is not a directory"
    twice = refusal_of(listed, lambda every: [every[1], *every])
    assert twice == subject("model/a.json") + "repeated or is not a file"
    left = "statement: an output has no dirHash among the subjects"
    assert refusal_of(listed, lambda every: every[1:]) == left
    unsorted = "statement: outputs are not sorted names"
    declared = (*EXTERNAL, "outputs")
    assert refusal_of(declared, lambda _: ["z", "model"]) == unsorted
    assert refusal_of(declared, lambda _: ["model", "model", "z"]) == unsorted
    assert refusal_of(declared, lambda _: ["model", "Z"]) == unsorted
