"""What a custodian sees of his leases: in the terminal, as JSON, and as a page."""

import html
import json
from html.parser import HTMLParser

import pytest

from aicert.broker import custodian, page, status
from aicert.broker.machine_state import MachineState, emit, parse
from aicert.errors import EvidenceError, ToolError
from aicert.lease.checks import RefusedError
from tests.unit.aicert.broker.forged import AHEAD, START, TERMS, Bench, Machine

DAY = 86_400
HOSTILE = '</h2><script>alert(1)</script>"&\u202e\x1b[31m\n'


def uses(bench: Bench) -> list[status.Use]:
    return status.uses(bench.store, now=bench.now)


def states(bench: Bench) -> list[str]:
    return [use.state for use in uses(bench)]


def test_states_from_the_token_to_the_end(bench: Bench) -> None:
    assert status.text(uses(bench), bench.now) == "nothing was granted yet\n"
    token = bench.grant(seconds=3 * DAY)
    assert states(bench) == ["not enrolled"]
    bench.enrol(token)
    machine = Machine(bench, token)
    assert states(bench) == ["enrolled"]
    machine.beat()
    assert states(bench) == ["serving"]
    bench.now += AHEAD
    assert states(bench) == ["silent"]
    bench.broker.end(token)
    machine.obey(machine.beat())
    assert states(bench) == ["stopped"]
    bench.now += 3 * DAY
    assert states(bench) == ["ended"]


def test_states_of_what_is_revoked(bench: Bench) -> None:
    bench.grant()
    machine = bench.machine()
    machine.beat()
    custodian.revoke(bench.store, bench.bundle, now=bench.now)
    assert states(bench) == ["revoked", "revoked, may serve on"]
    machine.obey(machine.beat())
    assert states(bench) == ["revoked", "revoked, obeyed"]


def used(bench: Bench) -> Machine:
    """Use a grant on two days, with a boot that ended without a kill receipt."""
    machine = bench.machine(bench.grant(budget=500_000, seconds=90 * DAY, advance=10_000))
    machine.beat()
    machine.serve(1500)
    machine.beat()
    bench.now += 2 * DAY
    machine.reboot()
    machine.beat()
    machine.serve(2500)
    machine.beat()
    with pytest.raises(RefusedError):
        machine.beat(value=1)
    bench.broker.note_refusal(machine.token, "ledger.meter: it shows 1")
    return machine


def test_use_is_added_up_by_day(bench: Bench) -> None:
    used(bench)
    (use,) = uses(bench)
    assert use.days == (("2026-11-01", 1500), ("2026-11-02", 0), ("2026-11-03", 2500))
    assert (use.used, use.requests, use.receipts, use.charged) == (4000, 2, 4, 10_000)
    text = status.text([use], bench.now + 7)
    for line in (
        f"lease     {TERMS.lease}",
        "borrower  acme",
        "used      0 in, 4,000 out, 2 requests",
        "budget    500,000 tokens, at most 486,000 left",
        "charged   10,000 tokens: boots without a kill receipt",
        "receipts  4, the last 7 s ago",
        "refused   ledger.meter: it shows 1",
        "days      2026-11-01 1,500; 2026-11-02 0; 2026-11-03 2,500",
    ):
        assert f"{line}\n" in text
    (document,) = json.loads(status.to_json([use]))
    assert document["days"] == dict(use.days)
    assert document["tokens"] == {"in": 0, "out": 4000}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_how_long_ago_is_in_a_unit_that_fits(bench: Bench, seconds: int, words: str) -> None:
    used(bench)
    text = status.text(uses(bench), bench.now + seconds)
    assert f"receipts  4, the last {words} ago\n" in text


class Names(HTMLParser):
    """A parser that collects a page's tags and the resources it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [name for name, _ in attrs if name in ("src", "href", "onload", "style")]


def test_the_page_escapes_what_others_say(bench: Bench) -> None:
    bench.grant(borrower=HOSTILE)
    machine = used(bench)
    bench.broker.note_refusal(machine.token, HOSTILE)
    text = page.page(uses(bench), bench.now)
    names = Names()
    names.feed(text)
    assert names.tags == {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "section", "h2", "svg", "rect",
        "dl", "dt", "dd", "code", "span", "figure", "figcaption",
    }  # fmt: skip
    assert names.fetched == []
    assert "alert(1)" in html.unescape(text)
    assert not {"\u202e", "\x1b"} & set(text)
    assert "4 receipts" not in text
    assert "Tokens a day from 2026-11-01 to 2026-11-03, at most 2,500 in one" in text
    assert "\x1b" not in status.text(uses(bench), bench.now)


def test_a_page_of_nothing(bench: Bench) -> None:
    assert "<p>Nothing was granted yet.</p>" in page.page([], START)


def test_receipts_are_written_out(bench: Bench) -> None:
    used(bench)
    bench.grant()
    folder = bench.folder / "audit"
    for _ in range(2):
        status.write_receipts(bench.store, folder)
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert (folder / "1/receipts.jsonl").read_bytes().count(b"\n") == 4
    assert (folder / "1/enrolment.json").stat().st_size > 1000
    with pytest.raises(ToolError, match="cannot write"):
        status.write_receipts(bench.store, bench.ledger)


def seen(bench: Bench) -> MachineState:
    bench.machine().beat()
    with bench.store.transaction() as rows:
        (grant,) = rows.grants(TERMS.lease)
    assert grant.seen is not None
    return parse(grant.seen, TERMS)


def test_rows_have_one_form(bench: Bench) -> None:
    data = emit(seen(bench))
    assert emit(parse(data, TERMS)) == data
    for wrong in (
        data.replace(b'"nonce":""', b'"nonce":"B0"'),
        data.replace(b'"nonce":""', b'"nonce":null'),
        data.replace(b'"isOver":false', b'"isOver":0'),
        data.replace(b'{"answered"', b'{"a":1,"answered"'),
        data.replace(b'"epoch":3', b'"epoch":-3'),
        data.replace(b'","boot"', b'", "boot"'),
        data[:-1],
    ):
        assert wrong != data
        with pytest.raises(EvidenceError):
            parse(wrong, TERMS)
