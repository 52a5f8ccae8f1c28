"""What a search of a log finds, and how its page shows that."""

import html.parser
import re
from pathlib import Path

import pytest

from aicert.log import find, lineage, page
from aicert.log.errors import BrokenLogError
from aicert.log.find import Criteria
from aicert.tlog.notes import COSIGNATURE, VerifierKey, signature_line
from tests.unit.aicert.log.logs import Bench, digest, entry


def found_in(bench: Bench, wanted: Criteria, verified: dict[bytes, str] | None = None) -> list[str]:
    result = find.find(bench.folder, bench.key, wanted, verified or {})
    return [hit.entry.run for hit in result.hits]


@pytest.mark.parametrize(
    ("wanted", "runs"),
    [
        (Criteria(), ["one", "two", "three"]),
        (Criteria(input=str(digest("rows"))), ["one", "three"]),
        (Criteria(input=str(digest("base"))), ["one", "two"]),
        (Criteria(base=str(digest("base"))), ["one", "two"]),
        # It is an input of a run that did not start from it.
        (Criteria(base=str(digest("other"))), []),
        (Criteria(output=str(digest("two/model"))), ["two"]),
        (Criteria(output=str(digest("rows"))), []),
        (Criteria(certificate=str(digest("two", "sha256"))), ["two"]),
        (Criteria(lockfile=str(digest("two lockfile", "sha256"))), ["two"]),
        (Criteria(lockfile=str(digest("two", "sha256"))), []),
        (Criteria(certificate=str(digest("two lockfile", "sha256"))), []),
        (Criteria(builder=str(digest("runner"))), ["one", "two", "three"]),
        (Criteria(builder="urn:aicert:machine:local"), ["one", "two", "three"]),
        (Criteria(builder="local"), []),
        (Criteria(input=str(digest("rows")), base=str(digest("base"))), ["one"]),
        (Criteria(named="org/ro"), ["one", "three"]),
        (Criteria(named='"quote'), ["two"]),
    ],
)
def test_what_fits_is_found(bench: Bench, wanted: Criteria, runs: list[str]) -> None:
    bench.append(entry("one"), b"no entry of a certificate: rows")
    bench.append(entry("two", reads="other", uri='hf:datasets/"quote"'), entry("three", base=None))
    assert found_in(bench, wanted) == runs


def test_an_entry_is_verified_by_its_own_bytes_alone(bench: Bench) -> None:
    bench.append(entry("one"), entry("two"))
    verified = {entry("two"): "policy p", entry("one", reads="more"): "policy p"}
    result = find.find(bench.folder, bench.key, Criteria(), verified)
    assert [hit.verified for hit in result.hits] == [None, "policy p"]


def test_entries_that_are_none_are_counted(bench: Bench) -> None:
    text = str(digest("rows"))
    bench.append(text.encode(), b'{"kind":"' + text.encode(), entry("one"))
    result = find.find(bench.folder, bench.key, Criteria(input=text), {})
    assert (len(result.hits), result.unreadable) == (1, 2)


def test_a_log_of_many_is_searched_to_its_end(bench: Bench) -> None:
    bench.grow(300)
    bench.append(entry("one"))
    result = find.find(bench.folder, bench.key, Criteria(named="org/rows"), {})
    assert [hit.index for hit in result.hits] == [300]


def test_a_broken_log_is_not_searched(bench: Bench) -> None:
    bench.append(entry("one"), entry("two"))
    bundle = bench.part("tile/entries/000.p/2")
    bundle.write_bytes(bundle.read_bytes().replace(b'"two"', b'"tow"'))
    with pytest.raises(BrokenLogError):
        find.find(bench.folder, bench.key, Criteria(), {})


def hits(*entries: bytes) -> list[find.Hit]:
    from aicert.tlog.entry import parse

    return [
        find.Hit(index=index, entry=parse(data), verified=None)
        for index, data in enumerate(entries)
    ]


def test_a_line_leads_from_a_run_to_what_was_made_from_it() -> None:
    chain = hits(entry("c", base="b/model"), entry("b", base="a/model"), entry("a"))
    assert sorted(lineage.edges(chain)) == [(1, 0), (2, 1)]
    assert lineage.columns(lineage.edges(chain)) == [[2], [1], [0]]
    drawing = lineage.drawing(chain)
    assert drawing.count("<path") == 2
    assert 'href="#e0"' in drawing
    assert lineage.drawing(hits(entry("a"), entry("b"))) == ""


def test_a_diamond_stands_right_of_both() -> None:
    pairs = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]
    assert lineage.columns(pairs) == [[0], [1, 2], [3]]


