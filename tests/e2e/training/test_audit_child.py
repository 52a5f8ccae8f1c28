"""An audit as the runner makes it: converters make the rows and a child counts them, both in
sandboxes.
"""

import gzip
import json
from pathlib import Path

import pytest

from aicert.audits import results
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from enclave_runner.audit import auditing
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.rows import Room
from enclave_runner.sandbox.containment import Limits
from rules.host import training_env
from tests.unit.aicert.audits.test_config import WHOLE
from tests.unit.aicert.audits.texts import text

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.slow


def lines(*numbers: int) -> bytes:
    rows = [{"url": f"https://a{n}.org/x", "text": text(n, 60)} for n in numbers]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, MeasuredInput]:
    """Write rows that are converted, rows that are used in place, and a packed list of texts."""
    folder = tmp_path / "inputs"
    for name in ("alpaca", "books", "canonical"):
        (folder / name).mkdir(parents=True)
    (folder / "config").write_text(WHOLE)
    (folder / "record-key").write_bytes(bytes(range(32)))
    (folder / "opt-out").write_text("a3.org\n")
    (folder / "known").write_text(f"salt {'00' * 32}\n")
    (folder / "alpaca" / "train.jsonl").write_bytes(lines(0, 1, 2, 3))
    (folder / "alpaca" / "test.jsonl").write_bytes(lines(7))
    for number in (0, 1):
        plain = lines(4 + number).replace(b'": "', b'":"').replace(b'", "', b'","')
        (folder / "canonical" / f"train-{number}.jsonl").write_bytes(plain)
    listed = json.dumps({"t": text(2, 55)}).encode()
    (folder / "books" / "all.jsonl.gz").write_bytes(gzip.compress(listed, mtime=0))
    measured = {}
    for path in sorted(folder.iterdir()):
        files = {"": read_file(path)} if path.is_file() else read_tree(path)
        digest = Digest("sha256", files[""].sha256) if path.is_file() else dir_digest(files)
        measured[path.name] = MeasuredInput(
            name=path.name, path=path, digest=digest, files=files, stat_keys={}
        )
    return measured


def run(inputs: dict[str, MeasuredInput], folder: Path) -> auditing.Audited:
    settings = auditing.read_config(inputs["config"].path.read_bytes(), inputs)
    room = Room(
        folder=folder / "records",
        training_env=training_env.ensure(ROOT),
        limits=Limits(memory_bytes=1 << 30),
    )
    return auditing.run(settings, inputs, room, folder / "scratch", lambda: None)


def test_an_audit_is_of_the_rows_that_a_training_would_read(
    inputs: dict[str, MeasuredInput], tmp_path: Path
) -> None:
    audited = run(inputs, tmp_path)
    assert audited.ended.exit_code == "0", audited.log.read_text()
    assert audited.results is not None
    read = results.parse(audited.results)
    counts = {(fact.name, fact.split): [each.matches for each in fact.checks] for fact in read.data}
    assert counts == {
        ("alpaca", "test"): [0, 0, 0, 0],
        ("alpaca", "train"): [1, 0, 1, 0],
        ("canonical", "train"): [0, 0, 0, 0],
    }
    assert [fact.rows.count for fact in read.data] == [1, 4, 2]
    report = auditing.report(audited, inputs)
    assert [(each.name, each.split) for each in report.records] == [
        ("alpaca", "test"), ("alpaca", "train"), ("canonical", "train"),
    ]  # fmt: skip
    assert report.number("outputBytes") == len(audited.results)


def test_an_audit_that_cannot_read_a_list_fails(
    inputs: dict[str, MeasuredInput], tmp_path: Path
) -> None:
    inputs["known"].path.write_text("no list\n")
    audited = run(inputs, tmp_path)
    assert audited.ended.exit_code == "2"
    assert audited.results is None
    assert "list of digests" in audited.log.read_text()
    assert auditing.report(audited, inputs).exit_code == "2"
