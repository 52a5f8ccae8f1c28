"""A data set whose rows hold tokens has no type: Axolotl would train on the tokens all the same."""

import json

import pytest

from enclave_runner.axolotl import token_columns
from enclave_runner.axolotl.config_rules import ConfigRefused

PLACE = "/aicert/records/rows/0"
BOTH = {PLACE: ("instruction", *token_columns.TOKENS)}


def config(kind: object, key: str = "datasets") -> bytes:
    return json.dumps(
        {key: [{"path": "/aicert/records/x/0"}, {"path": PLACE, "type": kind}]}
    ).encode()


@pytest.mark.parametrize("kind", ["alpaca", "completion", {"field_output": "output"}])
@pytest.mark.parametrize("key", ["datasets", "test_datasets"])
def test_tokens_beside_the_text_that_a_type_reads_are_refused(kind: object, key: str) -> None:
    with pytest.raises(ConfigRefused, match=rf"{key}\[1\]\.type: the rows hold input_ids"):
        token_columns.check(config(kind, key), BOTH)


def test_tokens_alone_and_texts_alone_are_taken() -> None:
    token_columns.check(config(None), BOTH)
    token_columns.check(config("alpaca"), {PLACE: ("instruction", "input_ids", "labels")})
    token_columns.check(b"{}", BOTH)
