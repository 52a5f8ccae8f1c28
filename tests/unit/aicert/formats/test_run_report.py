import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats import run_report
from aicert.formats.digest import Digest
from aicert.formats.run_report import Override, RunReport, Value, emit, parse
from aicert.formats.run_report_facts import ComputeFacts, CountedRows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: "\\ud" not in text.lower()
)
NUMBER = st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.builds(
    Value,
    st.sampled_from(("measured", "derived", "self-reported")),
    TEXT | NUMBER | st.lists(NUMBER, max_size=4).map(tuple),
)
REPORT = st.builds(
    RunReport,
    exit_code=st.sampled_from(("0", "255", "signal:9", "timeout", "memory")),
    values=st.dictionaries(st.from_regex(r"[a-z][a-zA-Z0-9]{0,9}", fullmatch=True), VALUE),
    overrides=st.lists(
        st.builds(Override, key=TEXT, configured=TEXT, used=TEXT, why=TEXT), max_size=3
    ).map(tuple),
    unchanged_weights=st.lists(TEXT, max_size=3).map(tuple),
)


@given(REPORT)
def test_what_is_written_is_read(report: RunReport) -> None:
    assert parse(emit(report)) == report


def test_signatures_are_written_and_read() -> None:
    digest = Digest("sha256", "ab" * 32)
    report = RunReport(exit_code="0", values={}, signatures=(("a", digest), ("b", digest)))
    assert parse(emit(report)) == report
    most = tuple((f"m{number:03}", digest) for number in range(200))
    assert parse(emit(replace(report, signatures=most))).signatures == most
    with pytest.raises(EvidenceError, match="expected names of outputs"):
        emit(replace(report, signatures=(*most, ("n", digest))))


def test_signers_are_written_and_read() -> None:
    report = RunReport(exit_code="0", values={}, signers=(("a", "p256:02"), ("b", "p384:03")))
    assert parse(emit(report)) == report
    # As many as a lockfile can have inputs.
    most = tuple((f"m{number:04}", "key") for number in range(1000))
    assert parse(emit(replace(report, signers=most))).signers == most
    for wrong in ((*most, ("n", "key")), (("A", "key"),)):
        with pytest.raises(EvidenceError, match="expected names of inputs"):
            emit(replace(report, signers=wrong))


def test_audits_before_the_run_are_written_and_read() -> None:
    digest = Digest("sha256", "ab" * 32)
    report = RunReport(exit_code="1", values={}, audits=(("a", digest), ("b", None)))
    assert parse(emit(report)) == report
    assert report.audited == ("a", "b")
    assert b'"audits":{"origin":"measured","value":{"a":"sha256:abab' in emit(report)
    with pytest.raises(EvidenceError, match="ended well, but not every audit before it has res"):
        emit(replace(report, exit_code="0"))
    with pytest.raises(EvidenceError, match="results of audit a are not named by a digest sha256"):
        emit(replace(report, audits=(("a", Digest("dirHash", "ab" * 32)),)))
    most = tuple((f"m{number:02}", digest) for number in range(16))
    assert parse(emit(replace(report, audits=most))).audits == most
    for wrong in ((*most, ("n", digest)), (("A", digest),)):
        with pytest.raises(EvidenceError, match="expected names of audits"):
            emit(replace(report, audits=wrong))


def test_numbers_by_name() -> None:
    report = RunReport(
        exit_code="0",
        values={
            "steps": Value("self-reported", 40),
            "wallSeconds": Value("measured", 1.5),
            "torch": Value("measured", "2.13"),
            "losses": Value("self-reported", (6.0, 5.5)),
        },
    )
    assert report.number("steps") == 40
    assert report.number("wallSeconds") == 1.5
    for key in ("torch", "losses", "missing"):
        assert report.number(key) is None


COUNTED: dict[str, Value] = {
    "processorCount": Value("measured", 8),
    "acceleratorCount": Value("measured", 0),
    "weightInputs": Value("measured", "adapter, base"),
    "flops": Value("self-reported", 1e9),
}


def test_what_a_run_could_compute_on() -> None:
    report = RunReport(exit_code="0", values=COUNTED)
    assert report.compute == ComputeFacts(
        processors=8, accelerators=0, weight_inputs=("adapter", "base"), flops=1e9
    )
    assert RunReport(exit_code="0", values={}).compute == ComputeFacts()
    assert report.self_reported.compute == ComputeFacts(flops=1e9)


