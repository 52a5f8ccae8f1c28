"""The documented Python API over files: a pass is returned, and everything else raises."""

from functools import partial
from pathlib import Path

import pytest

import aicert
from aicert.appraisal.result import AttestationResult
from aicert.errors import AicertError, ConfigError, EvidenceError, RejectedError
from aicert.formats.digest import Digest
from aicert.trust.built_in import built_in
from aicert.verifier import verify
from tests.adversarial.attacks_time import stamped
from tests.adversarial.forger import NONCE, Scene
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.formats.test_image_lock import written

LATE = "2026-10-31T00:00:00Z"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(Scene(), tmp_path)


def test_api_returns_on_a_pass_only(folder: Path) -> None:
    files = (folder / "c.json", folder / "model")
    check = partial(aicert.verify, policy="local", root=folder / "root.pem", at=AT)
    lockfile = folder / "l.toml"
    assert check(*files, lockfile=lockfile, nonce=NONCE).verdict == "passed"
    with pytest.raises(verify.NoVerdictError, match=r"subject\.files") as undecided:
        check(files[0])
    assert (undecided.value.exit_code, undecided.value.result.verdict) == (2, "none")
    with pytest.raises(RejectedError, match=r"inputs\.lockfile") as rejected:
        check(*files, lockfile=Digest("sha256", "00" * 32))
    assert rejected.value.exit_code == 1
    assert isinstance(rejected.value.result, AttestationResult)
    assert rejected.value.result.failed[0].id == "inputs.lockfile"
    with pytest.raises(ConfigError):
        aicert.verify(*files, policy="local")
    for nonce in (b"short", "zz" * 32):
        with pytest.raises(ConfigError):
            check(*files, nonce=nonce)
    assert isinstance(rejected.value, AicertError)


def test_api_takes_policies_images_and_lineage(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "image.lock.toml").write_bytes(written())
    policy = verify.choose_policy(built_in("default"), image=tmp_path / "image.lock.toml")
    assert len(policy.accepted) == 1
    result = verify.check_files(
        folder / "c.json",
        None,
        policy="local",
        root=folder / "root.pem",
        at=AT,
        lockfile="sha256:" + "0" * 64,
        lineage=[folder / "c.json"],
    )
    assert result.check("lineage.ancestors").verdict == "not-applicable"
    assert result.check("inputs.lockfile").verdict == "failed"


def test_a_certificate_that_was_read_is_not_read_again(folder: Path) -> None:
    check = partial(verify.check_files, policy="local", root=folder / "root.pem", at=AT)
    read = verify.read_certificate(folder / "c.json")
    wanted = check(folder / "c.json", folder / "model")
    (folder / "c.json").write_bytes(b"{}")
    assert check(read, folder / "model") == wanted
    assert wanted.verdict == "passed"


def test_only_a_folder_in_the_certificates_place_is_taken_for_a_swap(folder: Path) -> None:
    for path, hint in (
        (folder / "model", "name the certificate's file first, then MODEL_DIR"),
        (folder / "missing.json", None),
    ):
        with pytest.raises(EvidenceError) as unreadable:
            verify.read_certificate(path)
        assert unreadable.value.hint == hint


def test_gpu_collateral_beside_the_certificate_takes_the_place_of_its_own(tmp_path: Path) -> None:
    """It changes nothing that a time stamp covers."""
    scene = Scene("gpu").edit("answers", lambda given: {})
    stamped()(scene)
    (tmp_path / "c.json").write_bytes(scene.get("file"))
    check = partial(
        verify.check_files, tmp_path / "c.json", None, policy=scene.get("policy"), at=scene.at
    )
    gpus = check().check("platform.gpu")
    assert (gpus.verdict, gpus.hint) == ("not-checked", "--gpu-collateral FILE")
    (tmp_path / "collateral.json").write_bytes(Scene("gpu").get("gpu_collateral"))
    newer = check(gpu_collateral=tmp_path / "collateral.json")
    assert (newer.certificate_consistent, newer.tier) == ("yes", "confidential-gpu")
    assert newer.check("time.token").verdict == "ok"
    (tmp_path / "c.json").write_bytes(Scene("cloud").get("file"))
    with pytest.raises(ConfigError, match="carries no reports of GPUs"):
        check(gpu_collateral=tmp_path / "collateral.json")


def test_collateral_beside_the_certificate_takes_the_place_of_its_own(tmp_path: Path) -> None:
    """A month later the collateral in the certificate has expired, and newer collateral counts.

    It changes nothing that a time stamp covers.
    """
    scene = Scene("azure td").edit("tcb_info", lambda info: info | {"nextUpdate": LATE})
    stamped()(scene)
    (tmp_path / "c.json").write_bytes(scene.get("file"))
    check = partial(
        verify.check_files, tmp_path / "c.json", None, policy=scene.get("policy"), at=scene.at
    )
    chip = check().check("platform.chip")
    assert (chip.verdict, chip.hint) == ("not-checked", "--collateral FILE")
    (tmp_path / "collateral.json").write_bytes(Scene("azure td").get("collateral_file"))
    newer = check(collateral=tmp_path / "collateral.json")
    assert newer.certificate_consistent == "yes"
    assert newer.check("time.token").verdict == "ok"
    (tmp_path / "collateral.json").write_bytes(b"{}")
    assert check(collateral=tmp_path / "collateral.json").failed[0].id == "platform.chip"
    with pytest.raises(EvidenceError, match="cannot read"):
        check(collateral=tmp_path / "none.json")
    (tmp_path / "c.json").write_bytes(Scene("cloud").get("file"))
    with pytest.raises(ConfigError, match="carries no report of a processor"):
        check(collateral=tmp_path / "collateral.json")
