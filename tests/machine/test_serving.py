"""The image that serves, booted: what only a machine with a firmware, disks and a network can show.

There is one offline lease and one TPM. This test is the courier. No boot waits for the engine,
whose libraries take minutes in an emulated machine: once the lease is opened, the machine watches
its deadline and holds the weights.
"""

import contextlib
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.formats import image_lock, tpm
from aicert.lease import blob, bundle, courier, custody, enrolment, licence, receipts, terms
from aicert.lease.bundle import ContentKey
from aicert.lease.courier import Message
from aicert.lease.licence import Bounds
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
from rules.serving.lease_state import Kept
from rules.serving.link import Link
from tests.e2e.conftest import wait_for
from tests.e2e.lease.test_lease_story import NONCE, pack
from tests.e2e.serving.test_serve import free_port
from tests.e2e.serving.test_serving_process import lay_out
from tests.machine.conftest import BUILD_S, Built

pytestmark = [pytest.mark.slow, pytest.mark.machine]

PATIENCE_S = 600.0
DUMP = "net.pcap"
# This computer's address on qemu's own network.
NEIGHBOUR = bytes((10, 0, 2, 2))
OTHER_VARIABLES = "usr/share/OVMF/OVMF_VARS_4M.ms.fd"
LEASE = """
[machines.desk]
driver = "qemu"
image = "serve"
memory = "1536 MiB"
port = 8443

[leases.bot]
model = "path:leases/bot"
machine = "desk"
"""
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

    def ask(self, kind: str, data: bytes = b"") -> None:
        self.link.ask(Message(kind=kind, data=data))

    def hear(self) -> Message:
        heard = self.link.heard.get(timeout=PATIENCE_S)
        assert isinstance(heard, Message), heard
        self.tells.append(heard)
        return heard

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
def booted(leased: Leased, kept: Kept, packed: Path) -> Iterator[Booted]:
    """Yield a machine that is ready. Everything that passes its network device is recorded."""
    machine = leased.project.lease("bot").machine
    also = ("-object", f"filter-dump,id=dump,netdev=net,file={DUMP}")
    network = Network(listen="127.0.0.1", port=free_port(), guest_port=power.GUEST_PORT, also=also)
    for path in kept.work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with power.booted(
        leased.root, kept, packed, machine, leased.image, network, lambda _: None
    ) as on:
        running = Booted(link=on.link, work=kept.work, port=network.port, tells=[])
        running.wait_for(courier.READY)
        yield running


@pytest.fixture
def kept(leased: Leased) -> Iterator[Kept]:
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


def packets(path: Path) -> Iterator[bytes]:
    """Yield the packets of a capture (pcap, "File Format": a header of 24 bytes, then 16 before
    each packet).
    """
    data = path.read_bytes()
    at = 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def begun_by_the_machine(path: Path) -> list[bytes]:
    """Return the packets that the machine sent on its own initiative: all from its card except
    those of connections to its port, and ARP with its only neighbour.
    """
    ours: list[bytes] = []
    for packet in packets(path):
        if packet[6:11] != b"\x52\x54\x00\x12\x34":
            continue
        kind = packet[12:14]
        is_neighbours = kind == b"\x08\x06" and packet[38:42] == NEIGHBOUR
        is_tcp = kind == b"\x08\x00" and packet[23] == 6
        # The packet is from the machine's only port, and is not the first one of a connection.
        is_served = is_tcp and packet[34:36] == power.GUEST_PORT.to_bytes(2) and (
            packet[47] & 0x12 != 0x02
        )  # fmt: skip
        if not (is_neighbours or is_served):
            ours.append(packet)
    return ours


def frozen_past(machine: Booted, is_over: Callable[[], bool]) -> None:
    """Stop qemu until the condition holds, then let it continue."""
    process = machine.process
    os.kill(process, signal.SIGSTOP)
    try:
        wait_for(is_over, "the licence's end")
    finally:
        os.kill(process, signal.SIGCONT)


