"""An audit in the machine: what is refused before it, what its child returns, what is believed."""

import hashlib
import json
from pathlib import Path

import pytest

from aicert.audits import results
from aicert.audits.lists import exact_digest
from aicert.errors import AicertError, ConfigError, EvidenceError, LockError
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.run_report_facts import Records
from aicert.frozen import replace
from enclave_runner.audit import auditing, child
from enclave_runner.audit.child import DataRows, Job
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection
from tests.unit.aicert.audits.test_config import WHOLE
from tests.unit.aicert.audits.texts import text

ROWS = [{"url": f"https://a{n}.org/x", "text": text(n, 60)} for n in range(5)]
LINES = [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in ROWS]
LISTED = json.dumps({"t": text(2, 55)}, separators=(",", ":")).encode() + b"\n"
SALT = "00" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the inputs, as the child sees them, and rows."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "config").write_text(WHOLE)
    (inputs / "record-key").write_bytes(bytes(range(32)))
    (inputs / "opt-out").write_text("a3.org\n")
    known = exact_digest(bytes(32), LINES[0].rstrip(b"\n")).hex()
    (inputs / "known").write_text(f"salt {SALT}\n{known}\n")
    for name, lines in {"alpaca": LINES, "books": [LISTED]}.items():
        (inputs / name).mkdir()
        for place, part in enumerate((lines[:3], lines[3:])):
            (inputs / name / f"train-{place}.jsonl").write_bytes(b"".join(part))
    return tmp_path


def measured(folder: Path) -> dict[str, MeasuredInput]:
    """Return the inputs as the runner hashed them."""
    inputs = {}
    for path in sorted((folder / "inputs").iterdir()):
        files = {"": read_file(path)} if path.is_file() else read_tree(path)
        digest = Digest("sha256", files[""].sha256) if path.is_file() else dir_digest(files)
        inputs[path.name] = MeasuredInput(
            name=path.name, path=path, digest=digest, files=files, stat_keys={}
        )
    return inputs


def job(folder: Path) -> Job:
    inputs = folder / "inputs"

    def rows(name: str, unread: int) -> list[DataRows]:
        files = sorted(map(str, (inputs / name).iterdir()))
        return [DataRows(name=name, split="train", unread_bytes=unread, files=files)]

    return Job(
        inputs=str(inputs),
        digests={name: str(item.digest) for name, item in measured(folder).items()},
        data=rows("alpaca", 7),
        texts=rows("books", 0),
    )


def records(folder: Path) -> Records:
    """Return the records that the runner itself counted."""
    whole = b"".join(LINES)
    return Records(
        name="alpaca",
        split="train",
        rows=len(LINES),
        bytes=len(whole),
        digest=of_bytes(whole),
        unread_bytes=7,
        files=("train-0.jsonl", "train-1.jsonl"),
    )


@pytest.fixture
def left(folder: Path) -> Path:
    """Run the child, and return the path of its results."""
    (folder / "scratch").mkdir()
    assert child.main(folder / "scratch", job(folder).emit()) == 0
    return folder / "scratch" / child.RESULTS


def taken(folder: Path, path: Path, *data: Records) -> bytes:
    inputs = measured(folder)
    settings = auditing.read_config(WHOLE.encode(), inputs)
    return auditing._taken(path, settings, inputs, data or (records(folder),))


def test_a_child_counts_what_the_runner_takes(folder: Path, left: Path) -> None:
    read = results.parse(taken(folder, left))
    (fact,) = read.data
    assert [each.matches for each in fact.checks] == [1, 1, 1, 0]
    assert fact.digest.hex == hashlib.sha256(b"".join(LINES)).hexdigest()
    assert fact.unread_bytes == 7


def test_a_child_says_why_it_cannot(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "inputs" / "known").write_text("no list\n")
    assert child.main(folder, job(folder).emit()) == EvidenceError.exit_code
    assert "error: list of digests" in capsys.readouterr().err
    assert not (folder / child.RESULTS).exists()


