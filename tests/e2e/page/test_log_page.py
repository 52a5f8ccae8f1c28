"""A log's page in a real browser: its one script searches, and nothing comes from outside.

Screenshots go to the folder that AICERT_SCREENSHOTS names, for people to look at.
"""

from pathlib import Path

import pytest

from aicert.log import find, page
from tests.e2e.page.browser import Browser
from tests.unit.aicert.log.logs import Bench, digest, entry

pytestmark = pytest.mark.slow
HOSTILE = "\"></h3><script>document.title='owned'</script><img src=https://example.com/x onerror=y>"


def test_a_page_of_a_log_in_a_browser(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    entries = [
        entry("base", base=None),
        entry("alpaca", base="base/model", uri="hf:datasets/org/alpaca"),
        entry("code", base="base/model"),
        entry("merged", base="alpaca/model", reads="code/model"),
        entry("late", base="merged/model", reads="base/model"),
        entry(HOSTILE[:63], uri=HOSTILE),
    ]
    bench.append(*entries)
    verified = dict.fromkeys(entries[:2], "policy local, tier software")
    out = tmp_path / "log.html"
    result = find.find(bench.folder, bench.key, find.Criteria(), verified)
    out.write_text(page.page(result, has_key=True))
    with Browser(tmp_path) as browser:
        browser.open(out)
        browser.looks(tmp_path, "log")
        assert browser.value("document.title") == "Log log.example/models"
        assert browser.value("document.querySelectorAll('script').length") == 1
        assert browser.value("document.querySelectorAll('img, link').length") == 0

        def shown(words: str) -> list[str]:
            text = words.replace("'", "\\'")
            ids: list[str] = browser.value(
                f"(()=>{{const box=document.getElementById('words');box.value='{text}';"
                "box.dispatchEvent(new Event('input'));"
                "return [...document.querySelectorAll('article')]"
                ".filter(one=>one.checkVisibility()).map(one=>one.id)})()"
            )
            return ids

        assert shown("") == ["e5", "e4", "e3", "e2", "e1", "e0"]
        assert shown("verified") == ["e1", "e0"]
        assert shown("ORG/ALPACA  verified") == ["e1"]
        assert shown(str(digest("code/model"))) == ["e3", "e2"]
        assert shown("<script>") == ["e5"]
        assert shown("no such word") == []
        count = browser.value("document.getElementById('count').textContent")
        assert count == "0 of 6 have these words"
        assert browser.requests == [out.as_uri()]
        assert browser.complaints == []
