"""Pay before serving: every token is covered by a tick of the TPM's counter that came first.

A request reserves the most that it can cost; the meter is raised until that is paid; only then is
it served. Afterwards what was served is counted from the engine's `usage` and the rest is there for
the next request. An engine that says nothing, something absurd or more than was reserved is not
believed: all of the reserve counts as served, and the caller stops serving (`meter.usage`). So what
was served never exceeds what was paid, however a machine dies.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeGuard

from aicert.errors import AicertError
from aicert.frozen import dataclass
from aicert.lease.receipts import Usage

# More in one request is a mistake or an attack; a context has a million at most.
MAX_RESERVE: Final = 1 << 24


class BudgetError(AicertError):
    """The lease's budget does not cover the request. Nothing was served or paid for it."""


class UsageError(AicertError):
    """The engine did not say what it served, or it cannot be: serving ends (`meter.usage`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What one request may cost: its prompt, and its answers, in tokens."""

    tokens_in: int
    tokens_out: int

    @property
    def tokens(self) -> int:
        """Both."""
        return self.tokens_in + self.tokens_out


class Meter:
    """The count of one boot. `tick` raises the TPM's counter; `budget` is the most ticks it may."""

    def __init__(self, tick: Callable[[], None], *, tick_tokens: int, budget: int) -> None:
        self._tick = tick
        self._tick_tokens = tick_tokens
        self._budget = budget
        self._credit = 0
        self._usage = Usage()
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        """What was served since the boot."""
        with self._lock:
            return self._usage

    def renew(self, budget: int) -> None:
        """A new licence: the most ticks of this boot, those that were paid included."""
        with self._lock:
            self._budget = budget

    def reserve(self, wanted: Reserve) -> None:
        """Pay for the most that a request can cost, before it is served."""
        tokens = wanted.tokens
        if min(wanted.tokens_in, wanted.tokens_out) < 0 or not 0 < tokens <= MAX_RESERVE:
            raise BudgetError(f"a request of {tokens} tokens is not served")
        with self._lock:
            ticks = -(-max(tokens - self._credit, 0) // self._tick_tokens)
            if self._usage.ticks + ticks > self._budget:
                self._count(tokens_refused=tokens)
                raise BudgetError(
                    f"the lease's budget does not cover a request of up to {tokens} tokens"
                )
            for _ in range(ticks):
                # A tick that failed was not paid: what was stays credit.
                self._tick()
                self._count(ticks=1)
                self._credit += self._tick_tokens
            self._credit -= tokens
            self._count(requests=1)

    def settle(self, reserved: Reserve, tokens_in: object, tokens_out: object) -> tuple[int, int]:
        """Count what the engine says that it served, and keep the rest of the reserve as credit.
        Gives both numbers back.
        """
        if not (
            _is_count(tokens_in, reserved.tokens_in)
            and _is_count(tokens_out, reserved.tokens_out)
            # Nobody asks nothing.
            and tokens_in
        ):
            self.forfeit(reserved)
            raise UsageError("meter.usage: the engine's usage is absent, or more than was reserved")
        self._settle(reserved, tokens_in, tokens_out)
        return tokens_in, tokens_out

    def forfeit(self, reserved: Reserve) -> None:
        """Count all of it: the engine died while it answered."""
        self._settle(reserved, reserved.tokens_in, reserved.tokens_out)

    def release(self, reserved: Reserve) -> None:
        """Count none of it: the engine refused, and no byte of an answer left the machine."""
        self._settle(reserved, 0, 0)

    def _settle(self, reserved: Reserve, tokens_in: int, tokens_out: int) -> None:
        with self._lock:
            self._credit += reserved.tokens - tokens_in - tokens_out
            self._count(tokens_in=tokens_in, tokens_out=tokens_out)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._usage, name) + more.get(name, 0) for name in _COUNTS}
        self._usage = Usage(**counts)


def _is_count(value: object, most: int) -> TypeGuard[int]:
    # bool is a subclass of int.
    return type(value) is int and 0 <= value <= most


_COUNTS: Final = ("tokens_in", "tokens_out", "tokens_refused", "requests", "ticks")
