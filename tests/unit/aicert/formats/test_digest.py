import hashlib
import subprocess
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats import digest
from aicert.formats import paths as path_rules
from aicert.formats.digest import Digest, FileFact
from aicert.formats.listing import EMPTY_DIR, EMPTY_FILE_HEX, dir_digest, listing, parse_listing
from aicert.formats.paths import check_path, check_paths

HEX = "0" * 64
# Names that Linux file systems can hold and that aicert accepts.
NAME = st.text(
    st.characters(
        exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), exclude_characters="/\\"
    ),
    min_size=1,
    max_size=12,
).map(lambda text: unicodedata.normalize("NFC", text))
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)


def accepted(paths: list[str]) -> bool:
    try:
        check_paths(paths)
    except EvidenceError:
        return False
    return True


@pytest.mark.parametrize("kind", ["sha256", "dirHash"])
def test_digests_round_trip(kind: digest.Kind) -> None:
    value = Digest(kind, "ab" * 32)
    assert Digest.parse(str(value)) == value
    assert str(value) == f"{kind}:{'ab' * 32}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "sha256",
        "sha256:",
        f"SHA256:{HEX}",
        f"sha512:{HEX}",
        f"dirhash:{HEX}",
        f"sha256:{HEX}0",
        f"sha256:{HEX[1:]}",
        f"sha256: {HEX[1:]}",
        f"sha256:{'A' * 64}",
        f"sha256:{HEX[1:]}\n",
        "sha256:" + "\u0660" * 64,
        f"sha256::{HEX[1:]}",
    ],
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(EvidenceError, match="not a digest"):
        Digest.parse(text)


def test_the_start_of_what_is_no_digest_is_shown() -> None:
    with pytest.raises(EvidenceError) as error:
        Digest.parse("x" * 81)
    assert error.value.message == f"not a digest: '{'x' * 80}'"


def test_digests_of_bytes_and_of_nothing() -> None:
    assert digest.of_bytes(b"x") == Digest("sha256", hashlib.sha256(b"x").hexdigest())
    assert dir_digest({}) == EMPTY_DIR
    assert EMPTY_DIR.hex == EMPTY_FILE_HEX


def test_kinds_with_the_same_hex_differ() -> None:
    listed = listing({"a": HEX})
    assert digest.of_bytes(listed).hex == dir_digest({"a": HEX}).hex
    assert digest.of_bytes(listed) != dir_digest({"a": HEX})


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b",
        "..a",
        "a..",
        "...",
        ".hidden",
        "a b",
        "-rf",
        "é",
        "日本/語",
        "x" * 255,
        "x" * 255 + "/" + "é" * 127 + "y",
        "a/" * 64 + "a",
        "Ω",
        "\U0001f600",
        "\u337f",
        "a\u3000b",
        "/".join(["a" * 240] * 17),
        "\ufdfa and more.json",
    ],
)
def test_paths_that_are_taken(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "empty"),
        ("a/" * 2048 + "a", "longer than 4096"),
        ("/a", "plain relative"),
        ("a/", "plain relative"),
        ("a//b", "plain relative"),
        (".", "plain relative"),
        ("..", "plain relative"),
        ("a/./b", "plain relative"),
        ("a/../b", "plain relative"),
        ("a\\b", "backslash"),
        ("é\\b", "backslash"),
        ("a\0", "control"),
        ("a\n", "control"),
        ("a\x7f", "control"),
        ("a\x1b[2J", "control"),
        ("a\x85", "control"),
        ("a\u2028", "control"),
        ("a\u200b", "control"),
        ("a\u202etxt", "control"),
        ("a\ufeff", "control"),
        ("\ue000", "control"),
        ("\U000e0041", "control"),
        *(
            (f"a{c}b", "invisible")
            for c in "\u034f\u115f\u17b4\u180b\u2800\u3164\ufe0f\uffa0\U000e0100"
        ),
        ("e\u0301", "NFC"),
        ("\u212b", "NFC"),
        ("\udc80", "UTF-8"),
        ("a/" * 65 + "a", "deeper than 64"),
        ("a\uff0fb", "like a slash"),
        ("\u2100", "like a slash"),
        ("\ufdfa\ufdfa.json", "fold to many"),
        ("x" * 256, "longer than 255"),
        ("a/" + "é" * 128, "longer than 255"),
    ],
)
def test_paths_that_are_refused(path: str, message: str) -> None:
    with pytest.raises(EvidenceError, match=message) as error:
        check_path(path)
    assert error.value.message.isprintable()
    assert error.value.message[0].islower()
    assert len(error.value.message) < 3000


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("\udc80" * 201, "path is not valid UTF-8: '{}'"),
        ("a" * 4097, "path is empty or longer than 4096 bytes: '{}'"),
        (
            "\t" * 201,
            "path has a control or invisible character, a backslash or is not in Unicode NFC: '{}'",
        ),
        (
            "\ufdfa" * 201,
            "path is deeper than 64, or has characters like a slash or that fold to many: '{}'",
        ),
        ("//" + "a" * 200, "path is not a plain relative path: '{}'"),
        ("a" * 256, "a name in the path is longer than 255 bytes: '{}'"),
    ],
)
def test_a_message_says_what_is_wrong_with_the_start_of_the_path(path: str, message: str) -> None:
    with pytest.raises(EvidenceError) as error:
        check_path(path)
    shown = 80 if "empty" in message else 200
    assert error.value.message == message.format(ascii(path[:shown])[1:-1])


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "A"],
        ["a/x", "A/y"],
        ["d/a/x", "D/b"],
        ["a", "a/b"],
        ["A", "a/b"],
        ["a/b", "a"],
        ["straße", "STRASSE"],
        ["ﬁ", "fi"],
        ["\u0130", "i\u0307".encode().decode()],
        ["Ω", "ω"],
        ["k", "\uff4b"],
        ["a/b/c", "a/b/C/d"],
        ["a", "a-", "A/b"],
        ["x/a/1", "x/a.b/1", "x/A/2"],
    ],
)
def test_twins(paths: list[str]) -> None:
    for order in (paths, paths[::-1]):
        with pytest.raises(EvidenceError, match=r"differ only|both a file and|NFC|twice"):
            check_paths(order)


