"""Every command, task and option that documents tell people to type exists."""

import argparse
import re
from pathlib import Path

import pytest

import dodo
from aicert.cli import main
from rules.__main__ import Main

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# At the beginning of a line or of `code`, as opposed to "what aicert does".
_OURS = re.compile(r"(?:^|`)(?:\./doit|(?:\./)?(aicert)) +([a-z][a-z_-]*)([^`#\n]*)", re.MULTILINE)
_HINT = re.compile(r"hint=f?\"(?:\./doit|(aicert)) +([a-z][a-z_-]*)([^\",#\n]*)")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]+)")
# A document's section named in a docstring; a link to a file in a document.
_SECTION = re.compile(r"(docs/[a-z/-]+\.md), \"([^\"]+)\"")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)]*))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# First lines of what a machine reads or writes, and of what it signs.
_HEADERS = (
    "inputs", "output", "quote", "licence", "enrol", "order", "half", "serve", "exact", "record",
    "passage",
)  # fmt: skip
# These commands pass the following words to another program.
_HAND_ON = ("test", "dvc")


def doit_options() -> dict[str, set[str]]:
    """Return the long options by command; a task that is run by its name has none."""
    commands = Main().get_cmds()
    by_command: dict[str, set[str]] = {
        name.removeprefix("task_"): set() for name in dodo.__all__ if name.startswith("task_")
    }
    for name in commands:
        options = commands.get_plugin(name).cmd_options
        by_command[name] = {option["long"] for option in options if option.get("long")}
    return by_command


def aicert_options() -> dict[str, set[str]]:
    """Return the long options by command."""
    (commands,) = (
        action
        for action in main._parser(None)[0]._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {name: options_of(parser) for name, parser in commands.choices.items()}


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return the long options of a command and of its subcommands."""
    options = {word.removeprefix("--") for word in parser._option_string_actions}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            options = options.union(*map(options_of, action.choices.values()))
    return options


def test_this_finds_commands_and_options() -> None:
    assert "accept" in doit_options()["certify"]
    assert doit_options()["image"] == set()
    assert "lockfile" in aicert_options()["verify"]
    commands = _OURS.findall(
        "`aicert verify C --root R # --x`\n./doit lock --check\nwhat aicert does"
    )
    assert commands == [("aicert", "verify", " C --root R "), ("", "lock", " --check")]


def check(commands: list[tuple[str, str, str]]) -> None:
    known = {"aicert": aicert_options(), "": doit_options()}
    for program, command, rest in commands:
        if program and command in _HEADERS:
            continue
        words = f"{program or './doit'} {command}{rest}"
        assert command in known[program], words
        if not program and command == "run":
            assert rest.split()[0] in known[program], words
        if command not in _HAND_ON:
            assert set(_OPTION.findall(rest)) <= known[program][command], words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    check(_OURS.findall(document.read_text()))


def test_what_a_hint_names_exists() -> None:
    folders = ("aicert", "rules", "enclave_runner")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    commands = [command for path in files for command in _HINT.findall(path.read_text())]
    assert len(commands) > 20
    check(commands)


def anchors(text: str) -> set[str]:
    """Return the anchors that a page of this Markdown gets, one for each heading."""
    headings = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", each) for each in _HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_sections_and_files_that_documents_and_code_name_exist() -> None:
    folders = ("aicert", "rules", "enclave_runner", "tests")
    code = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    named = [section for path in code for section in _SECTION.findall(path.read_text())]
    assert named
    for document, section in named:
        text = (ROOT / document).read_text()
        assert re.search(rf"^#+ {re.escape(section)}", text, re.MULTILINE), (document, section)
    for document in DOCUMENTS:
        for target, anchor in _LINK.findall(document.read_text()):
            path = document.parent / target if target else document
            assert path.exists(), (document.name, target)
            assert not anchor or anchor in anchors(path.read_text()), (document.name, anchor)


def test_each_decision_has_a_number_of_its_own() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert len(set(numbers)) == len(numbers)
    for number, path in zip(numbers, records, strict=True):
        assert path.read_text().startswith(f"# {number}. "), path.name
