"""Appraise what the run was given: inputs.lockfile and inputs.pcr14.

PCR 14 is computed from the lockfile alone and compared with the quote; no event log is used.
"""

from aicert.appraisal.checklist import Checklist, both, check_equal
from aicert.appraisal.checks.quote import VerifiedQuote
from aicert.errors import UndecidedError
from aicert.formats import lockfile as lockfiles
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import Lockfile
from aicert.formats.measurement import INPUT_PCR


def lockfile_needs(lockfile: Lockfile | None) -> tuple[str, ...]:
    """Return the checks that a check which reads the lockfile needs: none if it could be read."""
    return () if lockfile is not None else ("inputs.lockfile",)


def appraise_lockfile(
    checklist: Checklist, certificate: Certificate, expected: Digest | None
) -> Lockfile | None:
    """Decide inputs.lockfile: it is canonical, and the one that the caller expects if it named one.

    Returns the parsed lockfile, whatever the caller expects; None if it cannot be read.
    """
    locked: Lockfile | None = None

    def lockfile(data: bytes) -> tuple[str, None]:
        nonlocal locked
        locked = lockfiles.parse(data)
        actual = of_bytes(data)
        if expected is None:
            raise UndecidedError(
                f"you did not say which lockfile you expect; this one is\n{actual}"
            )
        check_equal(actual, expected, "the certificate is for a different lockfile")
        return "it is the lockfile that you named", None

    checklist.step("inputs.lockfile", lockfile, certificate.lockfile)
    return locked


def appraise_inputs(
    checklist: Checklist,
    certificate: Certificate,
    quote: VerifiedQuote | None,
    lockfile: Lockfile | None,
) -> None:
    """Decide inputs.pcr14, which is computed from the lockfile alone."""

    def pcr14(given: tuple[VerifiedQuote, Lockfile]) -> tuple[str, None]:
        expected = lockfiles.pcr14_of(given[1], certificate.lockfile)
        refusal = "the machine measured different inputs or a different lockfile"
        hint = "compare the lockfile with the one that started the run"
        given[0].check_register(INPUT_PCR, expected, refusal, hint=hint)
        return "the machine measured this lockfile and these inputs", None

    needs = ("quote.pcrs", *lockfile_needs(lockfile))
    checklist.step("inputs.pcr14", pcr14, both(quote, lockfile), *needs)
