"""Attacks on what version 2 of the certificate adds: run time, records, measured loss and texts."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aicert.appraisal.policy import Claim
from aicert.formats.digest import Digest
from aicert.formats.run_report import Value
from aicert.formats.run_report_facts import Loss, Records
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_run import reported, value, wants
from tests.adversarial.attacks_tpm import certified
from tests.adversarial.forger import FACTS, Scene

Change = Callable[[Scene], object]
(RECORDS,) = FACTS["records"]
LEARNT = Value("self-reported", (6.0, 4.0, *[2.5] * 8))


def row(name: str, check: str, change: Change) -> Attack:
    return Attack(name, check, change, version=2)


def records(*changes: dict[str, Any]) -> Change:
    changed: tuple[Records, ...] = tuple(replace(RECORDS, **change) for change in changes)
    return reported(records=changed)


def loss(**changes: Any) -> Change:
    changed: Loss = replace(FACTS["loss"], **changes)
    return reported(loss=changed)


def both(*changes: Change) -> Change:
    return lambda scene: [change(scene) for change in changes]


def called(version: int) -> Change:
    """Change the version in the certificate file, which no signature covers."""
    return lambda scene: scene.edit_certificate(version=version)


def report_json(change: Callable[[dict[str, Any]], object]) -> Change:
    def edited(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return lambda scene: scene.edit("report_bytes", edited)


def unmeasured_for_no_reason(report: dict[str, Any]) -> None:
    value = report["loss"]["value"]
    value |= {"state": "no-loss", "reason": ""}
    del value["before"], value["after"]


def data_is_a_file(scene: Scene) -> None:
    def edited(locked: Any) -> Any:
        data, *others = locked.inputs
        digest = Digest("sha256", data.digest.hex)
        return replace(locked, inputs=(replace(data, digest=digest), *others))

    scene.edit("lockfile", edited)


ATTACKS = (
    row("run key certified after the quote", "runkey.time", certified(clock=1001)),
    row(
        "run key certified in an earlier boot",
        "runkey.certified",
        certified(reset=6, clock=10),
    ),
    row("clock of the certification neither safe nor not", "runkey.certified", certified(safe=2)),
    row("version 2 called version 1", "statement.form", called(1)),
    Attack("version 1 called version 2", "statement.form", called(2)),
    row(
        "report of version 1 in version 2",
        "statement.form",
        report_json(lambda r: r.update(version=1)),
    ),
    row(
        "report of a version that does not exist",
        "statement.form",
        report_json(lambda r: r.update(version=3)),
    ),
    Attack(
        "report of version 1 with a loss",
        "statement.form",
        report_json(lambda r: r.update(loss={"origin": "measured", "value": {}})),
    ),
    row("report without records", "statement.form", report_json(lambda r: r.pop("records"))),
    row("report without texts", "statement.form", report_json(lambda r: r.pop("texts"))),
    row(
        "report without what was removed", "statement.form", report_json(lambda r: r.pop("removed"))
    ),
    row(
        "records by the trainer",
        "statement.form",
        report_json(lambda r: r["records"].update(origin="self-reported")),
    ),
    row(
        "loss by the trainer",
        "statement.form",
        report_json(lambda r: r["loss"].update(origin="self-reported")),
    ),
    row(
        "loss of no tokens",
        "statement.form",
        report_json(lambda r: r["loss"]["value"].update(tokens=0, templateTokens=0)),
    ),
    row(
        "more tokens of templates than tokens",
        "statement.form",
        report_json(lambda r: r["loss"]["value"].update(templateTokens=8001)),
    ),
    row(
        "measured loss without a number",
        "statement.form",
        report_json(lambda r: r["loss"]["value"].pop("after")),
    ),
    row(
        "loss not measured and yet a number",
        "statement.form",
        report_json(lambda r: r["loss"]["value"].update(state="incomplete", reason="r")),
    ),
    row("loss not measured for no reason", "statement.form", report_json(unmeasured_for_no_reason)),
    row(
        "rows of a file outside",
        "statement.form",
        report_json(lambda r: r["records"]["value"][0].update(files=["../rows.jsonl"])),
    ),
    row(
        "rows of one file twice",
        "statement.form",
        report_json(lambda r: r["records"]["value"][0].update(files=["a", "a"])),
    ),
    row("rows of no input", "inputs.records", records({"name": "other"})),
    row("rows of the config", "inputs.records", records({"name": "config", "files": ()})),
    row("rows counted twice", "inputs.records", records({}, {})),
    row("selection of no rows", "inputs.records", records({"rows": 0})),
    row("more rows than bytes hold", "inputs.records", records({"rows": 256, "bytes": 767})),
    row("rows of a directory, of no file", "inputs.records", records({"files": ()})),
    row("rows of files in a file", "inputs.records", data_is_a_file),
    row("loss of rows that nobody counted", "outputs.trained", records()),
    row("removed from no input", "inputs.records", reported(removed=("other/config.json: a",))),
    row(
        "weights that do not fit what the trainer says it learnt",
        "outputs.trained",
        both(value("losses", LEARNT), loss(after=6.0)),
    ),
    row(
        "weights worse than the base, by a trainer that learnt",
        "outputs.trained",
        both(value("losses", LEARNT), loss(after=11.0)),
    ),
    row("weights that fit far better than the trainer says", "outputs.trained", loss(after=1.5)),
    row(
        "more text by templates than allowed",
        "policy.claims",
        wants(Claim(name="templateTokenShare", at_most=0.24)),
    ),
    row(
        "share of templates not measured",
        "policy.claims",
        both(
            reported(loss=Loss(state="no-loss", reason="r")),
            value("templateTokenShare", Value("measured", 0.0)),
            wants(Claim(name="templateTokenShare", at_most=0.5)),
        ),
    ),
    row(
        "unread bytes",
        "policy.claims",
        wants(Claim(name="unreadBytes", at_most=11)),
    ),
    row("less time than wanted", "policy.claims", wants(Claim(name="attestedSeconds", at_least=1))),
    Attack(
        "time that version 1 does not attest",
        "policy.claims",
        both(
            value("attestedSeconds", Value("measured", 3600)),
            wants(Claim(name="attestedSeconds", at_least=1)),
        ),
    ),
    Attack(
        "share of templates that version 1 does not measure",
        "policy.claims",
        wants(Claim(name="templateTokenShare", at_most=1)),
    ),
    Attack(
        "unread bytes that version 1 does not count",
        "policy.claims",
        wants(Claim(name="unreadBytes", at_most=1)),
    ),
)
