"""What a trainer's config uses of a run's inputs: references to files, and selections of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.formats.digest import Digest
from enclave_runner.sandbox.places import INPUTS, RECORDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An input that the config names: under which key (without list positions), and which part of
    it.

    `inside` is a path in the input, "" for all of it. `role` is what the trainer takes it for:
    one of "model", "tokenizer", "adapter", "data" (rows) and "file" (a setting or a template).
    """

    key: str
    name: str
    inside: str
    role: str

    @property
    def place(self) -> str:
        """Its place in the trainer's sandbox."""
        return "/".join(part for part in (INPUTS, self.name, self.inside) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text that is not in a row. `data`: its bytes, or their file; None if neither is at hand.

    `is_json`: it is the strings in `data`.
    """

    digest: Digest
    data: bytes | Path | None
    is_json: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Files of one input, by split, in the order in which they are read.

    Paths are relative to the input; the path is empty if the input is itself a file. `form` is the
    format that the config gives for its rows, or None.
    """

    input: str
    number: int
    form: str | None
    splits: Mapping[str, tuple[str, ...]]

    @property
    def place(self) -> str:
        """The folder of the canonical rows, in the trainer's sandbox."""
        return f"{RECORDS}/{self.input}/{self.number}"


def canonical_name(split: str, index: int, count: int) -> str:
    """The name of a file's canonical rows in that place: it tells `datasets` the split."""
    return f"data/{split}-{index:05d}-of-{count:05d}.jsonl"
