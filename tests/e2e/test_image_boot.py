"""Real boots of the real image: what is quoted is what was predicted, whatever the host attaches.

Most runs are stopped after a second of training: such a machine still quotes, and no policy accepts
a run that did not end well. The image is built where it is missing (minutes, some 6 GB).
"""

import datetime
import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aicert import api, image_lock
from aicert.appraisal import appraise
from aicert.certificate import Certificate, parse
from aicert.errors import ToolError
from aicert.lockfile import identity
from aicert.result import AttestationResult
from rules import config, example, image_pcrs, image_tasks, lock, qemu, qemu_volumes
from rules.image_layers import STUB
from rules.image_store import Image
from rules.image_tools import Sandbox
from rules.local import Job

pytestmark = [pytest.mark.slow, pytest.mark.machine]
REPOSITORY = Path(__file__).resolve().parents[2]
CHECKS = ("boot.image", "boot.pcr4", "boot.pcr11", "boot.pcr12-13", "boot.firmware", "inputs.pcr14")
Boot = Callable[..., Certificate]
Words = Callable[[list[str]], list[str]]


@pytest.fixture(scope="session")
def image() -> Image:
    example.make_example(REPOSITORY)
    return image_tasks.ensure(REPOSITORY)


@pytest.fixture
def boot(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """Boot the image once with more words for qemu; gives the certificate of a run cut short."""

    def run(
        more: Sequence[str] = (),
        *,
        before: Callable[[Path], None] | None = None,
        edit: Words = list,
        image: Image = image,
    ) -> Certificate:
        job = make_job(tmp_path)
        command, make = qemu.command, qemu_volumes.make_inputs

        def with_more(*args: object, **kwargs: object) -> list[str]:
            return [*edit(command(*args, **kwargs)), *more]  # type: ignore[arg-type]  # passed through

        def then(*args: object, **kwargs: object) -> None:
            make(*args, **kwargs)  # type: ignore[arg-type]  # passed through
            if before is not None:
                before(job.work / "inputs.img")

        monkeypatch.setattr(qemu, "command", with_more)
        monkeypatch.setattr(qemu_volumes, "make_inputs", then)
        out = qemu.execute_in(job, image)
        return parse((out / "certificate.json").read_bytes())

    return run


def make_job(folder: Path) -> Job:
    run = config.load(REPOSITORY).run("tiny-alpaca")
    machine = replace(run.machine, driver="qemu", memory=3 << 30, time_limit=1, cpus=2)
    run = replace(run, machine=machine)
    work = folder / "work"
    work.mkdir()
    current = lock.current(REPOSITORY, run)
    return Job(
        root=folder, run=run, lock=current, nonce=bytes(range(32)), training_env=None, work=work
    )


def appraised(certificate: Certificate, folder: Path, image: Image) -> AttestationResult:
    path = folder / "image.lock.toml"
    path.write_bytes(image.lock)
    policy = api.choose_policy("qemu", root=folder / ".aicert/ca/qemu.pem", image=path)
    now = datetime.datetime.now(datetime.UTC)
    expected = identity(certificate.lockfile)
    return appraise(certificate, {}, policy, at=now, lockfile=expected, nonce=bytes(range(32)))


def verdicts(result: AttestationResult) -> dict[str, str]:
    return {check.id: check.verdict for check in result.checks}


def test_quoted_is_predicted_and_a_run_cut_short_never_passes(
    boot: Boot, tmp_path: Path, image: Image
) -> None:
    certificate = boot()
    result = appraised(certificate, tmp_path, image)
    found = verdicts(result)
    assert {check: found[check] for check in CHECKS} == dict.fromkeys(CHECKS, "ok")
    assert found["outputs.exit"] == "failed"
    assert result.verdict == "failed"


HOSTILE = {
    "fw_cfg": ["-fw_cfg", "name=opt/io.systemd.credentials/systemd.extra-unit.x.service,string=x"],
    "smbios": ["-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=init=/bin/sh"],
    "credential": ["-smbios", "type=11,value=io.systemd.credential:passwd.hashed-password.root="],
    "disk": ["-drive", "if=none,id=var,file=output.img,format=raw,readonly=on,file.locking=off",
             "-device", "virtio-blk-pci,drive=var,serial=var,addr=9"],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_the_host_adds_has_no_effect_or_is_refused(
    boot: Boot, tmp_path: Path, image: Image, name: str
) -> None:
    certificate = boot(HOSTILE[name])
    found = verdicts(appraised(certificate, tmp_path, image))
    if found["boot.pcr12-13"] == "failed":
        assert name == "smbios"
        return
    assert {check: found[check] for check in CHECKS} == dict.fromkeys(CHECKS, "ok")


def changed_disk(image: Image, folder: Path, files: dict[str, Path]) -> Image:
    """A copy of the disk with more, or other, files in its EFI system partition."""
    disk = folder / "disk.raw"
    subprocess.run(["cp", "--sparse=always", image.disk, disk], check=True)
    sandbox = Sandbox(tree=image.tools, readable=list(files.values()), writable=[folder])
    partition = f"{disk}@@1M"
    for parent in sorted({name.rpartition("/")[0] for name in files} - {"/EFI/BOOT"}):
        sandbox.run(["mmd", "-i", partition, f"::{parent}"])
    for name, path in files.items():
        sandbox.run(["mcopy", "-o", "-i", partition, str(path), f"::{name}"])
    return replace(image, disk=disk)


def ukify(image: Image, folder: Path, *words: str) -> Path:
    target = folder / "made.efi"
    Sandbox(tree=image.tools, readable=[image.folder], writable=[folder]).run(
        ["ukify", "build", *words, f"--output={target}"]
    )
    return target


def test_addon_extension_and_credential_on_the_disk_are_refused(
    boot: Boot, tmp_path: Path, image: Image
) -> None:
    stub = "/usr/lib/systemd/boot/efi/addonx64.efi.stub"
    addon = ukify(image, tmp_path, "--cmdline=init=/bin/sh", f"--stub={stub}")
    blob = tmp_path / "blob"
    blob.write_bytes(b"x" * 4096)
    extra = "/EFI/BOOT/BOOTX64.EFI.extra.d"
    files = {f"{extra}/a.addon.efi": addon, f"{extra}/b.cred": blob, f"{extra}/c.sysext.raw": blob}
    certificate = boot(image=changed_disk(image, tmp_path, files))
    assert certificate.evidence.pcrs[12] != bytes(32)
    assert certificate.evidence.pcrs[13] != bytes(32)
    assert verdicts(appraised(certificate, tmp_path, image))["boot.pcr12-13"] == "failed"


def test_another_command_line_is_refused(boot: Boot, tmp_path: Path, image: Image) -> None:
    parts = image_pcrs.parse((image.folder / "uki.efi").read_bytes()).sections
    for section in parts:
        (tmp_path / section.name.removeprefix(".")).write_bytes(section.content)
    line = (tmp_path / "cmdline").read_bytes().rstrip(b"\0").decode().replace("quiet", "debug")
    words = [f"--linux={tmp_path / 'linux'}", f"--initrd={tmp_path / 'initrd'}"]
    uki = ukify(image, tmp_path, *words, f"--cmdline={line}", f"--stub={STUB}")
    certificate = boot(image=changed_disk(image, tmp_path, {"/EFI/BOOT/BOOTX64.EFI": uki}))
    found = verdicts(appraised(certificate, tmp_path, image))
    assert (found["boot.image"], found["boot.pcr4"], found["boot.pcr11"]) == (
        "ok", "failed", "failed",
    )  # fmt: skip


def flip(marker: bytes) -> Callable[[Path], None]:
    def change(volume: Path) -> None:
        data = bytearray(volume.read_bytes())
        at = data.index(marker)
        data[at] ^= 1
        volume.write_bytes(data)

    return change


def test_changed_byte_of_an_optional_input_stops_the_machine(boot: Boot) -> None:
    optional = (REPOSITORY / "examples/tiny-llama/generation_config.json").read_bytes()
    with pytest.raises(ToolError, match="wrote no results"):
        boot(before=flip(optional[:40]))


def test_read_error_of_an_optional_input_stops_the_machine(boot: Boot) -> None:
    optional = (REPOSITORY / "examples/tiny-llama/generation_config.json").read_bytes()
    place: list[int] = []

    def find(volume: Path) -> None:
        place.append(volume.read_bytes().index(optional[:40]) // 4096 * 8)

    def failing(words: list[str]) -> list[str]:
        (at,) = (i for i, word in enumerate(words) if "file=/machine/inputs" in word)
        path = "file.driver=blkdebug,file.image.driver=file,file.image.filename=/machine/inputs"
        rules = [
            f"file.inject-error.{i}.event=read_aio,file.inject-error.{i}.sector={place[0] + i}"
            for i in range(8)
        ]
        options = ["id=inputs", "if=none", "readonly=on", "format=raw", path, *rules]
        words[at] = ",".join([*options, "werror=report", "rerror=report"])
        return words

    with pytest.raises(ToolError, match="wrote no results"):
        boot(before=find, edit=failing)


def test_pcr11_is_what_systemd_measure_says(image: Image, tmp_path: Path) -> None:
    data = (image.folder / "uki.efi").read_bytes()
    words = ["/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256"]
    words.append("--phase=enter-initrd")
    for section in image_pcrs.parse(data).sections:
        if section.name in image_pcrs.MEASURED:
            path = tmp_path / section.name.removeprefix(".")
            path.write_bytes(section.content)
            words.append(f"--{path.name}={path}")
    said = Sandbox(tree=image.tools, readable=[tmp_path]).run(words)
    # Our machine has no phases, the tool always has one.
    after = hashlib.sha256(
        image_pcrs.predict(data)[11] + hashlib.sha256(b"enter-initrd").digest()
    ).hexdigest()
    assert f"11:sha256={after}" in said


def test_lock_is_of_the_image(image: Image) -> None:
    lock = image_lock.parse(image.lock)
    digest = subprocess.run(["sha256sum", image.disk], capture_output=True, text=True, check=True)
    assert lock.disk.hex == digest.stdout.split()[0]
    assert lock.pcrs == image_pcrs.predict((image.folder / "uki.efi").read_bytes())
