"""The tables of a policy file that ask for something of a run (docs/spec/policy.md)."""

from aicert.appraisal.policy import Claim
from aicert.errors import ConfigError
from aicert.trust.policy_table import PolicyTable

ORIGINS = ("measured", "derived", "self-reported")


def claim(item: object, path: str) -> Claim:
    """A bound on a number of the run report."""
    table = PolicyTable(item, path, "claim")
    name = table.text("name")
    low, high = table.number("at-least"), table.number("at-most")
    origins = frozenset(table.texts("origins")) or frozenset(("measured", "derived"))
    table.done()
    if low is None and high is None:
        raise ConfigError(f"{path}: claim {name}: at-least or at-most is missing")
    unknown = sorted(origins.difference(ORIGINS))
    if unknown:
        raise ConfigError(f"{path}: claim {name}: no origin is named {unknown[0]!r}")
    return Claim(name=name, at_least=low, at_most=high, origins=origins)
