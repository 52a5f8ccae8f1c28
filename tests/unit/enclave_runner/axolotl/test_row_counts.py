"""Which counts from a trainer's processes the runner believes."""

import pytest

from enclave_runner.axolotl.row_counts import Counted


def share(process: object = 0, steps: object = 3, rows: object = 24, of: object = 256) -> object:
    return {"process": process, "steps": steps, "rows": rows, "of": of}


def values(*messages: object, processes: int = 1) -> dict[str, object]:
    counted = Counted(processes)
    for message in messages:
        counted.take(message)
    assert {value.origin for value in counted.values().values()} <= {"in-trainer"}
    return {key: value.data for key, value in counted.values().items()}


def test_rows_of_all_processes_count_together() -> None:
    assert values(share(1), share(0, rows=23), processes=2) == {
        "countedEpochs": 0.183, "countedRows": 47, "trainingRows": 256, "countedSteps": 3,
    }  # fmt: skip


def test_epochs_are_never_rounded_up() -> None:
    assert values(share(rows=2, of=3))["countedEpochs"] == 0.666
    assert values(share(rows=767))["countedEpochs"] == 2.996
    assert values(share(rows=768))["countedEpochs"] == 3.0


@pytest.mark.parametrize(
    ("messages", "processes"),
    [
        ((), 1),
        ((None,), 1),
        (([share()],), 1),
        ((share(), share()), 1),
        ((share(),), 2),
        ((share(), share(2)), 2),
        ((share(), share(1), share(2)), 2),
        ((share(), share(1, of=255)), 2),
        ((share(), share(1, steps=4)), 2),
        ((share(process=-1),), 1),
        ((share(process="0"),), 1),
        ((share(rows=True),), 1),
        ((share(rows=1.5),), 1),
        ((share(rows=2**54),), 1),
        ((share(steps=None),), 1),
        ((share(of=0),), 1),
    ],
)
def test_what_does_not_fit_together_is_no_count(
    messages: tuple[object, ...], processes: int
) -> None:
    assert values(*messages, processes=processes) == {}
