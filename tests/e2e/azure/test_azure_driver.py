"""The driver with the real terraform, the real client and Azurite; the cloud is simulated."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aicert.errors import AicertError, ConfigError, ToolError
from aicert.formats import certificate as certificates
from rules.image.store import Image
from rules.machines.azure import clean, client, machine, vhd
from rules.machines.azure import run as azure_run
from rules.machines.azure.terraform import Terraform
from rules.machines.machine import Job, Leftover
from rules.project import config
from tests.e2e.azure.conftest import HERE, PROJECT, REHEARSAL, REPOSITORY, World
from tests.e2e.azure.test_azure_blobs import Wire
from tests.e2e.conftest import wait_for

TRAILER = b"aicert inputs 1\nroot and blocks\n"
Run = Callable[..., Path]


@pytest.fixture
def run(world: World, tmp_path: Path) -> Run:
    """Return a function that runs once through the driver as `certify` calls it, with small
    volumes.
    """

    def carry_out(**changes: object) -> Path:
        root, work = tmp_path / "root", tmp_path / "root/.aicert/runs/tiny/work"
        work.mkdir(parents=True)
        (root / azure_run.HOME.parent).mkdir(exist_ok=True)
        (root / azure_run.HOME).symlink_to(world.home)
        world.home.mkdir(exist_ok=True)
        disk = tmp_path / "disk.raw"
        disk.write_bytes(b"EFI" * 700_000)
        inputs = work / "inputs.img"
        inputs.write_bytes(b"erofs" * 1000 + bytes(3192) + TRAILER.ljust(4096, b"\0"))
        vhd.widen(inputs, 4096)
        (tmp_path / "aicert.toml").write_text(PROJECT)
        job = Job(
            root=root, run="tiny", machine=config.load(tmp_path).machine("cloud"), lockfile=b"",
            # The volumes have been made already.
            inputs={}, nonce=bytes(32), training_env=None, work=work,
        )  # fmt: skip
        lock = (REPOSITORY / "lockfiles/image.lock.toml").read_bytes()
        image = Image(folder=tmp_path, disk=disk, tools=tmp_path, lock=lock)
        return machine.carry_out(job, image, world.order(**changes))

    return carry_out


def test_from_volumes_to_results_and_nothing_is_left(
    run: Run, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run()
    certificate = certificates.parse((out / "certificate.json").read_bytes())
    assert certificate.image_lock == (REPOSITORY / "lockfiles/image.lock.toml").read_bytes()
    padded = (tmp_path / "disk.raw").read_bytes().ljust(3 << 20, b"\0")
    seen = (out / "seen").read_bytes()
    # The machine saw our image, rounded up, and our trailer in the last block of its inputs.
    assert seen == hashlib.sha256(padded).hexdigest().encode() + b"\n" + TRAILER
    assert (out / "outputs/model/weights").read_bytes() == b"w" * 5_000_000
    assert (tmp_path / "root" / machine.LAST).read_bytes() == (
        out / "certificate.json"
    ).read_bytes()
    assert world.left() == []
    # Everything is destroyed by itself, before what contains it.
    assert (world.folder / "log").read_text().split("\n")[:-1] == [
        "account", "disks", "machine", "destroy machine", "signature",
        "destroy signature", "destroy disks", "destroy account",
    ]  # fmt: skip
    printed = capsys.readouterr().err
    before, after = printed.index("0.38 an hour"), printed.index("used for")
    assert before < after
    assert "about 0.0" in printed[after:]


@pytest.mark.parametrize(
    ("play", "changes", "words"),
    [
        ("never boots", {"boot_s": 0.1}, "printed nothing to its console.*did not boot"),
        ("hangs", {"limit_s": 0.3}, "did not finish within"),
        ("falls silent", {"ask_s": 0.1}, "wrote no results"),
        ("hostile", {}, "contain a bad name"),
        ("refused", {}, "input alpaca: other bytes"),
    ],
)
def test_a_machine_that_goes_wrong(
    run: Run, world: World, tmp_path: Path, play: str, changes: dict[str, object], words: str
) -> None:
    world.plays(play)
    with pytest.raises(ToolError, match=f"(?s){words}"):
        run(**changes)
    assert world.left() == []
    assert not list(tmp_path.rglob("escaped"))


REFUSALS = [
    ("account", "could not configure AzureCli Authorizer", ConfigError, "no credentials"),
    ("account", "AADSTS700082: The refresh token has expired", ToolError, "login to Azure has exp"),
    ("account", "StorageAccountAlreadyTaken: is already taken", ToolError, "is already taken"),
    ("machine", "SkuNotAvailable: not available in location", ConfigError, "region does not offer"),
    ("disks", "RequestDisallowedByPolicy: disallowed by policy", ToolError, "policy of the"),
    ("machine", "OperationNotAllowed: exceeding approved Cores quota", ToolError, "no quota"),
    ("signature", "something that nobody foresaw", ToolError, "something that nobody foresaw"),
]


@pytest.mark.parametrize(("step", "azure_error", "kind", "words"), REFUSALS)
def test_a_step_that_azure_refuses(
    run: Run, world: World, step: str, azure_error: str, kind: type[AicertError], words: str
) -> None:
    world.fails(step, azure_error)
    with pytest.raises(kind, match=words) as caught:
        run()
    assert caught.value.hint
    assert world.left() == []


def test_upload_that_is_cut(
    run: Run, world: World, azurite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(azurite).port
    assert port is not None
    relay = Wire(port, 1 << 20)
    monkeypatch.setenv("TF_VAR_store", azurite.replace(f":{port}/", f":{relay.port}/"))
    monkeypatch.setattr(client, "_PATIENT", {"retry_total": 0})
    with pytest.raises(ToolError, match=r"the upload of image\.vhd was interrupted"):
        run()
    relay.close()
    assert world.left() == []


def test_download_that_is_cut(
    run: Run, world: World, azurite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _, signature = azurite.partition("?")
    monkeypatch.setenv("TF_VAR_output_disk", f"{address}/disks/nothing?{signature}")
    with pytest.raises(ToolError, match="download of the output disk was interrupted"):
        run()
    assert world.left() == []


def test_plan_that_is_refused(run: Run, world: World) -> None:
    (world.folder / "refuse-plan").touch()
    with pytest.raises(ConfigError, match="login is not allowed to create"):
        run()
    assert world.left() == []


def test_provider_that_cannot_be_fetched(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """Use the real module and the real terraform when no mirror has the provider."""
    settings, mirror = tmp_path / "terraformrc", tmp_path / "mirror"
    mirror.mkdir()
    settings.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    )
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(settings))
    with pytest.raises(ToolError, match="could not fetch the azurerm provider"):
        run(module=azure_run.MODULE)
    assert world.left() == []


def test_destroying_fails_then_clean_does_it(run: Run, world: World, tmp_path: Path) -> None:
    world.fails("destroy disks", "something that keeps a disk")
    with pytest.raises(ToolError, match="could not be destroyed and still costs money") as caught:
        run()
    (left,) = world.home.glob("aicert*")
    assert caught.value.hint is not None
    assert left.name in caught.value.hint
    assert world.left() == ["account", "disks", left.name]
    leftovers = clean.look(tmp_path / "root", ask_azure=False)
    assert [item.name for item in leftovers] == [left.name]
    with pytest.raises(ToolError, match="1 of 1 resource groups still exist"):
        clean.end(leftovers)
    world.fails("", "")
    clean.end(leftovers)
    assert world.left() == []


def test_kept_for_debugging_then_clean_ends_it(run: Run, world: World, tmp_path: Path) -> None:
    world.plays("panic")
    with pytest.raises(ToolError, match="wrote no results"):
        run(keep=True)
    assert "disks" in world.left()
    clean.end(clean.look(tmp_path / "root", ask_azure=False))
    assert world.left() == []


@contextmanager
def drive(world: World, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the driver in its own process, which is killed when the block ends."""
    with subprocess.Popen(
        [sys.executable, HERE / "drive.py", world.home, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_the_machine_runs(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    world.plays("hangs")
    with drive(world, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "following\n"
        assert "machine" in world.left()
        process.send_signal(number)
        assert process.wait(600) != 0
    assert world.left() == []


def test_interrupted_while_terraform_makes_the_machine(world: World, tmp_path: Path) -> None:
    world.plays("interrupted")
    with drive(world, tmp_path) as process:
        here = world.folder / "stopped-here"
        wait_for(
            lambda: (here.exists() and here.read_text()) or process.poll() is not None, "terraform"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(600) != 0
    assert world.left() == []
    assert not Path("/proc", here.read_text()).exists()


def test_killed_then_clean_finds_and_ends_it(world: World, tmp_path: Path) -> None:
    world.plays("hangs")
    root = tmp_path / "root"
    (root / azure_run.HOME.parent).mkdir(parents=True)
    (root / azure_run.HOME).symlink_to(world.home)
    with drive(world, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "following\n"
        # While the driver lives, nothing that belongs to it is a leftover.
        assert clean.look(root, ask_azure=False) == []
        process.kill()
        process.wait(600)
    leftovers = clean.look(root, ask_azure=False)
    assert len(leftovers) == 1
    clean.end(leftovers)
    assert world.left() == []


class Gate(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """The folder of a module that can be read only after `opened` has returned."""

    opened: Callable[[], None] = lambda: None

    def glob(self, pattern: str) -> Iterator[Path]:
        type(self).opened()
        yield from super().glob(pattern)


def test_clean_waits_for_a_run_that_begins(world: World, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / azure_run.HOME.parent).mkdir(parents=True)
    (root / azure_run.HOME).symlink_to(world.home)
    seen: list[list[Leftover]] = []
    looking = threading.Thread(
        target=lambda: seen.append(clean.look(root, ask_azure=False)), daemon=True
    )

    def look() -> None:
        """Start looking while the run's folder exists but its mark does not."""
        if looking.ident is None:
            looking.start()
            waits = f"-> FLOCK  ADVISORY  WRITE {os.getpid()} "
            locks = Path("/proc/locks")
            wait_for(lambda: waits in locks.read_text() or not looking.is_alive(), "clean")

    Gate.opened = look
    with azure_run.provisioned(world.home, world.order(module=Gate(REHEARSAL))):
        looking.join(600)
        assert seen == [[]]
    assert world.left() == []


def test_a_run_that_begins_while_azure_is_asked_is_no_stray(tmp_path: Path) -> None:
    module, root = tmp_path / "module", tmp_path / "root"
    module.mkdir()
    group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/aicertaa/x"
    (module / "main.tf").write_text(
        'variable "group" { type = string }\nvariable "region" { type = string }\n'
        'resource "terraform_data" "begins" {\n  provisioner "local-exec" {\n'
        f'    command = "mkdir {root / azure_run.HOME}/aicertaa"\n  }}\n}}\n'
        f'output "strays" {{\n  value = [{{ id = "{group}" }}]\n}}\n'
    )
    assert clean.look(root, ask_azure=True, module=module) == []


def test_names_that_azure_says_are_checked(world: World, tmp_path: Path) -> None:
    """The list of tagged resources comes from Azure: only names of our resource groups are
    accepted.
    """
    module = tmp_path / "module"
    module.mkdir()
    group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/{}/providers/x/y"
    names = ["aicertaa", "aicertaa", "evil name; rm", "aicertbb"]
    items = "\n".join(
        f'{{ id = "{group.format(name)}", region = "westeurope", run = "tiny", expires = "" }},'
        for name in names
    )
    (module / "main.tf").write_text(
        'variable "group" { type = string }\nvariable "region" { type = string }\n'
        f'output "strays" {{\n  value = [\n{items}\n]\n}}\n'
    )
    root = tmp_path / "root"
    leftovers = clean.look(root, ask_azure=True, module=module)
    assert [item.name for item in leftovers] == ["aicertaa", "aicertbb"]
    assert leftovers[0].what == "run tiny in westeurope, to be gone by "
    assert not list((root / azure_run.HOME).glob("strays"))


def test_what_exists_is_taken_into_a_state_and_destroyed(tmp_path: Path) -> None:
    module = tmp_path / "module"
    module.mkdir()
    (module / "main.tf").write_text(
        'variable "group" { type = string }\n'
        'resource "terraform_data" "stray" {\n  count = var.group == "" ? 0 : 1\n}\n'
    )
    terraform = Terraform.in_copy_of(module, tmp_path / "state", lambda _: None)
    terraform.init()
    terraform.set_variables({"group": "aicertaa"})
    answers = [terraform.may_have_made_something]
    terraform.adopt("terraform_data.stray[0]", "an-identity")
    answers.append(terraform.may_have_made_something)
    terraform.destroy()
    answers.append(terraform.may_have_made_something)
    assert answers == [False, True, False]


def test_nothing_of_azure_is_loaded_where_nothing_is_to_do() -> None:
    code = (
        "import sys, rules.tasks, rules.commands.certify, rules.commands.clean; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not re.search(r"\bazure\.", done.stdout)
    assert client.LOCK.is_file()
