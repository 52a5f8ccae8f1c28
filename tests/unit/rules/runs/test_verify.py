"""Which images and roots `./doit verify` uses."""

import shutil
from pathlib import Path

import pytest

from aicert.audits import results as forms
from aicert.formats import image_lock
from rules.image.place import GPU_LOCK, LOCK
from rules.machines.ca import local_ca
from rules.runs.appraisal import evidence_at, question
from tests.unit.aicert.cli.verify import test_demanded_audits as demanded

folder = demanded.folder
REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(("gpu", "lock"), [(False, LOCK), (True, GPU_LOCK)])
def test_a_run_with_gpus_is_verified_against_the_image_with_their_drivers(
    tmp_path: Path, gpu: bool, lock: Path
) -> None:
    (tmp_path / "lockfiles").mkdir()
    for path in (LOCK, GPU_LOCK):
        shutil.copy(REPOSITORY / path, tmp_path / path)
    local_ca(tmp_path, "qemu")
    asked = question(tmp_path, "qemu", "", "", "tiny", gpu=gpu)
    wanted = image_lock.parse((REPOSITORY / lock).read_bytes())
    assert asked.policy.accepted == {wanted.digest}


def test_a_folder_of_audits_is_read_and_what_does_not_count_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evidence_at("") is None
    (folder / "evidence" / "bad").mkdir()
    (folder / "evidence" / "bad" / "certificate.json").write_text("{}")
    given = evidence_at(str(folder / "evidence"))
    assert given is not None
    assert [data for _, data in given] == [forms.emit(demanded.looked())]
    assert "bad does not count: " in capsys.readouterr().err
