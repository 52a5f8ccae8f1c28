"""`verify.html` in Chromium, from a file, with the network off: the corpus, and what a person does.

Screenshots go to the folder that AICERT_SCREENSHOTS names, for people to look at.
"""

import base64
import gzip
import io
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.files.tree import read_tree
from aicert.formats.certificate import emit
from aicert.formats.listing import dir_digest
from browser.page.bridge import UNSEEN
from rules.commands.page import Page
from rules.page import build
from rules.page.parts import LOCK, archive, read_lock
from tests.adversarial.attacks_evaluations import OF_MODEL, evaluated, measured
from tests.adversarial.ca_forge import hash_of
from tests.adversarial.forger import Scene
from tests.browser import cases, odd
from tests.browser.compare import ROOT, library
from tests.browser.test_bridge import FILES, shown, written
from tests.e2e.conftest import Checkout
from tests.e2e.page.browser import Browser
from tests.e2e.page.page_driver import (
    BROWSER_LIMIT_S,
    MODEL,
    READY,
    answered,
    built,
    certificates,
    drop,
    judged,
    pick,
    pick_model,
    policy_of,
    scene_in,
    until,
    violations,
)
from tests.e2e.page.test_page import CUT_OFF
from tests.unit.signing_keys import Printed
from tests.vectors import reading, test_differential

pytestmark = pytest.mark.slow
EVIDENCE = "document.querySelector('#result .evidence pre').textContent"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return the page, opened and ready."""
    with Browser(tmp_path_factory.mktemp("browser"), BROWSER_LIMIT_S) as opened:
        opened.ask("Network.emulateNetworkConditions", offline=True, latency=0,
                   downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        load(opened, page)
        yield opened


def load(browser: Browser, page: Path, fragment: str = "") -> None:
    """Load the page again, and wait until Python has started."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.ask("Page.navigate", url="about:blank")
    browser.ask("Page.navigate", url=page.as_uri() + fragment)
    until(browser, READY)


def fresh(browser: Browser) -> None:
    """Restore the state after opening, without starting Python again."""
    browser.complaints.clear()
    browser.value("location.hash = ''")
    until(browser, "document.getElementById('expected').hidden")
    empty = "setModel('', null); setEvidence('', [])"
    browser.value(f"document.getElementById('form').reset(); {empty}; forget()")


def fill(browser: Browser, folder: Path) -> dict[str, str | None]:
    """Write a scene to `folder`, and choose its certificate, policy, model and time."""
    asked = scene_in(folder)
    pick(browser, "certificate", asked["certificate"])
    pick(browser, "policyFiles", *policy_of(folder))
    pick_model(browser, folder / "model")
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    return asked


def test_every_scenario_of_the_corpus_gets_the_same_answer(browser: Browser) -> None:
    # The page runs another version of Python than this process; every word of every check must
    # agree.
    for start in range(0, len(reading.paths()), 50):
        vectors = [reading.read(path) for path in reading.paths()[start : start + 50]]
        asked = [dict(cases.of_vector(vector)) for vector in vectors]
        for vector, here, there in zip(
            vectors, library(asked), judged(browser, asked), strict=True
        ):
            assert there == here, vector.name


def test_odd_certificates_and_paths_get_the_same_answer(browser: Browser) -> None:
    asked = certificates(list(odd.certificates()))
    asked += [dict(case) for case in cases.mutants(300, "in a browser")]
    asked += [dict(case) for case in cases.lists(100, "in a browser")]
    for here, there in zip(library(asked), judged(browser, asked), strict=True):
        # Each version of Python has its own words for an error about the year 0.
        assert there == here or (there[0] == here[0] and "year 0" in here[1])
    # Versions of Python have their own tables of Unicode.
    asked = [{"paths": list(case)} for case in test_differential.some_paths(1000)]
    assert judged(browser, asked) == library(asked)


