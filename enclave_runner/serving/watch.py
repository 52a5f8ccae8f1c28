"""Compute when a lease runs out: at the licensed TPM time, or earlier by the kernel's clock.

The TPM's clock cannot be set back, but whoever owns the TPM may stop it. The kernel's clock counts
suspended time (CLOCK_BOOTTIME), but nobody can read it while the machine is frozen: on waking, the
first step is to check it. The caller reads both each second.
"""

from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The end of a licence.

    `licensed` and `tpm`: the TPM's clock at the end and at opening, in milliseconds. `kernel`:
    CLOCK_BOOTTIME just before that clock was read, in nanoseconds: a TPM that answers late must
    not move the end.
    """

    licensed: int
    tpm: int
    kernel: int

    def left(self, *, tpm: int, kernel: int) -> float:
        """Return the seconds left by the clock that is further ahead.

        The number is zero or less once the lease is over.
        """
        return min((self.licensed - tpm) / 1000, self.left_by_kernel(kernel))

    def left_by_kernel(self, kernel: int) -> float:
        """Return the seconds left by the kernel's clock alone, which nobody can hold up."""
        return (self.licensed - self.tpm) / 1000 - (kernel - self.kernel) / 1e9
