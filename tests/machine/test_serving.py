"""The serving image, booted: what only a machine with a firmware, disks and a network can show.

There is one offline lease and one TPM. This test is the courier. Only the first boot waits for the
engine, whose libraries take a minute in an emulated machine.
"""

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import aicert.serving
from aicert.formats import image_lock, tpm
from aicert.formats.digest import of_bytes
from aicert.lease import (
    blob,
    bundle,
    courier,
    custody,
    enrolment,
    licence,
    orders,
    receipts,
    terms,
)  # fmt: skip
from aicert.lease.bundle import ContentKey
from aicert.lease.courier import Message
from aicert.lease.licence import Bounds
from aicert.lease.orders import Order
from aicert.lease.serve_settings import Settings
from aicert.leasing import enrolments, granting
from aicert.leasing.enrolments import Enrolled
from aicert.verifier import verify
from rules.image import build as image_build
from rules.image import tasks
from rules.image.store import Image
from rules.machines.ca import local_ca
from rules.machines.qemu import command as qemu_command
from rules.machines.qemu.command import Network
from rules.project import config
from rules.serving import lease_state, power
from rules.serving.caller import Callee, calling
from rules.serving.lease_state import LeaseFolder
from rules.serving.link import Link
from tests.e2e.conftest import wait_for
from tests.e2e.lease.test_lease_story import NONCE, pack
from tests.e2e.serving.test_connect import client as openai_client
from tests.e2e.serving.test_serve import STREAMED, free_port
from tests.e2e.serving.test_serving_process import lay_out
from tests.machine import neighbour
from tests.machine.conftest import BUILD_S, Built
from tests.machine.neighbour import Neighbour
from tests.unit.aicert.cli.test_main import AT

pytestmark = [pytest.mark.slow, pytest.mark.machine]

PATIENCE_S = 600.0
OTHER_VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.ms.fd"
LEASE = """
[machines.desk]
driver = "qemu"
image = "serve"
memory = "2 GiB"
port = 8443

[leases.bot]
model = "path:leases/bot"
machine = "desk"
"""
# More connections than the machine serves at once, and than wait for it to accept them.
FLOOD = 200
PORTS = [*range(1, 1025), *range(1025, 1 << 16, 61), power.GUEST_PORT]
# How many bytes of a process's memory to search at once.
_STEP = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Leased:
    """A checkout with a lease, and the image that serves it."""

    root: Path
    image: Image
    project: config.Project

    @property
    def folder(self) -> Path:
        return self.root / "leases"

    @property
    def bundle(self) -> Path:
        return self.folder / "bot"


