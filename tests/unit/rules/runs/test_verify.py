"""Which images and roots `./doit verify` uses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.audits import results as forms
from aicert.formats import certificate as certificates
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.verifier.verify import read_model
from rules.image.place import GPU_LOCK, LOCK, TRAINERS_LOCK
from rules.machines.ca import local_ca
from rules.project import images
from rules.runs import evidence, verify
from rules.runs.appraisal import evidence_at, request_of
from rules.runs.unknown_ca import Appraised
from tests.unit.aicert.cli.verify import test_demanded_audits as demanded

folder = demanded.folder
REPOSITORY = Path(__file__).resolve().parents[4]
LISTED = f"sha256:{'11' * 32}"
CHOSEN = f"sha256:{'22' * 32}"


@pytest.mark.parametrize(
    ("kind", "lock"), [({}, LOCK), ({"gpu": True}, GPU_LOCK), ({"tools": True}, TRAINERS_LOCK)]
)
def test_a_run_is_verified_against_the_image_that_its_machine_boots(
    tmp_path: Path, kind: dict[str, bool], lock: Path
) -> None:
    (tmp_path / "lockfiles").mkdir()
    for path in (LOCK, GPU_LOCK, TRAINERS_LOCK):
        shutil.copy(REPOSITORY / path, tmp_path / path)
    local_ca(tmp_path, "qemu")
    asked = request_of(tmp_path, "qemu", "", "", "tiny", **kind)
    wanted = image_lock.parse((REPOSITORY / lock).read_bytes())
    assert asked.policy.accepted == {wanted.digest}


@pytest.mark.parametrize(("gpu", "lock"), [(False, LOCK), (True, GPU_LOCK)])
def test_a_policy_file_for_the_measured_machine_gets_this_checkouts_image(
    tmp_path: Path, gpu: bool, lock: Path
) -> None:
    """`extends = "qemu"` is judged as `qemu` is, unless it names images of its own."""
    (tmp_path / "lockfiles").mkdir()
    for path in (LOCK, GPU_LOCK):
        shutil.copy(REPOSITORY / path, tmp_path / path)
    local_ca(tmp_path, "qemu")
    pem = str(tmp_path / ".aicert/ca/qemu.pem")
    ours = tmp_path / "ours.toml"
    ours.write_text('extends = "qemu"\n')
    wanted = image_lock.parse((REPOSITORY / lock).read_bytes()).digest
    asked = request_of(tmp_path, str(ours), pem, "", "tiny", gpu=gpu)
    assert asked.policy.accepted == set(asked.policy.images) == {wanted}
    assert not asked.own
    (tmp_path / images.LIST).write_text(
        f'name = "list"\ntier = "measured-vm"\n[images]\naccepted = ["{LISTED}"]\n'
    )
    asked = request_of(tmp_path, str(ours), pem, "", "tiny", gpu=gpu)
    assert {str(digest) for digest in asked.policy.accepted} == {str(wanted), LISTED}
    ours.write_text(f'extends = "qemu"\n[images]\naccepted = ["{CHOSEN}"]\n')
    asked = request_of(tmp_path, str(ours), pem, "", "tiny", gpu=gpu)
    assert {str(digest) for digest in asked.policy.accepted} == {CHOSEN}


def test_a_policy_file_for_other_machines_gets_no_image(tmp_path: Path) -> None:
    """A process boots nothing, and whoever accepts a cloud's machine says which image."""
    (tmp_path / "lockfiles").mkdir()
    shutil.copy(REPOSITORY / LOCK, tmp_path / LOCK)
    local_ca(tmp_path, "local")
    pem = str(tmp_path / ".aicert/ca/local.pem")
    ours = tmp_path / "ours.toml"
    for base, root in (("local", pem), ("default", "")):
        ours.write_text(f'extends = "{base}"\n')
        assert not request_of(tmp_path, str(ours), root, "", "tiny").policy.accepted


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


def shown(folder: Path, capsys: pytest.CaptureFixture[str], form: str) -> str:
    """Return what `./doit verify --evidence` prints for the model of the scene."""
    named = str(folder / "ours.toml")
    given = evidence.read(str(folder / "evidence"))
    assert given is not None
    asked = replace(
        request_of(folder, named, str(folder / "root.pem"), "", "tiny"), audits=given.audits
    )
    certificate = certificates.parse((folder / "c.json").read_bytes())
    model, lockfile = read_model(folder / "model"), of_bytes(certificate.lockfile)
    result = asked.appraise(certificate, model, lockfile)
    assert result.verdict == "passed"
    appraised = Appraised(certificate, model, lockfile, result)
    verify.show(result, form, evidence.judged(given, appraised, asked, named))
    return capsys.readouterr().out


def test_the_evidence_is_shown_as_aicert_verify_shows_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evidence.read("") is None
    (folder / "evidence" / "bad").mkdir()
    (folder / "evidence" / "bad" / "certificate.json").write_text("{}")
    ours = shown(folder, capsys, "text").partition("\nevidence\n")[2]
    assert "  audited alpaca train of run tiny by run look, tier software" in ours
    assert "bad does not count: " in ours
    assert demanded.verify(folder, *demanded.evidence(folder)) == 0
    assert capsys.readouterr().out.partition("\nevidence\n")[2] == ours
    (line,) = shown(folder, capsys, "json").splitlines()
    words = (*demanded.evidence(folder), "--format", "json")
    assert demanded.verify(folder, *words) == 0
    assert json.loads(line)["evidence"] == json.loads(capsys.readouterr().out)["evidence"]
