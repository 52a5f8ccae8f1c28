"""`aicert verify --evidence`: the digest of rows joins audits, and no verdict changes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal.result import Ancestor
from aicert.audits import config, lists, results
from aicert.audits.run import Audit, GivenList
from aicert.cli import main
from aicert.cli.verify import evidence as report
from aicert.cli.verify.evidence import Evidence
from aicert.formats.digest import of_bytes
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report_facts import Records
from aicert.verifier import evidence
from tests.adversarial.attacks_results import audit
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import Scene
from tests.unit.aicert.cli.test_main import AT, lay_out

Change = Callable[[Scene], object]
CONFIG = b"""\
[records]
key = "input:record-key"
[domains]
column = "url"
[passages]
words = 50
[[check]]
name = "opt-out"
kind = "domains/v1"
column = "url"
list = "input:alpaca"
[[check]]
name = "pii"
kind = "patterns/v1"
"""
DOMAINS = b"b.org\nnot a domain\n"
ROWS = b'{"url":"https://a.org/"}\n{"url":"https://b.org/"}\n{"mail":"x@example.org"}\n'


OPT_OUT = (
    "          opt-out: 1 of 3 rows match domains/v1 of column url, 1 missing, 0 unparsable; "
    "list DOMAINS, 1 of its 2 entries unusable"
)


def audited() -> results.Results:
    """Audit rows that the audit calls `model`; the list is its input `alpaca`."""
    given = GivenList(digest=of_bytes(DOMAINS), entries=lists.domains(DOMAINS))
    whole = Audit(config.parse(CONFIG), bytes(32), {"alpaca": given})
    reading = whole.reading("model", "train")
    reading.feed(ROWS)
    reading.fact(7)
    return whole.results()


RESULTS = results.emit(audited())


def records(name: str, split: str, rows: int = 3) -> Records:
    (fact,) = audited().data
    return Records(
        name=name, split=split, rows=rows, bytes=fact.bytes, digest=fact.digest, unread_bytes=7,
        files=("rows.jsonl",),
    )  # fmt: skip


def with_list(locked: Lockfile) -> Lockfile:
    first, *rest = locked.inputs
    return replace(locked, run="look", inputs=(replace(first, digest=of_bytes(DOMAINS)), *rest))


def audit_scene(*changes: Change) -> Scene:
    scene = Scene("local", 2)
    audit(reported(records=(records("model", "train"),)))(scene)
    scene.edit("lockfile", with_list)
    scene.put("outputs", {"results": {"results.json": RESULTS}})
    for change in changes:
        change(scene)
    return scene


def put(folder: Path, name: str, scene: Scene, data: bytes | None = RESULTS) -> None:
    (folder / "evidence" / name).mkdir(parents=True)
    (folder / "evidence" / name / "certificate.json").write_bytes(scene.get("file"))
    if data is not None:
        (folder / "evidence" / name / "results.json").write_bytes(data)


def trained() -> Scene:
    """Return a training on the rows that the audit read, and on others."""
    scene = Scene("local", 2)
    reported(records=(records("alpaca", "train"), records("alpaca", "test", rows=4)))(scene)
    return scene


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a model and its certificate, and evidence: that and an audit's."""
    scene = trained()
    lay_out(scene, tmp_path)
    put(tmp_path, "tiny", scene, None)
    put(tmp_path, "look", audit_scene())
    return tmp_path