def test_results_of_other_rows_are_not_taken(folder: Path, left: Path) -> None:
    true = records(folder)
    for other in (
        replace(true, rows=4),
        replace(true, bytes=4),
        replace(true, digest=of_bytes(b"")),
        replace(true, unread_bytes=0),
        replace(true, split="test"),
        replace(true, name="beta"),
    ):
        with pytest.raises(EvidenceError, match="differ about the rows of"):
            taken(folder, left, other)
    with pytest.raises(EvidenceError, match="differ about the rows of beta, split 'train'"):
        taken(folder, left, true, replace(true, name="beta"))


def test_results_with_other_lists_are_not_taken(folder: Path, left: Path) -> None:
    (folder / "inputs" / "opt-out").write_text("a4.org\n")
    with pytest.raises(EvidenceError, match="the list of check opt-out is not an input of the run"):
        taken(folder, left)


def test_results_of_other_checks_are_not_taken(folder: Path, left: Path) -> None:
    read = results.parse(left.read_bytes())
    fewer = replace(
        read,
        checks=read.checks[1:],
        data=tuple(replace(each, checks=each.checks[1:]) for each in read.data),
    )
    left.write_bytes(results.emit(fewer))
    with pytest.raises(LockError, match="other checks than its config asks for"):
        taken(folder, left)


def test_results_with_another_table_of_domains_are_not_taken(folder: Path, left: Path) -> None:
    settings = auditing.read_config(
        f'{WHOLE}[domains]\ncolumn = "url"\n'.encode(), inputs := measured(folder)
    )
    with pytest.raises(LockError, match="another table of domains than its config asks for"):
        auditing._taken(left, settings, inputs, [records(folder)])


def test_what_is_no_file_of_results_is_not_taken(folder: Path, left: Path) -> None:
    whole = left.read_bytes()
    left.write_bytes(whole[:-1])
    with pytest.raises(AicertError, match="canonical"):
        taken(folder, left)
    left.unlink()
    with pytest.raises(LockError, match="left no results"):
        taken(folder, left)
    left.symlink_to(folder / "inputs" / "config")
    with pytest.raises(OSError, match="symbolic links"):
        taken(folder, left)


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        ("opt-out", "names input opt-out, which the run does not have"),
        ("record-key", "names input record-key"),
        ("alpaca", "there is no data"),
    ],
)
def test_a_run_has_what_the_config_names(folder: Path, without: str, reason: str) -> None:
    inputs = measured(folder)
    del inputs[without]
    with pytest.raises(ConfigError, match=reason):
        auditing.read_config(WHOLE.encode(), inputs)


def test_keys_and_lists_are_files_of_their_kind(folder: Path) -> None:
    inputs = measured(folder)
    for name, reason in (("record-key", "not a file of 32 bytes"), ("opt-out", "not one file")):
        with pytest.raises(ConfigError, match=reason):
            auditing.read_config(WHOLE.encode(), {**inputs, name: inputs["books"]})
    (folder / "inputs" / "record-key").write_bytes(bytes(31))
    with pytest.raises(ConfigError, match="not a file of 32 bytes"):
        auditing.read_config(WHOLE.encode(), measured(folder))


def test_rows_of_a_list_are_not_those_that_the_training_chose_of_it(folder: Path) -> None:
    """Otherwise a run that trains on one harmless file of a list would be audited for it alone."""
    books = measured(folder)["books"]
    chosen = [
        Selection(input="books", number=number, form=None, splits={"train": ("train-0.jsonl",)})
        for number in (0, 3)
    ]
    (listed,) = auditing._listed([books], chosen)
    assert listed.place not in {each.place for each in chosen}
    assert listed.splits == {"train": ("train-0.jsonl", "train-1.jsonl")}
    assert auditing._listed([], []) == []