@pytest.fixture(scope="module")
def leased(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leased]:
    root = built.checkout.root
    done = built.checkout.doit(
        "run", "image_serve_update" if built.fresh else "image_serve", limit=BUILD_S
    )
    assert done.returncode == 0, done.stderr
    folder = root / "leases"
    folder.mkdir()
    ca = local_ca(root, "qemu")
    (folder / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    lay_out(folder)
    pack(folder, "--offline")
    path = root / config.FILE
    before = path.read_text()
    path.write_text(before + LEASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AICERT_CACHE", built.checkout.environment["AICERT_CACHE"])
        image = tasks.ensure(root, serve=True)
        with image_build.in_use(image_build.place(root, serve=True)):
            yield Leased(root=root, image=image, project=config.load(root))
    path.write_text(before)
    shutil.rmtree(folder)


@dataclass(kw_only=True)
class Booted:
    """A booted machine, as its courier sees it. `tells`: all its messages so far."""

    link: Link
    work: Path
    port: int
    tells: list[Message]
    asked: list[bytes] = field(default_factory=list)

    def ask(self, kind: str, data: bytes = b"") -> None:
        self.asked.append(data)
        self.link.ask(Message(kind=kind, data=data))

    def hear(self) -> Message:
        heard = self.link.heard.get(timeout=PATIENCE_S)
        assert isinstance(heard, Message), heard
        self.tells.append(heard)
        return heard

    def rest(self) -> list[Message]:
        """Return the messages until the machine is off."""
        before = len(self.tells)
        while (heard := self.link.heard.get(timeout=PATIENCE_S)) is not None:
            assert isinstance(heard, Message), heard
            self.tells.append(heard)
        return self.tells[before:]

    def wait_for(self, kind: str) -> Message:
        """Return the next message of this kind; any other than a state or a receipt is a
        failure.
        """
        while True:
            heard = self.hear()
            if heard.kind == kind:
                return heard
            assert heard.kind in (courier.STATE, courier.RECEIPT), heard

    @property
    def console(self) -> bytes:
        return (self.work / "console").read_bytes()

    @property
    def process(self) -> int:
        """Return qemu's process id."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                is_qemu = "qemu-system" in (entry / "comm").read_text()
                if is_qemu and os.readlink(entry / "cwd") == str(self.work):
                    return int(entry.name)
        raise AssertionError("there is no qemu")


@contextlib.contextmanager
def booting(
    leased: Leased, kept: LeaseFolder, packed: Path, also: tuple[str, ...] = neighbour.RECORDED
) -> Iterator[Booted]:
    """Yield a machine that begins to boot. Everything that passes its network device is recorded.

    `also`: further options of qemu.
    """
    machine = leased.project.lease("bot").machine
    network = Network(listen="127.0.0.1", port=free_port(), guest_port=power.GUEST_PORT, also=also)
    for path in kept.work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with power.booted(
        leased.root, kept, packed, machine, leased.image, network, lambda _: None
    ) as on:
        yield Booted(link=on.link, work=kept.work, port=network.port, tells=[])


@contextlib.contextmanager
def booted(leased: Leased, kept: LeaseFolder, packed: Path) -> Iterator[Booted]:
    """Yield a machine that is ready."""
    with booting(leased, kept, packed) as running:
        running.wait_for(courier.READY)
        yield running


@contextlib.contextmanager
def called(
    leased: Leased, kept: LeaseFolder, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Booted]:
    """Yield a machine that is ready, whose courier comes by the network, as in a cloud. We can send
    it any packet.
    """
    key = secrets.token_hex(32)
    with_key = functools.partial(Settings, courier=of_bytes(key.encode("ascii")))
    monkeypatch.setattr(power, "Settings", with_key)
    with booting(leased, kept, packed, neighbour.REACHED) as begun:
        callee = Callee(host="127.0.0.1", port=begun.port, key=key, boots_s=PATIENCE_S)
        with calling(callee) as link:
            running = replace(begun, link=link)
            running.wait_for(courier.READY)
            yield running


@pytest.fixture
def kept(leased: Leased) -> Iterator[LeaseFolder]:
    with lease_state.opened(leased.root, "bot") as kept:
        yield kept


@dataclass(frozen=True, kw_only=True)
class Custodian:
    """The custodian, who has the lease's keys and has appraised the machine under a policy for
    qemu.
    """

    folder: Path
    machine: Enrolled

    def licence(self, *, seconds: float, since: int, machine: Enrolled | None = None) -> bytes:
        """Return a licence for four boots, until so many seconds after this time of the TPM."""
        enrolled = machine or self.machine
        kept = custody.parse((self.folder / "bot.keys").read_bytes())
        bounds = Bounds(
            budget=enrolled.meter.value + 100,
            epoch=enrolled.epoch.value,
            clock=since + int(1000 * seconds),
            resets=enrolled.meter.clock.reset_count + 3,
            restarts=0,
        )
        return licence.emit(granting.licensed(kept, agreed(self.folder), enrolled, bounds))

    @property
    def blob(self) -> bytes:
        kept = custody.parse((self.folder / "bot.keys").read_bytes())
        return blob.emit(granting.wrap(kept, agreed(self.folder), self.machine))


def agreed(folder: Path) -> terms.Terms:
    return terms.parse((folder / "bot/terms.toml").read_bytes())


def custodian_of(leased: Leased, shown: bytes) -> Custodian:
    """Return a custodian who has checked the enrolment completely: `enrol.image` compared the
    registers of this boot with those that the image's lock predicts.
    """
    lock = leased.folder / "image.lock.toml"
    lock.write_bytes(leased.image.lock)
    policy = verify.choose_policy("qemu", root=leased.folder / "platform.pem", image=lock)
    machine = enrolments.appraise(
        enrolment.parse(shown), agreed(leased.folder), policy, at=datetime.now(UTC), nonce=NONCE
    )
    assert machine.image is not None
    return Custodian(folder=leased.folder, machine=machine)


def clock_of(receipt: Message) -> int:
    """Return the TPM's clock in a receipt."""
    return tpm.parse_counter(receipts.parse(receipt.data).attest, "the receipt").clock.clock


def canary_of(folder: Path) -> bytes:
    weights = (folder / "model/model.safetensors").read_bytes()
    canary = weights[len(weights) // 2 :][:64]
    assert len(set(canary)) > 8
    return canary


def is_in_memory(process: int, wanted: bytes) -> bool:
    """Whether these bytes are anywhere in the process's memory."""
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        span, access, *_ = line.split()
        if not access.startswith("rw"):
            continue
        start, end = (int(each, 16) for each in span.split("-"))
        with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
            for at in range(start, end, _STEP):
                memory.seek(at)
                try:
                    data = memory.read(min(end - at, _STEP + len(wanted)))
                except OSError:
                    break
                if wanted in data:
                    return True
    return False


def begun_by_the_machine(work: Path) -> list[bytes]:
    """Return the packets that the machine sent on its own initiative: all from its card except
    those of connections to its port, and ARP with its only neighbour.
    """
    return [
        packet
        for packet in neighbour.sent(work)
        if not neighbour.is_with_neighbour(packet)
        and not neighbour.is_served(packet, power.GUEST_PORT)
    ]


def frozen_past(machine: Booted, is_over: Callable[[], bool]) -> None:
    """Stop qemu until the condition holds, then let it continue."""
    process = machine.process
    os.kill(process, signal.SIGSTOP)
    try:
        wait_for(is_over, "the licence's end")
    finally:
        os.kill(process, signal.SIGCONT)


def test_watch_clock_of_a_machine_that_is_frozen_past_its_deadline(
    leased: Leased, kept: LeaseFolder, record_property: Callable[[str, object], None]
) -> None:
    """Check, before the deadline too: the licence of another image is refused, the lease opens
    once, the engine answers a client through `aicert connect`, the machine begins no packet, and
    weights are in qemu's memory and nowhere else. The courier sends nothing after that.
    """
    canary = canary_of(leased.folder)
    with booted(leased, kept, leased.bundle) as machine:
        machine.ask(courier.ENROL, NONCE)
        shown = machine.wait_for(courier.ENROLMENT).data
        custodian = custodian_of(leased, shown)
        kept.enrolled(shown, custodian.blob)
        machine.ask(courier.BLOB, custodian.blob)
        since = custodian.machine.meter.clock.clock
        # licence.tpm: the registers of the image that trains are not those of this boot.
        lock = image_lock.parse((leased.root / "lockfiles/image.lock.toml").read_bytes())
        other = replace(custodian.machine, image=lock)
        machine.ask(courier.LICENCE, custodian.licence(seconds=3600, since=since, machine=other))
        assert machine.wait_for(courier.REFUSED).data.startswith(b"licence.tpm: ")
        assert not is_in_memory(machine.process, canary)
        machine.ask(courier.HEARTBEAT, NONCE)
        machine.wait_for(courier.RECEIPT)
        good = custodian.licence(seconds=3600, since=since)
        machine.ask(courier.LICENCE, good)
        assert machine.wait_for(courier.STATE).number["requests"] == 0
        # The owner of this computer has the weights (tier `measured-vm`), so the test can find
        # them.
        wait_for(lambda: is_in_memory(machine.process, canary), "weights in qemu's memory")
        # There is one port, and not before the model is loaded; the machine connects to nobody.
        for port in (machine.port, free_port()):
            assert not answers(port)
        # What is opened is not opened again in the same boot: the same licence changes nothing.
        machine.ask(courier.BLOB, custodian.blob)
        machine.ask(courier.LICENCE, good)
        begun = time.monotonic()
        machine.wait_for(courier.SERVING)
        record_property("seconds from licence to serving", time.monotonic() - begun)
        assert ask_through_connect(leased.folder, machine.port) == 3
        machine.ask(courier.HEARTBEAT, NONCE)
        at = clock_of(machine.wait_for(courier.RECEIPT))
        end = time.monotonic() + 9
        machine.ask(courier.LICENCE, custodian.licence(seconds=8, since=at))
        frozen_past(machine, lambda: time.monotonic() > end)
        # The receipt for the end comes first.
        assert machine.wait_for(courier.ENDED).data == b"deadline"
        last = [line for line in machine.tells if line.kind == courier.RECEIPT][-1]
        usage = receipts.parse_heartbeat(receipts.parse(last.data).body).usage
        assert (usage.requests, usage.tokens_out, usage.tokens_refused) == (1, 3, 0)
        assert clock_of(last) >= at + 8000
        record_property("seconds after the licensed end", (clock_of(last) - at) / 1000 - 8)
        assert not answers(machine.port)
        # The weights are neither on the console nor on a disk: the machine can write to no other
        # files.
        for path in (kept.work / "console", kept.work / "variables.fd", *kept.tpm.iterdir()):
            assert canary not in path.read_bytes(), path
        assert canary not in (kept.work / "inputs.img").read_bytes()
        assert list(neighbour.packets((kept.work / neighbour.DUMP).read_bytes()))
        assert begun_by_the_machine(kept.work) == []


def ask_through_connect(folder: Path, port: int) -> int:
    """Ask the machine with OpenAI's client, as a consumer who trusts its image. Returns the number
    of tokens of the streamed answer.
    """
    lease = agreed(folder).lease
    with aicert.serving.connect(
        f"https://127.0.0.1:{port}", lease=lease, certificate=folder / "c.json", policy="local",
        root=folder / "root.pem", at=AT, machine_policy="qemu",
        machine_root=folder / "platform.pem", machine_image_lock=folder / "image.lock.toml",
    ) as endpoint:  # fmt: skip
        return int(json.loads(openai_client(STREAMED % lease, endpoint.base_url))["tokens"])


def answers(port: int) -> bool:
    """Whether something speaks TLS at this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
            client.sendall(b"\x16\x03\x01\x00\x05hello")
            return bool(client.recv(1))
    except OSError:
        return False


def enrolled(leased: Leased, kept: LeaseFolder) -> Custodian:
    """Return the custodian of the machine from the first boot, whose TPM is kept."""
    shown = kept.enrolment
    assert shown is not None, "the first test enrols"
    return custodian_of(leased, shown)


def test_licence_tpm_of_a_machine_with_other_firmware_variables(
    leased: Leased, kept: LeaseFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was enrolled honestly, and then booted with other Secure Boot keys: PCR 7
    differs. Its courier comes by the network, on which others try what they can. In the end the
    custodian revokes the lease.
    """
    custodian = enrolled(leased, kept)
    monkeypatch.setattr(qemu_command, "VARIABLES", OTHER_VARIABLES)
    with called(leased, kept, leased.bundle, monkeypatch) as machine:
        machine.ask(courier.BLOB, custodian.blob)
        since = custodian.machine.meter.clock.clock
        machine.ask(courier.LICENCE, custodian.licence(seconds=36000, since=since))
        assert machine.wait_for(courier.REFUSED).data.startswith(b"licence.tpm: ")
        tried_by_a_neighbour(machine)
        machine.ask(courier.HEARTBEAT, NONCE)
        answered = receipts.parse(machine.wait_for(courier.RECEIPT).data)
        machine.ask(courier.ORDER, revoked(custodian, answered))
        last, killed = machine.wait_for(courier.RECEIPT), machine.wait_for(courier.RECEIPT)
        assert receipts.parse(killed.data).body == orders.parse(machine.asked[-1]).order
        assert clock_of(killed) >= clock_of(last)
        assert machine.wait_for(courier.ENDED).data == b"revoke"


def revoked(custodian: Custodian, receipt: receipts.Receipt) -> bytes:
    """Return the order that ends the lease, in answer to this receipt."""
    heartbeat = receipts.parse_heartbeat(receipt.body)
    held = custody.parse((custodian.folder / "bot.keys").read_bytes())
    order = Order(
        kind=orders.REVOKE, lease=heartbeat.lease, terms=agreed(custodian.folder).digest,
        boot=heartbeat.boot, epoch=custodian.machine.epoch.value, seq=heartbeat.seq,
        answers=receipts.digest(receipt).hex, generation=1,
    )  # fmt: skip
    return orders.emit(orders.sign(held.key, order))


def tried_by_a_neighbour(machine: Booted) -> None:
    """Check that one port is open, and that nothing else answers, whoever asks for what."""
    before = len(neighbour.sent(machine.work))
    with Neighbour(machine.work, wait_for) as other, contextlib.ExitStack() as stack:
        # More connections than the machine has room for, and none says anything.
        for _ in range(FLOOD):
            stack.enter_context(socket.create_connection(("127.0.0.1", machine.port)))
        other.asks_who_has(bytes((10, 0, 2, 99)))
        other.looks_for_ipv6()
        other.pings()
        for port in (53, 67, 68, 123, 5353, power.GUEST_PORT):
            other.sends_udp(port)
        assert other.open_ports(PORTS) == {power.GUEST_PORT}
        # The courier is heard meanwhile.
        machine.ask(courier.HEARTBEAT, NONCE)
        machine.wait_for(courier.RECEIPT)
        other.asks_who_has(socket.inet_aton(qemu_command.GUEST))
        wait_for(
            lambda: any(map(neighbour.is_with_neighbour, neighbour.sent(machine.work)[before:])),
            "the machine's own address by ARP",
        )
    begun = begun_by_the_machine(machine.work)
    assert [packet for packet in begun if not neighbour.is_rejection(packet)] == []


def test_bundle_files_of_weights_that_differ_by_a_byte(
    leased: Leased, kept: LeaseFolder, tmp_path: Path
) -> None:
    """The custodian encrypted these weights, under the header of the certified files. The lease was
    revoked in the boot before; this custodian grants it again.
    """
    custodian = enrolled(leased, kept)
    packed = tmp_path / "bot"
    shutil.copytree(leased.bundle, packed)
    header_bytes = (packed / bundle.HEADER).read_bytes()
    names = [file.path for file in bundle.parse(header_bytes).files]
    number = names.index("model.safetensors")
    weights = bytearray((leased.folder / "model/model.safetensors").read_bytes())
    weights[-1] ^= 1
    held = custody.parse((leased.folder / "bot.keys").read_bytes())
    key = ContentKey(held.tpm_half, bundle.NO_BROKER, header_bytes)
    path = packed / bundle.DATA / str(number)
    path.chmod(0o600)
    path.write_bytes(b"".join(bundle.encrypted(key, number, [bytes(weights)])))
    with booted(leased, kept, packed) as machine:
        machine.ask(courier.BLOB, custodian.blob)
        since = custodian.machine.meter.clock.clock
        # order.epoch: what was granted before the revocation opens nothing, in whichever boot.
        machine.ask(courier.LICENCE, custodian.licence(seconds=36000, since=since))
        assert b"a term of the licence is not met" in machine.wait_for(courier.REFUSED).data
        machine.ask(courier.ENROL, NONCE)
        again = custodian_of(leased, machine.wait_for(courier.ENROLMENT).data)
        assert again.machine.epoch.value == custodian.machine.epoch.value + 1
        good = again.licence(seconds=36000, since=since)
        machine.ask(courier.LICENCE, good)
        assert machine.wait_for(courier.REFUSED).data.startswith(b"bundle.files: ")
        assert machine.wait_for(courier.ENDED).data == b"refused"
        # Nor is anything opened after the end, until the machine is off.
        machine.ask(courier.BLOB, custodian.blob)
        machine.ask(courier.LICENCE, good)
        assert {line.kind for line in machine.rest()} <= {courier.REFUSED, courier.STATE}
        assert all(line.kind != courier.SERVING for line in machine.tells)


def test_licence_tpm_of_a_machine_with_an_addition_to_its_command_line(
    leased: Leased, kept: LeaseFolder
) -> None:
    """An addition is measured into PCR 12, which is zero in every licence, like PCR 13 for
    extensions: the machine does not even ask.
    """
    added = ("-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=quiet")
    with booting(leased, kept, leased.bundle, (*neighbour.RECORDED, *added)) as machine:
        assert machine.rest() == []
        assert b"PCR 12 is not zero at the start" in machine.console
