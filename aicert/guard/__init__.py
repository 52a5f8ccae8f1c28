"""Verify what model frameworks load, in the process that loads it, before a byte is used.

    import aicert.guard

    aicert.guard.enable(policy="guard.toml")

It may import all rooms that verify; no room imports it (docs/adr/0023-guard.md).
"""

from aicert.files.bounded import StrPath


def enable(policy: StrPath) -> None:
    """Guard every load of this process, and of Python children where the `.pth` is installed.

    Args:
        policy: path of the guard's policy file (docs/spec/guard.md).

    Raises:
        ConfigError: the policy is wrong, or a framework has been imported already.
    """
    from aicert.guard.hooks import enable as start

    start(policy)


__all__ = ["enable"]