ROWS: dict[str, Value] = {
    "countedEpochs": Value("in-trainer", 1.25),
    "countedRows": Value("in-trainer", 320),
    "trainingRows": Value("in-trainer", 256),
    "countedSteps": Value("in-trainer", 40),
    "epochs": Value("self-reported", 1.25),
}


def test_rows_that_the_image_counted() -> None:
    report = RunReport(exit_code="0", values=ROWS)
    counted = CountedRows(epochs=1.25, rows=320, of=256, steps=40)
    assert parse(emit(report)).compute == ComputeFacts(counted=counted, epochs=1.25)
    # Where code of an input may have run, the machine counted nothing.
    assert report.self_reported.compute == ComputeFacts(epochs=1.25)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, Value("self-reported", ROWS[key].data)) for key in list(ROWS)[:4]),
        ("steps", Value("in-trainer", 40)),
        ("countedEpochs", Value("in-trainer", 1.2501)),
        ("countedEpochs", Value("in-trainer", -1)),
        ("countedEpochs", Value("in-trainer", "1")),
        ("countedEpochs", Value("in-trainer", (1,))),
        ("countedRows", Value("in-trainer", -1)),
        ("countedRows", Value("in-trainer", 320.0)),
        ("trainingRows", Value("in-trainer", 0)),
        ("countedSteps", Value("in-trainer", 1.5)),
        ("countedSteps", Value("in-trainer", -1)),
    ],
)
def test_numbers_that_were_not_counted_together_are_none(key: str, value: Value) -> None:
    report = RunReport(exit_code="0", values={**ROWS, key: value})
    with pytest.raises(EvidenceError, match=r"^report\.values: .*countedEpochs, countedRows"):
        emit(report)


def test_fewer_epochs_than_the_rows_give_may_be_counted() -> None:
    report = RunReport(exit_code="0", values=ROWS | {"countedEpochs": Value("in-trainer", 1)})
    assert parse(emit(report)).compute.counted == CountedRows(epochs=1, rows=320, of=256, steps=40)


def test_version_1_has_no_value_of_the_trainers_process() -> None:
    report = RunReport(exit_code="0", values=ROWS, version=1)
    with pytest.raises(EvidenceError, match=r"origin is not one of measured, derived, self-rep"):
        emit(report)


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("processorCount", Value("measured", 0), "processors", None),
        ("processorCount", Value("measured", 1.5), "processors", None),
        ("processorCount", Value("measured", "8"), "processors", None),
        ("processorCount", Value("measured", (8,)), "processors", None),
        ("processorCount", Value("derived", 8), "processors", None),
        ("acceleratorCount", Value("measured", -1), "accelerators", None),
        ("weightInputs", Value("measured", ""), "weight_inputs", ()),
        ("weightInputs", Value("measured", 3), "weight_inputs", None),
        ("flops", Value("self-reported", "many"), "flops", None),
    ],
)
def test_what_is_no_count_is_unknown(key: str, value: Value, field: str, expected: object) -> None:
    compute = RunReport(exit_code="0", values={**COUNTED, key: value}).compute
    assert getattr(compute, field) == expected


def document() -> dict[str, Any]:
    report = RunReport(
        exit_code="0",
        values={"steps": Value("self-reported", 40)},
        overrides=(Override(key="seed", configured="", used="42", why="repeatable"),),
    )
    read: dict[str, Any] = json.loads(emit(report))
    return read


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = document()
    change(value)
    return json.dumps(value).encode()


