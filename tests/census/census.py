"""What becomes of a folder of Axolotl's configs: accepted, accepted with records, or refused and
why. `python -m tests.census.census FOLDER` prints the tables of docs/spec/axolotl.md.

A config is mapped in the mildest way: whatever names a model, a tokenizer, an adapter, rows or a
file becomes an `input:` reference to an input that holds what it asks for, and a subset's name is
left out, since its files are listed instead; where it asks for the model's own code, the input
allows that. A refused config is asked again without the refused key until it is accepted, so that
every reason counts and not the first alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from enclave_runner.axolotl.config import Effective, InputView, resolve
from enclave_runner.axolotl.config_rules import (
    OVERRIDES,
    REFERENCES,
    REMOTE_CODE,
    ROWS,
    ConfigRefused,
)
from rules.project.config_packages import lacking, locked_packages

_SPLIT = re.compile(r"\w+", re.ASCII)
_PLACE = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MAX_ROUNDS = 60
_ALWAYS = frozenset(each.key for each in OVERRIDES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """One refused key, and why it is refused."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome for one config.

    `records` maps a key or plugin to why it was dropped or changed; `lacks` names packages that it
    needs and the training environment lacks; `code` is true if the model's own code is to run.
    """

    name: str
    refusals: tuple[Refusal, ...]
    records: Mapping[str, str]
    lacks: frozenset[str]
    code: bool

    @property
    def word(self) -> str:
        if self.refusals:
            return "refused"
        return "accepted with records" if self.records else "accepted"


def judge(name: str, text: str) -> Outcome:
    """Resolve one config, again and again without the refused keys."""
    document = yaml.safe_load(text)
    views = _map(document)
    refusals: list[Refusal] = []
    effective: Effective | None = None
    while effective is None and len(refusals) < _MAX_ROUNDS:
        try:
            effective = resolve(yaml.safe_dump(document).encode(), views)
        except ConfigRefused as error:
            reason = error.message.removeprefix(f"config: {error.key}: ")
            refusals.append(Refusal(key=error.key, reason=reason))
            if not _remove(document, error.key):
                break
    records: dict[str, str] = {}
    for each in effective.overrides if effective else ():
        if each.key not in _ALWAYS:
            records[each.key] = each.why
        elif each.key == "plugins":
            for lost in each.why.split("; ")[1:]:
                plugin, _, why = lost.removeprefix("without ").partition(": ")
                records[plugin.rpartition(".")[2]] = why
    needs = lacking(json.loads(effective.config), locked_packages()) if effective else ()
    return Outcome(
        name=name,
        refusals=tuple(refusals),
        records=records,
        lacks=frozenset(each.package for each in needs),
        code=bool(effective and effective.code_of(views)),
    )


def _map(document: dict[str, Any]) -> dict[str, InputView]:
    """Replace names of models, rows and files by input references, and return those inputs."""
    own_code = bool(document.get(REMOTE_CODE))
    views = {"model": InputView(is_file=False, files=frozenset(("x",)), code=own_code)}
    for key in REFERENCES - {f"{rows}{rest}" for rows in ROWS for rest in ("", ".path")}:
        if "." not in key and document.get(key):
            document[key] = "input:model"
    for key in ("deepspeed", "chat_template_jinja"):
        value = document.get(key)
        if isinstance(value, str) and value and "{" not in value:
            views["file"] = InputView(is_file=True)
            document[key] = "input:file"
    for key in ROWS:
        value = document.get(key)
        if isinstance(value, str) and value:
            document[key] = value = {"path": value}
        for index, entry in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(entry, dict) and entry.get("path") is not None:
                _map_rows(entry, f"{key.replace('_', '-')}-{index}", views)
    return views


def _map_rows(entry: dict[str, Any], name: str, views: dict[str, InputView]) -> None:
    end = {"json": "jsonl", "text": "txt", None: "jsonl"}.get(entry.get("ds_type"))
    end = end or str(entry["ds_type"])
    entry["path"] = f"input:{name}"
    entry.pop("name", None)
    if entry.pop("data_files", None):
        views[name] = InputView(is_file=False, files=frozenset((f"rows.{end}",)))
        entry["data_files"] = [f"input:{name}/rows.{end}"]
        return
    summands = str(entry.get("split") or "train").split("+")
    splits = {"train", "test", *(_SPLIT.findall(each)[0] for each in summands)}
    # Files as a hub names them: a split of any name.
    files = frozenset(f"data/{split}-00000-of-00001.{end}" for split in splits)
    views[name] = InputView(is_file=False, files=files)


def _remove(document: Any, place: str) -> bool:
    """Remove what `a.b[2].c` names, or its nearest existing parent; return False without one."""
    parts = [key or int(index) for key, index in _PLACE.findall(place)]
    holder, last = None, None
    for part in parts:
        there = part in document if isinstance(document, dict) else (
            isinstance(document, list) and isinstance(part, int) and part < len(document)
        )  # fmt: skip
        if not there:
            break
        holder, last, document = document, part, document[part]
    if holder is None or last is None:
        return False
    del holder[last]
    return True


def judge_folder(folder: Path) -> Iterator[Outcome]:
    """Yield the outcome of every training config below `folder`, sorted by path."""
    for path in sorted((*folder.rglob("*.yml"), *folder.rglob("*.yaml"))):
        document = yaml.safe_load(path.read_text())
        if isinstance(document, dict) and document.get("base_model"):
            yield judge(str(path.relative_to(folder)), path.read_text())


def _pattern(text: str) -> str:
    """Strip positions from a key, and quoted text from a reason."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", re.sub(r"\[\d+\]", "", text))


