"""One checkout for all boots, whose image `./doit image` builds; and jobs that boot it.

The image is that of the committed lock as long as its bytes can be fetched. Otherwise it is that of
a fresh lock in the temporary checkout, and the summary says so. The summary also says which tests
booted with which accelerator.
"""

import datetime
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aicert.appraisal.appraise import appraise
from aicert.appraisal.policy import Firmware
from aicert.appraisal.result import BOOT_CHECKS, AttestationResult
from aicert.formats import image_lock
from aicert.formats.certificate import Certificate, parse
from aicert.formats.image_lock import Package
from aicert.formats.lockfile import identity
from aicert.trust import ovmf
from aicert.verifier import verify
from rules.example import example
from rules.host import training_env
from rules.image import build as image_build
from rules.image import tasks
from rules.image.store import Image
from rules.machines import volumes
from rules.machines.machine import Job
from rules.machines.qemu import accelerator as qemu_accelerator
from rules.machines.qemu import command as qemu_command
from rules.machines.qemu import console as qemu_console
from rules.machines.qemu import machine
from rules.project import config, lock
from tests.e2e.conftest import REPOSITORY, Checkout, copy_repository
from tests.unit.signing_keys import Printed

NONCE = bytes(range(32))
# A build from nothing fetches packages of Debian and of Python, and builds three trees from them.
BUILD_S = 1800
_WORDS = {"tcg": "emulated (TCG)", "kvm": "with hardware virtualisation (KVM)"}
_booted: dict[str, list[str]] = {}
_notes: list[str] = []

Words = Callable[[list[str]], list[str]]
Boot = Callable[..., Certificate]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A checkout's image. `fresh`: it is not that of the committed lock, whose bytes are gone."""

    checkout: Checkout
    image: Image
    fresh: bool

    def packages(self) -> tuple[Package, ...]:
        """Return the image's packages: those of its lock, or what replaced tools that are gone."""
        others = dict(self.image.replaced)
        return tuple(others.get(each, each) for each in image_lock.parse(self.image.lock).packages)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Build the image of a checkout as a user does, and yield both."""
    root = tmp_path_factory.mktemp("machine") / "checkout"
    root.mkdir()
    copy_repository(root)
    cache = str(training_env.location(REPOSITORY).parents[1])
    checkout = Checkout(root=root, environment=os.environ | {"AICERT_CACHE": cache})
    example.make_example(root)
    done = checkout.doit("image", limit=BUILD_S)
    fresh = done.returncode == 2 and any(
        words in done.stderr for words in ("no longer has", "has different bytes", "no source has")
    )
    if fresh:
        _notes.append(
            "THE COMMITTED IMAGE LOCK CANNOT BE BUILT ANY MORE: booted is an image of what the "
            "mirrors have today, and the committed PCRs were compared with nothing\n" + done.stderr
        )
        done = checkout.doit("image_update", limit=BUILD_S)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AICERT_CACHE", cache)
        image = tasks.ensure(root)
        if fresh and (build := firmware_of(image)) not in ovmf.BUILDS:
            folder = tmp_path_factory.mktemp("firmware")
            learn_firmware(patch, root, folder, image, build)
            image = tasks.ensure(root)
        with image_build.in_use(image_build.place(root)):
            yield Built(checkout=checkout, image=image, fresh=fresh)


def firmware_of(image: Image) -> str:
    """Return what identifies the image's build of OVMF."""
    path = image.tools / qemu_command.FIRMWARE.removeprefix("/")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def learn_firmware(
    patch: pytest.MonkeyPatch, root: Path, folder: Path, image: Image, build: str
) -> None:
    """Do what a person who moves the lock to another OVMF does: boot it, and record its values."""
    out = machine.execute_in(make_job(root, folder), image)
    quoted = parse((out / "certificate.json").read_bytes()).evidence.pcrs
    firmware = Firmware(name="ovmf-fresh", pcrs={index: quoted[index] for index in (0, 2, 3, 7)})
    patch.setitem(ovmf.BUILDS, build, firmware)
    with (root / "aicert/trust/ovmf.py").open("a") as file:
        file.write(f"BUILDS[{build!r}] = {firmware!r}\n")
    _notes.append("its firmware is new too: its values are those of a boot, and prove nothing")


@pytest.fixture
def image(built: Built) -> Image:
    return built.image


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return capsys.readouterr


