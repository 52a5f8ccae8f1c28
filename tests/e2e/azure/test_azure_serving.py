"""A lease on a played Azure: enrolled, granted, served, asked, revoked, and nothing is left.

terraform, the client of blob storage, the broker, the courier and the consumer are real. The
machine is the serving program as a process, and its volume an archive; so what the image and
Azure's network do is not tested here (docs/azure.md).
"""

import io
import json
import secrets
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.cli import main
from aicert.errors import ConfigError
from aicert.lease import handed, orders
from rules.host import training_env
from rules.host.work import remove
from rules.image.store import Image
from rules.machines import swtpm
from rules.machines.azure import run as azure_run
from rules.machines.azure import vhd
from rules.machines.ca import local_ca
from rules.machines.machine import Machine
from rules.project import config
from rules.project.leases import Lease
from rules.serving import cloud, lease_state, power, serve
from rules.serving.broker_client import RefusedHereError
from rules.serving.lease_state import Kept
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
time-limit = "12 h"

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


@contextmanager
def played(
    world: World, root: Path, kept: Kept, bundle: Path, machine: Machine, say: Callable[[str], None]
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
        head = tarfile.TarInfo(handed.SETTINGS)
        data = handed.emit(settings)
        head.size = len(data)
        archive.addfile(head, io.BytesIO(data))
        archive.add(bundle, handed.BUNDLE)
    vhd.widen(inputs, 512)
    memory = power.memory_of(kept.folder)
    remove(memory)
    for name in ("weights", "copies", "scratch"):
        (memory / name).mkdir(parents=True)
    order = cloud.order_of(kept, machine, serving)
    order = replace(order, module=world.order().module, boot_s=60.0)
    with swtpm.kept(kept.work, kept.work / "vtpm", local_ca(root, "local")) as tcti:
        packages = next(
            oracles.python(oracles.SERVING, "serving").parents[1].glob("lib/python3*/site-packages")
        )
        words = [sys.executable, "-m", "enclave_runner.serving"]
        words += ["--tcti", tcti.replace("path=", f"path={kept.work}/")]
        words += ["--memory", str(memory / "weights"), "--copies", str(memory / "copies")]
        words += ["--scratch", str(memory / "scratch"), "--log", str(memory / "log")]
        words += ["--environment", str(training_env.ensure(REPOSITORY))]
        words += ["--packages", str(packages)]
        (world.folder / "machine.json").write_text(json.dumps(words))
        with cloud.booted(root, order, image=disk, inputs=inputs, key=key, say=say) as running:
            assert "machine" in world.left()
            yield running
    remove(memory)


def test_a_lease_on_azure_until_it_is_revoked(
    world: World, borrower: Path, printed: Printed, beat: Callable[[], None]
) -> None:
    folder = borrower / "leases"
    world.plays("serves")
    (borrower / azure_run.HOME).parent.mkdir(exist_ok=True)
    world.home.mkdir()
    (borrower / azure_run.HOME).symlink_to(world.home)
    agreed = pack(folder, "--heartbeat-seconds", "3600")
    token = folder / "token.txt"
    token.write_text(granted(folder, printed) + "\n")
    asked: list[Any] = []

    def during(url: str) -> None:
        with consumer(folder, url, agreed.lease) as endpoint:
            asked.append(json.loads(client(STREAMED % agreed.lease, endpoint.base_url)))
        assert main.main(["lease", "revoke", str(folder / "bot"), "--ledger",
                          str(folder / "ledger.db")]) == 0  # fmt: skip
        beat()

    with broker_process.running(folder, token.read_text().strip()) as desk:
        (borrower / config.FILE).write_text(PROJECT % (free_port(), desk.port))
        project = config.parse(borrower, config.read(borrower), may_be_empty=True)
        lease: Lease = project.lease("bot")

        def start(*words: Any) -> Any:
            return played(world, *words)

        screen = Watched(during)
        code = serve.serve(project, lease, token=token, nonce="", screen=screen, start=start)
        assert screen.failed == []
        assert (code, asked[0]["tokens"]) == (0, 3)
        assert world.left() == []
        place = borrower / lease_state.SERVING / "bot"
        words = ["lease", "receipts", str(place / lease_state.RECEIPTS)]
        words += ["--enrolment", str(place / lease_state.ENROLMENT), "--lease", str(folder / "bot")]
        words += ["--policy", "local", "--root", str(folder / "platform.pem")]
        printed()
        assert main.main(words) == 0
        assert f"\nended     by order {orders.REVOKE}: the epoch is " in printed()[0]
        # That machine is gone with its TPM: the next needs a grant of its own.
        with pytest.raises(ConfigError, match="no token"):
            serve.serve(project, lease, token=None, nonce="", start=start)
        assert (place / lease_state.EARLIER / "1" / lease_state.RECEIPTS).is_file()
        with pytest.raises(RefusedHereError):
            serve.serve(
                project, lease, token=token, nonce="", screen=Watched(lambda _: None), start=start
            )
    assert world.left() == []
