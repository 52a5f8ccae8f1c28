"""Data inputs become rows that the trainer and the strict reader read alike, or are refused with a
reason.

The children and the loader are those of a real run, in the real training environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.errors import AicertError
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from aicert.formats.run_report import RunReport
from aicert.formats.run_report import parse as parse_report
from aicert.formats.run_report_facts import Records
from aicert.formats.statement import parse as parse_statement
from aicert.records.errors import RowsRefused
from aicert.verifier.verify import read_certificate
from enclave_runner.axolotl import config, training
from enclave_runner.inputs import rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.sandbox.containment import Limits
from enclave_runner.sandbox.places import INPUTS
from rules.example import example
from rules.host import training_env
from tests.e2e.conftest import Checkout, StandIn

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.slow

# Sources on which readers of JSON are known to disagree.
TRAPS: dict[str, bytes] = {
    "date text": b'{"text":"2020-01-01T00:00:00Z"}\n{"text":"2021-05-05T01:02:03Z"}\n',
    "date then text": b'{"text":"2020-01-01T00:00:00Z"}\n{"text":"hello"}\n',
    "int and float": b'{"v":1}\n{"v":1.5}\n',
    "big int53": b'{"v":9007199254740993}\n',
    "least and most": b'{"v":-9223372036854775808}\n{"v":9223372036854775807}\n',
    "missing key": b'{"text":"a"}\n{"text":"b","src":"x"}\n',
    "null vs missing": b'{"text":"a","src":null}\n{"text":"b"}\n',
    "escaped = plain": b'{"text":"\\u0061"}\n{"text":"a"}\n',
    "BOM": b'\xef\xbb\xbf{"text":"a"}\n',
    "CRLF": b'{"text":"a"}\r\n{"text":"b"}\r\n',
    "blank line": b'{"text":"a"}\n\n{"text":"b"}\n',
    "no final LF": b'{"text":"a"}\n{"text":"b"}',
    "U+2028 inside": '{"text":"a\u2028b"}\n'.encode(),
    "NUL escape": b'{"text":"a\\u0000b"}\n',
    "nested key order": b'{"m":{"b":1,"a":2}}\n{"m":{"a":1,"b":2}}\n',
    "extra key later": b'{"text":"a"}\n' * 3 + b'{"text":"b","hidden":"secret"}\n',
    "array file": b'[{"text":"a"},{"text":"b"}]',
    "chat": b'{"messages":[{"role":"user","content":"x","n":1e300}]}\n{"messages":[]}\n',
}
REFUSED: dict[str, bytes] = {
    "duplicate key": b'{"text":"shown","text":"hidden"}\n',
    "big int": b'{"v":12345678901234567890}\n',
    "NaN": b'{"v":NaN}\n',
    "lone surrogate": b'{"text":"\\ud800"}\n',
    "two values a line": b'{"text":"a"}{"text":"b"}\n',
    "value over 2 lines": b'{"text":\n"a"}\n',
    "trailing garbage": b'{"text":"a"}\nx\n',
    "VT/FF inside raw": b'{"text":"a\x0bb"}\n',
    "list of mixed": b'{"v":[1,"a"]}\n',
}
# Prints what the trainer's loader makes of each folder, loaded at once and streamed.
LOADER = """
import json, sys
import aicert_rows
aicert_rows.install()
import datasets
for place in sys.argv[1:]:
    whole = datasets.load_dataset(place, split="train")
    streamed = datasets.load_dataset(place, split="train", streaming=True)
    first = datasets.load_dataset(place, split="train[:1]")
    assert streamed.features == whole.features
    print(json.dumps([list(whole), list(streamed), list(first)]))
