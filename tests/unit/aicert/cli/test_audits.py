"""`aicert audit` and the commands about proofs, run as commands."""

import json
from pathlib import Path

import pytest

from aicert.audits.lists import exact_digest
from aicert.cli import main
from aicert.formats.digest import of_bytes
from aicert.records.grammar import MAX_LINE
from tests.unit.aicert.audits.test_config import WHOLE
from tests.unit.aicert.audits.texts import text

ROWS = [{"url": f"https://a{n}.org/x", "text": text(n, 60)} for n in range(5)]
LINES = [json.dumps(row, separators=(",", ":")) + "\n" for row in ROWS]
LISTED = text(2, 55)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text("".join(LINES))
    row = {"url": "https://b.org", "text": text(8, 60)}
    (tmp_path / "rows" / "test.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "audit.toml").write_text(WHOLE)
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "domains").write_text("a3.org\n")
    digest = exact_digest(bytes(32), LINES[0].rstrip("\n").encode()).hex()
    (tmp_path / "exact").write_text(f"salt {'00' * 32}\n{digest}\n")
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "all.jsonl").write_text(json.dumps({"t": LISTED, "n": 1}) + "\n")
    (tmp_path / "absent.txt").write_text(text(99, 80))
    (tmp_path / "present.txt").write_text(LISTED)
    (tmp_path / "row").write_text(LINES[3])
    return tmp_path


def words(folder: Path, rows: str = "rows") -> list[str]:
    named = {
        "alpaca": rows, "record-key": "key", "opt-out": "domains", "known": "exact",
        "books": "books",
    }  # fmt: skip
    inputs = [f"--input={name}={folder / path}" for name, path in named.items()]
    return ["audit", str(folder / "audit.toml"), *inputs]


