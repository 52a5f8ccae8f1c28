"""The custodian's page in a real browser: nothing from outside, no script, no sideways scrolling.

Screenshots go to the folder that AICERT_SCREENSHOTS names, for people to look at.
"""

from pathlib import Path

import pytest

from aicert.broker import page
from aicert.broker.status import Use
from tests.e2e.page.browser import Browser

pytestmark = pytest.mark.slow
NOW = 1_793_523_600
HOSTILE = "</h2><script>document.title='owned'</script><img src=https://example.com/x onerror=y>"


def use(number: int, **changes: object) -> Use:
    given: dict[str, object] = {
        "lease": "719013b3e3cbb8539017a0e3b4efa6d0", "number": number, "borrower": "acme",
        "state": "serving", "budget": 5_000_000, "tokens_in": 1_900_300, "tokens_out": 401_210,
        "charged": 0, "requests": 3880, "receipts": 61_000, "until": NOW + 86_400 * 9,
        "last_at": NOW - 41, "refusal": None,
        "days": tuple((f"2026-10-{day:02d}", day * day * 100) for day in range(1, 31)),
    }  # fmt: skip
    return Use(**given | changes)  # type: ignore[arg-type]


USES = [
    use(1),
    use(2, borrower=HOSTILE + "x" * 100, refusal=HOSTILE, state="silent", charged=500_000),
    use(3, state="revoked, may serve on", days=()),
    use(4, state="not enrolled", days=(), last_at=None, tokens_in=0, tokens_out=0),
]


def test_the_page_of_leases_in_a_browser(tmp_path: Path) -> None:
    out = tmp_path / "leases.html"
    out.write_text(page.page(USES, NOW))
    with Browser(tmp_path) as browser:
        browser.open(out)
        browser.looks(tmp_path, "leases")
        assert browser.value("document.title") == "Leases"
        assert browser.value("document.querySelectorAll('section').length") == 4
        assert browser.value("document.querySelectorAll('h2')[1].textContent") == (
            HOSTILE + "x" * 100
        )
        assert browser.value("document.querySelectorAll('script, img, link, a').length") == 0
        assert browser.requests == [out.as_uri()]
        assert browser.complaints == []
