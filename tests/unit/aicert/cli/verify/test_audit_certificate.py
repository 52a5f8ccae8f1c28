"""`aicert verify-proof --certificate`: results count only as far as the certificate covers them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aicert.audits import proofs, results
from aicert.audits.results import DataFact
from aicert.cli import main
from aicert.formats.digest import of_bytes
from aicert.formats.run_report_facts import Records
from tests.adversarial import ca_forge
from tests.adversarial.attacks_results import audit, trainer
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import Scene
from tests.unit.aicert.cli.test_main import AT
from tests.vectors import audits

RESULTS = results.emit(audits.audited())


def records_of(fact: DataFact) -> Records:
    """Return a run report's records of the same rows."""
    return Records(
        name=fact.name, split=fact.split, rows=fact.rows.count, bytes=fact.bytes,
        digest=fact.digest, unread_bytes=fact.unread_bytes, files=("rows.jsonl",),
    )  # fmt: skip


RECORDS = tuple(map(records_of, audits.audited().data))


def certified(data: bytes, *changes: Callable[[Scene], object]) -> Scene:
    """Return a scene that certifies an audit with these results."""
    scene = Scene("local", 2)
    audit(reported(records=RECORDS), *changes)(scene)
    scene.put("outputs", {"results": {"results.json": data}})
    return scene


def verify(folder: Path, scene: Scene, *more: str) -> int:
    (folder / "results.json").write_bytes(RESULTS)
    (folder / "proof").write_bytes(proofs.emit(audits.record(9)))
    (folder / "row").write_bytes(audits.ROWS[8] + b"\n")
    (folder / "c.json").write_bytes(scene.get("file"))
    (folder / "root.pem").write_bytes(ca_forge.pem(scene.get("root")))
    words = ["verify-proof", str(folder / "proof"), str(folder / "row")]
    words += ["--results", str(folder / "results.json"), "--certificate", str(folder / "c.json")]
    if not more:
        more = ("--policy", "local", "--root", str(folder / "root.pem"))
    return main.main([*words, "--at", AT, *more])


def test_a_proof_holds_under_a_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, certified(RESULTS)) == 0
    out = capsys.readouterr().out
    assert "these bytes were in input alpaca, split train, as row 9 of 11" in out
    assert f"results   {of_bytes(RESULTS)}\ncertified run tiny, tier software, policy local" in out


def test_a_certificate_without_a_verdict_gives_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, certified(RESULTS, trainer("other"))) == 2
    assert "has no verdict: outputs.trained" in capsys.readouterr().err


def test_a_platform_that_the_policy_does_not_accept_has_the_hint_of_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, certified(RESULTS), "--policy", "default") == 1
    assert capsys.readouterr().err.endswith("\nhint: --policy local --root PEM\n")


def with_other_records(**changes: Any) -> Callable[[Scene], object]:
    return reported(records=(replace(RECORDS[0], **changes), *RECORDS[1:]))


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (certified(RESULTS + b" "), "not the results that the certificate names"),
        (certified(RESULTS, reported(exit_code="1")), "fails: outputs.exit"),
        (certified(RESULTS, trainer("axolotl")), "fails: outputs.trained"),
        (Scene("local", 2), "is not an audit's: its kind is train"),
        (certified(RESULTS, with_other_records(unread_bytes=1)), "differ about the rows of alpaca"),
        (certified(RESULTS, with_other_records(rows=4)), "differ about the rows of alpaca"),
    ],
    ids=lambda each: each if type(each) is str else "",
)
def test_a_certificate_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scene: Scene, reason: str
) -> None:
    assert verify(tmp_path, scene) == 1
    assert reason in capsys.readouterr().err
