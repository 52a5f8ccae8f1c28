"""What tests of `verify.html` do in any browser: build it with a hook for tests, wait, ask."""

import base64
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any, Protocol

from rules.page import build
from rules.page.parts import LOCK, archive, read_lock
from tests.adversarial.forger import Scene
from tests.browser.compare import ROOT
from tests.browser.judging import Answer
from tests.browser.test_bridge import header, shown, written
from tests.e2e.page.browser import Browser

MODEL = {
    "config.json": b"{}",
    "sub/tokenizer.json": b"x" * 5_000_000,
    "model.safetensors": header(b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', b"abc"),
}
# This script next to the product's own lets a test query the page's verifier directly.
JUDGE = """
const product = self.onmessage;
self.onmessage = (event) => {
  if (event.data.kind !== "judge") return product(event);
  const [port] = event.ports;
  try {
    const judging = python.pyimport("tests.browser.judging");
    port.postMessage({ lines: judging.judge_all(event.data.lines) });
  } catch (error) {
    port.postMessage({ error: String(error) });
  }
};
"""
# These only bound something that hangs: a single wait, and all of them together.
LIMIT_S, BROWSER_LIMIT_S = 600, 3600
READY = "document.getElementById('go')?.disabled === false"
AXE = Path(__file__).with_name("axe.lock.toml")


class Page(Protocol):
    """A page in some browser."""

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""

    def promised(self, expression: str) -> Any:
        """Return the value of a promise in the page, once it is fulfilled."""

    def console(self) -> str:
        """Return what the browser reported about the page, for people."""


def built(folder: Path) -> Path:
    """Build the page with a worker that also accepts cases from tests. Returns its path."""
    lock = read_lock(ROOT / LOCK)
    worker = (ROOT / build.SOURCES / "worker.js").read_text()
    app = build.archive(ROOT, ["tests/browser/judging.py"])
    out = folder / "verify.html"
    out.write_bytes(build.assemble(ROOT, lock, archive(lock), app, worker + JUDGE))
    return out


def until(page: Page, condition: str, broken: bool = False) -> None:
    """Wait until the condition holds in the page. Fails if the page reports that it cannot verify
    (unless `broken` is set), or is stuck.
    """
    end = time.monotonic() + LIMIT_S
    while not page.value(condition):
        stuck = page.value("document.getElementById('result')?.textContent") or ""
        assert broken or "this page cannot verify anything" not in stuck, (
            f"{stuck}\n{page.console()}"
        )
        assert time.monotonic() < end, f"{condition}\n{page.console()}"
        time.sleep(0.05)


def pick(browser: Browser, name: str, *paths: object) -> None:
    """Choose files, or a folder, in a control of the page."""
    document = browser.ask("DOM.getDocument", depth=0)["root"]["nodeId"]
    node = browser.ask("DOM.querySelector", nodeId=document, selector=f"#{name}")["nodeId"]
    browser.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def pick_model(browser: Browser, folder: Path) -> None:
    """Choose a model's folder, and wait until the browser has listed its files."""
    browser.value("document.getElementById('model').value = ''; setModel('', null)")
    pick(browser, "model", folder)
    until(browser, "document.getElementById('model-picked').textContent !== ''")


def drop(browser: Browser, *paths: Path) -> None:
    """Drop files, or a folder, somewhere on the page."""
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    browser.value("scrollTo(0, 0)")
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.ask("Input.dispatchDragEvent", type=kind, x=60, y=300, data=data)


def answered(page: Page) -> int:
    """Press the button. Returns the exit code that the answer stands for."""
    page.value("document.getElementById('go').click()")
    until(page, "document.body.dataset.exit !== undefined")
    return int(page.value("document.body.dataset.exit"))


def judged(page: Page, asked: list[dict[str, object]]) -> list[Answer]:
    """Return the answers of the verifier in the page."""
    lines = json.dumps("".join(json.dumps(case) + "\n" for case in asked))
    got = page.promised(
        "new Promise((resolve) => { const { port1, port2 } = new MessageChannel();"
        " port1.onmessage = ({ data }) => resolve(data);"
        f" worker.postMessage({{ kind: 'judge', lines: {lines} }}, [port2]); }})",
    )
    assert "error" not in got, f"{got['error']}\n{page.console()}"
    return [json.loads(line) for line in got["lines"].splitlines()]


def certificates(ders: list[bytes]) -> list[dict[str, object]]:
    """Return cases of X.509 certificates."""
    return [{"der": base64.b64encode(der).decode()} for der in ders]


def scene_in(folder: Path, kind: str = "local") -> dict[str, str | None]:
    """Write a certificate and its model to `folder`. Returns the paths and settings to use."""
    scene = Scene(kind, 2).put("outputs", {"model": MODEL})
    written(folder / "model", MODEL)
    return shown(folder, scene)


def policy_of(folder: Path) -> list[Path]:
    """Return the policy file in the folder, and the files that it names."""
    return [*folder.glob("policy.toml"), *folder.glob("*.pem")]


def violations(page: Page) -> list[tuple[str, str]]:
    """Return what Deque's accessibility checker, as packed by npm, finds wrong. If this returns,
    the checker has run.
    """
    data = archive(read_lock(AXE, "axe-core"))
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        script = packed.extractfile("package/axe.min.js")
        assert script is not None
        # The page's policy does not bind the debugger's scripts.
        page.value(script.read().decode() + "; 0")
    report = json.loads(page.promised("axe.run().then(JSON.stringify)"))
    assert len(report["passes"]) > 20
    return [(one["id"], one["nodes"][0]["html"]) for one in report["violations"]]
