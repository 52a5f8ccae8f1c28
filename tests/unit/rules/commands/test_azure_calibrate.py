"""What `./doit azure_calibrate` predicts, and what it reports about a certificate."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.formats import image_lock
from aicert.formats.certificate import parse
from aicert.trust.built_in import built_in
from aicert.trust.policy_file import load_policy
from rules.commands import azure_calibrate
from rules.image import build
from rules.image import pcrs as image_pcrs
from rules.image.build import Place
from rules.image.store import Image
from tests.adversarial.forger import BOOT, FIRMWARE, Scene
from tests.unit.rules.image.test_parts import portable_executable
from tests.vectors import reading

REPOSITORY = Path(__file__).resolve().parents[4]


def test_boot_option_that_failed_adds_two_events_to_pcr_4() -> None:
    kernel = portable_executable({".text": b"kernel"})
    uki = portable_executable({".linux": kernel})
    # The digests that edgelesssys/constellation's precalculate_pcr_4.sh begins with, on Azure too.
    action = "3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba"
    separator = "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119"
    returned = hashlib.sha256(b"Returning from EFI Application from Boot Option").hexdigest()
    images = [image_pcrs.authenticode(image_pcrs.parse(data)).hex() for data in (uki, kernel)]
    for failed in range(3):
        pcr = bytes(32)
        for event in [action, separator, *[returned, action] * failed, *images]:
            pcr = hashlib.sha256(pcr + bytes.fromhex(event)).digest()
        assert image_pcrs.predict(uki, failed_options=failed)[4] == pcr


def test_what_is_predicted_is_of_the_image_that_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image's layers are looked up by everything in the lock, including its time."""
    lock = (REPOSITORY / "lockfiles/image.lock.toml").read_bytes()
    (tmp_path / "lockfiles").mkdir()
    (tmp_path / "lockfiles/image.lock.toml").write_bytes(lock)
    kernel = portable_executable({".text": b"kernel"})
    (tmp_path / "uki.efi").write_bytes(portable_executable({".linux": kernel}))
    locked = image_lock.parse(lock)
    assert locked.snapshot is not None

    def built(where: Place, packages: object, *, snapshot: str | None = None) -> Image:
        if where.makes or (packages, snapshot) != (locked.packages, locked.snapshot):
            raise ToolError("such an image is not built")
        return Image(folder=where.root, disk=where.root, tools=where.root, lock=lock)

    monkeypatch.setenv("AICERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "build", built)
    first, others, origin = azure_calibrate.predicted(tmp_path)
    assert origin == f"{locked.digest}, from its bytes"
    uki = (tmp_path / "uki.efi").read_bytes()
    assert first == image_pcrs.predict(uki)
    assert others[0] == image_pcrs.predict(uki, failed_options=1)[4]


def test_certificate_that_is_not_azures_calibrates_nothing() -> None:
    certificate = parse(reading.read(reading.FOLDER / "honest/cloud-run.json").certificate)
    lock = image_lock.parse((REPOSITORY / "lockfiles/image.lock.toml").read_bytes())
    policy = built_in("default")
    text = "\n".join(azure_calibrate.compare(certificate, policy, lock.pcrs, [], "x.json"))
    assert "Azure did not sign this quote" in text
    assert "[[firmware]]" not in text
    assert text.count("NOT as predicted") == 2
    pcrs = certificate.evidence.pcrs
    first, others = {**lock.pcrs, 11: pcrs[11]}, [bytes(32), pcrs[4]]
    text = "\n".join(azure_calibrate.compare(certificate, policy, first, others, "x.json"))
    assert "as predicted after 2 failed boot options" in text
    assert "NOT as predicted" not in text


@pytest.mark.parametrize("family", ["", "azure-trusted-launch"])
def test_a_quote_that_the_cloud_signed_gives_a_set_of_firmware(tmp_path: Path, family: str) -> None:
    scene = Scene("cloud")
    (firmware,) = scene.get("policy").firmware
    policy = replace(scene.get("policy"), firmware=(replace(firmware, family=family),))
    lines = list(azure_calibrate.compare(scene.get("certificate"), policy, BOOT, [], "x.json"))
    lines = lines[lines.index("[[firmware]]") :]
    (tmp_path / "p.toml").write_text("\n".join(['tier = "vtpm"', *lines]))
    (reread,) = load_policy(str(tmp_path / "p.toml")).firmware
    assert (reread.pcrs, reread.family) == (FIRMWARE, family)


def test_where_a_first_run_would_stop_is_said() -> None:
    for check in ("platform.chain", "boot.firmware", "platform.chip", "platform.guest"):
        assert f"\n  {check} " in azure_calibrate.STOPS
        assert f"| `{check}`" in (REPOSITORY / "docs/azure.md").read_text() or check[:4] == "boot"
    assert all(len(line) <= 90 for line in azure_calibrate.STOPS.split("\n"))
