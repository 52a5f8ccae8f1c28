"""Results of an evaluation: only the form that is written is read, and they match their run."""

import json
import math
from dataclasses import replace

import pytest

from aicert.errors import EvidenceError
from aicert.formats import evaluation
from aicert.formats.digest import Digest
from aicert.formats.evaluation import Read, Results, Weights
from aicert.formats.run_report_facts import Records

MODEL, ADAPTER, ROWS = (Digest("dirHash", "a" * 64), Digest("dirHash", "b" * 64),
                        Digest("sha256", "c" * 64))  # fmt: skip
READ = Read(name="rows", split="train", rows=60, bytes=6000, digest=ROWS, unread_bytes=1)
RESULTS = Results(
    base=Weights(input="model", digest=MODEL, inside=""),
    adapter=None,
    config=Digest("sha256", "d" * 64),
    data=(READ,),
    loss=3.41,
    rows=58,
    left_out=2,
    tokens=900,
    template_tokens=90,
    seed=42,
    sequence_length=256,
)
ADAPTED = replace(RESULTS, adapter=Weights(input="adapter", digest=ADAPTER, inside="last/one"))
RECORDS = Records(
    name="rows", split="train", rows=60, bytes=6000, digest=ROWS, unread_bytes=1, files=("a.jsonl",)
)


def document(**changes: object) -> bytes:
    changed = {**json.loads(evaluation.emit(ADAPTED)), **changes}
    return json.dumps(changed, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("results", [RESULTS, ADAPTED])
def test_results_are_read_as_they_were_written(results: Results) -> None:
    assert evaluation.parse(evaluation.emit(results)) == results
    assert results.perplexity == pytest.approx(math.exp(3.41))


def test_results_are_about_the_adapter_where_there_is_one() -> None:
    assert RESULTS.subject.digest == MODEL
    assert ADAPTED.subject.digest == ADAPTER


READ_JSON = json.loads(evaluation.emit(RESULTS))["data"][0]
ABOUT = json.loads(evaluation.emit(ADAPTED))["about"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version is not 1"),
        ({"more": 1}, "more"),
        ({"loss": 100.5}, "loss is not between 0 and 100"),
        ({"loss": "3"}, "expected a number from 0"),
        ({"loss": 3}, "not in canonical form"),
        ({"rows": 0}, "rows is out of range"),
        ({"rows": 57}, "do not account for each row"),
        ({"templateTokens": 901}, "more tokens of templates than tokens"),
        ({"sequenceLength": 0}, "sequenceLength is out of range"),
        ({"data": [READ_JSON, READ_JSON], "leftOut": 62}, "given twice or out of order"),
        ({"data": [READ_JSON | {"name": "Rows"}]}, "is not a name: 'Rows'"),
        ({"data": [READ_JSON | {"more": 1}]}, "more"),
        ({"config": "sha256:abc"}, "abc"),
        ({"about": {}}, "base is missing"),
        ({"about": ABOUT | {"more": 1}}, "more"),
        ({"about": ABOUT | {"base": ABOUT["base"] | {"inside": "../up"}}}, r"\.\./up"),
        ({"about": ABOUT | {"base": ABOUT["base"] | {"inside": ""}}}, "path is empty"),
    ],
)
def test_what_is_written_otherwise_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        evaluation.parse(document(**changes))


def test_results_without_a_line_end_are_refused() -> None:
    with pytest.raises(EvidenceError, match="not in canonical form"):
        evaluation.parse(evaluation.emit(RESULTS)[:-1])


def test_results_are_about_inputs_and_rows_of_their_run() -> None:
    inputs = {"model": MODEL, "adapter": ADAPTER}
    evaluation.check_joined(ADAPTED, [RECORDS], inputs)
    with pytest.raises(EvidenceError, match="are about adapter, which is no input"):
        evaluation.check_joined(ADAPTED, [RECORDS], {"model": MODEL})
    with pytest.raises(EvidenceError, match="are about model, which is no input"):
        evaluation.check_joined(RESULTS, [RECORDS], inputs | {"model": ADAPTER})
    for other in ([], [replace(RECORDS, rows=61)], [RECORDS, replace(RECORDS, split="test")]):
        with pytest.raises(EvidenceError, match="differ about the rows"):
            evaluation.check_joined(RESULTS, other, inputs)
