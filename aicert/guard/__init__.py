"""Verify what model frameworks load, in the process that loads it, before a byte is used.

    import aicert.guard

    aicert.guard.enable(policy="guard.toml")

It may import all rooms that verify; no room imports it (docs/adr/0023-guard.md).
"""

from aicert.files.bounded import StrPath


def enable(policy: StrPath, *, copy: bool = False) -> None:
    """Guard every load of this process, and of Python children where the `.pth` is installed.

    Args:
        policy: path of the guard's policy file (docs/spec/guard.md).
        copy: verify and load models from a copy in memory that nobody can write to.

    Raises:
        ConfigError: the policy is wrong, a framework has been imported already, or this system
            lets nobody make such a copy.
    """
    from aicert.guard.hooks import enable as start

    start(policy, copy=copy)


__all__ = ["enable"]
