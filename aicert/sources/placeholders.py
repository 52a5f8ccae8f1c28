"""Recognise what servers and checkouts give in place of a file: a git LFS pointer, or a web page.

The first bytes decide. A file counts as a page if it begins as HTML does but its name is not that
of a page. Pages under the names of text files pass, since somebody may want to train on them.
"""

from aicert.errors import LockError
from aicert.formats.lfs import is_pointer
from aicert.sources.choice import suffix

# How much of a file `refuse` looks at: a pointer is shorter (git-lfs: docs/spec.md).
HEAD = 1024
_TEXTS = frozenset((".htm", ".html", ".md", ".mdx", ".rst", ".svg", ".txt", ".xhtml", ".xml"))
_PAGES = (b"<!doctype html", b"<html")
_MARK = b"\xef\xbb\xbf"


def refuse(name: str, head: bytes) -> None:
    """Raise LockError if the file `name`, which begins with `head`, is only a placeholder."""
    if is_pointer(head):
        raise LockError(
            f"{name!a} is a git LFS pointer, not the file that it stands for",
            hint="git lfs pull, or the address at which the file itself is served",
        )
    text = head.removeprefix(_MARK).lstrip().lower()
    if text.startswith(_PAGES) and suffix(name) not in _TEXTS:
        raise LockError(
            f"{name!a} is an HTML page: a sign-in, an error or a preview instead of the file",
            hint="open its address in a browser; use that of the raw file, or sign in",
        )