def test_the_starts_of_long_twins_are_shown() -> None:
    long = "/".join(["a" * 150] * 2)
    with pytest.raises(EvidenceError) as error:
        check_paths([long, long.upper()])
    assert error.value.message == (
        f"two paths differ only in case or form: '{long.upper()[:200]}', '{long[:200]}'"
    )
    with pytest.raises(EvidenceError) as error:
        check_paths([long, f"{long}/b"])
    assert error.value.message == f"a path is both a file and a directory: '{long[:200]}'"


def test_a_path_given_twice() -> None:
    with pytest.raises(EvidenceError, match="differ only"):
        check_paths(["a", "b", "a"])


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", "..", "a/./b", "a\n", "a\nb", "a\nb\nc", "a/" * 65 + "a"]
)
def test_one_bad_path_among_plain_ones(path: str) -> None:
    for paths in ([path, "b", "c"], ["b", path, "c"], ["b", "c", path]):
        with pytest.raises(EvidenceError, match="path"):
            check_paths(paths)


def test_deep_paths_cost_no_memory_to_speak_of() -> None:
    folders = "/".join(["a" * 50] * 63)
    for paths in (
        [f"{n}/{folders}" for n in range(400)],
        [f"{n}/{'a/' * 1900}a" for n in range(400)],
    ):
        tracemalloc.start()
        try:
            check_paths(paths)
        except EvidenceError as error:
            assert "deeper" in error.message  # noqa: PT017 - one of the two is refused
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * sum(map(len, paths))


def test_neighbours_that_are_no_twins() -> None:
    check_paths(["a/b", "a-/b", "a.b", "a b", "a0/b", "a/c/d", "b/a", "b/c"])


def slow_check(paths: list[str]) -> bool:
    """Check the rule in its plain form: no two nodes of the tree fold to one name."""
    nodes: dict[str, tuple[str, bool]] = {}
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            node = "/".join(parts[:end])
            is_file = end == len(parts)
            known = nodes.setdefault(path_rules.fold(node), (node, is_file))
            if known != (node, is_file):
                return False
    return len(set(paths)) == len(paths)


FEW = st.lists(st.sampled_from("aAbB-"), min_size=1, max_size=3).map("/".join)


@given(st.lists(st.one_of(FEW, FEW.map(lambda path: path + "x")), max_size=8))
def test_twins_are_found_as_by_the_slow_rule(paths: list[str]) -> None:
    assert accepted(paths) == slow_check(paths)


@given(st.lists(PATH, max_size=6, unique=True))
def test_any_names_as_by_the_slow_rule(paths: list[str]) -> None:
    if all(accepted([path]) for path in paths):
        assert accepted(paths) == slow_check(paths)


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicert.formats.paths.MAX_FILES", 2)
    check_paths(["a", "b"])
    with pytest.raises(EvidenceError, match="more than 2 files"):
        check_paths(["a", "b", "c"])


