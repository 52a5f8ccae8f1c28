"""Inputs that must be refused before anything is trained: one row each.

A row names the loader that would have been misled, lays out the files of the hostile input, and
lists words that must name file and reason. Every row goes through the `local` machine's runner,
with a model and a config that have no other fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG = """\
base_model: input:model
datasets:
  - path: input:rows
    type: alpaca
sequence_len: 256
max_steps: 2
micro_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 0.003
optimizer: adamw_torch_fused
bf16: false
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One hostile input; `lay_out(folder)` writes it as `folder`, or as one file in its place.

    The runner's message must contain all of `words`; `config` is added to the config; `named` is
    the key under which the config names the input.
    """

    name: str
    loader: str
    lay_out: Callable[[Path], None]
    words: tuple[str, ...]
    named: str = "datasets"
    config: str = ""

    @property
    def whole_config(self) -> bytes:
        """Return the config that names the hostile input where its loader looks."""
        changed = {
            "datasets": ("path: input:rows", "path: input:hostile"),
            "base_model": ("base_model: input:model", "base_model: input:hostile"),
        }.get(self.named, ("", ""))
        text = CONFIG.replace(*changed) if changed[0] else f"{self.named}: input:hostile\n{CONFIG}"
        return (text + self.config).encode()


def write(files: dict[str, bytes]) -> Callable[[Path], None]:
    """Return a function that writes these files into a folder."""

    def lay_out(folder: Path) -> None:
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    return lay_out


def one(data: bytes) -> Callable[[Path], None]:
    """Return a function that writes one file in place of a folder."""

    def lay_out(path: Path) -> None:
        path.write_bytes(data)

    return lay_out


def table() -> Iterator[Row]:
    """Return every row."""
    from tests.adversarial.inputs import models, rows

    yield from rows.ROWS
    yield from models.ROWS