def tables(outcomes: Sequence[Outcome]) -> str:
    """Return the counts, the reasons for refusals, and what is dropped, in Markdown."""
    words = Counter(outcome.word for outcome in outcomes)
    reasons: Counter[tuple[str, str]] = Counter()
    alone: Counter[tuple[str, str]] = Counter()
    records: Counter[tuple[str, str]] = Counter()
    for outcome in outcomes:
        patterns = {(_pattern(each.key), _pattern(each.reason)) for each in outcome.refusals}
        reasons.update(patterns)
        alone.update(patterns if len(patterns) == 1 else ())
        records.update({(_pattern(key), why) for key, why in outcome.records.items()})
    lines = ["| outcome | configs |", "| --- | --: |"]
    lines += [
        f"| {word} | {words[word]} |" for word in ("accepted", "accepted with records", "refused")
    ]
    taken = [outcome for outcome in outcomes if not outcome.refusals]
    lacked = Counter(package for outcome in taken for package in outcome.lacks)
    lines += ["", "| of those accepted | configs |", "| --- | --: |"]
    free = sum(not outcome.lacks and not outcome.code for outcome in taken)
    own_code = sum(outcome.code for outcome in taken)
    lines += [f"| need nothing else | {free} |"]
    lines += [f"| need `allow-remote-code = true` at the input of the model | {own_code} |"]
    lines += [
        f"| need the package `{package}`, which the training environment does not have | {count} |"
        for package, count in sorted(lacked.items(), key=lambda item: (-item[1], item[0]))
    ]
    lines += ["", "| refused key | why | configs | only for this |", "| --- | --- | --: | --: |"]
    lines += [
        f"| `{key}` | {reason} | {count} | {alone[key, reason]} |"
        for (key, reason), count in _by_count(reasons)
    ]
    lines += ["", "| recorded key or plugin | why | configs |", "| --- | --- | --: |"]
    lines += [f"| `{key}` | {why} | {count} |" for (key, why), count in _by_count(records)]
    return "\n".join(lines) + "\n"


def _by_count(counts: Counter[tuple[str, str]]) -> Iterable[tuple[tuple[str, str], int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def main() -> int:
    """Print the tables of a folder; with `--each`, every config's reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", action="store_true")
    arguments = parser.parse_args()
    outcomes = list(judge_folder(arguments.folder))
    if arguments.each:
        for outcome in outcomes:
            print(outcome.word, outcome.name, sep="\t")
            for each in outcome.refusals:
                print("", each.key, each.reason, sep="\t")
    sys.stdout.write(tables(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