@given(st.dictionaries(PATH, st.binary(max_size=3), max_size=6))
def test_listings_round_trip(contents: dict[str, bytes]) -> None:
    if not accepted(list(contents)):
        return
    files = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    listed = listing(files)
    assert parse_listing(listed) == files
    assert dir_digest(files).hex == hashlib.sha256(listed).hexdigest()
    facts = {path: FileFact(0, value) for path, value in files.items()}
    assert listing(facts) == listed


def test_listing_is_what_sha256sum_prints_and_checks(tmp_path: Path) -> None:
    names = ("b", "a/é", "a.txt", "a/b c", "Z", "日本", "a-b/x", "*star", " lead")
    files = {}
    for name in names:
        place = tmp_path / "tree" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name.encode() * 3)
        files[name] = hashlib.sha256(name.encode() * 3).hexdigest()
    tool = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum --"
    printed = subprocess.run(
        ["sh", "-c", tool], cwd=tmp_path / "tree", capture_output=True, check=True
    ).stdout
    assert listing(files) == printed
    (tmp_path / "list").write_bytes(listing(files))
    check = ["sha256sum", "--strict", "-c", str(tmp_path / "list")]
    subprocess.run(check, cwd=tmp_path / "tree", capture_output=True, check=True)
    (tmp_path / "tree" / "b").write_bytes(b"changed")
    assert subprocess.run(check, cwd=tmp_path / "tree", capture_output=True).returncode == 1


GOOD = f"{HEX}  a\n{HEX}  b\n".encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD[:-1], "line 2"),
        (GOOD + b"\n", "line 3"),
        (b"\n", "line 1"),
        (GOOD.replace(b"\n", b"\r\n"), "control"),
        (f"{HEX} *a\n".encode(), "line 1"),
        (f"{HEX} a\n".encode(), "line 1"),
        (f"{HEX}  \n".encode(), "line 1"),
        (f"\\{HEX}  a\\nb\n".encode(), "line 1"),
        (f"{'A' * 64}  a\n".encode(), "line 1"),
        (GOOD + GOOD, "line 3"),
        (f"{HEX}  b\n{HEX}  a\n".encode(), "not sorted"),
        (f"{HEX}  ../a\n".encode(), "plain relative"),
        (f"{HEX}  ".encode() + b"\xff\n", "not UTF-8"),
        (f"{HEX}  a\x85\n".encode(), "control"),
    ],
)
def test_listings_in_another_form(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        parse_listing(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "listing is not UTF-8"),
        (f"{HEX}  b\n{HEX}  a\n".encode(), "listing is not canonical: it is not sorted by path"),
        (b"\n", "line 1 of the listing is not `HEX  PATH`, or is repeated"),
    ],
)
def test_what_is_wrong_with_a_listing(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError) as error:
        parse_listing(data)
    assert error.value.message == message


def test_a_listing_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicert.formats.listing.MAX_LISTING", len(GOOD))
    assert parse_listing(GOOD) == {"a": HEX, "b": HEX}
    monkeypatch.setattr("aicert.formats.listing.MAX_LISTING", len(GOOD) - 1)
    with pytest.raises(EvidenceError, match="larger than"):
        parse_listing(GOOD)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_of_a_listing_is_refused_or_another_digest(at: int, change: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= change
    try:
        files = parse_listing(bytes(data))
    except EvidenceError:
        return
    assert dir_digest(files) != dir_digest({"a": HEX, "b": HEX})


NAMES = st.text(st.sampled_from("ab.AB/-\n\\é ~"), min_size=0, max_size=6)


@given(st.lists(NAMES, max_size=4, unique=True))
@example(["A", "A/A"])
@example(["A", "a"])
def test_plain_paths_are_those_with_which_nothing_is_wrong(paths: list[str]) -> None:
    if path_rules._are_plain(paths):
        facts = {path: FileFact(0, "00" * 32) for path in paths}
        assert len(facts) == len(paths)
        for path in paths:
            path_rules.check_path(path)
        quick = _refusal_of(paths)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(path_rules, "_are_plain", lambda _: False)
            assert _refusal_of(paths) == quick


def _refusal_of(paths: list[str]) -> str | None:
    """Return why these paths cannot stand in one directory together; None if they can."""
    try:
        path_rules.check_paths(paths)
    except EvidenceError as error:
        return error.message
    return None