@pytest.fixture
def audited(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Run the audit, and return the folder with its results."""
    assert main.main(words(folder)) == 0
    (folder / "results").write_text(capsys.readouterr().out)
    return folder


def prove(folder: Path, capsys: pytest.CaptureFixture[str], kind: str, *more: str) -> int:
    results = str(folder / "results")
    code = main.main([f"prove-{kind}", str(folder / "rows"), "--results", results, *more])
    out, err = capsys.readouterr()
    (folder / "proof").write_text(out)
    (folder / "errors").write_text(err)
    return code


def verify(folder: Path, subject: str, digest: str | None = None) -> int:
    results = folder / "results"
    named = digest or str(of_bytes(results.read_bytes()))
    return main.main(
        ["verify-proof", str(folder / "proof"), str(folder / subject),
         "--results", str(results), "--results-digest", named]
    )  # fmt: skip


def test_an_audit_counts_and_names_its_lists(audited: Path) -> None:
    read = json.loads((audited / "results").read_text())
    by_name = {check["name"]: check for check in read["checks"]}
    for name, path in (("opt-out", "domains"), ("known", "exact")):
        digest = of_bytes((audited / path).read_bytes())
        assert by_name[name]["list"]["digest"] == str(digest)
    assert by_name["books"]["list"]["digest"].startswith("dirHash:")
    test, train = read["data"]
    assert (test["split"], train["split"]) == ("test", "train")
    assert [each["matches"] for each in train["checks"]] == [1, 1, 1, 0]
    assert [each["matches"] for each in test["checks"]] == [0, 0, 0, 0]


def test_an_audit_says_the_same_again(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words(audited)) == 0
    assert capsys.readouterr().out == (audited / "results").read_text()


def test_rows_in_another_form_have_the_same_results(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audited / "other").mkdir()
    for path in (audited / "rows").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        (audited / "other" / f"{path.stem}.json").write_text(json.dumps(rows, indent=1))
    assert main.main(words(audited, "other")) == 0
    assert capsys.readouterr().out == (audited / "results").read_text()


def test_a_row_is_proven_and_verified(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = str(audited / "key")
    assert prove(audited, capsys, "record", "--name=alpaca", "--key", key, "--row=4") == 0
    assert verify(audited, "row") == 0
    out = capsys.readouterr().out
    assert "these bytes were in input alpaca, split train, as row 4 of 5" in out
    (audited / "row").write_text(LINES[2])
    assert verify(audited, "row") == 1
    assert "does not lead from this row" in capsys.readouterr().err


def test_an_absence_is_proven_and_verified(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = ("--name=alpaca", f"--text={audited / 'absent.txt'}")
    assert prove(audited, capsys, "absence", *about) == 0
    assert verify(audited, "absent.txt") == 0
    assert "no passage of 50 words of this text was in" in capsys.readouterr().out
    assert verify(audited, "present.txt") == 1
    assert prove(audited, capsys, "absence", *about, "--split=test") == 0
    assert verify(audited, "absent.txt") == 0


def test_what_is_there_is_not_proven_absent(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = ("--name=alpaca", f"--text={audited / 'present.txt'}")
    assert prove(audited, capsys, "absence", *about) == 1


def test_results_are_those_that_the_certificate_names(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = ("--name=alpaca", f"--text={audited / 'absent.txt'}")
    assert prove(audited, capsys, "absence", *about) == 0
    assert verify(audited, "absent.txt", str(of_bytes(b""))) == 1
    assert "not the results that the certificate names" in capsys.readouterr().err
    named = str(of_bytes((audited / "results").read_bytes()))
    (audited / "results").write_text("of any form")
    assert verify(audited, "absent.txt", named) == 1
    assert "not the results that the certificate names" in capsys.readouterr().err


def test_the_longest_row_may_end_in_a_line_feed(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(audited / "key")
    assert prove(audited, capsys, "record", "--name=alpaca", "--key", key, "--row=4") == 0
    (audited / "row").write_bytes(b"x" * MAX_LINE + b"\n")
    assert verify(audited, "row") == 1
    assert "does not lead from this row" in capsys.readouterr().err


def test_changed_data_proves_nothing(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (audited / "rows" / "train.jsonl").write_text("".join(LINES[::-1]))
    key = str(audited / "key")
    assert prove(audited, capsys, "record", "--name=alpaca", "--key", key, "--row=4") == 2


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--name=alpaca", "--row=6"), 3),
        (("--name=alpaca", "--row=0"), 3),
        (("--name=other", "--row=1"), 2),
        (("--name=alpaca", "--row=1", "--split=dev"), 2),
    ],
)
def test_a_row_that_was_not_read_is_said(
    audited: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], code: int
) -> None:
    assert prove(audited, capsys, "record", "--key", str(audited / "key"), *more) == code


def test_a_split_that_is_not_here_is_said(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audited / "rows" / "test.jsonl").unlink()
    about = ("--name=alpaca", f"--text={audited / 'absent.txt'}", "--split=test")
    assert prove(audited, capsys, "absence", *about) == 3


def test_an_audit_without_passages_proves_no_absence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "audit.toml").write_text('[records]\nkey = "input:record-key"\n')
    inputs = [f"--input=alpaca={folder / 'rows'}", f"--input=record-key={folder / 'key'}"]
    assert main.main(["audit", str(folder / "audit.toml"), *inputs]) == 0
    (folder / "results").write_text(capsys.readouterr().out)
    about = ("--name=alpaca", f"--text={folder / 'absent.txt'}")
    assert prove(folder, capsys, "absence", *about) == 3


def test_a_text_is_utf_8(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (audited / "absent.txt").write_bytes(b"\xff")
    about = ("--name=alpaca", f"--text={audited / 'absent.txt'}")
    assert prove(audited, capsys, "absence", *about) == 3


@pytest.mark.parametrize("wrong", ["alpaca", "ALPACA=x", "alpaca=x", "config=x", "../x=y"])
def test_inputs_are_named_once(
    folder: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert main.main([*words(folder), f"--input={wrong}"]) == 3
    assert "expected NAME=PATH, each name once" in capsys.readouterr().err


def test_an_input_that_the_config_names_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [word for word in words(folder) if "opt-out" not in word]
    assert main.main(command) == 3
    assert "--input opt-out=PATH" in capsys.readouterr().err


def test_one_list_may_serve_two_checks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = (
        '[[check]]\nname = "again"\nkind = "domains/v1"\ncolumn = "text"\nlist = "input:opt-out"\n'
    )
    (folder / "audit.toml").write_text(WHOLE + more)
    assert main.main(words(folder)) == 0
    train = json.loads(capsys.readouterr().out)["data"][1]
    assert train["checks"][4]["unparsable"] == len(ROWS)


def test_files_of_inputs_of_texts_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = '[texts]\ninputs = ["input:more", "input:template"]\n'
    (folder / "audit.toml").write_text(texts + WHOLE)
    (folder / "template").write_text("write to a@b.org")
    (folder / "more" / "sub").mkdir(parents=True)
    (folder / "more" / "sub" / "a.jinja").write_text(LINES[0].rstrip("\n"))
    inputs = [f"--input={name}={folder / name}" for name in ("more", "template")]
    assert main.main([*words(folder), *inputs]) == 0
    read = json.loads(capsys.readouterr().out)["texts"]
    assert [(text["name"], text["matches"]) for text in read] == [
        ("more/sub/a.jinja", [1, 0]),
        ("template", [0, 1]),
    ]
    assert read[1]["digest"] == str(of_bytes(b"write to a@b.org"))
    (folder / "template").write_bytes(b"\xff")
    assert main.main([*words(folder), *inputs]) == 3
    assert "'template' is not UTF-8, so it is no text" in capsys.readouterr().err


def test_a_kept_tree_gives_the_same_proofs_without_reading_rows(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, rows = str(audited / "key"), audited / "rows/train.jsonl"
    absent = ("--name=alpaca", f"--text={audited / 'absent.txt'}")
    asked: list[tuple[str, ...]] = [
        *(("record", "--name=alpaca", "--key", key, f"--row={n}") for n in range(1, 6)),
        ("absence", *absent),
    ]
    proofs = []
    for kind, *more in asked:
        assert prove(audited, capsys, kind, *more) == 0
        proofs.append((audited / "proof").read_text())
    for _ in range(2):
        for (kind, *more), wanted in zip(asked, proofs, strict=True):
            tree = audited / f"{kind}.tree"
            assert prove(audited, capsys, kind, *more, f"--tree={tree}") == 0
            assert (audited / "proof").read_text() == wanted
            assert tree.stat().st_mode & 0o777 == 0o600
        # From now on nothing of the rows is read.
        rows.write_text("{}\n")
    assert verify(audited, "absent.txt") == 0
    assert not [path for path in audited.iterdir() if path.name.startswith(".")]
    # A passage of the data is refused from a kept tree as well.
    about = ("--name=alpaca", f"--text={audited / 'present.txt'}")
    assert prove(audited, capsys, "absence", *about, f"--tree={audited / 'absence.tree'}") == 1


def test_a_kept_tree_of_something_else_proves_nothing(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ("--name=alpaca", "--key", str(audited / "key"), "--row=3")
    absence = ("--name=alpaca", f"--text={audited / 'absent.txt'}")
    for kind, about in (("record", record), ("absence", absence)):
        tree = audited / f"{kind}.tree"
        assert prove(audited, capsys, kind, *about, f"--tree={tree}") == 0
        whole, proof = tree.read_bytes(), (audited / "proof").read_text()
        # Neither another split, nor another kind of tree, nor a part of it.
        other = ("--split=test", *(each.replace("--row=3", "--row=1") for each in about))
        assert prove(audited, capsys, kind, *other, f"--tree={tree}") == 2
        tree.write_bytes(whole[:-1])
        assert prove(audited, capsys, kind, *about, f"--tree={tree}") == 2
        for place in range(len(whole)):
            changed = bytes([whole[place] ^ 1])
            tree.write_bytes(whole[:place] + changed + whole[place + 1 :])
            code = prove(audited, capsys, kind, *about, f"--tree={tree}")
            # What is damaged was not needed, or the proof is refused.
            assert (code, (audited / "proof").read_text()) in ((0, proof), (2, ""))
        tree.write_bytes(b"")
        assert prove(audited, capsys, kind, *about, f"--tree={tree}") == 2
        errors = (audited / "errors").read_text()
        assert "is not the tree of these results, or damaged" in errors


def test_rows_that_are_not_the_audited_ones_leave_no_tree(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audited / "rows/train.jsonl").write_text("".join(LINES[:4]))
    tree = audited / "tree"
    record = ("--name=alpaca", "--key", str(audited / "key"), "--row=3")
    absence = ("--name=alpaca", f"--text={audited / 'absent.txt'}")
    for kind, about in (("record", record), ("absence", absence)):
        assert prove(audited, capsys, kind, *about, f"--tree={tree}") == 2
        assert "is not that of the audit results" in (audited / "errors").read_text()
        assert sorted(path.name for path in audited.iterdir() if "tree" in path.name) == []
    missing = audited / "no" / "tree"
    assert prove(audited, capsys, "record", *record, f"--tree={missing}") == 2
