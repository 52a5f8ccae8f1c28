import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.run_report import RunReport, emit, parse
from aicert.formats.run_report_facts import Loss, Records

DIGEST = Digest("sha256", "ab" * 32)
RECORDS = Records(
    name="alpaca",
    split="train",
    rows=256,
    bytes=48_211,
    digest=DIGEST,
    unread_bytes=0,
    files=("a.jsonl", "b/c.jsonl"),
)
LOSS = Loss(
    state="measured",
    before=6.125,
    after=4.5,
    comparable=True,
    rows=64,
    tokens=8000,
    template_tokens=120,
)
REPORT = RunReport(
    exit_code="0",
    values={},
    records=(RECORDS,),
    loss=LOSS,
    texts=(("chat template", DIGEST), ("tokenizer.normalizer", DIGEST)),
    removed=("base/config.json: name_or_path",),
)
COUNT = st.integers(0, 2**63 - 1)


def test_what_version_2_adds_is_written_and_read() -> None:
    assert parse(emit(REPORT)) == REPORT
    assert json.loads(emit(REPORT))["records"] == {
        "origin": "derived",
        "value": [
            {
                "name": "alpaca",
                "split": "train",
                "rows": 256,
                "bytes": 48_211,
                "digest": str(DIGEST),
                "unreadBytes": 0,
                "files": ["a.jsonl", "b/c.jsonl"],
            }
        ],
    }


@given(COUNT, COUNT, COUNT, st.floats(0, 1e300), st.integers(0, 2**63 - 1))
def test_numbers_are_written_and_read(
    rows: int, size: int, unread: int, before: float, after: int
) -> None:
    records = replace(RECORDS, rows=rows, bytes=size, unread_bytes=unread)
    report = replace(REPORT, records=(records,), loss=replace(LOSS, before=before, after=after))
    assert parse(emit(report)) == report


@pytest.mark.parametrize("state", ["no-loss", "incomplete"])
def test_a_loss_that_was_not_measured(state: Any) -> None:
    report = replace(REPORT, loss=Loss(state=state, reason="a reason"))
    assert parse(emit(report)) == report
    with pytest.raises(EvidenceError, match=r"^report\.loss\.value\.reason is empty$"):
        emit(replace(REPORT, loss=Loss(state=state)))
    for number in ("before", "after"):
        with pytest.raises(EvidenceError, match=f"unknown key '{number}'"):
            emit(replace(REPORT, loss=Loss(state=state, reason="r", **{number: 1.0})))  # type: ignore[arg-type]  # a name of two


def test_version_1_holds_none_of_it_and_stays_as_it_was() -> None:
    # A report as version 0.1 of this project wrote it.
    old = (
        b'{"exitCode":{"origin":"measured","value":"0"},"overrides":[],"unchangedWeights":'
        b'{"origin":"measured","value":[]},"values":{},"version":1}'
    )
    report = parse(old)
    assert report == RunReport(exit_code="0", values={}, version=1)
    assert emit(report) == old
    for more in (
        {"records": REPORT.records},
        {"loss": LOSS},
        {"texts": REPORT.texts},
        {"removed": REPORT.removed},
    ):
        with pytest.raises(EvidenceError, match=r"unknown key '(records|loss)'"):
            emit(replace(report, **more))


def test_as_much_as_there_may_be() -> None:
    files = tuple(f"{number}.jsonl" for number in range(64))
    report = replace(
        REPORT,
        records=(replace(RECORDS, files=files),) * 64,
        texts=tuple((f"text {number:02}", DIGEST) for number in range(64)),
        removed=("a/b: c",) * 256,
    )
    assert parse(emit(report)) == report
    more = replace(report.records[0], files=("more",))
    for wrong, message in (
        ({"records": (*report.records[1:], replace(more, files=(*files, "more")))}, "4096 files"),
        ({"records": (*report.records, more)}, "more than 64 items"),
        ({"texts": (*report.texts, ("u", DIGEST))}, "at most 64 names"),
        ({"removed": (*report.removed, "d")}, "more than 256 items"),
    ):
        with pytest.raises(EvidenceError, match=message):
            emit(replace(report, **wrong))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(emit(REPORT))
    change(value)
    return json.dumps(value).encode()


