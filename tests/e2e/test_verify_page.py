"""`verify.html` in Chromium, from a file, with the network off: the corpus, and a person's way.

Screenshots go to the folder that AICERT_SCREENSHOTS names, for people to look at.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.cli.main import main
from browser.page.bridge import UNSEEN
from rules.page import build
from rules.page.parts import LOCK, pyodide, read_lock
from tests.adversarial.forger import Scene
from tests.browser import cases, odd
from tests.browser.compare import ROOT, library
from tests.browser.judging import Answer
from tests.browser.test_bridge import FILES, header, shown, written
from tests.e2e.browser import Browser
from tests.vectors import reading, test_differential

pytestmark = pytest.mark.slow
MODEL = {
    "config.json": b"{}",
    "sub/tokenizer.json": b"x" * 5_000_000,
    "model.safetensors": header(b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', b"abc"),
}
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
# Beside the product's own: what lets a test ask the verifier in the page directly.
JUDGE = """
const product = self.onmessage;
self.onmessage = (event) => {
  if (event.data.kind !== "judge") return product(event);
  const judging = python.pyimport("tests.browser.judging");
  self.postMessage({ kind: "judged", lines: judging.judge_all(event.data.lines) });
};
"""
# No more than a bound on what hangs.
LIMIT_S = 600


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, whose worker also takes cases."""
    lock = read_lock(ROOT / LOCK)
    worker = (ROOT / build.SOURCES / "worker.js").read_text()
    app = build.archive(ROOT, ["tests/browser/judging.py"])
    out = tmp_path_factory.mktemp("page") / "verify.html"
    out.write_bytes(build.assemble(ROOT, lock, pyodide(lock), app, worker + JUDGE))
    return out


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The page, opened and ready."""
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.ask("Network.emulateNetworkConditions", offline=True, latency=0,
                   downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        load(opened, page)
        yield opened


def load(browser: Browser, page: Path, fragment: str = "") -> None:
    """The page anew, until Python has started."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.ask("Page.navigate", url="about:blank")
    browser.ask("Page.navigate", url=page.as_uri() + fragment)
    until(browser, "document.getElementById('go')?.disabled === false")


def fresh(browser: Browser) -> None:
    """As it was when it was opened, without starting Python again."""
    browser.complaints.clear()
    browser.value(
        "document.getElementById('form').reset(); model = null;"
        " document.getElementById('result').replaceChildren()"
    )


def until(browser: Browser, condition: str) -> None:
    """Until the page says so; or it complains, or is stuck."""
    end = time.monotonic() + LIMIT_S
    while not browser.value(condition):
        stuck = browser.value("document.getElementById('result')?.textContent") or ""
        assert "this page cannot verify anything" not in stuck, stuck
        assert time.monotonic() < end, (condition, browser.complaints)
        time.sleep(0.05)


def pick(browser: Browser, name: str, *paths: object) -> None:
    """Choose files, or a folder, in a control of the page."""
    document = browser.ask("DOM.getDocument", depth=0)["root"]["nodeId"]
    node = browser.ask("DOM.querySelector", nodeId=document, selector=f"#{name}")["nodeId"]
    browser.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def pick_model(browser: Browser, folder: Path) -> None:
    """Choose a model's folder, whose files the browser takes its time to list."""
    browser.value("document.getElementById('model-picked').textContent = ''")
    pick(browser, "model", folder)
    until(browser, "document.getElementById('model-picked').textContent !== ''")


def answered(browser: Browser) -> int:
    """Press the button; the exit code that the answer stands for."""
    browser.value("delete document.body.dataset.exit")
    browser.value("document.getElementById('go').click()")
    until(browser, "document.body.dataset.exit !== undefined")
    return int(browser.value("document.body.dataset.exit"))


def judged(browser: Browser, asked: list[dict[str, object]]) -> list[Answer]:
    """The answers of the verifier in the page."""
    lines = json.dumps("".join(json.dumps(case) + "\n" for case in asked))
    expression = (
        "new Promise((resolve) => { worker.addEventListener('message', function took({ data }) {"
        " if (data.kind !== 'judged') return; worker.removeEventListener('message', took);"
        f" resolve(data.lines); }}); worker.postMessage({{ kind: 'judge', lines: {lines} }}); }})"
    )
    got = browser.ask(
        "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
    )
    return [json.loads(line) for line in got["result"]["value"].splitlines()]


def test_every_scenario_of_the_corpus_gets_the_same_answer(browser: Browser) -> None:
    # With another version of Python than this one's: each word of each check, all the same.
    for start in range(0, len(reading.paths()), 50):
        vectors = [reading.read(path) for path in reading.paths()[start : start + 50]]
        asked = [dict(cases.of_vector(vector)) for vector in vectors]
        for vector, here, there in zip(
            vectors, library(asked), judged(browser, asked), strict=True
        ):
            assert there == here, vector.name


def test_odd_certificates_and_paths_get_the_same_answer(browser: Browser) -> None:
    asked: list[dict[str, object]] = [
        {"der": base64.b64encode(der).decode()} for der in odd.certificates()
    ]
    asked += [dict(case) for case in cases.mutants(300, "in a browser")]
    asked += [dict(case) for case in cases.lists(100, "in a browser")]
    for here, there in zip(library(asked), judged(browser, asked), strict=True):
        # Of a year 0, each version of Python says with words of its own that there is none.
        assert there == here or (there[0] == here[0] and "year 0" in here[1])
    # Versions of Python have their own tables of Unicode.
    asked = [{"paths": list(case)} for case in test_differential.some_paths(1000)]
    assert judged(browser, asked) == library(asked)