def test_watch_clock_of_a_machine_that_is_frozen_past_its_deadline(
    leased: Leased, kept: Kept, record_property: Callable[[str, object], None]
) -> None:
    """Check, before the deadline too: the licence of another image is refused, the lease opens
    once, the machine begins no packet, and weights are in qemu's memory and nowhere else. The
    courier sends nothing after the opening.
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
        machine.ask(courier.HEARTBEAT, NONCE)
        at = clock_of(machine.wait_for(courier.RECEIPT))
        end = time.monotonic() + 9
        machine.ask(courier.LICENCE, custodian.licence(seconds=8, since=at))
        frozen_past(machine, lambda: time.monotonic() > end)
        # The receipt for the end comes first.
        assert machine.wait_for(courier.ENDED).data == b"deadline"
        last = [line for line in machine.tells if line.kind == courier.RECEIPT][-1]
        usage = receipts.parse_heartbeat(receipts.parse(last.data).body).usage
        assert (usage.requests, usage.tokens_in, usage.tokens_out) == (0, 0, 0)
        assert clock_of(last) >= at + 8000
        record_property("seconds after the licensed end", (clock_of(last) - at) / 1000 - 8)
        assert all(line.kind != courier.SERVING for line in machine.tells)
        assert not answers(machine.port)
        # The weights are neither on the console nor on a disk: the machine can write to no other
        # files.
        for path in (kept.work / "console", kept.work / "variables.fd", *kept.tpm.iterdir()):
            assert canary not in path.read_bytes(), path
        assert canary not in (kept.work / "inputs.img").read_bytes()
        assert list(packets(kept.work / DUMP))
        assert begun_by_the_machine(kept.work / DUMP) == []


def answers(port: int) -> bool:
    """Whether something speaks TLS at this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
            client.sendall(b"\x16\x03\x01\x00\x05hello")
            return bool(client.recv(1))
    except OSError:
        return False


def enrolled(leased: Leased, kept: Kept) -> Custodian:
    """Return the custodian of the machine from the first boot, whose TPM is kept."""
    shown = kept.enrolment
    assert shown is not None, "the first test enrols"
    return custodian_of(leased, shown)


def test_licence_tpm_of_a_machine_with_other_firmware_variables(
    leased: Leased, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was enrolled honestly, and then booted with other Secure Boot keys: PCR 7
    differs.
    """
    custodian = enrolled(leased, kept)
    monkeypatch.setattr(qemu_command, "VARIABLES", OTHER_VARIABLES)
    with booted(leased, kept, leased.bundle) as machine:
        machine.ask(courier.BLOB, custodian.blob)
        since = custodian.machine.meter.clock.clock
        machine.ask(courier.LICENCE, custodian.licence(seconds=36000, since=since))
        assert machine.wait_for(courier.REFUSED).data.startswith(b"licence.tpm: ")
        machine.ask(courier.STOP)
        assert machine.wait_for(courier.ENDED).data == b"asked"


def test_bundle_files_of_weights_that_differ_by_a_byte(
    leased: Leased, kept: Kept, tmp_path: Path
) -> None:
    """The custodian encrypted these weights, under the header of the certified files."""
    custodian = enrolled(leased, kept)
    packed = tmp_path / "bot"
    shutil.copytree(leased.bundle, packed)
    header_bytes = (packed / bundle.HEADER).read_bytes()
    names = [file.path for file in bundle.parse(header_bytes).files]
    number = names.index("model.safetensors")
    weights = bytearray((leased.folder / "model/model.safetensors").read_bytes())
    weights[-1] ^= 1
    secrets = custody.parse((leased.folder / "bot.keys").read_bytes())
    key = ContentKey(secrets.tpm_half, bundle.NO_BROKER, header_bytes)
    path = packed / bundle.DATA / str(number)
    path.chmod(0o600)
    path.write_bytes(b"".join(bundle.encrypted(key, number, [bytes(weights)])))
    with booted(leased, kept, packed) as machine:
        machine.ask(courier.BLOB, custodian.blob)
        since = custodian.machine.meter.clock.clock
        machine.ask(courier.LICENCE, custodian.licence(seconds=36000, since=since))
        assert machine.wait_for(courier.REFUSED).data.startswith(b"bundle.files: ")
        assert machine.wait_for(courier.ENDED).data == b"refused"
        assert all(line.kind != courier.SERVING for line in machine.tells)