"""


@pytest.fixture(scope="module")
def environment() -> Path:
    return training_env.ensure(ROOT)


def measured(name: str, path: Path) -> MeasuredInput:
    """Return an input as the runner would have hashed it."""
    if path.is_file():
        files = {"": read_file(path)}
        digest = Digest("sha256", files[""].sha256)
    else:
        files = read_tree(path)
        digest = dir_digest(files)
    return MeasuredInput(
        name=name, path=path, digest=digest, files=files, stat_keys={}, uri="path:x"
    )


def prepared(
    environment: Path, path: Path, folder: Path, form: str | None = None, scratch: int = 1 << 30
) -> Rows:
    files = ("",) if path.is_file() else tuple(sorted(read_tree(path)))
    return rows.prepare(
        [Selection(input="rows", number=0, form=form, splits={"train": files})],
        {"rows": measured("rows", path)},
        Room(folder=folder, training_env=environment, limits=Limits(scratch_bytes=scratch)),
    )


def loaded(environment: Path, places: list[Path], home: Path) -> list[list[list[object]]]:
    done = subprocess.run(
        [environment / "bin/python", "-P", "-c", LOADER, *places],
        env={
            "PYTHONPATH": str(ROOT / "enclave_runner/axolotl/plugin"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(home),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def shown(converted: Rows, folder: Path) -> Path:
    """Lay out, outside the sandbox, the rows' folder that the trainer's sandbox shows."""
    for place, path in converted.shown.items():
        inside = folder / place.removeprefix("/aicert/records/rows/0").lstrip("/")
        if path.is_file():
            inside.write_bytes(path.read_bytes())
    return folder


def test_reader_and_trainer_read_the_same_rows_wherever_readers_disagree(
    environment: Path, tmp_path: Path
) -> None:
    places, expected = [], []
    for number, (name, data) in enumerate(TRAPS.items()):
        source = tmp_path / f"source-{number}"
        source.write_bytes(data)
        converted = prepared(environment, source, tmp_path / f"made-{number}")
        place = shown(converted, tmp_path / f"made-{number}/rows/0")
        lines = b"".join(path.read_bytes() for path in sorted(place.glob("data/*"))).splitlines(
            True
        )
        assert converted.records[0].rows == len(lines), name
        places.append(place)
        expected.append([json.loads(line) for line in lines])
    read_rows = loaded(environment, places, tmp_path / "home")
    for name, wanted, (whole, streamed, first) in zip(TRAPS, expected, read_rows, strict=True):
        assert whole == wanted, name
        assert streamed == wanted, name
        assert first == wanted[:1], name


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_two_readers_agree_on_is_refused(
    name: str, environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/train.jsonl").write_bytes(REFUSED[name])
    with pytest.raises(RowsRefused, match=r"^'rows/train\.jsonl', row \d: ") as caught:
        prepared(environment, tmp_path / "source", tmp_path / "made")
    assert caught.value.exit_code == 2


# Writes the same rows in every form; the schema's metadata says that the text is an image.
FORMS = """
import gzip, json, pathlib, sys
import pyarrow, pyarrow.parquet
rows = [{"text": "/etc/passwd", "n": 1}, {"text": "reference://x", "n": 2}]
folder = pathlib.Path(sys.argv[1])
lines = "".join(json.dumps(row) + "\\n" for row in rows).encode()
(folder / "json").write_bytes(lines)
(folder / "json-gzip").write_bytes(gzip.compress(lines))
(folder / "json-zstd").write_bytes(pyarrow.compress(lines, codec="zstd", asbytes=True))
(folder / "csv").write_text("text,n\\n" + "".join(f"{r['text']},{r['n']}\\n" for r in rows))
table = pyarrow.Table.from_pylist(rows)
kinds = {"text": {"_type": "Image"}, "n": {"_type": "Value", "dtype": "int64"}}
features = {"info": {"features": kinds}}
table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
pyarrow.parquet.write_table(table, folder / "parquet")
"""


def test_every_form_gives_the_same_rows_and_no_metadata(environment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    subprocess.run([environment / "bin/python", "-P", "-c", FORMS, folder], check=True)
    sources = sorted(folder.iterdir())
    assert len(sources) == 5
    places = []
    for source in sources:
        form = source.name.partition("-")[0]
        converted = prepared(environment, source, tmp_path / source.name, form)
        assert converted.records[0].rows == 2
        places.append(shown(converted, tmp_path / source.name / "rows/0"))
    for source, (whole, streamed, _) in zip(
        sources, loaded(environment, places, tmp_path / "home"), strict=True
    ):
        expected = [{"text": "/etc/passwd", "n": 1}, {"text": "reference://x", "n": 2}]
        assert whole == streamed == expected, source.name


def test_a_single_file_that_is_not_json_is_refused_with_the_line_to_write(
    environment: Path, tmp_path: Path
) -> None:
    table, words = tmp_path / "a.parquet", tmp_path / "a.csv"
    table.write_bytes((ROOT / "tests/fuzz/rows.parquet").read_bytes())
    words.write_bytes(b"text\na\n")
    for index, (path, form) in enumerate(((table, "parquet"), (words, "csv"))):
        with pytest.raises(RowsRefused) as caught:
            prepared(environment, path, tmp_path / str(index))
        assert "`ds_type: parquet` (or csv, text)" in str(caught.value.hint)
        converted = prepared(environment, path, tmp_path / form, form)
        assert converted.records[0].rows > 0


def test_canonical_files_are_used_where_they_lie(environment: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (source / name).write_text(f'{{"text":"{name}"}}\n')
    converted = prepared(environment, source, tmp_path / "made", scratch=1)
    assert converted.copied == 0
    assert [path for path in converted.shown.values() if path.is_file()] == [
        source / "a.jsonl",
        source / "b.jsonl",
    ]
    assert converted.records[0].rows == 2


def test_a_file_that_changed_since_it_was_hashed_is_no_rows(
    environment: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text('{"text":"a"}\n')
    before = measured("rows", source)
    source.write_text('{"text":"b"}\n')
    with pytest.raises(AicertError, match="input rows: it changed while it was read"):
        rows.prepare(
            [Selection(input="rows", number=0, form=None, splits={"train": ("",)})],
            {"rows": before},
            Room(folder=tmp_path / "made", training_env=environment, limits=Limits()),
        )


def test_rows_that_do_not_fit_say_by_how_much(environment: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text('{"text": "a"}\n' * 100)
    with pytest.raises(RowsRefused, match=r"'rows = path:x': .*short by 1299 bytes"):
        prepared(environment, source, tmp_path / "made", scratch=1)


# Converters taken over by hostile bytes. `leave` writes what an honest converter would.
HOSTILE = """#!{python}
import json, os, pathlib, sys
out = pathlib.Path(sys.argv[-1])
def leave(rows, count, columns=[["text", "string"]], place=False):
    (out / "schema.json").write_text(json.dumps(
        {{"columns": columns, "version": 1}}, separators=(",", ":")))
    if not place:
        (out / "rows.jsonl").write_bytes(rows)
    file = {{"form": "json", "path": "rows.jsonl", "rows": count, "unreadBytes": 0}}
    (out / "facts.json").write_text(json.dumps(
        {{"files": [file], "inPlace": place, "rows": count, "unreadBytes": 0, "version": 1}}))
{program}
"""
ONE = b'{"text":"a"}\n'


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (f"leave({ONE!r}, 2)", "1 rows were written, not 2"),
        (f"leave({ONE[:-1]!r}, 1)", "no line feed"),
        ("leave(b'{\"text\":\"a\",\"text\":\"b\"}\\n', 1)", "row 1 is not a canonical row"),
        ("leave(b'{\"text\": \"a\"}\\n', 1)", "row 1 is not a canonical row"),
        ("leave(b'', 1, place=True)", "row 1 is not a canonical row"),
        ("leave(b'', 1, columns=[['a', 'image']])", "'image' is not a column type"),
        ("(out / 'rows.jsonl').symlink_to('/etc/passwd')", "left 'rows.jsonl' behind"),
        (f"leave({ONE!r}, 1); os.link(out / 'rows.jsonl', out / 'x')", "behind"),
        (f"leave({ONE!r}, 1); (out / 'sitecustomize.py').touch()", "'sitecustomize.py' behind"),
        ("os.mkfifo(out / 'facts.json')", "left 'facts.json' behind"),
        ("print('it \\x1b[2J is over', flush=True); os._exit(7)", "ended with 7\nit ?[2J is over"),
        ("os.abort()", "ended with signal:6"),
        ("", "ended with 0"),
        ("(out / 'rows.jsonl').write_bytes(bytes(100 << 20))", "File too large"),
    ],
)  # fmt: skip
def test_nothing_that_a_converter_says_is_believed(
    tmp_path: Path, program: str, words: str
) -> None:
    source = tmp_path / "source"
    source.write_text('{"text": "a"}\n')
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
    python = environment / "bin/python"
    python.write_text(HOSTILE.format(python=f"{sys.base_prefix}/bin/python3.11", program=program))
    python.chmod(0o755)
    with pytest.raises(AicertError) as caught:
        prepared(environment, source, tmp_path / "made", scratch=1 << 20)
    assert words in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_where_the_runner_is_root_rows_become_its_own(tmp_path: Path) -> None:
    """This is the case in the measured machine: another user converts and trains."""
    for place in (tmp_path, *tmp_path.parents):
        place.chmod(place.stat().st_mode | 0o001)
    environment, source = tmp_path / "environment", tmp_path / "source"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (environment / "bin/python").symlink_to("/usr/bin/python3")
    source.write_text('{"text": "a"}\n')
    converted = rows.prepare(
        [Selection(input="rows", number=0, form=None, splits={"train": ("",)})],
        {"rows": measured("rows", source)},
        Room(folder=tmp_path / "made", training_env=environment, limits=Limits(), user=65534),
    )
    assert converted.copied == len(ONE)
    (copy,) = (tmp_path / "made/rows/0/data").iterdir()
    status = copy.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o644)
    assert copy.read_bytes() == ONE


STREAMED = """
base_model: input:model
pretraining_dataset:
  - path: input:rows
    type: pretrain
    text_column: output