def verify(folder: Path, *words: str) -> int:
    root = ["--policy", "local", "--root", str(folder / "root.pem"), "--at", AT]
    return main.main(["verify", *words, "--evidence", str(folder / "evidence"), *root])


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the output lines about evidence, with words in place of digests."""
    out = capsys.readouterr().out
    for data, word in ((RESULTS, "RESULTS"), (DOMAINS, "DOMAINS")):
        out = out.replace(str(of_bytes(data)), word)
    lines = out.partition("\nevidence\n")[2].splitlines()
    return [line for line in lines if "not evaluated" not in line]


def test_an_audit_joins_by_the_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder, str(folder / "c.json"), str(folder / "model")) == 0
    assert shown(capsys) == [
        "  audited alpaca train of run tiny by run look, tier software, results RESULTS",
        "          7 bytes of its files are in no row",
        "          of 9 words 0 mix letters of several scripts, 0 are too long",
        OPT_OUT,
        "          pii: 1 of 3 rows match patterns/v1, 0 missing, 0 unparsable",
        "          domains of column url: 2, most bytes from a.org, 1 missing, 0 unparsable",
        "  -       alpaca test of run tiny: not audited",
        "  -       run tiny: 1 text beside its rows that no audit reads",
    ]


def test_the_certificate_of_a_model_is_found(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model" / "README.md").write_text("not covered\n")
    assert verify(folder, str(folder / "model")) == 0
    assert "\nPASSED    (software" in (out := capsys.readouterr().out)
    assert "audited alpaca train of run tiny by run look" in out
    (folder / "model" / "config.json").write_text("{}")
    assert verify(folder, str(folder / "model")) == 2
    assert "none of the 2 certificates in" in capsys.readouterr().err
    shutil.rmtree(folder / "evidence/look")
    assert verify(folder, str(folder / "model")) == 2
    error = capsys.readouterr().err
    assert "error: the certificate in " in error
    assert " does not name the files of the model\nhint: aicert verify CERT MODEL_DIR" in error


def test_programs_get_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder, "odd", Scene("local", 2), None)
    (folder / "evidence" / "odd" / "certificate.json").write_text("{}")
    assert verify(folder, str(folder / "c.json"), str(folder / "model"), "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "passed"
    train, test = document["evidence"]["rows"]
    assert (train["run"], train["name"], train["split"]) == ("tiny", "alpaca", "train")
    ((look,), none) = train["audits"], test["audits"]
    assert none == []
    assert (look["run"], look["tier"], look["unreadBytes"]) == ("look", "software", 7)
    assert look["results"] == str(of_bytes(RESULTS))
    first, second = look["checks"]
    assert first["list"] == {
        "name": "alpaca", "digest": str(of_bytes(DOMAINS)), "entries": 2, "unusable": 1,
    }  # fmt: skip
    assert (first["matches"], first["missing"], first["unparsable"]) == (1, 1, 0)
    assert (look["domains"]["count"], look["domains"]["missing"]) == (2, 1)
    assert (second["name"], second["kind"], second["list"]) == ("pii", "patterns/v1", None)
    assert [each["name"] for each in document["evidence"]["notCounted"]] == ["odd"]


@pytest.mark.parametrize(
    ("scene", "data", "reason"),
    [
        (audit_scene(), None, "there is no such file beside the certificate"),
        (audit_scene(), RESULTS + b" ", "these are not the results that the certificate names"),
        (
            audit_scene(reported(exit_code="1")),
            RESULTS,
            "the audit's certificate fails: outputs.exit: the run failed: it ended with 1",
        ),
        (
            audit_scene(reported(records=(records("model", "train", rows=2),))),
            RESULTS,
            "the results and the run report differ about the rows of model, split 'train'",
        ),
    ],
    ids=lambda each: each if type(each) is str else "",
)
def test_what_does_not_count_is_said(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    scene: Scene,
    data: bytes | None,
    reason: str,
) -> None:
    put(folder, "odd", scene, data)
    assert verify(folder, str(folder / "c.json"), str(folder / "model")) == 0
    lines = shown(capsys)
    what = "odd" if data is not None else "odd/results.json"
    assert lines[-1] == f"  -       {what} does not count: {reason}"
    assert sum("  audited" in line for line in lines) == 1


def test_no_audit_makes_a_model_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model" / "config.json").write_text("{}")
    assert verify(folder, str(folder / "c.json"), str(folder / "model")) == 1
    out = capsys.readouterr().out
    assert "error: subject.files" in out


def test_what_is_not_verified_is_not_joined(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder / "c.json"), "--evidence", str(folder / "evidence"), "--at", AT]
    assert main.main(["verify", *words]) == 1
    first, *rest = shown(capsys)
    assert first.startswith("  -       what the run read is not verified")
    assert all("does not count: the audit's certificate fails: platform.chain" in a for a in rest)


def test_a_folder_without_certificates_is_no_evidence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(folder / "c.json"), "--evidence"]
    for place in ("model", "c.json"):
        assert main.main(["verify", *words, str(folder / place)]) == 2
    err = capsys.readouterr().err
    assert "holds 0 certificates at RUN/certificate.json, expected 1 to 200" in err
    assert "cannot read" in err


def test_rows_of_ancestors_are_looked_for_too() -> None:
    own = Scene("local", 2).appraise()
    base = replace(trained().appraise(), run="base", ancestors=())
    ancestor = Ancestor(input="model", source="run:base/model", digest="", result=base, reason=None)
    unknown = replace(ancestor, result=None, reason="not there")
    whole = replace(own, ancestors=(ancestor, unknown))
    none = Evidence(audits=(), refused=())
    assert list(report.lines(none, whole)) == [
        "evidence",
        "  -       alpaca train of run tiny: not audited",
        "  -       run tiny: 1 text beside its rows that no audit reads",
        "  -       alpaca train of ancestor base: not audited",
        "  -       alpaca test of ancestor base: not audited",
        "  -       run base: 1 text beside its rows that no audit reads",
        "  -       what run base read is not verified",
    ]
    assert report.to_json(none, whole)["notVerified"] == ["base"]


def test_what_a_run_read_that_was_not_found_is_not_verified() -> None:
    """Rows of a certificate that is not shown to be an ancestor's do not count as its rows."""
    own = Scene("local", 2).appraise()
    other = Ancestor(
        input="model", source="run:base/model", digest="", result=trained().appraise(),
        reason="that run's certificate has a different output",
    )  # fmt: skip
    absent = replace(other, source="run:\x1b/x", result=None)
    none = Evidence(audits=(), refused=())
    assert list(report.lines(none, replace(own, ancestors=(other, absent))))[-2:] == [
        "  -       what run base read is not verified",
        "  -       what run \\x1b read is not verified",
    ]