def scene_in(folder: Path, kind: str = "local") -> dict[str, str | None]:
    scene = Scene(kind, 2).put("outputs", {"model": MODEL})
    written(folder / "model", MODEL)
    return shown(folder, scene)


def policy_of(folder: Path) -> list[Path]:
    return [*folder.glob("policy.toml"), *folder.glob("*.pem")]


def test_a_person_verifies_a_model(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    asked = scene_in(tmp_path)
    pick(browser, "certificate", asked["certificate"])
    pick(browser, "policyFiles", *policy_of(tmp_path))
    pick_model(browser, tmp_path / "model")
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    assert browser.value("document.getElementById('model-picked').textContent").startswith(
        "model: 3"
    )
    assert answered(browser) == 0
    assert browser.value("document.title") == "PASSED: tiny"
    assert browser.value("document.querySelector('#result h1 strong').innerText") == "PASSED"
    assert UNSEEN in browser.value("document.querySelector('.notice').innerText")
    assert browser.value("document.getElementById('status').textContent") == "PASSED: tiny."
    # A changed model is another answer, in the same page.
    (tmp_path / "model/config.json").write_bytes(b"[]")
    pick_model(browser, tmp_path / "model")
    assert answered(browser) == 1
    assert "changed config.json" in browser.value("document.querySelector('#result').innerText")
    # It asked for nothing but itself and the worker that it made, and broke none of its own rules.
    assert [url.partition(":")[0] for url in browser.requests if url != "about:blank"] == [
        "file", "blob"
    ]  # fmt: skip
    assert browser.complaints == []


def test_the_text_is_that_of_the_command_line(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh(browser)
    asked = scene_in(tmp_path)
    written(tmp_path / "odd", {**MODEL, "odd.safetensors": FILES["odd.safetensors"]})
    pick(browser, "certificate", asked["certificate"])
    pick(browser, "policyFiles", *policy_of(tmp_path))
    pick_model(browser, tmp_path / "odd")
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    words = ["verify", str(asked["certificate"]), str(tmp_path / "odd"), "--policy"]
    assert main([*words, str(asked["policy"]), "--at", str(asked["at"])]) == answered(browser) == 1
    assert browser.value("document.querySelector('#result details pre').textContent") == (
        capsys.readouterr().out
    )


def test_bad_input_gives_the_words_of_the_command_line(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh(browser)
    pick(browser, "certificate", written(tmp_path, {"certificate.json": b"{"}) / "certificate.json")
    assert main(["verify", str(tmp_path / "certificate.json")]) == answered(browser) == 2
    assert browser.value("document.querySelector('.verdict pre').textContent") == (
        capsys.readouterr().err
    )


def test_strings_of_a_certificate_are_never_markup(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    scene = Scene("local", 2).put("outputs", {"model": {**MODEL, "x'\"&;": b"1"}})
    asked = shown(tmp_path, scene)
    certificate = Path(str(asked["certificate"]))
    certificate.write_bytes(certificate.read_bytes().replace(b"tiny", HOSTILE[:4].encode()))
    pick(browser, "certificate", certificate)
    answered(browser)
    pick(browser, "certificate", written(tmp_path, {"x.json": HOSTILE.encode()}) / "x.json")
    answered(browser)
    assert browser.value("document.title") != "owned"
    assert browser.value("document.querySelectorAll('#result script, #result img').length") == 0


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_how_it_looks(
    browser: Browser, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    browser.look(width, height, scheme=scheme)
    folder = Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path)
    browser.picture(folder / f"verify-{width}-{scheme}.png")
    assert browser.value("document.documentElement.scrollWidth") <= width
    small = "[...document.querySelectorAll('label, button, td, p')].filter(e => e.innerText.trim()"
    small += " && parseFloat(getComputedStyle(e).fontSize) < 13).length"
    assert browser.value(small) == 0


def test_by_ear_and_by_keyboard(browser: Browser) -> None:
    browser.ask("Accessibility.enable")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    controls = ("textbox", "combobox", "button", "progressbar", "DisclosureTriangle")
    for node in nodes:
        if node.get("role", {}).get("value") in controls and not node.get("ignored"):
            assert node.get("name", {}).get("value"), node
    assert any(node.get("role", {}).get("value") == "status" for node in nodes)
    assert browser.value("document.querySelectorAll('main').length") == 1
    # Each control has a label of its own, and none is out of the keyboard's reach.
    unlabelled = "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length)"
    assert browser.value(f"{unlabelled}.length") == 0
    assert (
        browser.value("document.querySelectorAll('[tabindex]:not([tabindex=\"-1\"])').length") == 0
    )


def test_a_link_names_its_certificate(browser: Browser, page: Path, tmp_path: Path) -> None:
    load(browser, page, "#sha256:" + "0" * 64)
    assert browser.value("document.getElementById('expected').hidden") is False
    pick(browser, "certificate", scene_in(tmp_path)["certificate"])
    assert answered(browser) == 3
    assert "not the certificate that the link named" in browser.value("document.body.innerText")