streaming: true
max_steps: 2
sequence_len: 64
micro_batch_size: 2
learning_rate: 0.003
optimizer: adamw_torch_fused
bf16: false
fp16: false
attn_implementation: sdpa
save_strategy: "no"
sample_packing: false
"""


def test_axolotl_streams_rows_that_were_read(environment: Path, tmp_path: Path) -> None:
    example.make_example(tmp_path)
    model = tmp_path / example.MODEL
    views = {
        "model": config.InputView(is_file=False, files=frozenset(read_tree(model))),
        "rows": config.InputView(is_file=False, files=frozenset(("train.jsonl",))),
    }
    wanted = config.resolve(STREAMED.encode(), views)
    room = Room(folder=tmp_path / "made", training_env=environment, limits=Limits())
    converted = rows.prepare(
        wanted.selections, {"rows": measured("rows", tmp_path / example.DATA)}, room
    )
    result = training.train(
        wanted,
        {f"{INPUTS}/model": model, **converted.shown},
        tmp_path / "scratch",
        environment,
        Limits(),
    )
    assert result.exit_code == "0", result.log.read_text()[-3000:]
    assert result.self_reported["steps"] == 2


# A trainer that reports what it sees instead of training.
LOOK = """
rows = Path(config["datasets"][0]["path"])
for folder in (Path("/aicert/inputs"), Path("/aicert/records")):
    print("sees", sorted(str(path) for path in folder.rglob("*") if path.is_file()))
