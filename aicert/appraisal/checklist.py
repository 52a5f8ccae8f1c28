"""The record of one appraisal: each check is decided once, using only what was verified before.

`step` gives a check the verified values that it needs; if one is missing, the check is
`not-checked` and names the first cause. A check fails by raising an AicertError; a check that
cannot judge raises UndecidedError, and has not failed.
"""

from collections.abc import Callable
from typing import TypeVar

from aicert.appraisal.result import CHECKS, CheckResult, CheckVerdict
from aicert.errors import AicertError, EvidenceError, UndecidedError

G = TypeVar("G")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


class NotApplicableError(Exception):
    """Raised by a check that the verifier's policy does not ask for; its text says why."""


def check_equal(given: object, expected: object, refusal: str) -> None:
    """Raise EvidenceError with both values unless they are equal."""
    if given != expected:
        raise EvidenceError(f"{refusal}\nfound     {given}\nexpected  {expected}")


class Checklist:
    """Collects one CheckResult per check id."""

    def __init__(self) -> None:
        self._results: dict[str, CheckResult] = {}
        # Maps a check that is not ok to the check to blame: itself or one before it.
        self._causes: dict[str, str] = {}

    def step(
        self, check: str, work: Callable[[G], tuple[str, T]], given: G | None, *needs: str
    ) -> T | None:
        """Decide `check` by `work(given)`, which returns a detail and what it verified.

        `work` is not called if one of `needs` is not ok; all of them must have been decided before.
        Returns what `work` verified, or None if the check is not ok.
        """
        if any(need not in self._results for need in needs):
            raise ValueError(f"check {check} is decided before one of {needs}")
        cause = next((self._causes[need] for need in needs if need in self._causes), None)
        if cause is not None:
            self._causes[check] = cause
            verb = "failed" if self._results[cause].verdict == "failed" else "was not decided"
            self._put(check, "not-checked", f"not checked: {cause} {verb}")
            return None
        if given is None:
            raise ValueError(f"check {check} lacks what it needs though {needs} are ok")
        try:
            detail, value = work(given)
        except NotApplicableError as reason:
            self._put(check, "not-applicable", str(reason))
        except AicertError as error:
            self._causes[check] = check
            open_ = isinstance(error, UndecidedError)
            self._put(check, "not-checked" if open_ else "failed", error.message, error.hint)
        else:
            self._put(check, "ok", detail)
            return value
        return None

    def _put(self, check: str, verdict: CheckVerdict, detail: str, hint: str | None = None) -> None:
        if check in self._results or check not in CHECKS:
            raise ValueError(f"check {check} is decided twice or does not exist")
        self._results[check] = CheckResult(id=check, verdict=verdict, detail=detail, hint=hint)

    def is_ok(self, check: str) -> bool:
        """Return whether `check` was decided and is ok."""
        return check in self._results and self._results[check].verdict == "ok"

    def results(self) -> tuple[CheckResult, ...]:
        """Return all results, in the order of CHECKS; raises KeyError if a check was forgotten."""
        return tuple(self._results[check] for check in CHECKS)


def both(first: A | None, second: B | None) -> tuple[A, B] | None:
    """Return the pair, or None if one of the two is missing."""
    return None if first is None or second is None else (first, second)
