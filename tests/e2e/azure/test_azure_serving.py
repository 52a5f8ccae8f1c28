"""A lease on a played Azure: enrolled, granted, served, asked, revoked, and nothing is left.

terraform, the client of blob storage, the broker, the courier and the consumer are real. The
machine is the serving program as a process, and its volume an archive; so what the image and
Azure's network do is not tested here (docs/azure.md).
"""

import functools
import io
import json
import secrets
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.cli import main
from aicert.errors import ConfigError, ToolError
from aicert.lease import orders, serve_settings
from rules.host import training_env
from rules.host.work import remove
from rules.image.store import Image
from rules.machines import swtpm
from rules.machines.azure import clean, vhd
from rules.machines.azure import run as azure_run
from rules.machines.ca import local_ca
from rules.machines.machine import Machine
from rules.project import config
from rules.project.leases import Lease
from rules.serving import cloud, lease_state, power, serve
from rules.serving.broker_client import RefusedHereError
from rules.serving.lease_state import LeaseFolder
from rules.serving.power import Powered
from tests.e2e.azure.conftest import REPOSITORY, World
from tests.e2e.lease import broker_process
from tests.e2e.lease.test_broker import granted
from tests.e2e.lease.test_lease_story import pack
from tests.e2e.serving.test_connect import client
from tests.e2e.serving.test_serve import STREAMED, Watched, beat, consumer, free_port
from tests.e2e.serving.test_serving_process import lay_out
from tests.oracles import environment as oracles
from tests.unit.signing_keys import Printed

pytestmark = pytest.mark.slow
__all__ = ["beat"]

PROJECT = """
[machines.cloud]
driver = "azure"
region = "westeurope"
size = "Standard_D4s_v5"
image = "serve"
memory = "4 GiB"
cpus = 1
port = %d
clients = ["127.0.0.0/8"]
time-limit = "%s"

[leases.bot]
model = "path:leases/bot"
machine = "cloud"
broker = "https://127.0.0.1:%d"
broker-root = "leases/tls.pem"
"""


