"""What differs between two states, as rows: one fact each, as it was and as it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fact that differs; None if it is absent on that side. All text may be hostile."""

    label: str
    old: str | None = None
    new: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What changed of one run, image or environment; `word` is new, removed or changed."""

    title: str
    word: str
    rows: tuple[Row, ...]


def moved(label: str, old: str | None, new: str | None) -> list[Row]:
    """One row where the two differ, else none."""
    return [] if old == new else [Row(label=label, old=old, new=new)]
