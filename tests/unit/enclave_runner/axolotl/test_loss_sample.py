"""The sample depends on the seed and the rows alone, as docs/spec/loss.md defines."""

import hashlib
import json
from pathlib import Path

import pytest

from enclave_runner.axolotl import loss_sample
from enclave_runner.axolotl.loss_sample import Source

SEED = loss_sample.seed(bytes(32), bytes(range(32)))


def put(path: Path, rows: range, *, long: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"n": n, "text": "x" * (long * (n % 7))}) + "\n" for n in rows)
    path.write_text("".join(lines))
    return path


def source(*files: Path, key: str = "datasets", index: int = 0) -> Source:
    return Source(key=key, index=index, files=files)


def numbers(sources: list[Source], seed: bytes = SEED) -> list[int]:
    return [json.loads(line)["row"]["n"] for line in loss_sample.draw(sources, seed)]


def test_the_seed_binds_context_nonce_and_random_bytes() -> None:
    text = b"aicert loss sample v1\0" + bytes(32) + bytes(range(32))
    assert hashlib.sha256(text).digest() == SEED


def test_rows_are_drawn_as_the_specification_says(tmp_path: Path) -> None:
    files = [put(tmp_path / "a", range(300)), put(tmp_path / "b", range(300, 1000))]
    expected: list[int] = []
    at = 0
    while len(expected) < loss_sample.MOST_ROWS:
        digest = hashlib.sha256(SEED + at.to_bytes(8, "big")).digest()
        at += 1
        number = int.from_bytes(digest, "big") % 1000
        if number not in expected:
            expected.append(number)
    assert numbers([source(*files)]) == expected
    assert numbers([source(files[0]), source(files[1], index=1)]) == expected
    assert numbers([source(*files)], hashlib.sha256(b"other").digest()) != expected


def test_lines_are_found_across_blocks(tmp_path: Path) -> None:
    file = put(tmp_path / "a", range(500), long=1000)
    assert file.stat().st_size > 5 * loss_sample._BLOCK
    assert sorted(numbers([source(file)])) == list(range(500))


def test_a_line_longer_than_a_block_is_whole(tmp_path: Path) -> None:
    file = put(tmp_path / "a", range(3), long=loss_sample._BLOCK)
    assert sorted(numbers([source(file)])) == [0, 1, 2]


def test_each_line_says_whose_row_it_is(tmp_path: Path) -> None:
    files = [put(tmp_path / "a", range(1)), put(tmp_path / "b", range(1, 2))]
    sources = [source(files[0]), source(files[1], key="pretraining_dataset", index=4)]
    drawn = [json.loads(line) for line in loss_sample.draw(sources, SEED)]
    assert {(line["row"]["n"], line["key"], line["index"]) for line in drawn} == {
        (0, "datasets", 0),
        (1, "pretraining_dataset", 4),
    }


def test_a_sample_is_bounded_in_bytes_but_never_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_sample, "MOST_BYTES", 100)
    assert len(numbers([source(put(tmp_path / "a", range(1), long=1000))])) == 1
    file = put(tmp_path / "b", range(50), long=5)
    lines = list(loss_sample.draw([source(file)], SEED))
    assert 1 < len(lines) < 10


def test_no_rows_are_no_sample(tmp_path: Path) -> None:
    assert numbers([]) == []
    assert numbers([source(put(tmp_path / "a", range(0)))]) == []


def test_files_are_those_of_the_splits_that_the_config_reads(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    for split in ("train", "test"):
        for number in range(2):
            put(folder / "data" / f"{split}-{number:05d}-of-00002.jsonl", range(1))
    place = "/aicert/records/x/0"
    elsewhere = put(tmp_path / "in place.jsonl", range(1))
    shown = {place: folder, f"{place}/data/train-00001-of-00002.jsonl": elsewhere}

    def files(entry: dict[str, object]) -> list[Path]:
        (only,) = loss_sample.sources({"datasets": [{"path": place} | entry]}, shown)
        return list(only.files)

    train = [folder / "data" / "train-00000-of-00002.jsonl", elsewhere]
    test = sorted((folder / "data").glob("test-*"))
    assert files({}) == files({"split": "train"}) == files({"split": "train[:50%]"}) == train
    assert files({"split": "test"}) == test
    assert files({"split": "train+test"}) == files({"split": "all"}) == test + train


def test_pretraining_takes_the_place_of_data_sets(tmp_path: Path) -> None:
    place = "/aicert/records/x/0"
    put(tmp_path / "data" / "train-00000-of-00001.jsonl", range(1))
    settings = {"datasets": [{"path": "/elsewhere"}], "pretraining_dataset": [{"path": place}]}
    (only,) = loss_sample.sources(settings, {place: tmp_path})
    assert (only.key, only.index, len(only.files)) == ("pretraining_dataset", 0, 1)
    settings = {"datasets": [{"path": "/elsewhere"}, {"path": place}]}
    assert [len(each.files) for each in loss_sample.sources(settings, {place: tmp_path})] == [0, 1]
