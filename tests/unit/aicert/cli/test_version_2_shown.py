"""Facts of version 2 appear wherever people or programs look, once they are verified."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aicert.cli import table
from aicert.cli.show import claims as show
from aicert.exports import card, facts, files
from aicert.exports.page import page
from aicert.formats.digest import of_bytes
from aicert.formats.run_report import Value
from aicert.formats.run_report_facts import Loss, Records
from tests.adversarial.attacks_compute import counted_units
from tests.adversarial.attacks_epochs import counted_rows
from tests.adversarial.attacks_run import value
from tests.adversarial.forger import FACTS, Scene

SHOWN = """\
time      0.750 s by the TPM's clock, from run key to quote
rows      alpaca train: 256 rows, 12 bytes of its files in no row  sha256:a1a1
loss      6.125 before, 4 after, per token of 64 rows (measured)
text      25.0% of 8000 tokens come from templates, not from rows (measured)
          chat template  sha256:7e7e
removed   model/config.json: name_or_path
""".splitlines()
KEYS = ("attestedSeconds", "records", "loss", "texts", "removed")


def exported(scene: Scene) -> dict[str, bytes]:
    return files.exports(facts.read(scene.get("file")))


def paged(scene: Scene) -> str:
    data = scene.get("file")
    return page(of_bytes(data), facts.read(data), scene.appraise())


def test_a_verdict_has_it_in_text_and_json() -> None:
    result = Scene("cloud", 2).appraise()
    lines = [
        line.replace("a1" * 30, "").replace("7e" * 30, "")
        for line in table.text(result).splitlines()
    ]
    assert [line for line in lines if line in SHOWN] == SHOWN
    document = json.loads(table.json_text(result))
    assert document["attestedSeconds"] == 0.75
    assert document["records"][0]["rows"] == 256
    assert (document["loss"]["before"], document["loss"]["after"]) == (6.125, 4.0)
    assert list(document["texts"]) == ["chat template"]
    assert document["removed"] == ["model/config.json: name_or_path"]


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_is_shown_that_is_not_verified_or_not_said(version: int) -> None:
    scene = Scene("cloud", version)
    if version == 2:
        scene.set_pcr(8, bytes(32))
    result = scene.appraise()
    document = json.loads(table.json_text(result))
    assert [document[key] for key in KEYS] == [None] * 5
    shown = [line.split(" ")[0] for line in table.text(result).splitlines()]
    assert not {"time", "rows", "loss", "text", "removed"} & set(shown)
    assert "Measured by the runner" not in paged(scene)
    assert "TPM's clock" not in paged(scene).partition("Checks")[0]


def test_what_a_certificate_claims_is_shown_as_a_claim() -> None:
    certificate = Scene("local", 2).get("certificate")
    text = show.claims_text(certificate)
    assert text.startswith(show.BANNER)
    assert "rows      alpaca train: 256 rows" in text
    assert "took      0.750 s by the TPM's clock" in text.splitlines()
    claims = show.claims(certificate)
    assert [claims[key] for key in ("version", "attestedSeconds")] == [2, 0.75]
    assert claims["removed"] == ["model/config.json: name_or_path"]
    older = show.claims(Scene("local", 1).get("certificate"))
    assert [older[key] for key in ("version", *KEYS)] == [1, None, None, None, None, None]
    assert "rows " not in show.claims_text(Scene("local", 1).get("certificate"))


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: scene.edit("certify", lambda certify: certify | {"clock": 1001}),
        lambda scene: scene.put("certify_attest", b"no attestation"),
    ],
)
def test_a_time_that_cannot_be_derived_is_not_shown(change: Callable[[Scene], object]) -> None:
    scene = Scene("local", 2)
    change(scene)
    certificate = scene.get("certificate")
    assert show.claims(certificate)["attestedSeconds"] is None
    assert "took " not in show.claims_text(certificate)


def test_the_page_and_the_exports_have_it() -> None:
    scene = Scene("cloud", 2)
    text = paged(scene)
    assert "0.8 s by the TPM's clock" in text
    for words in ("alpaca train", "6.125 before, 4 after", "chat template", "name_or_path"):
        assert words in text
    contents = exported(scene)
    for name in ("bom.cdx.json", "bom.spdx.json"):
        assert b"alpaca train: 256 rows" in contents[name]
        assert b"6.125 before, 4 after" in contents[name]
    assert (
        "- rows: `alpaca train: 256 rows"
        in card.update("", facts.read(scene.get("file")), "model")[0]
    )
    older = Scene("cloud", 1)
    assert (
        "As the machine counted" not in card.update("", facts.read(older.get("file")), "model")[0]
    )


def test_some_of_many_are_shown_and_how_many_are_not() -> None:
    (one,) = FACTS["records"]
    many: tuple[Records, ...] = tuple(replace(one, split=f"s{number}") for number in range(9))
    scene = Scene("local", 2).edit("report", lambda report: replace(report, records=many))
    text = table.text(scene.appraise())
    assert "          alpaca s5: 256 rows" in text
    assert "alpaca s6" not in text
    assert "          and 3 more\n" in text
    details = scene.appraise().check("inputs.records").detail.split("\n")
    assert details[0].startswith("2304 rows read")
    assert [len(details), details[-1]] == [7, "and 4 more"]
    scene = Scene("local", 2).edit("report", lambda report: replace(report, records=many[:5]))
    details = scene.appraise().check("inputs.records").detail.split("\n")
    assert [len(details), details[-1][:10]] == [6, "alpaca s4:"]


@pytest.mark.parametrize(
    ("loss", "row"),
    [
        (Loss(state="no-loss", reason="a reason"), "loss      not measured: a reason"),
        (Loss(state="incomplete", reason="no\ntime"), "loss      not measured: no\\ntime"),
        (
            Loss(state="no-loss", reason="r", rows=1, tokens=8, template_tokens=2),
            "text      25.0% of 8 tokens come from templates, not from rows (measured)",
        ),
    ],
)
def test_a_loss_that_was_not_measured_is_shown_with_its_reason(loss: Any, row: str) -> None:
    scene = Scene("local", 2).edit("report", lambda report: replace(report, loss=loss))
    assert row in table.text(scene.appraise()).splitlines()
    assert all(line.isprintable() for line in table.text(scene.appraise()).splitlines())


def test_hostile_text_stays_text() -> None:
    hostile = "model/\x1b[2J</td><script>\nPASSED: x"
    scene = Scene("local", 2).edit("report", lambda report: replace(report, removed=(hostile,)))
    text = table.text(scene.appraise())
    assert "removed   model/\\x1b[2J</td><script>\\nPASSED: x" in text.splitlines()
    assert "<script>" not in paged(scene)
    assert "\x1b" not in show.claims_text(scene.get("certificate"))


COMPUTE = """\
compute   4 processors, 1 accelerator, weights of inputs: model (measured)
          at most 1.804e+16 FLOP, by caps of 2026-11-28 (derived)
          1.5e+12 FLOP (self-reported)
