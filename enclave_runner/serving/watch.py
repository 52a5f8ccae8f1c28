"""When a lease is over by time: the licensed TPM clock, or as long by the kernel's, if earlier.

The TPM's clock cannot be set back but may be stopped by who owns the TPM; the kernel's counts
suspended time as well (CLOCK_BOOTTIME), and cannot be asked while the machine is frozen: on waking
the first thing is to look. Both are read each second by the caller.
"""

from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A licence's end. `licensed` and `tpm`: the TPM's clock at the end and when the licence was
    opened, in milliseconds; `kernel`: CLOCK_BOOTTIME then, in nanoseconds.
    """

    licensed: int
    tpm: int
    kernel: int

    def left(self, *, tpm: int, kernel: int) -> float:
        """Seconds that are left by the clock that is further; not above zero once it is over."""
        by_tpm = (self.licensed - tpm) / 1000
        by_kernel = (self.licensed - self.tpm) / 1000 - (kernel - self.kernel) / 1e9
        return min(by_tpm, by_kernel)
