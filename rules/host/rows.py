"""The differences between two states as rows, with the old and the new value of each fact."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fact that differs; None on the side where it is absent. All text may be hostile."""

    label: str
    old: str | None = None
    new: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What changed in one run, image or environment; `word` is new, removed or changed."""

    title: str
    word: str
    rows: tuple[Row, ...]


def moved(label: str, old: str | None, new: str | None) -> list[Row]:
    """Return one row if the two differ, otherwise none."""
    return [] if old == new else [Row(label=label, old=old, new=new)]
