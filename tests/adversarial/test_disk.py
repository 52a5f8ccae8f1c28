"""`subject.files` refuses what must not be in a model directory, with exit 1 and a safe message."""

import json
import pickle
import time
from pathlib import Path

import pytest

from aicert.cli import table
from aicert.formats import safetensors
from aicert.verifier.verify import read_model
from tests.adversarial.attacks_disk import (
    ATTACKS,
    GOOD,
    TWO_FACED,
    WEIGHTS,
    DiskAttack,
    prepared,
)
from tests.adversarial.forger import Scene


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_disk_attack_is_refused(attack: DiskAttack, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    result = prepared(attack, folder).appraise()
    text = table.text(result)
    assert [check.id for check in result.failed] == ["subject.files"], text
    assert result.exit_code == 1
    assert attack.shown in result.check("subject.files").detail
    assert all(line.isprintable() for line in text.split("\n"))
    json.loads(table.json_text(result))


def test_the_unchanged_directory_passes(tmp_path: Path) -> None:
    result = prepared(DiskAttack(name="", shown=""), tmp_path).appraise()
    assert result.verdict == "passed", table.text(result)
    assert result.check("subject.files").detail == f"output model: 3 files, {25 + len(GOOD)} bytes"


def test_folders_in_which_no_loader_looks_are_not_read(tmp_path: Path) -> None:
    def clone(folder: Path) -> None:
        (folder / ".git/refs/tags").mkdir(parents=True)
        (folder / ".git/HEAD").symlink_to("/nowhere")
        (folder / ".cache/huggingface").mkdir(parents=True)

    result = prepared(DiskAttack(name="", shown="", change=clone), tmp_path).appraise()
    assert result.verdict == "passed", table.text(result)
    detail = result.check("subject.files").detail
    assert "\npresent, not covered: .cache/huggingface/, .git/\n" in detail


def test_an_inert_folder_elsewhere_is_not_inert(tmp_path: Path) -> None:
    (tmp_path / "sub/.git").mkdir(parents=True)
    (tmp_path / "sub/.git/x.py").write_bytes(b"")
    result = Scene().put("model", read_model(tmp_path)).appraise()
    assert "extra     sub/.git/x.py" in result.check("subject.files").detail


def test_a_certified_file_that_was_refused_is_never_covered(tmp_path: Path) -> None:
    """The file counts even in a folder whose other files are uncovered."""
    files = {".git/config": b"x", WEIGHTS: GOOD}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / ".git/config").unlink()
    scene = Scene().edit("outputs", lambda _: {"model": files})
    missing = scene.put("model", read_model(tmp_path)).appraise()
    assert "missing   .git/config" in missing.check("subject.files").detail


def test_many_refused_files_are_summed_up(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}").symlink_to("x")
    started = time.process_time()
    detail = Scene().put("model", read_model(tmp_path)).appraise().check("subject.files").detail
    assert time.process_time() - started < 1
    first = "refused   '00': '00' is a symbolic link: only regular files can be certified"
    assert detail.split("\n")[1] == first
    assert detail.endswith("and 18 more")


def test_the_two_faced_file_is_what_it_should_be() -> None:
    assert pickle.loads(TWO_FACED) == {}  # noqa: S301 - our own bytes
    assert safetensors.parse_header(TWO_FACED[8:-2].replace(b"\n", b" "), 2).elements == 2
