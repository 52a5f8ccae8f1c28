import pytest

from aicert.records.errors import RowsRefused
from aicert.records.select import choose

CHOSEN: dict[str, tuple[list[str], object, dict[str, list[str]]]] = {
    "one file": (["rows.jsonl"], None, {"train": ["rows.jsonl"]}),
    "sorted by path": (
        ["b.jsonl", "a/z.jsonl", "a.json.gz"],
        None,
        {"train": ["a.json.gz", "a/z.jsonl", "b.jsonl"]},
    ),
    "parts of splits, as the Hub names them": (
        [
            "data/test-00000-of-00001.parquet",
            "data/train_sft-00001-of-00002.parquet",
            "data/train_sft-00000-of-00002.parquet",
        ],
        None,
        {
            "test": ["data/test-00000-of-00001.parquet"],
            "train_sft": [
                "data/train_sft-00000-of-00002.parquet",
                "data/train_sft-00001-of-00002.parquet",
            ],
        },
    ),
    "splits in names": (
        ["train.csv", "x-dev.csv", "eval/a.csv", "eval/b.csv"],
        None,
        {"test": ["eval/a.csv", "eval/b.csv"], "train": ["train.csv"], "validation": ["x-dev.csv"]},
    ),
    "a word in another word": (["trainer.csv"], None, {"train": ["trainer.csv"]}),
    "nothing beside rows": (
        [
            "README.md",
            "LICENSE.txt",
            ".git/a.json",
            "__pycache__/a.json",
            "dataset_infos.json",
            "a.parquet",
            "img.png",
        ],
        None,
        {"train": ["a.parquet"]},
    ),
    "texts alone": (["b.txt", "a.txt"], None, {"train": ["a.txt", "b.txt"]}),
    "a name": (["a.jsonl", "b.jsonl"], "./b.jsonl", {"train": ["b.jsonl"]}),
    "names in their order": (
        ["a.jsonl", "b.jsonl"],
        ["b.jsonl", "a.jsonl"],
        {"train": ["b.jsonl", "a.jsonl"]},
    ),
    "patterns": (
        ["x/b.csv", "x/a.csv", "x/y/c.csv", "d.csv"],
        "x/*.csv",
        {"train": ["x/a.csv", "x/b.csv"]},
    ),
    "any folder": (
        ["x/b.csv", "x/y/c.csv", "d.csv"],
        "**/?.csv",
        {"train": ["d.csv", "x/b.csv", "x/y/c.csv"]},
    ),
    "everything": (["x/b.csv", "x/y/c.csv"], "x/**", {"train": ["x/b.csv", "x/y/c.csv"]}),
    "folders in the middle": (
        ["x/a.csv", "x/y/z/a.csv", "y/x/a.csv"],
        "x/**/a.csv",
        {"train": ["x/a.csv", "x/y/z/a.csv"]},
    ),
    "a bracket is itself": (["[ab].csv", "a.csv", "b.csv"], "[ab].*", {"train": ["[ab].csv"]}),
    "stars that could stand for much": (
        [f"{'a' * 200}/{'a' * 200}.csv", f"{'a' * 200}/b.csv"],
        f"**/**/**/{'*a' * 60}*/{'*a' * 60}.csv",
        {"train": [f"{'a' * 200}/{'a' * 200}.csv"]},
    ),
    "splits": (
        ["a.csv", "b.json"],
        {"test": "b.json", "train": ["a.csv"]},
        {"test": ["b.json"], "train": ["a.csv"]},
    ),
    "a hidden file that is named": ([".a.csv"], ".a.csv", {"train": [".a.csv"]}),
}
REFUSED: dict[str, tuple[list[str], object, str]] = {
    "nothing": ([], None, "there is no file with rows"),
    "no rows": (["a.zip", "b.py"], None, "there is no file with rows"),
    "two forms": (["a.csv", "b.parquet"], None, "'a.csv' and 'b.parquet' have different formats"),
    "two splits in a name": (["train/test.csv"], None, "its name says test and train"),
    "a file without a split": (["train.csv", "more.csv"], None, "its name names no split"),
    "no such file": (["a.csv"], "b.csv", "no file is called 'b.csv'"),
    "no pattern matches": (["a/b.csv"], "*.csv", "no file is called"),
    "stars that match nothing": ([f"{'a' * 200}.csv"], f"{'*a' * 60}b.csv", "no file is called"),
    "another kind": (["a.zip"], "a.zip", "rows are not read from files of this kind"),
    "twice": (["a.csv"], ["*.csv", "a.csv"], "data_files names it twice"),
    "no name": (["a.csv"], [], "data_files names no file"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_files_are_chosen_by_their_names_alone(name: str) -> None:
    files, data_files, chosen = CHOSEN[name]
    assert choose(reversed(files), data_files) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_meant_in_two_ways_is_refused(name: str) -> None:
    files, data_files, reason = REFUSED[name]
    with pytest.raises(RowsRefused, match=reason):
        choose(files, data_files)  # type: ignore[arg-type]
