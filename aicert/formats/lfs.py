"""A pointer of git LFS: what stands for a file where LFS was not asked (git-lfs: docs/spec.md)."""

# As much of a file as `is_pointer` looks at.
HEAD = 64
# What is said where one stands in place of a file, and what to do about it.
REASON, HINT = "a git LFS pointer to a file that was not fetched", "git lfs pull"
# git-lfs reads pointers of its older names as well (lfs/pointer.go, v1Aliases).
_VERSIONS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
    b"version http://git-media.io/v/",
)


def is_pointer(head: bytes) -> bool:
    """Whether a file that begins so is a pointer of git LFS, whatever else is wrong with it."""
    return head.startswith(_VERSIONS)