def signed(value: object, **more: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d.update(signatures={"origin": "measured", "value": value} | more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=3), r"version is out of range: 3$"),
        (lambda d: d.update(version=0), r"version is out of range: 0$"),
        (lambda d: d.update(version=True), "version: expected an integer"),
        (lambda d: d.update(more=1), "unknown key 'more'"),
        (lambda d: d["exitCode"].update(origin="derived"), "origin is not 'measured'"),
        (lambda d: d["exitCode"].update(value="256"), "not an exit code"),
        (lambda d: d["exitCode"].update(value=0), "expected a string"),
        (lambda d: d["exitCode"].update(value="1" * 20), "not an exit code"),
        (
            lambda d: d["exitCode"].update(value="1" * 21),
            r"^report\.exitCode\.value is longer than 20 characters$",
        ),
        (lambda d: d["exitCode"].update(more=0), "unknown key"),
        (lambda d: d["unchangedWeights"].update(value=[1]), "a short string"),
        (lambda d: d["unchangedWeights"].update(origin="x"), "is not 'measured'"),
        (lambda d: d["unchangedWeights"].update(more=1), "unknown key"),
        (lambda d: d.update(overrides=[{}]), "key is missing"),
        (
            lambda d: d["overrides"][0].update(more=""),
            r"^report\.overrides\[0\] has an unknown key",
        ),
        (lambda d: d.update(overrides=[1]), "expected an object"),
        (lambda d: d.update(overrides=[document()["overrides"][0]] * 201), "more than 200"),
        (lambda d: d["values"].update({"Steps": {}}), "not a name"),
        (lambda d: d["values"].update({"\x1b[2J": {}}), "not a name"),
        (lambda d: d["values"].update({"é": {}}), "not a name"),
        (lambda d: d["values"].update({"A" * 81: {}}), f"a key that is not a name: '{'A' * 80}'$"),
        (lambda d: d["values"].update({f"v{n}": {} for n in range(201)}), "more than 200"),
        (lambda d: d["values"]["steps"].update(origin="x" * 20), "is not one of"),
        (
            lambda d: d["values"]["steps"].update(origin="x" * 21),
            r"^report\.values\.steps\.origin is longer than 20 characters$",
        ),
        (
            lambda d: d["values"]["steps"].update(more=1),
            r"^report\.values\.steps: expected origin and value$",
        ),
        (lambda d: d["values"]["steps"].pop("value"), "origin and value"),
        (lambda d: d["values"]["steps"].update(value=None), "a string, a number or numbers"),
        (lambda d: d["values"]["steps"].update(value=True), "a string, a number or numbers"),
        (lambda d: d["values"]["steps"].update(value={}), "a string, a number or numbers"),
        (lambda d: d["values"]["steps"].update(value=["1"]), "expected at most 20000 numbers"),
        (lambda d: d["values"]["steps"].update(value=[True]), "expected at most 20000 numbers"),
        (
            lambda d: d["values"]["steps"].update(value=[1] * 20_001),
            "expected at most 20000 numbers",
        ),
        (
            lambda d: d["values"]["steps"].update(value="x" * 4097),
            r"^report\.values\.steps: expected",
        ),
        (lambda d: d["values"].update(steps=40), r"^report\.values\.steps: expected an object"),
        (signed({}), "expected names of outputs"),
        (signed({"A": "sha256:" + "0" * 64}), "expected names of outputs"),
        (signed({"a": "sha256:0"}), "not a digest"),
        (signed({"a": 1}), r"^report\.signatures\.value: expected a short string"),
        (signed({"a": "sha256:" + "0" * 64}, origin="derived"), "is not 'measured'"),
        (signed({"a": "sha256:" + "0" * 64}, more=1), "unknown key"),
    ],
)
def test_other_forms_are_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        parse(changed(change))


@pytest.mark.parametrize(
    "report",
    [
        RunReport(exit_code="256", values={}),
        RunReport(exit_code="0", values={"Loss": Value("measured", 1)}),
        RunReport(exit_code="0", values={"loss": Value("measured", math.nan)}),
        RunReport(exit_code="0", values={"losses": Value("measured", (math.inf,))}),
        RunReport(exit_code="0", values={"flops": Value("measured", 2**63)}),
        RunReport(exit_code="0", values={"name": Value("measured", "\ud800")}),
    ],
)
def test_what_a_report_cannot_hold(report: RunReport) -> None:
    with pytest.raises(EvidenceError):
        emit(report)


def test_a_report_too_large() -> None:
    with pytest.raises(EvidenceError, match=r"^run report is larger than"):
        parse(b" " * (run_report.MAX_BYTES + 1))


def test_as_many_values_as_there_may_be() -> None:
    value = Value("measured", 1)
    report = RunReport(exit_code="0", values={f"v{n}": value for n in range(200)})
    assert parse(emit(report)) == report
    losses = Value("self-reported", (1,) * 20_000)
    report = RunReport(exit_code="0", values={"losses": losses})
    assert parse(emit(report)) == report