def test_circles_and_crowds_are_drawn_within_bounds() -> None:
    circle = hits(
        entry("a", base="b/model"), entry("b", base="a/model"), entry("s", base="s/model")
    )
    assert lineage.columns(lineage.edges(circle)) == [[0, 1]]
    assert "<svg" in lineage.drawing(circle)
    crowd = hits(entry("a"), *(entry(f"r{n}", base="a/model") for n in range(500)))
    drawing = lineage.drawing(crowd)
    assert drawing.count("<rect") == lineage.MAX_NODES
    assert "more than are drawn" in drawing
    assert len(lineage.edges(crowd)) == lineage.MAX_EDGES


def test_a_line_passes_below_the_boxes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [entry("a"), entry("b", base="a/model"), entry("c", base="b/model", reads="a/model")]
    drawing = lineage.drawing(hits(*both))
    boxes = re.findall(r'<rect[^>]* y="(\d+)" width="\d+" height="(\d+)"', drawing)
    (long,) = [line for line in re.findall('<path d="([^"]*)"', drawing) if "C" in line]
    lane = int(long.partition("L")[2].split("C")[0].split(" ")[1])
    assert all(lane > int(y) + int(high) for y, high in boxes)
    monkeypatch.setattr(lineage, "MAX_LANES", 0)
    assert "more than are drawn" in lineage.drawing(hits(*both))


class Reader(html.parser.HTMLParser):
    """A parser that collects what a browser would read: elements, ids and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(bench: Bench, verified: dict[bytes, str] | None = None) -> tuple[str, Reader]:
    result = find.find(bench.folder, bench.key, Criteria(), verified or {})
    text = page.page(result, has_key=False)
    reader = Reader()
    reader.feed(text)
    return text, reader


def test_a_page_shows_each_entry_and_whose_word_it_is(bench: Bench) -> None:
    text, reader = read(bench)
    assert "Nothing was logged yet" in text
    bench.append(entry("one"), b"\xff", entry("two", base="one/model"))
    text, reader = read(bench, {entry("two", base="one/model"): "policy local, tier software"})
    assert "e0" in reader.ids
    assert "e2" in reader.ids
    assert text.index('id="e2"') < text.index('id="e0"')
    assert text.count(">verified</span>") == 1
    assert text.count(">claim</span>") == 1
    assert "policy local, tier software" in reader.text
    assert "1, no entries of certificates" in reader.text
    assert "shows nothing" in reader.text
    assert "whose it is" in reader.text
    assert "by nobody" in reader.text
    witness = VerifierKey(name="w.example", algorithm=COSIGNATURE, public=bytes(32))
    note = bench.part("checkpoint").read_bytes() + signature_line(witness, bytes(72)) * 2
    bench.part("checkpoint").write_bytes(note)
    result = find.find(bench.folder, bench.key, Criteria(), {})
    assert "in the names of w.example; this page" in page.page(result, has_key=True)
    assert "whose it is" not in page.page(result, has_key=True)
    assert reader.tags.count("script") == 1


def test_the_policy_of_a_page_lets_its_one_script_run(bench: Bench) -> None:
    import base64
    import hashlib

    text, _ = read(bench)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert script is not None
    assert policy is not None
    digest_ = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest_}'" in policy[1]
    assert "unsafe-inline'; script" in policy[1]
    assert text.index("Content-Security-Policy") < text.index("<title>")


MARKUP = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\u202e\u0007"


def test_words_of_others_become_no_markup(bench: Bench, tmp_path: Path) -> None:
    plain = [entry("r", base="x/model"), entry("x")]
    bench.append(*plain)
    _, before = read(bench, {entry("x"): "policy"})
    (tmp_path / "hostile").mkdir()
    hostile = Bench(tmp_path / "hostile", origin=MARKUP[:-1].replace(" ", ""))
    hostile.append(entry(f"r{MARKUP}"[:63], base="x/model", uri=MARKUP), entry("x", uri=MARKUP))
    text, after = read(hostile, {entry("x", uri=MARKUP): MARKUP})
    assert after.tags == before.tags
    assert after.attributes == before.attributes
    assert "alert(1)" in after.text
    assert "\u202e" not in text
    assert "\u0007" not in text
    assert "<img" not in text


def test_a_page_has_so_many_entries(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicert.frozen import replace
    from aicert.tlog.entry import Item, emit, parse

    monkeypatch.setattr(page, "MAX_ENTRIES", 2)
    many = tuple(Item(name=f"i{n}", digest=digest("x")) for n in range(60))
    wide = emit(replace(parse(entry("wide")), inputs=many, outputs=()))
    bench.append(entry("one"), entry("two"), wide)
    _, reader = read(bench)
    assert [one for one in reader.ids if one.startswith("e")] == ["e2", "e1"]
    assert "1 older" in reader.text
    assert "… and 10 others" in reader.text
    assert "none" in reader.text