def test_a_person_verifies_a_model(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    asked = fill(browser, tmp_path)
    assert browser.value("document.getElementById('model-picked').textContent").startswith(
        "model: 3"
    )
    assert answered(browser) == 0
    assert browser.value("document.title") == "PASSED: tiny"
    assert browser.value("document.querySelector('#result h1 strong').innerText") == "PASSED"
    assert UNSEEN in browser.value("document.querySelector('.notice').innerText")
    assert browser.value("document.getElementById('status').textContent") == "PASSED: tiny."
    digest = hash_of(Path(str(asked["certificate"])).read_bytes())
    assert browser.value("document.querySelector('.subject').innerText") == (
        f"About certificate.json, and model: 3 files, 5 MB. Certificate sha256:{digest}"
    )
    # A changed model gets another answer, in the same page.
    (tmp_path / "model/config.json").write_bytes(b"[]")
    pick_model(browser, tmp_path / "model")
    assert answered(browser) == 1
    assert "changed config.json" in browser.value("document.querySelector('#result').innerText")
    # The page requested only itself and the worker that it made, and violated none of its own
    # rules.
    assert [url.partition(":")[0] for url in browser.requests if url != "about:blank"] == [
        "file", "blob"
    ]  # fmt: skip
    assert browser.complaints == []


def test_a_model_that_was_really_trained(
    browser: Browser, checkout: Checkout, printed: Printed
) -> None:
    """The page says the same as the command line about a certificate, all its files and its
    lockfile.
    """
    certified = checkout.doit("certify", "tiny-alpaca")
    assert certified.returncode == 0, certified.stderr
    picked = {
        "certificate": checkout.root / "certificates/tiny-alpaca/certificate.json",
        "root": checkout.root / ".aicert/ca/local.pem",
        "lockfile": checkout.root / "lockfiles/tiny-alpaca.lock.toml",
    }
    model = checkout.root / "outputs/tiny-alpaca/model"
    fresh(browser)
    browser.value("document.getElementById('policy').value = 'local'")
    for name, path in picked.items():
        pick(browser, name, path)
    pick_model(browser, model)
    assert answered(browser) == 0
    shown_here = browser.value("document.querySelector('#result').innerText")
    given = [f"--{name}={picked[name]}" for name in ("root", "lockfile")]
    asked = ["verify", str(picked["certificate"]), str(model), "--policy=local", "--format=json"]
    assert main([*asked, *given]) == 0
    checks = json.loads(printed()[0])["checks"]
    assert {"outputs.trained", "inputs.lockfile", "subject.files"} <= {
        check["id"] for check in checks if check["verdict"] == "ok"
    }
    for check in checks:
        assert check["id"] in shown_here
        assert check["detail"].splitlines()[0] in shown_here
    weights = next(model.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    pick_model(browser, model)
    assert answered(browser) == 1


# A person could take these for a verdict: under the form, in the title, for a screen reader.
PLACES = "['result', 'status'].map((id) => document.getElementById(id).textContent)"
SHOWN = f"[document.title, ...{PLACES}].join('|')"
NOTHING = "Verify an aicert certificate||Ready."


def shown_result(browser: Browser) -> str:
    return str(browser.value(SHOWN))


def test_a_result_goes_when_something_else_is_picked(browser: Browser, tmp_path: Path) -> None:
    """A result that is shown is never about other files than those in the form."""
    fresh(browser)
    asked = scene_in(tmp_path)
    pick(browser, "policyFiles", *policy_of(tmp_path))
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    typed = "const field = document.getElementById('{}'); field.value = '{}'; field.dispatchEvent("
    typed += "new Event('input', {{ bubbles: true }}))"
    other = written(tmp_path / "other", {"other.json": b"{}"})
    changes: tuple[Callable[[], object], ...] = (
        lambda: pick(browser, "certificate", other / "other.json"),
        lambda: pick_model(browser, other),
        lambda: pick(browser, "root", *tmp_path.glob("*.pem")),
        lambda: browser.value(f"{{ {typed.format('nonce', '00')} }}"),
        lambda: browser.value(f"{{ {typed.format('policy', 'default')} }}"),
        lambda: drop(browser, tmp_path / "model"),
        lambda: drop(browser, tmp_path / "certificate.json"),
    )
    for change in changes:
        pick(browser, "certificate", asked["certificate"])
        pick_model(browser, tmp_path / "model")
        assert answered(browser) in (0, 1, 2, 3)
        assert shown_result(browser) != NOTHING
        change()
        until(browser, f"!busy && {SHOWN} === {NOTHING!r}")
    # Somebody follows a link into the open page while it shows a verdict for another certificate.
    answered(browser)
    browser.value("location.hash = '#sha256:' + '0'.repeat(64)")
    until(browser, "document.getElementById('expected').hidden === false")
    assert shown_result(browser) == NOTHING
    # The answer to an earlier question arrives when nobody waits for it any more.
    browser.value("document.getElementById('go').click(); forget()")
    until(browser, "!busy")
    assert shown_result(browser) == NOTHING


def test_files_and_a_folder_that_are_dropped(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    asked = scene_in(tmp_path)
    (tmp_path / "collateral.json").write_bytes(b"{}")
    drop(browser, tmp_path / "model", *tmp_path.glob("*.json"))
    until(browser, "modelName !== ''")
    names = "[...document.querySelectorAll('input[type=file]')].filter((e) => e.files.length).map("
    names += "(e) => e.id + ' ' + e.files[0].name).join()"
    assert browser.value(names) == "certificate certificate.json,collateral collateral.json"
    pick(browser, "policyFiles", *policy_of(tmp_path))
    browser.value("document.getElementById('collateral').value = ''")
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    assert answered(browser) == 0
    # The page does not guess in unclear cases, and the last model does not stay for another one.
    (tmp_path / "other.json").write_bytes(b"{}")
    drop(browser, tmp_path / "certificate.json", tmp_path / "other.json")
    until(browser, "document.getElementById('result').textContent.includes('it is not clear')")
    drop(browser, tmp_path / "model", tmp_path / "model/sub")
    until(browser, "document.getElementById('result').textContent.includes('more than one')")
    assert browser.value("model === null && modelName === ''")
    drop(browser, tmp_path / "model")
    until(browser, "modelName !== ''")
    gone = "walk([{ entry: { name: 'other' }, handle: Promise.reject(new Error('it is gone')) }])"
    browser.value(f"{gone}; 0")
    until(browser, "document.getElementById('result').textContent.includes('other: it is gone')")
    assert browser.value("model === null && modelName === ''")
    assert answered(browser) == 2


def test_what_a_browser_shows_of_a_folder(browser: Browser, tmp_path: Path) -> None:
    """The page says which files the browser hides; a folder that the browser changes is not
    accepted as a model.
    """
    fresh(browser)
    asked = scene_in(tmp_path)
    model = tmp_path / "model"
    (model / "empty").mkdir()
    (model / "link").symlink_to("config.json")
    pick(browser, "certificate", asked["certificate"])
    pick(browser, "policyFiles", *policy_of(tmp_path))
    pick_model(browser, model)
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    assert answered(browser) == 0
    assert UNSEEN in browser.value("document.querySelector('.notice').innerText")
    # The tokenizer is in a file whose name has a backslash, not in a folder, or is there in
    # addition.
    good = (model / "sub/tokenizer.json").read_bytes()
    for name in (".hidden", "sub\\tokenizer.json", "model.safetensors/config.json"):
        folder = tmp_path / ascii(name[:3])
        written(folder, {**MODEL, "sub/tokenizer.json": b"evil"})
        if "/" in name:
            (folder / "model.safetensors").unlink()
        written(folder, {"sub/tokenizer.json": good} if name[0] == "." else {})
        written(folder, {name: good})
        pick_model(browser, folder)
        assert answered(browser) == 1, name


def test_audits_that_a_policy_demands(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    vector = reading.read(reading.FOLDER / "honest/audited.json")
    pick(browser, "certificate", written(tmp_path, {"c.json": vector.certificate}) / "c.json")
    policy = written(tmp_path / "policy", {n: text.encode() for n, text in vector.policy.items()})
    pick(browser, "policyFiles", *policy.iterdir())
    browser.value(f"document.getElementById('at').value = {vector.at.isoformat()!r}")
    check = "[...document.querySelectorAll('#result tr')].map((row) => row.innerText).filter("
    check += "(text) => text.includes('audit.present'))[0].split('\\t')[0]"
    assert answered(browser) == 2
    assert browser.value(check) == "not-checked"
    for number, (certificate, results) in enumerate(vector.audits or ()):
        files = {"certificate.json": certificate, "results.json": results, "more/x": b""}
        written(tmp_path / f"audits/{number}", files)
    pick(browser, "evidence", tmp_path / "audits")
    until(browser, "evidenceName === 'audits'")
    assert answered(browser) == 2
    assert browser.value(check) == "ok"
    assert "audited alpaca train of run tiny by run look" in browser.value(EVIDENCE)
    pick(browser, "evidence", tmp_path / "policy")
    until(browser, "evidenceName === 'policy'")
    browser.value("document.getElementById('go').click()")
    until(browser, "document.getElementById('result').textContent.includes('has no certificate')")


def test_a_model_and_evidence_that_are_dropped_together(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page shows what `aicert verify MODEL --evidence` prints, whichever comes first."""
    fresh(browser)
    asked = scene_in(tmp_path)
    model = tmp_path / "model"
    digest = dir_digest(read_tree(model))
    about = measured(base=replace(OF_MODEL, digest=digest))
    certificate, results = evaluated(about, inputs={"model": digest})
    for number, data in enumerate((results, results[:-1])):
        files = {"certificate.json": emit(certificate), "results.json": data}
        written(tmp_path / f"runs/{number}", files)
    own = Path(str(asked["certificate"])).read_bytes()
    written(tmp_path / "runs", {".DS_Store": b"", "mine/certificate.json": own})
    pick(browser, "policyFiles", *policy_of(tmp_path))
    browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    drop(browser, tmp_path / "runs")
    until(browser, "document.getElementById('evidence-picked').innerText === 'runs: 3 runs'")
    assert browser.value("model === null")
    drop(browser, tmp_path / "runs", model)
    until(browser, "modelName !== ''")
    assert answered(browser) == 0
    assert "a certificate in runs" in browser.value("document.querySelector('.subject').innerText")
    words = ["verify", str(model), "--evidence", str(tmp_path / "runs")]
    assert main([*words, "--policy", str(asked["policy"]), "--at", str(asked["at"])]) == 0
    printed = capsys.readouterr().out.partition("\nevidence\n")[2]
    assert "evaluated: run look, loss 2.25 per token (n = 58 rows, measured)" in printed
    assert "1 does not count: these are not the results that the certificate names" in printed
    assert browser.value(EVIDENCE) == printed.rstrip("\n")
    browser.picture(Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path) / "evidence.png")


def test_what_contradicts_itself_is_not_asked(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    says = "document.querySelector('#result pre').textContent"
    go = "document.getElementById('go').click()"
    browser.value(f"document.getElementById('form').noValidate = true; {go}")
    assert browser.value(says) == "error: no certificate was chosen"
    files = written(tmp_path, {"c.json": b"{", "a.toml": b"", "b.toml": b"", "l": b""})
    pick(browser, "certificate", files / "c.json")
    pick(browser, "policyFiles", files / "a.toml", files / "b.toml")
    browser.value(go)
    assert "2 policy files (.toml) were chosen, wanted: one" in browser.value(says)
    browser.value(f"document.getElementById('policyFiles').value = ''; {go}")
    assert "no policy files (.toml) were chosen" in browser.value(says)
    browser.value("document.getElementById('policy').value = 'default'")
    pick(browser, "lockfile", files / "l")
    browser.value("document.getElementById('lockfileDigest').value = 'sha256:00'")
    browser.value(go)
    assert "a lockfile and the digest of one" in browser.value(says)
    browser.value("document.getElementById('form').noValidate = false")


def changed_later(path: Path) -> None:
    """Change a file, and its time by ten seconds: a browser compares times of change in whole
    seconds.
    """
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, (path.stat().st_mtime + 10,) * 2)


def test_a_file_that_changed_since_it_was_chosen(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    certificate = Path(str(fill(browser, tmp_path)["certificate"]))
    changed_later(tmp_path / "model/config.json")
    assert answered(browser) == 1
    assert "file changed while it was read: 'config.json'" in shown_result(browser)
    changed_later(certificate)
    assert answered(browser) == 2
    assert "cannot read certificate.json" in shown_result(browser)


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
    fresh(browser)
    fill(browser, tmp_path)
    assert answered(browser) == 0
    folder = Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path)
    browser.picture(folder / f"verify-{width}-{scheme}.png")
    assert browser.value("document.documentElement.scrollWidth") <= width
    small = "[...document.querySelectorAll('label, button, td, p')].filter(e => e.innerText.trim()"
    small += " && parseFloat(getComputedStyle(e).fontSize) < 13).length"
    assert browser.value(small) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("with_model", [True, False])
def test_axe_has_nothing_to_say(
    browser: Browser, tmp_path: Path, scheme: str, with_model: bool
) -> None:
    fresh(browser)
    browser.look(1280, 900, scheme=scheme)
    asked = scene_in(tmp_path)
    pick(browser, "certificate", asked["certificate"])
    pick(browser, "policyFiles", *policy_of(tmp_path))
    browser.value("document.querySelector('details').open = true")
    if with_model:
        pick_model(browser, tmp_path / "model")
        browser.value(f"document.getElementById('at').value = {asked['at']!r}")
    assert answered(browser) == (0 if with_model else 2)
    assert violations(browser) == []


def test_by_ear_and_by_keyboard(browser: Browser) -> None:
    fresh(browser)
    browser.ask("Accessibility.enable")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    controls = ("textbox", "combobox", "button", "progressbar", "DisclosureTriangle")
    for node in nodes:
        if node.get("role", {}).get("value") in controls and not node.get("ignored"):
            assert node.get("name", {}).get("value"), node
    assert any(node.get("role", {}).get("value") == "status" for node in nodes)
    assert browser.value("document.querySelectorAll('main').length") == 1
    # Each control has a label of its own, and the keyboard reaches all of them.
    unlabelled = "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length)"
    assert browser.value(f"{unlabelled}.length") == 0
    assert (
        browser.value("document.querySelectorAll('[tabindex]:not([tabindex=\"-1\"])').length") == 0
    )


def press(browser: Browser, key: str, code: int, text: str = "") -> None:
    """Press one key, and release it."""
    for kind in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                    windowsVirtualKeyCode=code)  # fmt: skip


def test_the_keyboard_reaches_all_and_asks(browser: Browser, tmp_path: Path) -> None:
    fresh(browser)
    browser.look(1280, 900)
    browser.ask("Emulation.setFocusEmulationEnabled", enabled=True)
    pick(browser, "certificate", scene_in(tmp_path)["certificate"])
    browser.value("document.querySelector('#form details').open = true")
    browser.value("document.getElementById('certificate').focus()")
    focused = "document.activeElement.id || document.activeElement.localName"
    reached = []
    while browser.value(focused) != "go":
        reached.append(browser.value(focused))
        assert len(reached) < 50, reached
        press(browser, "Tab", 9)
    assert reached == [
        "certificate", "model", "evidence", "policy", "policyFiles", "root", "summary", "lockfile",
        "lockfileDigest", "imageLock", "collateral", "gpuCollateral", "lineage",
        "nonce", "at",
    ]  # fmt: skip
    press(browser, "Enter", 13, "\r")
    until(browser, "document.body.dataset.exit !== undefined")
    # A person who hears the page is told, and continues from there.
    assert browser.value("document.activeElement.id") == "result"


def test_on_paper(browser: Browser, tmp_path: Path) -> None:
    """The paper shows the verdict and what it is about, without the form; nothing is cut off."""
    fresh(browser)
    fill(browser, tmp_path)
    assert answered(browser) == 0
    # This is A4 without its margins.
    browser.look(717, 1000, kind="print")
    names = "['form', 'header', 'footer', '.verdict', '.subject', '.notice', '#result table']"
    seen = f"{names}.map((name) => document.querySelector(name).checkVisibility())"
    assert browser.value(seen) == [False, False, False, True, True, True, True]
    assert browser.value(CUT_OFF) == []
    printed = browser.ask(
        "Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69
    )
    document = base64.b64decode(printed["data"])
    folder = Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path)
    (folder / "verify.pdf").write_bytes(document)
    assert document.startswith(b"%PDF-")
    browser.look(1280, 900)


def test_a_link_names_its_certificate(browser: Browser, page: Path, tmp_path: Path) -> None:
    load(browser, page, "#sha256:" + "0" * 64)
    assert browser.value("document.getElementById('expected').hidden") is False
    pick(browser, "certificate", scene_in(tmp_path)["certificate"])
    assert answered(browser) == 3
    assert "not the certificate that the link named" in browser.value("document.body.innerText")


# A line of `sha256sum`, which a release's notes contain for their page.
DIGEST = re.compile(r"^[0-9a-f]{64}  verify\.html$", re.MULTILINE)


def sections(changelog: str) -> dict[str, str]:
    """Return the text under each heading."""
    parts = re.split(r"^## (.+)$", changelog, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_digest_is_printed_and_stands_in_the_notes_of_each_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Page().execute({"out": "verify.html"}, []) == 0
    printed = capsys.readouterr().out
    (line,) = DIGEST.findall(printed)
    assert printed == f"{line}\n"
    done = subprocess.run(["sha256sum", "-c"], input=printed, text=True, capture_output=True)
    assert done.stdout == "verify.html: OK\n"
    assert sections("# x\n\n## 2\n\n- a\n## 1\nb") == {"2": "\n\n- a\n", "1": "\nb"}
    unreleased, *released = sections((ROOT / "CHANGELOG.md").read_text()).items()
    assert unreleased[0] == "Unreleased"
    for version, text in released:
        assert len(DIGEST.findall(text)) == 1, version
    if not unreleased[1].strip():
        # This is a release, so its notes are for the page that it builds.
        assert line in released[0][1]


def test_a_page_that_cannot_start_says_so(tmp_path: Path) -> None:
    """A page that cannot start says so in its own words, and at once: nobody waits for a verdict
    that never comes.
    """
    lock = read_lock(ROOT / LOCK)
    python, app = archive(lock), build.archive(ROOT)
    worker = (ROOT / build.SOURCES / "worker.js").read_text()
    nothing = io.BytesIO()
    zipfile.ZipFile(nothing, "w").close()
    out = tmp_path / "verify.html"
    with Browser(tmp_path) as browser:
        for why, parts in {
            "Pyodide is not the one that was locked": (gzip.compress(b""), app, worker),
            "No module named 'browser'": (python, nothing.getvalue(), worker),
            "no worker": (python, app, "throw new Error('no worker')"),
        }.items():
            out.write_bytes(build.assemble(ROOT, lock, *parts))
            with pytest.raises(AssertionError, match=f"(?s)cannot verify anything.*{why}"):
                load(browser, out)
            assert browser.value("document.getElementById('go').disabled") is True
            assert browser.value("document.getElementById('status').textContent") == ""
