"""Refusals that several trainers share.

`trainer` is how messages call what the run is, with its article: "a merge", "an evaluation".
"""

import difflib
from collections.abc import Collection, Iterable

from aicert.errors import ConfigError
from aicert.formats.lockfile import CONFIG_INPUT, Lockfile, input_code


def require_plain_run(trainer: str, lockfile: Lockfile) -> None:
    """Refuse a lockfile that asks for a second output, a second process or code of an input.

    Raises ConfigError.
    """
    if len(lockfile.outputs) != 1:
        raise ConfigError(f"{trainer} makes exactly one output")
    if lockfile.ranks != 1:
        raise ConfigError(f"{trainer} is a single process", hint="remove `ranks`")
    for word, name in input_code(lockfile):
        raise ConfigError(f"{trainer} does not run inputs' code: {word} of {name}")


def require_all_named(trainer: str, named: Collection[str], inputs: Collection[str]) -> None:
    """Refuse a run with inputs that its config does not name. Raises ConfigError."""
    unused = set(inputs) - {CONFIG_INPUT, *named}
    if unused:
        raise ConfigError(
            f"{trainer} reads only what its config names, but the run has other inputs: "
            + ", ".join(sorted(unused)),
            hint="remove them from the run's inputs",
        )


def require_known_keys(
    trainer: str, keys: Iterable[object], known: Collection[str], hint: str
) -> None:
    """Refuse a key that the trainer's config cannot have. `hint` says which it can have.

    Raises ConfigError.
    """
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=1)
            raise ConfigError(
                f"config: {str(key)[:80]!a}: {trainer} has no such key",
                hint=f"did you mean `{close[0]}`?" if close else hint,
            )
