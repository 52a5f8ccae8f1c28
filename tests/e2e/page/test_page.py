"""The report page in a real browser: complete without network or script, on a phone, on paper, and
for a screen reader.

Screenshots go to the folder that AICERT_SCREENSHOTS names, for people to look at.
"""

import base64
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.errors import ToolError
from aicert.exports import facts
from aicert.exports.page import page as draw
from aicert.formats.digest import of_bytes
from aicert.formats.run_report import Value
from tests.adversarial.forger import Scene
from tests.e2e.page.browser import Browser
from tests.unit.sample_certificate import FILES, SOURCES, sample

pytestmark = pytest.mark.slow
HOSTILE = "<script>document.title='owned'</script><img src=https://example.com/x onerror=y>"
SIZES = {"desktop": (1280, 900), "tablet": (768, 1024), "phone": (360, 740)}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    losses = tuple(3 / (1 + step / 10) for step in range(40))
    data = sample(
        sources={**SOURCES, "model": f"path:{HOSTILE}"},
        files={**FILES, "x" * 200: "33" * 32},
        values={
            "losses": Value("self-reported", losses),
            "lossSteps": Value("self-reported", tuple(range(1, 41))),
            "paceSteps": Value("self-reported", tuple(range(41))),
            "paceSeconds": Value("self-reported", tuple(n * 0.5 + (n % 7) / 9 for n in range(41))),
            "kernel": Value("measured", HOSTILE),
        },
    )
    certificate, out = tmp_path / "certificate.json", tmp_path / "page.html"
    certificate.write_bytes(data)
    assert main(["report", str(certificate), "-o", str(out)]) == 1
    return out


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as started:
        yield started


def test_the_page_in_a_browser(tmp_path: Path, page: Path, browser: Browser) -> None:
    pictures = Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path)
    browser.open(page)
    for name, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            browser.look(width, height, scheme=scheme)
            # Only tables scroll sideways, each in its own frame.
            assert browser.value("document.documentElement.scrollWidth") <= width, name
            drawn = browser.picture(pictures / f"page-{name}-{scheme}.png")
            # One colour in the whole picture would be a few kilobytes.
            assert len(drawn) > 20_000, name
    assert browser.value("document.querySelectorAll('svg').length") == 2
    assert browser.value("document.querySelector('.verdict strong').innerText") == "FAILED"
    # Strings from the certificate appear as text; none of them ran or caused a request.
    assert browser.value("document.title") == "FAILED: tiny"
    assert browser.value("document.querySelectorAll('script, img, link, iframe').length") == 0
    assert browser.value("document.body.innerText.includes('<script>document.title')") is True
    assert browser.requests == [page.as_uri()]
    assert browser.complaints == []


def test_the_page_on_paper(tmp_path: Path, page: Path, browser: Browser) -> None:
    browser.open(page)
    # This is A4 without its margins: no column, and so no digest, is cut off.
    browser.look(717, 1000, kind="print")
    assert browser.value(CUT_OFF) == []
    printed = browser.ask(
        "Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69
    )
    document = base64.b64decode(printed["data"])
    (Path(os.environ.get("AICERT_SCREENSHOTS") or tmp_path) / "page.pdf").write_bytes(document)
    assert document.startswith(b"%PDF-")
    assert 2 <= document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") <= 12


def test_the_page_by_ear(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.ask("Accessibility.enable")
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named_roles = [
        (n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if "role" in n
    ]
    roles = [role for role, _ in named_roles]
    assert roles.count("main") == 1
    assert roles.count("heading") >= 8
    assert all(name for role, name in named_roles if role in ("heading", "columnheader"))
    levels = browser.value("[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)")
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}
    # Each frame that scrolls, each table and each plot has a name.
    for role in ("region", "table", "image", "graphics-document"):
        assert all(name for its_role, name in named_roles if its_role == role), role
    assert any(
        "Training loss by step" in name for role, name in named_roles if role in ("image", "img")
    )
    assert "columnheader" in roles
    low = browser.value(CONTRAST)
    assert low == [], low


def test_a_pass_that_could_be_forged_is_amber(tmp_path: Path, browser: Browser) -> None:
    scene = Scene()
    data, out = scene.get("file"), tmp_path / "page.html"
    out.write_text(draw(of_bytes(data), facts.read(data), scene.appraise()))
    browser.open(out)
    for scheme in ("light", "dark"):
        browser.look(*SIZES["desktop"], scheme=scheme)
        colour = browser.value("getComputedStyle(document.querySelector('.verdict h1')).color")
        red, green, blue = map(int, re.findall("[0-9]+", colour))
        assert red > green > blue, (scheme, colour)
        assert browser.value(CONTRAST) == [], scheme


def test_a_browser_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "stuck"
    program.write_text("#!/bin/sh\ntrap '' TERM\necho ready >&4\nsleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr("tests.e2e.page.browser.PROGRAM", str(program))
    monkeypatch.setattr("tests.e2e.page.browser.END_S", 0.1)
    stuck = Browser(tmp_path)
    assert os.read(stuck._read, 6) == b"ready\n"
    stuck.close()
    assert stuck._process.returncode == -signal.SIGKILL


def test_without_a_browser_the_set_up_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.e2e.page.browser.PROGRAM", str(tmp_path / "chromium"))
    with pytest.raises(ToolError, match="chromium is not installed"):
        Browser(tmp_path)


CUT_OFF = """
[...document.querySelectorAll('td, th, caption, li, svg, code')]
  .filter(e => e.getBoundingClientRect().right > innerWidth || e.scrollWidth > e.clientWidth + 1
    && getComputedStyle(e).display !== 'inline')
  .map(e => e.tagName + ': ' + e.textContent.slice(0, 40))
"""
# WCAG 2.2, 1.4.3: 4.5 to 1 for text.
CONTRAST = """
(() => {
  const part = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 };
  const light = s => { const [r, g, b] = s.match(/[\\d.]+/g).map(Number);
    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b) };
  const ground = e => { while (e) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c) && c !== 'transparent') return c; e = e.parentElement }
    return 'rgb(255,255,255)' };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const svg = e.closest('svg');
    const ink = svg ? getComputedStyle(e).fill : getComputedStyle(e).color;
    if (e.closest('title, desc')) continue;
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) low.push(e.tagName + ': ' + e.textContent.slice(0, 40));
  }
  return low;
})()
"""