""".splitlines()


def test_compute_is_shown_measured_derived_and_self_reported() -> None:
    scene = Scene("cloud", 2)
    counted_units(accelerators=1, weights="model")(scene)
    result = scene.appraise()
    lines = table.text(result).splitlines()
    start = lines.index(COMPUTE[0])
    assert lines[start : start + 3] == COMPUTE
    assert json.loads(table.json_text(result))["compute"] == {
        "processors": 4,
        "accelerators": 1,
        "weightInputs": ["model"],
        "ceiling": 0.75 * 1.2 * (4e13 + 2e16),
        "caps": {"processor": 1e13, "accelerator": 2e16, "reviewed": "2026-11-28"},
        "selfReported": 1.5e12,
    }
    shown = paged(scene)
    assert "<h2>Compute</h2>" in shown
    assert "at most 1.804e+16 FLOP, by caps of 2026-11-28" in shown


def test_epochs_are_shown_by_whose_word_they_are() -> None:
    scene = Scene("cloud", 2)
    counted_rows()(scene)
    assert "epochs    at least 3 of 256 rows, in 96 steps (in-trainer)" in table.text(
        scene.appraise()
    )
    value("epochs", Value("self-reported", 2.9999))(scene)
    result = scene.appraise()
    lines = table.text(result).splitlines()
    start = lines.index("epochs    at least 3 of 256 rows, in 96 steps (in-trainer)")
    assert lines[start + 1] == "          2.9999 (self-reported)"
    counts = {"epochs": 3.0, "rows": 768, "of": 256, "steps": 96}
    known = {"inTrainer": counts, "selfReported": 2.9999}
    assert json.loads(table.json_text(result))["epochs"] == known
    shown = paged(scene)
    assert "<h2>Epochs</h2>" in shown
    assert "<h2>Run report: in-trainer</h2>" in shown
    assert ">at least 3 of 256 rows, in 96 steps</td>" in shown


def test_epochs_that_nobody_counted_are_not_shown() -> None:
    scene = Scene("cloud", 2)
    assert json.loads(table.json_text(scene.appraise()))["epochs"] is None
    counted_units()(scene)
    result = scene.appraise()
    assert json.loads(table.json_text(result))["epochs"] == {
        "inTrainer": None,
        "selfReported": None,
    }
    assert "epochs" not in table.text(result)
    assert "<h2>Epochs</h2>" not in paged(scene)


def test_compute_that_is_not_known_is_shown_as_such() -> None:
    scene = Scene("cloud", 2)
    counted_units(weights=None, flops=None)(scene)
    value("acceleratorCount", None)(scene)
    lines = table.text(scene.appraise()).splitlines()
    start = lines.index("compute   4 processors, accelerators not counted (measured)")
    assert lines[start + 1 : start + 3] == [
        "          no ceiling: its machine did not count processors and accelerators (derived)",
        "          no FLOP counted (self-reported)",
    ]
    counted_units()(scene)
    assert "weights of inputs: none (measured)" in table.text(scene.appraise())


def test_compute_is_not_shown_where_nothing_was_counted_or_verified() -> None:
    scene = Scene("cloud", 2)
    assert json.loads(table.json_text(scene.appraise()))["compute"] is None
    assert "<h2>Compute</h2>" not in paged(scene)
    counted_units()(scene)
    scene.set_pcr(8, bytes(32))
    assert scene.appraise().compute is None
