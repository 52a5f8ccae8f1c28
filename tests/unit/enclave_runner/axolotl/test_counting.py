"""The plugin's count of the rows that reach a model: never higher than the true number."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.unit.enclave_runner.axolotl.plugin_module import load


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return load("aicert_counting")


class Loader:
    """A loader like torch's: it collates the rows of each batch."""

    def __init__(self, dataset: Any, batches: list[Any], collate: Any = None) -> None:
        self.dataset, self.batches = dataset, batches
        self.collate_fn = collate or (lambda rows: {"input_ids": rows})

    def __iter__(self) -> Iterator[Any]:
        return (self.collate_fn(rows) for rows in self.batches)


class Shard:
    """A loader like Accelerate's around torch's; it reads one batch ahead."""

    def __init__(self, loader: Loader) -> None:
        self.base_dataloader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.base_dataloader))


class Trainer:
    """A trainer like Transformers': so many passes of so many steps over its loader's batches."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.seen: list[Any] = []

    def get_train_dataloader(self) -> Any:
        return self.loader

    def training_step(self, model: Any, inputs: Any, number: int = 0) -> str:
        self.seen.append(inputs)
        return f"loss of {model} and {number}"

    def train(self, count: Any, passes: int = 1, steps: int | None = None) -> None:
        loader = self.get_train_dataloader()
        count.begin()
        for _ in range(passes):
            count.begin_pass()
            for inputs in list(loader)[:steps]:
                assert self.training_step("m", inputs, 3) == "loss of m and 3"
                count.step()


def counted(plugin: ModuleType, loader: Any, processes: int = 1, **how: Any) -> Any:
    count, trainer = plugin.RowCount(processes), Trainer(loader)
    count.follow(trainer, list)
    trainer.train(count, **how)
    # The model gets the same inputs as without the count.
    assert not any("aicert_rows" in inputs for inputs in trainer.seen)
    return count.result()


TEN = list(range(10))
FIVES = [TEN[:5], TEN[5:]]


def test_rows_that_a_step_took_are_counted(plugin: ModuleType) -> None:
    taken = counted(plugin, Loader(TEN, FIVES), passes=3)
    assert taken == {"steps": 6, "rows": 30, "of": 10}


def test_rows_that_are_only_read_ahead_are_not(plugin: ModuleType) -> None:
    taken = counted(plugin, Shard(Loader(TEN, FIVES)), steps=1)
    assert taken == {"steps": 1, "rows": 5, "of": 10}


def test_rows_that_are_packed_into_one_sequence_count_each(plugin: ModuleType) -> None:
    taken = counted(plugin, Loader(TEN, [[[1, 2, 3], [4, 5]], [[6, 7, 8, 9]]]))
    assert taken == {"steps": 2, "rows": 9, "of": 10}


def test_one_pass_takes_no_row_twice(plugin: ModuleType) -> None:
    # Three processes' batches of two, which the first rows fill up; then one that repeats all rows.
    assert counted(plugin, Loader(TEN, [[1, 2], [3, 0]]), processes=3)["rows"] == 3
    assert counted(plugin, Loader(TEN, FIVES * 4), passes=2)["rows"] == 20


def test_a_training_that_begins_again_is_counted_from_its_beginning(plugin: ModuleType) -> None:
    count, trainer = plugin.RowCount(1), Trainer(Loader(TEN, FIVES))
    count.follow(trainer, list)
    trainer.train(count, steps=1)
    trainer.train(count)
    assert count.result() == {"steps": 2, "rows": 10, "of": 10}


@pytest.mark.parametrize(
    "loader",
    [
        # A stream has no length.
        Loader(iter(TEN), FIVES),
        # Rows in an unknown form, and batches that cannot carry a row number.
        Loader(TEN, [{"input_ids": TEN}]),
        Loader(TEN, FIVES, collate=tuple),
    ],
)
def test_what_cannot_be_counted_is_not(plugin: ModuleType, loader: Loader) -> None:
    assert counted(plugin, loader) is None


def test_what_was_not_followed_has_no_count(plugin: ModuleType) -> None:
    assert plugin.RowCount(1).result() is None
