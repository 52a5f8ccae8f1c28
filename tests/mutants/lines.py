"""A pytest plugin that records for `loop.py` which tests run which lines.

A test that does not run the line that a mutant changes cannot kill it. The plugin is loaded after
`exchange`, so that functions are as they are without mutants.
"""

import ast
import inspect
import linecache
from collections.abc import Generator
from pathlib import Path
from types import CodeType

import pytest
from coverage import Coverage, CoverageData

DATA = Path("lines.coverage")
_measured = Coverage(data_file=str(DATA), include=["aicert/*"], config_file=False)


def pytest_collection_finish() -> None:
    """Start measuring once everything is imported."""
    _measured.erase()
    _measured.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Record what this test runs, and what its fixtures run."""
    _measured.switch_context(item.nodeid)
    return (yield)


def pytest_sessionfinish() -> None:
    """Save the measurement."""
    _measured.stop()
    _measured.save()


class Lines:
    """The recorded lines of each file in `data`."""

    def __init__(self, data: CoverageData) -> None:
        self._data = data
        self._tests: dict[str, dict[int, list[str]]] = {}

    def tests(self, original: CodeType, mutant: CodeType) -> set[str] | None:
        """Return the tests that run what the mutant changes.

        None means that it changes the function's head, which runs when the function is defined.
        """
        start, before = _body(original)
        _, after = _body(mutant)
        if before == after:
            return None
        same = _alike(before, after)
        known = self._of(original.co_filename)
        first = start + same
        end = start + len(before) - _alike(before[:same:-1], after[:same:-1])
        reached = {test for line in range(first, end) for test in known.get(line, ())}
        # A line without code of its own belongs to a statement that begins above it.
        while not reached and first > start:
            first -= 1
            reached = set(known.get(first, ()))
        return reached

    def _of(self, file: str) -> dict[int, list[str]]:
        if file not in self._tests:
            self._tests[file] = self._data.contexts_by_lineno(file)
        return self._tests[file]


def noted() -> Lines:
    """Read what was recorded when the tests were mapped."""
    data = CoverageData(str(DATA))
    data.read()
    return Lines(data)


def _alike(one: list[str], other: list[str]) -> int:
    """Return how many lines both have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _body(code: CodeType) -> tuple[int, list[str]]:
    """Return the first line of a function's body, and its lines."""
    block = inspect.getblock(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :])
    # An indented method is parsed inside another statement.
    (under,) = ast.parse(
        "if True:\n" + "".join(block) if block[0][0] == " " else "".join(block)
    ).body
    (function,) = under.body if isinstance(under, ast.If) else (under,)
    above = 1 if isinstance(under, ast.If) else 0
    if not isinstance(function, ast.FunctionDef):
        raise TypeError(f"no function begins at line {code.co_firstlineno} of {code.co_filename}")
    head = function.body[0].lineno - 1 - above
    return code.co_firstlineno + head, block[head:]
