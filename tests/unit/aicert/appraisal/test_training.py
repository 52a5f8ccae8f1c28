"""How far the measured loss and the trainer's own may differ: each bound at its edge."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aicert.appraisal.result import AttestationResult
from aicert.formats.run_report import Value
from tests.adversarial.attacks_merge import merge
from tests.adversarial.attacks_run import value
from tests.adversarial.forger import FACTS, Scene


def judged(
    before: float, after: float, own: Sequence[float], *, comparable: bool = True
) -> AttestationResult:
    loss = replace(FACTS["loss"], before=before, after=after, comparable=comparable)

    def edited(report: object) -> object:
        values = {**report.values, "losses": Value("self-reported", tuple(own))}  # type: ignore[attr-defined]  # a run report
        return replace(report, loss=loss, values=values)  # type: ignore[type-var]  # a run report

    return Scene("local", 2).edit("report", edited).appraise()


@pytest.mark.parametrize(
    ("before", "after", "own", "passes"),
    [
        # The trainer reports a drop from 8 to 4: a tenth of that must be measured.
        (8.0, 7.59, [4.0] * 8, True),
        (8.0, 7.61, [4.0] * 8, False),
        (12.0, 11.0, [2.0] * 8, True),
        # It claims a quarter of the base's loss, and slightly less.
        (8.0, 8.0, [6.0] * 8, False),
        (8.0, 8.0, [6.01] * 8, True),
        # It claims one nat, and slightly less.
        (3.0, 3.0, [2.0] * 8, False),
        (3.0, 3.0, [2.01] * 8, True),
        # The smallest claim among the last eight counts, and nothing before those.
        (8.0, 8.0, [*[2.0] * 7, 6.5], True),
        (8.0, 8.0, [6.5, *[2.0] * 8], False),
        (8.0, 8.0, [2.0], False),
        # Weights that are no longer numbers contradict nothing.
        (50.4, 49.9, [1.0] * 8, False),
        (50.4, 50.0, [1.0] * 8, True),
        # The output fits better, by a nat and by half, and slightly less.
        (8.0, 2.0, [4.0] * 8, True),
        (8.0, 1.99, [4.0] * 8, False),
        (2.0, 0.5, [1.5] * 8, True),
        (2.0, 0.49, [1.5] * 8, False),
        # The best of the last eight counts, and fewer than eight prove nothing.
        (8.0, 1.0, [*[4.0] * 7, 2.0], True),
        (8.0, 1.0, [4.0] * 7, True),
        (8.0, 1.0, [1.0, *[4.0] * 8], False),
    ],
)
def test_a_contradiction_is_large_or_none(
    before: float, after: float, own: list[float], passes: bool
) -> None:
    result = judged(before, after, own)
    assert result.check("outputs.trained").verdict == ("ok" if passes else "failed")
    assert result.verdict == ("passed" if passes else "failed")
    assert judged(before, after, own, comparable=False).verdict == "passed"


def test_both_numbers_are_named() -> None:
    detail = judged(8.0, 3.5, [4.25]).check("outputs.trained").detail
    assert "8 before, 3.5 after (measured)" in detail
    assert "the trainer itself last reports 4.25 (self-reported)" in detail
    assert detail.endswith("how well the output fits those rows, not that this training made it")
    other = judged(8.0, 3.5, [0.1], comparable=False).check("outputs.trained").detail
    assert "last reports 0.1 (self-reported), of a different kind, so not compared" in other


@pytest.mark.parametrize(("size", "verdict"), [(768, "ok"), (767, "failed")])
def test_rows_need_three_bytes_each(size: int, verdict: str) -> None:
    rows = (replace(FACTS["records"][0], rows=256, bytes=size),)
    scene = Scene("local", 2).edit("report", lambda report: replace(report, records=rows))
    assert scene.appraise().check("inputs.records").verdict == verdict


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"baseInput": "model", "adapterBase": "org/name@1"}, "'org/name@1' (claimed)"),
        ({"baseInput": "model", "adapterBase": ""}, "none"),
    ],
)
def test_the_name_of_an_adapters_base_is_a_claim(values: dict[str, str], line: str) -> None:
    scene = Scene("local", 2)
    digest = next(i.digest for i in scene.get("lockfile").inputs if i.name == "model")
    assert f"base that the adapter names: {line}; trained on 'model', {digest}" in based(values)
    assert "base that" not in based({"baseInput": "model"})


def test_a_base_that_is_no_input_is_textto_be_none() -> None:
    text = based({"baseInput": "other/sub", "adapterBase": "x"})
    assert "trained on 'other/sub', which is not an input" in text


def test_the_base_is_the_input_in_whose_folder_it_lies() -> None:
    digest = next(i.digest for i in Scene("local", 2).get("lockfile").inputs if i.name == "model")
    text = based({"baseInput": "model/sub", "adapterBase": "x"})
    assert f"trained on 'model/sub', {digest}" in text


@pytest.mark.parametrize(("count", "last"), [(5, "s4"), (6, "and 1 more")])
def test_of_many_data_sets_five_are_listed(count: int, last: str) -> None:
    rows = tuple(replace(FACTS["records"][0], split=f"s{i}", rows=1, bytes=3) for i in range(count))
    first, *lines = long("inputs.records", records=rows).split("\n")
    assert first.startswith(f"{count} rows read, all from inputs")
    assert len(lines) == count
    assert lines[-1].removeprefix("alpaca ").startswith(last)


def test_what_was_removed_is_of_the_input_in_whose_folder_it_lay() -> None:
    for text in ("model", "model: a: b", "model/sub/config.json: a"):
        assert long("inputs.records", removed=(text,)).startswith("256 rows read")
    assert long("inputs.records", removed=("models: a",)).endswith(": 'models: a'")


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "no tokens counted"), (0, "no tokens counted"), (1, "1 tokens (measured)")],
)
def test_tokens_are_counted_or_not(count: int | None, text: str) -> None:
    values = dict(Scene("local", 2).get("report").values)
    del values["tokens"]
    if count is not None:
        values["tokens"] = Value("measured", count)
    assert long("outputs.trained", values=values).startswith(f"40 steps (self-reported), {text}\n")


def test_all_weight_files_are_counted() -> None:
    scene = Scene("local", 2)
    files = {f"{name}.safetensors": name.encode() for name in "abc"}
    scene.edit("outputs", lambda _: {"model": files})
    detail = scene.appraise().check("outputs.trained").detail
    assert detail.split("\n")[1].startswith("3 weight files: ")


LONG = "x" * 201


def long(kind: str, **changes: object) -> str:
    """Return the detail of this check for a report with these changes."""
    scene = Scene("local", 2)
    scene.edit("report", lambda report: replace(report, **changes))
    return scene.appraise().check(kind).detail


def test_of_a_long_text_the_start_is_shown() -> None:
    values = Scene("local", 2).get("report").values
    cut = f"'{LONG[:200]}'"
    assert long("inputs.records", removed=(LONG,)) == f"what was removed belongs to no input: {cut}"
    unread = {**values, "weightsUnread": Value("measured", LONG)}
    assert long("outputs.trained", values=unread).split("\n")[1] == cut
    named = based({"baseInput": f"other/{LONG}", "adapterBase": LONG})
    assert f"adapter names: {cut} (claimed); trained on 'other/{LONG[:194]}', which is" in named
    scene = Scene("local", 2)
    merge(value("adapterInput", Value("measured", f"alpaca/{LONG}")))(scene)
    check = scene.appraise().check("outputs.derived")
    assert check.verdict == "ok"
    assert f"adapterInput (measured): 'alpaca/{LONG[:193]}', dirHash:" in check.detail


def test_a_verdict_says_how_many_processes_trained() -> None:
    scene = Scene("local", 2)
    assert "processes" not in scene.appraise().check("outputs.trained").detail
    scene.edit("lockfile", lambda lockfile: replace(lockfile, ranks=2))
    detail = scene.appraise().check("outputs.trained").detail
    assert detail.startswith("40 steps (self-reported), 5120 tokens (self-reported), in 2 proc")


def based(values: dict[str, str]) -> str:
    more = {key: Value("measured", text) for key, text in values.items()}
    scene = Scene("local", 2).edit(
        "report", lambda report: replace(report, values={**report.values, **more})
    )
    check = scene.appraise().check("outputs.trained")
    assert check.verdict == "ok"
    return check.detail
