"""Recognise git LFS pointers: they stand for files not yet fetched (git-lfs: docs/spec.md)."""

# How much of a file `is_pointer` looks at.
HEAD = 64
# What messages say about a pointer in place of a file, and what to do about it.
REASON, HINT = "a git LFS pointer to a file that was not fetched", "git lfs pull"
# git-lfs reads pointers of its older names as well (lfs/pointer.go, v1Aliases).
_VERSIONS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
    b"version http://git-media.io/v/",
)


def is_pointer(head: bytes) -> bool:
    """Return whether a file that begins so is a git LFS pointer, whatever else is wrong with it."""
    return head.startswith(_VERSIONS)
