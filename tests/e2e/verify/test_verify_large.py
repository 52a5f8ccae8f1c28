"""`verify.html` and large models: several workers hash, memory does not grow, failures are
reported.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.page.browser import Browser
from tests.e2e.page.page_driver import READY, answered, built, pick, pick_model, until
from tests.e2e.page.test_verify_page import fill, load

pytestmark = pytest.mark.slow
MEGA = 1 << 20
# Pretend that the browser has several processors, whatever computer this is.
CORES = 3


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("page"))


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as opened:
        opened.ask("Emulation.setHardwareConcurrencyOverride", hardwareConcurrency=CORES)
        load(opened, page)
        yield opened


def test_several_workers_hash_and_memory_does_not_grow(browser: Browser, tmp_path: Path) -> None:
    """Each file of a large model goes to a worker that is free; none is held in memory."""
    fill(browser, tmp_path)
    assert answered(browser) == 0
    assert browser.value("helpers.length") == 0
    browser.value("helped = 0")
    # The answer is the same if another worker hashes each file of the model.
    assert answered(browser) == 0
    assert browser.value("helpers.length") == CORES - 1
    assert "PASSED" in browser.value("document.querySelector('#result').innerText")
    before = browser.most_memory()
    assert before > 50 * MEGA
    large = tmp_path / "model"
    for number in range(CORES):
        with (large / f"{number}.bin").open("wb") as file:
            file.truncate(400 * MEGA)
    pick_model(browser, large)
    assert answered(browser) == 1
    shown = browser.value("document.querySelector('#result').innerText")
    assert all(f"extra {number}.bin" in shown for number in range(CORES)), shown
    assert browser.most_memory() - before < 100 * MEGA
    # The model is not read if the answer does not depend on it.
    browser.value("document.getElementById('policy').value = 'default'")
    browser.value("window.read = 0; new MutationObserver(() => window.read++).observe("
                  "document.getElementById('reading'), { childList: true })")  # fmt: skip
    assert answered(browser) == 1
    assert browser.value("window.read") <= 1


def test_a_helper_that_fails_is_no_verdict(browser: Browser, tmp_path: Path) -> None:
    fill(browser, tmp_path)
    browser.value("helped = 0; parts.app = new Blob([])")
    browser.value("document.getElementById('go').click()")
    until(browser, "failed", broken=True)
    result = browser.value("document.getElementById('result').innerText")
    assert "this page cannot verify anything in this browser" in result
    assert browser.value("document.getElementById('go').disabled") is True
    # The verifier's own findings are no longer shown, whatever is picked now.
    pick(browser, "certificate", tmp_path / "policy.toml")
    status = "document.getElementById('status').textContent"
    until(browser, f"{status} === 'Open this page anew.'", broken=True)
    assert not browser.value(READY)