def in_records(**keys: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["records"]["value"][0].update(keys)


def in_loss(**keys: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["loss"]["value"].update(keys)


def in_texts(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["texts"].update(value=value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *[
            (lambda d, key=key: d.pop(key), f"^report.{key} is missing$")
            for key in ("records", "texts", "removed")
        ],
        *[
            (lambda d, key=key: d[key].update(origin="self-reported"), rf"^report\.{key}\.origin")
            for key in ("records", "loss", "texts", "removed")
        ],
        *[
            (
                lambda d, key=key: d[key].update(more=1),
                rf"^report\.{key} has an unknown key 'more'$",
            )
            for key in ("records", "loss", "texts", "removed")
        ],
        *[
            (lambda d, key=key: d[key].pop("value"), rf"^report\.{key}\.value is missing$")
            for key in ("records", "loss", "texts", "removed")
        ],
        (in_records(name="A"), r"^report\.records\.value\[0\]\.name is not a name: 'A'$"),
        (in_records(name="a" * 64), r"name is not a name"),
        (in_records(split="a b"), r"^report\.records\.value\[0\]\.split is not a name: 'a b'$"),
        (in_records(split=""), "split is not a name: ''"),
        (in_records(split="é"), "split is not a name"),
        (in_records(split="s" * 65), "split is longer than 64 characters"),
        (in_records(rows=-1), r"rows is out of range: -1$"),
        (in_records(rows=1.0), "expected an integer"),
        (in_records(bytes=-1), r"bytes is out of range: -1$"),
        (in_records(unreadBytes=-1), r"unreadBytes is out of range: -1$"),
        (
            in_records(digest="dirHash:" + "0" * 64),
            r"^report\.records\.value\[0\]: expected a digest sha256",
        ),
        (in_records(digest="sha256:0"), "not a digest"),
        (in_records(files=["../a"]), "not a plain relative path"),
        (in_records(files=["a", "A"]), "differ only in case"),
        (in_records(files=[1]), "expected a short string"),
        (in_records(more=1), r"^report\.records\.value\[0\] has an unknown key"),
        (in_loss(state="perhaps"), r"state is not one of measured, no-loss, incomplete$"),
        (in_loss(state="m" * 21), "state is longer than 20"),
        (in_loss(reason="r" * 401), "reason is longer than 400"),
        (
            in_loss(before=-0.5),
            r"^report\.loss\.value\.before: expected a number from 0, found -0.5",
        ),
        (
            in_loss(after="1"),
            r"^report\.loss\.value\.after: expected a number from 0, found a str",
        ),
        (in_loss(after=True), "expected a number from 0, found True"),
        (in_loss(comparable=1), "expected true or false, found 1"),
        (in_loss(rows=0), "rows is out of range: 0"),
        (in_loss(tokens=0), "tokens is out of range: 0"),
        (in_loss(templateTokens=-1), "templateTokens is out of range: -1"),
        (
            in_loss(templateTokens=8001),
            r"^report\.loss\.value has more templateTokens than tokens$",
        ),
        (in_loss(more=1), r"^report\.loss\.value has an unknown key 'more'$"),
        (lambda d: d["loss"]["value"].pop("after"), r"^report\.loss\.value\.after is missing$"),
        (in_texts({"": str(DIGEST)}), "names of printable ASCII"),
        (in_texts({" a": str(DIGEST)}), "names of printable ASCII"),
        (in_texts({"a ": str(DIGEST)}), "names of printable ASCII"),
        (in_texts({"é": str(DIGEST)}), "names of printable ASCII"),
        (in_texts({"a" * 201: str(DIGEST)}), "names of printable ASCII"),
        (
            in_texts({"a": "dirHash:" + "0" * 64}),
            r"^report\.texts\.value: expected a digest sha256:…",
        ),
        (in_texts({"a": 1}), r"^report\.texts\.value: expected a short string"),
        (
            lambda d: d["removed"].update(value=[1]),
            r"^report\.removed\.value\[0\]: expected a short string",
        ),
        (lambda d: d.update(version=1), r"unknown key '(records|loss)'"),
        (lambda d: d.update(version=3), r"^report\.version is out of range: 3$"),
    ],
)
def test_other_forms_are_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        parse(changed(change))
