"""The parts of inputs that a trainer's config uses: references to files, and selections of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aicert.formats.digest import Digest
from enclave_runner.sandbox.places import INPUTS, RECORDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A place in the config that names an input, or a part of it.

    `key`: the config's key, without list positions. `name`: the input. `inside`: a path in the
    input, "" for all of it. `role`: what the trainer uses it as, one of "model", "tokenizer",
    "adapter", "data" (rows) and "file" (a setting or a template).
    """

    key: str
    name: str
    inside: str
    role: str

    @property
    def place(self) -> str:
        """The path in the trainer's sandbox at which the input is shown."""
        return "/".join(part for part in (INPUTS, self.name, self.inside) if part)

    @property
    def named(self) -> str:
        """The input, and the path in it, as reports name it."""
        return "/".join(part for part in (self.name, self.inside) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text that comes from no row.

    `data`: its bytes, or a file with them; None if neither is at hand. `is_json`: `data` is JSON,
    and the text consists of its strings.
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
        """The folder of its canonical rows in the trainer's sandbox."""
        return f"{RECORDS}/{self.input}/{self.number}"


def canonical_name(split: str, index: int, count: int) -> str:
    """Return the name of a file of canonical rows there, in which `datasets` finds the split."""
    return f"data/{split}-{index:05d}-of-{count:05d}.jsonl"
