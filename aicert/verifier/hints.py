"""Find what helps somebody whose check failed: a command, or an option, to paste."""

from aicert.appraisal.result import CheckResult


def hint_of(check: CheckResult, policy: str, *, has_roots: bool = False) -> str | None:
    """Return the hint of a check that was judged under `policy`, or None if there is none.

    `has_roots`: the command knows roots of simulated platforms, and needs none to be named.
    """
    if check.id == "platform.chain":
        return _simulated(check.detail.split("\n", 1)[0], policy, has_roots=has_roots)
    return check.hint


def _simulated(reason: str, policy: str, *, has_roots: bool) -> str | None:
    """Return options that accept a simulated platform, if that is why no root of the
    policy fits.
    """
    from aicert.appraisal.ak_chain import SIMULATED_TIERS, simulated_reason

    for driver in SIMULATED_TIERS:
        # Compare the whole line, which is this program's own; nothing from the evidence is
        # repeated.
        if reason == simulated_reason(driver):
            if policy == driver:
                return "--root PEM  # the CA of the checkout that made it"
            return f"--policy {driver}" if has_roots else f"--policy {driver} --root PEM"
    return None
