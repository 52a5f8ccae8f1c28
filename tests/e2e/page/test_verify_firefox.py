"""`verify.html` in Firefox, from a file, offline: a part of the corpus, and what a person does.

`test_verify_page.py` runs everything in Chromium; this has what another browser could change.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.errors import ToolError
from browser.page.bridge import UNSEEN
from tests.adversarial.ca_forge import hash_of
from tests.browser import cases, odd
from tests.browser.compare import library
from tests.e2e.page.firefox import Firefox
from tests.e2e.page.page_driver import (
    BROWSER_LIMIT_S,
    READY,
    answered,
    built,
    certificates,
    judged,
    policy_of,
    scene_in,
    until,
    violations,
)
from tests.vectors import reading, test_differential

pytestmark = pytest.mark.slow
# Take every tenth case of each folder.
STEP = 10


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Return the page, opened and ready."""
    folder = tmp_path_factory.mktemp("firefox")
    with Firefox(folder, BROWSER_LIMIT_S) as opened:
        opened.open(built(folder))
        until(opened, READY)
        yield opened


def test_the_verifier_gives_the_same_answers(firefox: Firefox) -> None:
    assert firefox.value("navigator.onLine") is False
    vectors = [reading.read(path) for path in reading.paths()[::STEP]]
    asked = [dict(cases.of_vector(vector)) for vector in vectors]
    asked += certificates(list(odd.certificates())[::STEP])
    asked += [{"paths": list(case)} for case in test_differential.some_paths(100)]
    for case, here, there in zip(asked, library(asked), judged(firefox, asked), strict=True):
        # Each version of Python has its own words for an error about the year 0.
        assert there == here or (there[0] == here[0] and "year 0" in here[1]), case


def test_a_person_verifies_a_model(firefox: Firefox, tmp_path: Path) -> None:
    asked = scene_in(tmp_path)
    certificate = Path(str(asked["certificate"]))
    firefox.pick("certificate", certificate)
    firefox.pick("policyFiles", *policy_of(tmp_path))
    # Firefox calls that an upload. The page says that it is not one.
    assert "upload" in firefox.pick_folder("model", tmp_path / "model")
    assert "upload" in firefox.value("document.getElementById('model-help').textContent")
    until(firefox, "modelName !== ''")
    firefox.value(f"document.getElementById('at').value = {asked['at']!r}")
    assert answered(firefox) == 0
    assert firefox.value("document.title") == "PASSED: tiny"
    assert UNSEEN in firefox.value("document.querySelector('.notice').innerText")
    assert firefox.value("document.querySelector('.subject').innerText") == (
        "About certificate.json, and model: 3 files, 5 MB. "
        f"Certificate sha256:{hash_of(certificate.read_bytes())}"
    )
    folder = Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path)
    assert firefox.picture(folder / "verify-firefox.png").startswith(b"\x89PNG")
    assert violations(firefox) == []
    # A changed model gets another answer, in the same page.
    (tmp_path / "model/config.json").write_bytes(b"[]")
    firefox.value("setModel('', null); forget()")
    firefox.pick_folder("model", tmp_path / "model")
    until(firefox, "modelName !== ''")
    # Force several workers to hash the files, as for a large model.
    firefox.value("helped = 0")
    assert answered(firefox) == 1
    assert firefox.value("helpers.length") >= min(2, len(os.sched_getaffinity(0))) - 1
    assert "changed config.json" in firefox.value("document.querySelector('#result').innerText")
    assert firefox.complaints() == []


def test_without_firefox_the_set_up_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.e2e.page.firefox.PROGRAM", str(tmp_path / "firefox"))
    with pytest.raises(ToolError, match="is not installed"):
        Firefox(tmp_path)