def test_without_a_lineage_it_is_said_that_there_is_one() -> None:
    own = Scene("local", 2).appraise()
    none = Evidence(audits=(), refused=())
    line = "  -       what the runs before run tiny read is not verified (--lineage)"
    assert line not in list(report.lines(none, own))
    checks = tuple(
        replace(check, verdict="not-checked") if check.id == "lineage.ancestors" else check
        for check in own.checks
    )
    assert list(report.lines(none, replace(own, checks=checks)))[-1] == line


def test_rows_of_runs_with_one_name_are_all_there() -> None:
    """The builder chooses run names: an ancestor's name must not hide rows of the run."""
    own = replace(trained().appraise(), ancestors=())
    base = Scene("local", 2).appraise()
    ancestor = Ancestor(input="model", source="run:tiny/m", digest="", result=base, reason=None)
    # The ancestor is found twice and shown once.
    whole = replace(own, ancestors=(ancestor, ancestor))
    none = Evidence(audits=(), refused=())
    rows = [line for line in report.lines(none, whole) if "not audited" in line]
    assert rows == [
        "  -       alpaca train of run tiny: not audited",
        "  -       alpaca test of run tiny: not audited",
        "  -       alpaca train of ancestor tiny: not audited",
    ]
    assert len(report.to_json(none, whole)["rows"]) == 3  # type: ignore[arg-type]


def test_nothing_is_said_of_what_is_not_there() -> None:
    whole = Audit(config.parse(b'[records]\nkey = "input:record-key"\n'), bytes(32), {})
    reading = whole.reading("model", "train")
    reading.feed(ROWS)
    reading.fact(0)
    look = evidence.Audit(
        run="look", tier="software", digest=of_bytes(b""), results=whole.results()
    )
    scene = Scene("local", 2)
    reported(records=(records("alpaca", "train"),), texts=())(scene)
    shown = report.lines(Evidence(audits=(look,), refused=()), scene.appraise())
    by = f"run look, tier software, results {of_bytes(b'')}"
    assert list(shown) == ["evidence", f"  audited alpaca train of run tiny by {by}"]


def test_what_cannot_be_asked_for_together(folder: Path) -> None:
    assert verify(folder, str(folder / "c.json"), "--base", str(folder)) == 3
    assert verify(folder, str(folder / "model"), "--certificate-only") == 3
    assert verify(folder, str(folder / "c.json"), "--certificate-only", "--format", "json") == 0
    assert verify(folder, str(folder / "c.json"), "--certificate-only") == 0