print("reads", (rows / "schema.json").read_text())
print("split", config["datasets"][0]["split"])
weights()
"""


def test_the_trainer_sees_rows_and_no_file_of_a_data_input(stand_in: StandIn) -> None:
    checkout = stand_in(LOOK)
    assert checkout.doit("lock", "tiny-alpaca").returncode == 0
    (checkout.root / "examples/alpaca/README.md").write_text("---\nconfigs: [{data_dir: /}]\n---\n")
    assert checkout.doit("lock", "tiny-alpaca").returncode == 0
    assert "Traceback" not in checkout.doit("certify", "tiny-alpaca").stderr
    log = (checkout.root / "certificates/tiny-alpaca/training.log").read_text()
    seen = json.loads(log.split("sees ")[2].splitlines()[0].replace("'", '"'))
    assert seen == [
        "/aicert/records/alpaca/0/data/train-00000-of-00001.jsonl",
        "/aicert/records/alpaca/0/schema.json",
    ]
    assert "alpaca" not in log.split("sees ")[1].splitlines()[0]
    assert '"columns":[["instruction","string"],["input","string"],["output","string"]]' in log
    assert "split train\n" in log
    (records,) = report_of(checkout).records
    rows_of = (checkout.root / "examples/alpaca/train.jsonl").read_text().splitlines()
    data = "".join(
        json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) + "\n"
        for line in rows_of
    ).encode()
    assert records == Records(
        name="alpaca",
        split="train",
        rows=len(rows_of),
        bytes=len(data),
        digest=Digest("sha256", hashlib.sha256(data).hexdigest()),
        unread_bytes=0,
        files=("train.jsonl",),
    )


def test_rows_that_are_refused_train_nothing_and_certify_nothing(stand_in: StandIn) -> None:
    checkout = stand_in("weights()\n")
    assert checkout.doit("lock", "tiny-alpaca").returncode == 0
    with (checkout.root / "examples/alpaca/train.jsonl").open("a") as file:
        file.write('{"instruction": "a", "instruction": "b"}\n')
    assert checkout.doit("lock", "tiny-alpaca").returncode == 0
    done = checkout.doit("certify", "tiny-alpaca")
    assert done.returncode == 2
    assert re.search(r"'alpaca/train\.jsonl', row 257: .*instruction", done.stderr)
    assert not checkout.certificate.exists()
    assert "training" not in done.stderr


def report_of(checkout: Checkout) -> RunReport:
    certificate = read_certificate(checkout.certificate)
    return parse_report(parse_statement(certificate.envelope.payload).report)