@pytest.fixture
def borrower(tmp_path: Path) -> Path:
    """A repository with a bundle; the custodian's folder lies in it."""
    root = tmp_path / "root"
    folder = root / "leases"
    folder.mkdir(parents=True)
    ca = local_ca(root, "local")
    (folder / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    lay_out(folder)
    broker_process.write_tls(folder)
    return root


ENGINE = "enclave_runner.serving"
STUB = "tests.e2e.azure.stub_machine"


@contextmanager
def played(
    world: World,
    program: str,
    root: Path,
    kept: LeaseFolder,
    bundle: Path,
    machine: Machine,
    say: Callable[[str], None],
) -> Iterator[Powered]:
    """As `cloud.powered`, with an archive for a volume, and a TPM that this boot alone has."""
    serving = machine.serving
    assert serving is not None
    key = secrets.token_hex(32)
    disk = world.folder / "disk.raw"
    disk.write_bytes(b"EFI" * 700_000)
    image = Image(folder=root, disk=disk, tools=root, lock=b"the image's lock")
    settings = cloud.settings_of(machine, serving, image, key)
    inputs = kept.work / "inputs.img"
    with tarfile.open(inputs, "w") as archive:
        head = tarfile.TarInfo(serve_settings.SETTINGS)
        data = serve_settings.emit(settings)
        head.size = len(data)
        archive.addfile(head, io.BytesIO(data))
        archive.add(bundle, serve_settings.BUNDLE)
    vhd.widen(inputs, 512)
    memory = power.memory_of(kept.folder)
    remove(memory)
    for name in ("weights", "copies", "scratch"):
        (memory / name).mkdir(parents=True)
    order = cloud.order_of(kept, machine, serving)
    order = replace(order, module=world.order().module, boot_s=60.0)
    with (
        removed(memory),
        swtpm.kept(kept.work, kept.work / "vtpm", local_ca(root, "local")) as tcti,
    ):
        words = [sys.executable, "-m", program]
        words += ["--tcti", tcti.replace("path=", f"path={kept.work}/")]
        words += ["--memory", str(memory / "weights"), "--copies", str(memory / "copies")]
        words += ["--scratch", str(memory / "scratch"), "--log", str(memory / "log")]
        words += engine() if program == ENGINE else ["--environment", ""]
        (world.folder / "machine.json").write_text(json.dumps(words))
        with cloud.booted(root, order, image=disk, inputs=inputs, key=key, say=say) as running:
            assert "machine" in world.left()
            yield running


@contextmanager
def removed(memory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        remove(memory)


def engine() -> list[str]:
    """Return the real engine's arguments."""
    installed = oracles.python(oracles.SERVING, "serving").parents[1]
    packages = next(installed.glob("lib/python3*/site-packages"))
    return ["--environment", str(training_env.ensure(REPOSITORY)), "--packages", str(packages)]


def start(world: World, program: str = STUB) -> serve.Start:
    return functools.partial(played, world, program)


@dataclass(frozen=True, kw_only=True)
class Leased:
    """A lease for a machine of the played cloud, and the broker of its custodian."""

    project: config.Project
    lease: Lease
    lease_id: str
    token: Path
    place: Path

    def serve(self, screen: Watched, start: serve.Start, token: Path | None = None) -> int:
        return serve.serve(
            self.project, self.lease, token=token, nonce="", screen=screen, start=start
        )


@contextmanager
def leased(
    world: World, borrower: Path, printed: Printed, time_limit: str = "12 h"
) -> Iterator[Leased]:
    folder = borrower / "leases"
    (borrower / azure_run.HOME).parent.mkdir(exist_ok=True)
    world.home.mkdir()
    (borrower / azure_run.HOME).symlink_to(world.home)
    agreed = pack(folder, "--heartbeat-seconds", "3600")
    token = folder / "token.txt"
    token.write_text(granted(folder, printed) + "\n")
    with broker_process.running(folder, token.read_text().strip()) as desk:
        (borrower / config.FILE).write_text(PROJECT % (free_port(), time_limit, desk.port))
        project = config.parse(borrower, config.read(borrower), may_be_empty=True)
        yield Leased(
            project=project,
            lease=project.lease("bot"),
            lease_id=agreed.lease,
            token=token,
            place=borrower / lease_state.SERVING / "bot",
        )


def receipts_of(given: Leased, folder: Path, printed: Printed) -> str:
    """Return what the custodian reads in the receipts, which are verified."""
    words = ["lease", "receipts", str(given.place / lease_state.RECEIPTS)]
    words += ["--enrolment", str(given.place / lease_state.ENROLMENT)]
    words += ["--lease", str(folder / "bot")]
    words += ["--policy", "local", "--root", str(folder / "platform.pem")]
    printed()
    assert main.main(words) == 0
    return printed()[0]


def test_a_lease_on_azure_until_it_is_revoked(
    world: World, borrower: Path, printed: Printed, beat: Callable[[], None]
) -> None:
    folder = borrower / "leases"
    world.plays("serves")
    asked: list[Any] = []
    with leased(world, borrower, printed) as given:

        def during(url: str) -> None:
            with consumer(folder, url, given.lease_id) as endpoint:
                asked.append(json.loads(client(STREAMED % given.lease_id, endpoint.base_url)))
            assert main.main(["lease", "revoke", str(folder / "bot"), "--ledger",
                              str(folder / "ledger.db")]) == 0  # fmt: skip
            beat()

        screen = Watched(during)
        code = given.serve(screen, start(world, ENGINE), given.token)
        assert screen.failed == []
        assert (code, asked[0]["tokens"]) == (0, 3)
        assert world.left() == []
        text = receipts_of(given, folder, printed)
        assert f"\nended     by order {orders.REVOKE}: the epoch is " in text
        # That machine is gone with its TPM: the next needs a grant of its own.
        nothing = Watched(lambda _: None)
        with pytest.raises(ConfigError, match="no token"):
            given.serve(nothing, start(world))
        place = given.place / lease_state.EARLIER
        assert (place / "1" / lease_state.RECEIPTS).is_file()
        with pytest.raises(RefusedHereError):
            given.serve(nothing, start(world), given.token)
    assert world.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_person_or_a_service_manager_ends_serving(
    world: World,
    borrower: Path,
    printed: Printed,
    beat: Callable[[], None],
    number: signal.Signals,
) -> None:
    world.plays("serves")
    screen = Watched(lambda _: signal.raise_signal(number))
    with leased(world, borrower, printed) as given:
        if number == signal.SIGINT:
            assert given.serve(screen, start(world), given.token) == 0
        else:
            with pytest.raises(SystemExit):
                given.serve(screen, start(world), given.token)
        asked = ": as you asked" if number == signal.SIGINT else ""
        assert f"bot: ended: stop{asked}\n" in screen.written()
        assert world.left() == []
        text = receipts_of(given, borrower / "leases", printed)
        assert f"\nended     by order {orders.STOP}: the epoch is " in text
        assert not (given.place / lease_state.UNSENT).exists()


def test_a_machine_that_cannot_be_destroyed_is_named_with_the_command_that_does(
    world: World, borrower: Path, printed: Printed, beat: Callable[[], None]
) -> None:
    world.plays("serves")

    def during(url: str) -> None:
        world.fails("destroy machine", "Conflict: another operation is in progress")
        signal.raise_signal(signal.SIGINT)

    screen = Watched(during)
    with leased(world, borrower, printed) as given:
        with pytest.raises(ToolError) as caught:
            given.serve(screen, start(world), given.token)
        # The last receipts came before.
        assert "bot: receipt for the end, confirmed by the broker\n" in screen.written()
        assert not (given.place / lease_state.UNSENT).exists()
    (folder,) = world.home.glob(azure_run.FOLDERS)
    words = f"resource group {folder.name} could not be destroyed and still costs money: "
    assert words in caught.value.message
    assert caught.value.hint == f"./doit clean azure, or: az group delete --name {folder.name}"
    assert "machine" in world.left()
    # What the command does, once Azure lets it.
    world.fails("nothing", "")
    clean.end(clean.look(borrower, ask_azure=False))
    assert world.left() == []


def test_a_machine_that_dies_at_boot_is_not_awaited(
    world: World, borrower: Path, printed: Printed
) -> None:
    world.plays("powers off")
    screen = Watched(lambda _: None)
    with leased(world, borrower, printed) as given:
        with pytest.raises(ToolError) as caught:
            given.serve(screen, start(world), given.token)
        assert caught.value.message.startswith(
            "the machine powered off before it answered its courier\n"
        )
        assert caught.value.message.endswith("reboot: Power down")
        # Its grant was not used.
        assert not (given.place / lease_state.ENROLMENT).exists()
    assert world.left() == []


def test_a_machine_serves_no_longer_than_its_time_limit(
    world: World, borrower: Path, printed: Printed
) -> None:
    world.plays("serves")
    screen = Watched(lambda _: None)
    with leased(world, borrower, printed, time_limit="1 s") as given:
        assert given.serve(screen, start(world), given.token) == 1
    assert "the machine's time-limit has passed" in screen.notes
    assert f"bot: ended: {serve.TIME_LIMIT}: " in screen.written()
    assert world.left() == []
