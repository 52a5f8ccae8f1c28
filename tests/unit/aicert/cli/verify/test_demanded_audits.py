"""`aicert verify --policy ours.toml --evidence`, with the policy of docs/was-this-in-it.md.

Only the digests and the platform differ from the page; the certificates are of a training and an
audit.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import aicert
from aicert.audits import results as forms
from aicert.audits.results import CheckFact, Results
from aicert.cli import main
from aicert.errors import RejectedError
from aicert.formats import certificate as certificates
from aicert.verifier.evidence import audits_of, read_evidence
from aicert.verifier.verify import NoVerdictError
from tests.adversarial.attacks_audits import (
    LISTED,
    NONE,
    ROWS,
    audit_scene,
    before,
    counted,
    weights,
    with_texts,
)
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import FACTS, Scene
from tests.unit.aicert.cli.test_main import AT, lay_out

DOCUMENT = Path(__file__).resolve().parents[5] / "docs/was-this-in-it.md"
WHOLE = replace(ROWS, unread_bytes=0)
((_, TEXT),) = FACTS["texts"]


def documented() -> str:
    """Return the page's policy, with simulated platforms and the digests of the scene."""
    block: str = next(
        block
        for block in re.findall("```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        if block.startswith("# ours.toml\n")
    )
    listed, text = re.findall("sha256:[0-9a-f]{64}", block)
    block = block.replace(listed, str(LISTED)).replace(text, str(TEXT))
    changed = block.replace('extends = "default"', 'extends = "local"')
    assert changed != block
    return changed


def looked(matches: int = 0) -> Results:
    """Return the results of an audit for passages of the list."""
    whole = counted(replace(NONE, matches=matches), rows=WHOLE)
    first, _ = whole.checks
    check = CheckFact(name="held-out", kind="passages/v1", column=None, list=first.list)
    (fact,) = whole.data
    return replace(whole, checks=(check,), data=(replace(fact, checks=fact.checks[:1]),))


def put(folder: Path, name: str, results: Results) -> None:
    (folder / "evidence" / name).mkdir(parents=True)
    scene = audit_scene(results)
    (folder / "evidence" / name / "certificate.json").write_bytes(scene.get("file"))
    (folder / "evidence" / name / "results.json").write_bytes(forms.emit(results))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model, its certificate, an audit of its rows, and the policy."""
    scene = Scene("local", 2)
    reported(records=(WHOLE,))(scene)
    weights("model")(scene)
    lay_out(scene, tmp_path)
    put(tmp_path, "look", looked())
    (tmp_path / "ours.toml").write_text(documented())
    return tmp_path


def verify(folder: Path, *words: str) -> int:
    files = [str(folder / "c.json"), str(folder / "model"), "--at", AT]
    policy = ["--policy", str(folder / "ours.toml"), "--root", str(folder / "root.pem")]
    return main.main(["verify", *files, *policy, *words])


def evidence(folder: Path) -> tuple[str, str]:
    return "--evidence", str(folder / "evidence")


def test_the_policy_of_the_page_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder, *evidence(folder)) == 0
    out = capsys.readouterr().out
    assert "alpaca train for passages/v1: run look (software)" in out
    assert "\nevidence\n  audited alpaca train of run tiny by run look" in out


def test_without_evidence_there_is_no_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(folder) == 2
    assert "you gave no audits" in capsys.readouterr().out


def test_one_passage_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder, "again", looked(matches=1))
    assert verify(folder, *evidence(folder), "--format", "json") == 1
    document = json.loads(capsys.readouterr().out)
    failed = [check for check in document["checks"] if check["verdict"] == "failed"]
    assert [(check["id"], check["detail"]) for check in failed] == [
        ("audit.result", "passages/v1: matches 1, but policy ours allows 0")
    ]


def test_a_template_that_nobody_read_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "ours.toml").read_text()
    (folder / "ours.toml").write_text(text.replace(str(TEXT), f"sha256:{'0' * 64}"))
    assert verify(folder, *evidence(folder)) == 1
    out = capsys.readouterr().out
    assert "error: audit.present: no audit covers 1 text beside the rows" in out
    assert f'texts = ["{TEXT}"] in [[audit]]' in out


def test_the_model_may_be_found_by_its_files(folder: Path) -> None:
    (folder / "evidence" / "tiny").mkdir()
    (folder / "c.json").rename(folder / "evidence" / "tiny" / "certificate.json")
    policy = ["--policy", str(folder / "ours.toml"), "--root", str(folder / "root.pem")]
    assert main.main(["verify", str(folder / "model"), *evidence(folder), *policy, "--at", AT]) == 0


def test_the_same_from_python(folder: Path) -> None:
    words: dict[str, Any] = {
        "model": folder / "model", "policy": str(folder / "ours.toml"), "at": AT,
        "root": folder / "root.pem",
    }  # fmt: skip
    result = aicert.verify(folder / "c.json", **words, evidence=folder / "evidence")
    assert result.check("audit.result").verdict == "ok"
    with pytest.raises(NoVerdictError, match=r"audit\.present: you gave no audits"):
        aicert.verify(folder / "c.json", **words)
    put(folder, "again", looked(matches=1))
    with pytest.raises(RejectedError, match=r"audit\.result: passages/v1: matches 1"):
        aicert.verify(folder / "c.json", **words, evidence=folder / "evidence")


def test_what_is_no_audit_has_no_results(folder: Path) -> None:
    (folder / "evidence" / "tiny").mkdir()
    (folder / "c.json").rename(folder / "evidence" / "tiny" / "certificate.json")
    (folder / "evidence" / "tiny" / "results.json").write_bytes(b"never read")
    given, refused = read_evidence(folder / "evidence")
    assert ([one.name for one in given], refused) == (["look", "tiny"], [])
    assert [data for _, data in audits_of(given)] == [forms.emit(looked())]


def put_before(folder: Path, data: bytes | None) -> None:
    """Put a training into the evidence, with `data` as the results of the audit before it."""
    own, results = before()
    (folder / "evidence" / "tiny").mkdir()
    (folder / "evidence" / "tiny" / "certificate.json").write_bytes(certificates.emit(own))
    if data is None:
        data = results
    if data:
        (folder / "evidence" / "tiny" / "audit-look.json").write_bytes(data)


def test_an_audit_before_a_training_is_evidence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_before(folder, None)
    given, refused = read_evidence(folder / "evidence")
    assert ([one.name for one in given], refused) == (["look", "tiny"], [])
    assert [data for _, data in audits_of(given)] == [forms.emit(looked()), before()[1]]
    own = folder / "own"
    own.mkdir()
    lay_out(Scene("local", 2), own)
    files = [str(own / "c.json"), str(own / "model"), "--at", AT]
    words = ["--policy", "local", "--root", str(own / "root.pem"), *evidence(folder)]
    assert main.main(["verify", *files, *words]) == 0
    out = capsys.readouterr().out
    assert "  audited alpaca train of run tiny by run tiny, tier software, results" in out
    assert "  audited 1 text beside the rows of run tiny, by checks of all text" in out
    assert "no audit reads" not in out


def test_a_text_that_matches_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder, "more", with_texts(known=1))
    assert verify(folder, *evidence(folder)) == 0
    out = capsys.readouterr().out
    assert "          known: chat template matches" in out


def test_a_training_without_the_results_of_its_audits_is_evidence_of_all_else(
    folder: Path,
) -> None:
    put_before(folder, b"")
    given, refused = read_evidence(folder / "evidence")
    assert [(one.name, len(one.results)) for one in given] == [("look", 1), ("tiny", 0)]
    assert refused == [("tiny/audit-look.json", "there is no such file beside the certificate")]


def test_other_results_than_those_before_a_training_do_not_count(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_before(folder, forms.emit(looked()))
    assert verify(folder, *evidence(folder)) == 0
    out = capsys.readouterr().out
    assert "tiny does not count: the certificate is not an audit's: its kind is train" in out


def test_results_that_are_too_large_are_not_read(folder: Path) -> None:
    (folder / "evidence" / "look" / "results.json").write_bytes(bytes(forms.MAX_BYTES + 1))
    given, refused = read_evidence(folder / "evidence")
    assert [(one.name, one.results) for one in given] == [("look", ())]
    ((name, reason),) = refused
    assert name == "look/results.json"
    assert "larger than" in reason or "more than" in reason
