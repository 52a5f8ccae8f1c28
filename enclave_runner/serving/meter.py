"""Pay before serving: a tick of the TPM's counter covers every token in advance.

A request reserves the most that it can cost. The meter is raised until that is paid, and only then
is the request served. Afterwards the engine's `usage` says how much was served, and the rest is
credit for the next request. If `usage` is absent, absurd or more than the reserve, it is not
believed: the whole reserve counts as served, and the caller ends serving (`meter.usage`). So the
machine never serves more than was paid for, however it dies.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeGuard

from aicert.errors import AicertError
from aicert.frozen import dataclass
from aicert.lease.receipts import Usage

# A request for more tokens is a mistake or an attack: a context has at most a million tokens.
MAX_RESERVE: Final = 1 << 24


class BudgetError(AicertError):
    """Raised if the lease's budget does not cover a request; nothing was served or paid."""


class UsageError(AicertError):
    """Raised if the engine's usage is absent or impossible: serving ends (`meter.usage`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """The most that one request may cost: tokens of its prompt and of its answers."""

    tokens_in: int
    tokens_out: int

    @property
    def tokens(self) -> int:
        """The sum of both."""
        return self.tokens_in + self.tokens_out


class Meter:
    """The meter of one boot.

    `tick` raises the TPM's counter, `tick_tokens` is how many tokens a tick pays for, and `budget`
    is the largest number of ticks.
    """

    def __init__(self, tick: Callable[[], None], *, tick_tokens: int, budget: int) -> None:
        self._tick = tick
        self._tick_tokens = tick_tokens
        self._budget = budget
        self._credit = 0
        self._usage = Usage()
        self._open: list[Reserve] = []
        self._is_over = False
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        """The usage that this boot has served."""
        with self._lock:
            return self._usage

    def renew(self, budget: int) -> None:
        """Apply a new licence: the most ticks of this boot, including those already paid."""
        with self._lock:
            self._budget = budget

    def reserve(self, wanted: Reserve) -> None:
        """Pay for the most that a request can cost, before it is served."""
        tokens = wanted.tokens
        if min(wanted.tokens_in, wanted.tokens_out) < 0 or not 0 < tokens <= MAX_RESERVE:
            raise BudgetError(f"a request of {tokens} tokens is too large")
        with self._lock:
            if self._is_over:
                raise BudgetError("the machine has ended")
            ticks = -(-max(tokens - self._credit, 0) // self._tick_tokens)
            if self._usage.ticks + ticks > self._budget:
                self._count(tokens_refused=tokens)
                raise BudgetError(
                    f"the lease's budget does not cover a request of up to {tokens} tokens"
                )
            for _ in range(ticks):
                # A failed tick was not paid, but the earlier ones remain as credit.
                self._tick()
                self._count(ticks=1)
                self._credit += self._tick_tokens
            self._credit -= tokens
            self._open.append(wanted)
            self._count(requests=1)

    def settle(self, reserved: Reserve, tokens_in: object, tokens_out: object) -> tuple[int, int]:
        """Count what the engine reports, and turn the rest of the reserve into credit.

        Returns both counts. UsageError if they cannot be right; the whole reserve then counts.
        """
        if not (
            _is_count(tokens_in, reserved.tokens_in)
            and _is_count(tokens_out, reserved.tokens_out)
            # No prompt has zero tokens.
            and tokens_in
        ):
            self.forfeit(reserved)
            raise UsageError("meter.usage: the engine's usage is absent, or more than was reserved")
        self._settle(reserved, tokens_in, tokens_out)
        return tokens_in, tokens_out

    def forfeit(self, reserved: Reserve) -> None:
        """Count the whole reserve: the engine died while it answered."""
        self._settle(reserved, reserved.tokens_in, reserved.tokens_out)

    def release(self, reserved: Reserve) -> None:
        """Count nothing: the engine refused, and no byte of an answer left the machine."""
        self._settle(reserved, 0, 0)

    def close(self) -> None:
        """Count whatever is being served as whole: the machine ends, and signs its last receipt.

        Nothing can be reserved afterwards, and nothing else is counted for what was reserved.
        """
        with self._lock:
            self._is_over = True
            for reserved in self._open:
                self._count(tokens_in=reserved.tokens_in, tokens_out=reserved.tokens_out)
            self._open.clear()

    def _settle(self, reserved: Reserve, tokens_in: int, tokens_out: int) -> None:
        with self._lock:
            if self._is_over:
                return
            self._open.remove(reserved)
            self._credit += reserved.tokens - tokens_in - tokens_out
            self._count(tokens_in=tokens_in, tokens_out=tokens_out)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self._usage, name) + more.get(name, 0) for name in _COUNTS}
        self._usage = Usage(**counts)


def _is_count(value: object, most: int) -> TypeGuard[int]:
    # bool is a subclass of int.
    return type(value) is int and 0 <= value <= most


_COUNTS: Final = ("tokens_in", "tokens_out", "tokens_refused", "requests", "ticks")
