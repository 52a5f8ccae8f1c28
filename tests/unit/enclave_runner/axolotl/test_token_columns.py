"""A data set whose rows hold tokens has no type, and Axolotl would train on the tokens anyway."""

import json
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from enclave_runner.axolotl import token_columns
from enclave_runner.axolotl.config_rules import ConfigRefused

PLACE = "/aicert/records/rows/0"
BOTH = {PLACE: ("instruction", *token_columns.TOKENS)}


def config(
    kind: object, key: str = "datasets", more: Mapping[str, object] = MappingProxyType({})
) -> bytes:
    entries = [{"path": "/aicert/records/x/0"}, {"path": PLACE, "type": kind}]
    return json.dumps({key: entries, **more}).encode()


@pytest.mark.parametrize("kind", ["alpaca", "completion", {"field_output": "output"}])
@pytest.mark.parametrize("key", ["datasets", "test_datasets"])
def test_tokens_beside_the_text_that_a_type_reads_are_refused(kind: object, key: str) -> None:
    with pytest.raises(ConfigRefused, match=rf"{key}\[1\]\.type: the rows hold input_ids"):
        token_columns.check(config(kind, key), BOTH)


@pytest.mark.parametrize(
    "value", [[{"path": PLACE, "type": "pretrain"}], [{"path": PLACE}], {"path": PLACE}, PLACE]
)
def test_pretraining_reads_texts_with_a_type_or_without(value: object) -> None:
    with pytest.raises(ConfigRefused, match=r"pretraining_dataset\[0\]\.type: the rows hold"):
        token_columns.check(json.dumps({"pretraining_dataset": value}).encode(), BOTH)


@pytest.mark.parametrize("name", ["input_ids", "chosen_ids", "rejected_input_ids"])
def test_rows_that_axolotl_does_not_prepare_hold_no_tokens_beside_a_text(name: str) -> None:
    columns = {PLACE: ("instruction", name, "labels")}
    unprepared: dict[str, object] = {"skip_prepare_dataset": True}
    with pytest.raises(ConfigRefused, match=f"the rows hold {name}, which Axolotl trains on"):
        token_columns.check(config("alpaca", more=unprepared), columns)
    token_columns.check(config(None, more=unprepared), columns)
    # Preference data is prepared anyway: there the key only decides about long rows.
    token_columns.check(config("alpaca", more={**unprepared, "rl": "dpo"}), columns)


def test_tokens_alone_and_texts_alone_are_taken() -> None:
    token_columns.check(config(None), BOTH)
    token_columns.check(config("alpaca"), {PLACE: ("instruction", "input_ids", "labels")})
    token_columns.check(b"{}", BOTH)
