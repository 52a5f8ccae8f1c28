import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.lease.receipts import Usage
from enclave_runner.serving.meter import MAX_RESERVE, BudgetError, Meter, Reserve, UsageError


class Counter:
    """A stand-in for a TPM counter that may fail at one tick."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.value = 0
        self.fails_at = fails_at

    def tick(self) -> None:
        if self.value == self.fails_at:
            raise OSError("the TPM is gone")
        self.value += 1


def metered(budget: int = 10, **how: Any) -> tuple[Meter, Counter]:
    counter = Counter(**how)
    return Meter(counter.tick, tick_tokens=1000, budget=budget), counter


def served(usage: Usage) -> int:
    return usage.tokens_in + usage.tokens_out


def test_what_is_left_of_a_reserve_is_there_for_the_next_request() -> None:
    meter, counter = metered()
    wanted = Reserve(tokens_in=500, tokens_out=1000)
    meter.reserve(wanted)
    assert counter.value == 2
    meter.settle(wanted, 100, 200)
    # 1,700 tokens are paid and not served.
    meter.reserve(wanted)
    assert counter.value == 2
    meter.settle(wanted, 500, 1000)
    assert meter.usage == Usage(tokens_in=600, tokens_out=1200, requests=2, ticks=2)


def test_a_budget_ends_before_anything_is_served() -> None:
    meter, counter = metered(budget=1)
    with pytest.raises(BudgetError, match="does not cover a request of up to 1001 tokens"):
        meter.reserve(Reserve(tokens_in=1, tokens_out=1000))
    assert (counter.value, meter.usage) == (0, Usage(tokens_refused=1001))
    meter.renew(2)
    meter.reserve(Reserve(tokens_in=1, tokens_out=1000))
    assert counter.value == 2


def test_a_request_that_the_engine_refuses_costs_nothing() -> None:
    meter, counter = metered(budget=1)
    meter.reserve(Reserve(tokens_in=400, tokens_out=600))
    meter.release(Reserve(tokens_in=400, tokens_out=600))
    assert meter.usage == Usage(requests=1, ticks=1)
    # What was paid and not used is available to the next request.
    meter.reserve(Reserve(tokens_in=500, tokens_out=500))
    assert counter.value == 1


@pytest.mark.parametrize("tokens", [(0, 0), (-1, 5), (5, -1), (MAX_RESERVE, 1), (0, 10**9)])
def test_an_absurd_request_is_refused(tokens: tuple[int, int]) -> None:
    meter, counter = metered(budget=10**9)
    with pytest.raises(BudgetError, match="is too large"):
        meter.reserve(Reserve(tokens_in=tokens[0], tokens_out=tokens[1]))
    assert counter.value == 0


@pytest.mark.parametrize(
    "usage",
    [(0, 0), (None, 5), (5, None), (-1, 5), (5, -1), (501, 5), (5, 1001), (10**20, 5), (True, 5),
     (5.0, 5), ("5", 5), (0, 5)],
)  # fmt: skip
def test_meter_usage_that_cannot_be_counts_as_the_whole_reserve(usage: tuple[Any, Any]) -> None:
    meter, _ = metered()
    wanted = Reserve(tokens_in=500, tokens_out=1000)
    meter.reserve(wanted)
    with pytest.raises(UsageError, match=r"^meter\.usage: "):
        meter.settle(wanted, *usage)
    assert served(meter.usage) == wanted.tokens


def test_a_tick_that_failed_is_not_counted() -> None:
    meter, counter = metered(fails_at=1)
    with pytest.raises(OSError, match="the TPM is gone"):
        meter.reserve(Reserve(tokens_in=500, tokens_out=1500))
    assert (counter.value, meter.usage.ticks) == (1, 1)


STEPS = st.lists(
    st.tuples(st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 100), st.booleans()),
    max_size=20,
)


@given(STEPS)
def test_what_was_served_is_never_more_than_what_was_paid(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    meter, counter = metered(budget=12)
    for tokens_in, tokens_out, part, dies in steps:
        wanted = Reserve(tokens_in=tokens_in, tokens_out=tokens_out)
        try:
            meter.reserve(wanted)
        except BudgetError:
            continue
        # From here on up to the whole reserve may have been served, whatever the usage claims.
        assert served(meter.usage) + wanted.tokens <= 1000 * counter.value
        if dies:
            meter.forfeit(wanted)
        else:
            meter.settle(wanted, max(1, tokens_in * part // 100), tokens_out * part // 100)
        assert served(meter.usage) <= 1000 * meter.usage.ticks
    assert counter.value == meter.usage.ticks <= 12


def test_what_is_cut_off_by_the_end_counts_whole() -> None:
    meter, counter = metered()
    whole, cut = Reserve(tokens_in=500, tokens_out=1000), Reserve(tokens_in=300, tokens_out=800)
    for wanted in (whole, cut, cut):
        meter.reserve(wanted)
    meter.settle(whole, 100, 200)
    meter.close()
    usage = Usage(tokens_in=700, tokens_out=1800, requests=3, ticks=4)
    assert meter.usage == usage
    # Whoever served them hears of the end later, and nothing counts twice.
    meter.forfeit(cut)
    meter.settle(cut, 1, 2)
    meter.close()
    assert (meter.usage, counter.value) == (usage, 4)
    with pytest.raises(BudgetError, match="the machine has ended"):
        meter.reserve(cut)


def test_many_at_once_are_counted_one_by_one() -> None:
    meter, counter = metered(budget=1000)
    wanted = Reserve(tokens_in=100, tokens_out=100)

    def ask() -> None:
        for _ in range(20):
            meter.reserve(wanted)
            meter.settle(wanted, 100, 100)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.usage.requests == 200
    assert served(meter.usage) == 40_000 <= 1000 * counter.value