@pytest.fixture(autouse=True)
def accelerator(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Note which accelerator each test boots with; afterwards remove its files, which are too big
    to keep.
    """
    choose = qemu_accelerator.choose

    def noting(image: Image) -> str:
        chosen = choose(image)
        note_boot(chosen, request.node.name)
        return chosen

    monkeypatch.setattr(qemu_accelerator, "choose", noting)
    yield
    (tmp_path / "disk.raw").unlink(missing_ok=True)


def note_boot(accelerator: str, test: str) -> None:
    """Note a boot for the summary."""
    _booted.setdefault(accelerator, []).append(test)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _booted and not _notes:
        return
    terminalreporter.section("measured machine")
    for note in _notes:
        terminalreporter.write_line(note)
    for accelerator, tests in sorted(_booted.items()):
        words = _WORDS.get(accelerator, accelerator)
        names = ", ".join(dict.fromkeys(tests))
        terminalreporter.write_line(f"{len(tests)} boots {words}: {names}")


def make_job(root: Path, folder: Path, **limits: int) -> Job:
    """Return the job of `root`'s measured example, to be executed in `folder`, for a second of
    training.
    """
    given = {"memory": 2 << 30, "time_limit": 1, **limits}
    return job_of(root, folder, "tiny-alpaca-measured", **given)


def name_audit(root: Path) -> None:
    """Put the shipped audit before the measured example of `root`."""
    head = "[runs.tiny-alpaca-measured]\n"
    toml = root / "aicert.toml"
    text = toml.read_text()
    assert head in text
    toml.write_text(text.replace(head, head + 'audits = ["tiny-audit"]\n'))


def job_of(root: Path, folder: Path, name: str, **limits: int) -> Job:
    """Return the job of a run of `root`, as it is locked there, to be executed in `folder`."""
    run = config.load(root).run(name)
    run = replace(run, machine=replace(run.machine, **limits))  # type: ignore[arg-type]  # by name
    work = folder / "work"
    work.mkdir(parents=True)
    current = lock.resolve(root, run)
    return Job(
        root=folder,
        run=run.name,
        machine=run.machine,
        lockfile=current.data,
        inputs=current.paths,
        nonce=NONCE,
        training_env=None,
        work=work,
    )


@pytest.fixture
def boot(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    """Boot an image once with additional words for qemu; return the certificate.

    `before` gets the input volume when it is made. By default the run is cut short: such a machine
    still quotes, and no policy accepts a run that did not end well.
    """

    def run(
        more: Sequence[str] = (),
        *,
        before: Callable[[Path], None] | None = None,
        edit: Words = list,
        image: Image = built.image,
        root: Path = built.checkout.root,
        **limits: int,
    ) -> Certificate:
        job = make_job(root, tmp_path, **limits)
        command, make = qemu_command.command, volumes.make_inputs

        def with_more(*args: object, **kwargs: object) -> list[str]:
            return [*edit(command(*args, **kwargs)), *more]  # type: ignore[arg-type]  # passed through

        def then(*args: object, **kwargs: object) -> None:
            make(*args, **kwargs)  # type: ignore[arg-type]  # passed through
            if before is not None:
                before(job.work / "inputs.img")

        monkeypatch.setattr(qemu_command, "command", with_more)
        monkeypatch.setattr(volumes, "make_inputs", then)
        out = machine.execute_in(job, image)
        return parse((out / "certificate.json").read_bytes())

    return run


def console(folder: Path) -> str:
    """Return the machine's console output."""
    return (folder / qemu_console.CONSOLE).read_text(errors="replace")


def appraised(certificate: Certificate, folder: Path, image: Image) -> AttestationResult:
    """Return the verdict under a policy that accepts only `image`, with the measured lockfile."""
    path = folder / "image.lock.toml"
    path.write_bytes(image.lock)
    policy = verify.choose_policy("qemu", root=folder / ".aicert/ca/qemu.pem", image=path)
    now = datetime.datetime.now(datetime.UTC)
    expected = identity(certificate.lockfile)
    return appraise(certificate, {}, policy, at=now, lockfile=expected, nonce=NONCE)


def passed_in_machine(
    built: Built, root: Path, folder: Path, name: str, *, kind: str, check: str
) -> Path:
    """Execute a run of `root` and require that it passes as `kind`, by its `check`. Returns the
    folder of its results.
    """
    out = machine.execute_in(job_of(root, folder, name), built.image)
    judged = appraised(parse((out / "certificate.json").read_bytes()), folder, built.image)
    by_check = verdicts(judged)
    # The folder that was given as the model is empty.
    assert [each.id for each in judged.failed] == ["subject.files"]
    assert {each: by_check[each] for each in BOOT_CHECKS} == dict.fromkeys(BOOT_CHECKS, "ok")
    assert (judged.kind, by_check[check]) == (kind, "ok")
    return out


def verdicts(result: AttestationResult) -> dict[str, str]:
    return {check.id: check.verdict for check in result.checks}
