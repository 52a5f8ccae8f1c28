"""The terminal that `./doit` was called on: how wide lines are, and which folder paths start in."""

import os
import textwrap
from pathlib import Path

WIDTH = 80


def users_path(text: str) -> Path:
    """`text` as the user meant it: relative to where `./doit` was called, not to the repository."""
    return Path(os.environ.get("AICERT_INVOKED_FROM") or Path.cwd(), text)


def fitted(line: str) -> list[str]:
    """`line` in lines of at most WIDTH, under its indent; a word is never cut: it may be pasted."""
    under = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=under, break_long_words=False, break_on_hyphens=False
    )
