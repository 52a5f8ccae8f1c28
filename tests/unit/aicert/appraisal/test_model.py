"""Limits of what may stand beside a model, of claims, and of the evidence's age."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aicert.appraisal.appraise import appraise
from aicert.appraisal.checks.demands import _check_age
from aicert.appraisal.checks.model import Model
from aicert.appraisal.policy import CLOCK_SKEW, Claim
from aicert.errors import EvidenceError
from aicert.formats import certificate as certificates
from aicert.formats.digest import Defect, FileFact
from aicert.formats.run_report import Value
from aicert.formats.uncovered_names import FILES, ignored_paths, may_be_uncovered
from tests.adversarial.forger import Scene, hex_of

AT = datetime(2026, 11, 1, tzinfo=UTC)
EXTRA = FileFact(1, hex_of(b"x"))


def beside(*paths: str, entry: FileFact | Defect = EXTRA) -> str:
    """Return the detail of subject.files for a model with these files beside it."""
    scene = Scene().edit("model", lambda model: model | dict.fromkeys(paths, entry))
    return scene.appraise().check("subject.files").detail


@pytest.mark.parametrize(
    "path",
    [
        "sub/LICENSE", "LICENSE/x", "LICENSES", "LICENSE.rst", "LICENSE.md.py", "license",
        "XLICENSE", "LICENSE-", "LICENSE-a b", "LICENSE-" + "x" * 65, "LICENSE-\u00e9", ".git",
        ".gitmodules", "x.git/a", ".cache/other/x", "sub/README.md",
    ],
)  # fmt: skip
def test_what_may_not_be_uncovered(path: str) -> None:
    assert f"extra     {path}" in beside(path)


@pytest.mark.parametrize("path", [".Git/hooks/x", ".CACHE/huggingface/x", ".\uff47it/x", ".git/x"])
def test_nothing_certified_can_be_taken_for_what_is_not_read(path: str) -> None:
    """On a disk that ignores case, the unverified file would replace the certified one."""
    certified = {"model": {"config.json": b"{}", "model.safetensors": b"new", path: b"certified"}}
    result = Scene().edit("outputs", lambda _: certified).appraise()
    assert [check.id for check in result.failed] == ["subject.files"]
    assert "some systems put it in a folder that is not read" in result.failed[0].detail


def test_the_list_for_other_formats_has_whole_names() -> None:
    listed = ignored_paths()
    assert list(listed) == sorted(listed)
    assert {".git", ".cache/huggingface", "LICENSE", "LICENSE.md", "LICENSE.txt"} < set(listed)
    assert all(may_be_uncovered(path) or may_be_uncovered(f"{path}/x") for path in listed)
    assert set(listed) > FILES


def test_five_inert_files_are_named() -> None:
    names = ["LICENSE", "LICENSE-A", "LICENSE-" + "B" * 64, "LICENSE-C_2.md", "LICENSE-D.txt"]
    expected = "output model: 3 files, 47 bytes\npresent, not covered: " + ", ".join(names)
    assert beside(*names) == expected
    assert beside(*names, "README.md") == expected + ", …"


def test_a_long_path_that_was_refused_is_cut() -> None:
    lines = beside("\n" * 300, entry=Defect("no name")).split("\n")
    assert lines[1:] == ["refused   '" + "\\n" * 200 + "': no name"]


def test_what_cannot_be_read_in_a_folder_that_is_not_read_does_not_matter() -> None:
    assert beside(".git/hooks", entry=Defect("a link")).startswith("output model: 3 files, 47")
    assert beside("hooks", entry=Defect("a link")).endswith("\nrefused   'hooks': a link")


def test_five_differences_are_shown() -> None:
    paths = [f"x{number}" for number in range(5)]
    expected = ["the model directory is not output model", *(f"extra     {path}" for path in paths)]
    assert beside(*paths).split("\n") == expected
    assert beside(*paths, "x5").split("\n") == [*expected, "and 1 more"]


def claimed(claim: Claim, **values: Value) -> str:
    scene = Scene().edit("report", lambda r: replace(r, values=dict(r.values) | values))
    scene.edit("policy", lambda policy: replace(policy, claims=(claim,)))
    check = scene.appraise().check("policy.claims")
    return f"{check.verdict}: {check.detail}"


def test_a_claims_bounds_are_allowed() -> None:
    at_most = Claim(name="steps", at_most=40, origins=frozenset(("self-reported",)))
    assert claimed(at_most) == "ok: steps is 40 (self-reported)"
    at_least = Claim(name="steps", at_least=40, origins=frozenset(("self-reported",)))
    assert claimed(at_least) == "ok: steps is 40 (self-reported)"


def test_a_claim_says_what_is_wrong() -> None:
    words = Claim(name="torch", at_most=1)
    assert claimed(words, torch=Value("measured", "2")) == (
        "failed: the run report has no number torch"
    )
    measured = Claim(name="steps", at_most=1, origins=frozenset(("measured", "derived")))
    assert claimed(measured) == (
        "failed: steps is self-reported, but the policy requires derived or measured"
    )


@pytest.mark.parametrize("age", [timedelta(days=30), timedelta(0), -CLOCK_SKEW])
def test_an_age_at_the_limit_is_allowed(age: timedelta) -> None:
    _check_age(AT - age, AT, 30)


@pytest.mark.parametrize(
    ("age", "complaint"),
    [
        (timedelta(days=30, seconds=1), "ended at 2026-10-01T23:59:59Z, more than 30 days ago"),
        (-CLOCK_SKEW - timedelta(seconds=1), "ended at 2026-11-02T00:00:01Z, in the future"),
    ],
)
def test_an_age_beyond_it_is_not(age: timedelta, complaint: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        _check_age(AT - age, AT, 30)
    assert caught.value.message == f"by its machine's clock the run {complaint}"


def test_without_a_model_it_says_so() -> None:
    scene = Scene()
    scene.with_model = False
    check = scene.appraise().check("subject.files")
    assert (check.verdict, check.detail) == (
        "not-checked",
        "not checked: you gave no model directory",
    )


def test_a_directory_is_not_read_for_outputs_that_nobody_measured() -> None:
    scene = Scene()
    scene.set_pcr(8, bytes(32))
    read = []

    def given() -> Model:
        read.append(True)
        return {}

    certificate = certificates.parse(scene.get("file"))
    result = appraise(certificate, given, scene.get("policy"), at=scene.at)
    assert result.check("outputs.pcr8").verdict == "failed"
    assert result.check("subject.files").verdict == "not-checked"
    assert not read
    scene = Scene()
    certificate = certificates.parse(scene.get("file"))
    result = appraise(certificate, given, scene.get("policy"), at=scene.at)
    assert result.check("subject.files").verdict == "failed"
    assert read


def test_the_output_with_the_fewest_differences_is_shown() -> None:
    scene = Scene()
    scene.edit("lockfile", lambda locked: replace(locked, outputs=("adapter", "model")))
    scene.edit("outputs", lambda outputs: outputs | {"adapter": {"a.safetensors": b"delta"}})
    scene.edit("model", lambda model: model | {"x": EXTRA})
    detail = scene.appraise().check("subject.files").detail
    assert detail == "the model directory is not output model\nextra     x"
