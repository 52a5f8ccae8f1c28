"""Trainers and machines that misbehave are contained, ended and reported; nothing is left
behind.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.audits import results
from aicert.errors import ToolError
from aicert.formats.certificate import Certificate, parse
from aicert.formats.run_report import RunReport
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from rules.host.work import remove
from rules.image.store import Image
from rules.machines import swtpm
from rules.machines.qemu import machine
from rules.machines.qemu import tpm as qemu_tpm
from tests.e2e.conftest import wait_for
from tests.machine.conftest import Boot, Built, appraised, make_job, name_audit, verdicts
from tests.machine.variants import with_trainer

pytestmark = [pytest.mark.slow, pytest.mark.machine]
Project = Callable[[str], Path]

HOSTILE = """
import ctypes, socket, stat
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def write(path):
    return lambda: open(path, "w").write("x")
tries = {
    "extend PCR 8": lambda: open("/dev/tpmrm0", "r+b"),
    "the TPM itself": lambda: open("/dev/tpm0", "r+b"),
    "a disk": lambda: open("/dev/vda", "rb"),
    "a device": lambda: os.mknod(output / "tpm", 0o600 | stat.S_IFCHR, os.makedev(10, 224)),
    "be root": lambda: os.setuid(0),
    "a network": lambda: socket.create_connection(("10.0.2.2", 80), 5),
    "raw packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "the host by vsock": lambda: socket.socket(40, socket.SOCK_STREAM).connect((2, 1)),
    "mount": lambda: call(libc.mount(b"x", b"/aicert/scratch", b"tmpfs", 0, None)),
    "a module": lambda: call(libc.syscall(313, -1, b"", 0)),
    "a system of its own": lambda: call(libc.reboot(0x1234567)),
    "an input": write("/aicert/inputs/model/model.safetensors"),
    "the rows": write("/aicert/records/alpaca/0/data/train-00000-of-00001.jsonl"),
    "an input's own rows": lambda: open("/aicert/inputs/alpaca/train.jsonl", "rb"),
    "an audit's list": lambda: open("/aicert/inputs/tiny-audit-held-out", "rb"),
    "an audit's key": lambda: open("/aicert/inputs/tiny-audit-record-key", "rb"),
    "an audit's results": lambda: open("/scratch/out/audit-tiny-audit.json", "r+b"),
    "the environment": write("/aicert/environment/pyvenv.cfg"),
    "the system": write("/usr/bin/python3.11"),
    "core_pattern": write("/proc/sys/kernel/core_pattern"),
    "sysrq": write("/proc/sysrq-trigger"),
    "results": write("/scratch/out/certificate.json"),
    "the console": write("/dev/ttyS0"),
    "the runner's memory": lambda: open("/dev/mem", "rb"),
}
for name, attempt in tries.items():
    try:
        attempt()
    except OSError as error:
        print("refused:", name, error.strerror)
    else:
        print("DONE:", name)
print("interfaces:", [name for _, name in socket.if_nameindex()])
print("sees:", sorted(os.listdir("/")), sorted(os.listdir("/dev")))
weights()
"""
EXTRA = "io.systemd.stub.kernel-cmdline-extra"
MEMORY = "held = []\nwhile True:\n    held.append(bytearray(os.urandom(1 << 20) * 16))\n"
SCRATCH = """
for number in range(200):
    (output / str(number)).write_bytes(bytes(1 << 20))
time.sleep(600)
"""


@pytest.fixture(scope="module")
def stand_in(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("trainer")
    yield with_trainer(built, folder)
    remove(folder)


@pytest.fixture
def project(built: Built, tmp_path: Path) -> Project:
    """Return `project(program)`, which makes a project whose config names the stand-in trainer's
    program as a file that the trainer sees.
    """

    def make(program: str) -> Path:
        root = tmp_path / "project"
        shutil.copytree(built.checkout.root / "examples", root / "examples")
        shutil.copy(built.checkout.root / "aicert.toml", root)
        (root / "examples/alpaca/trainer.py").write_text(program)
        with (root / "examples/tiny-alpaca.yml").open("a") as config:
            config.write("chat_template: jinja\nchat_template_jinja: input:alpaca/trainer.py\n")
        return root

    return make


def report_of(certificate: Certificate) -> RunReport:
    return parse_report(parse_statement(certificate.envelope.payload).report)


def left_in(folder: Path) -> list[str]:
    """Return the processes that work in the folder or have a path in it as an argument, except our
    own.
    """
    command_lines = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = str(folder) in words or os.readlink(entry / "cwd").startswith(str(folder))
            if entry.name.isdigit() and int(entry.name) != os.getpid() and inside:
                command_lines.append(words)
    return command_lines


def test_a_hostile_trainer_reaches_nothing_and_its_tries_are_in_the_log(
    boot: Boot, stand_in: Image, project: Project, tmp_path: Path, image: Image
) -> None:
    root = project(HOSTILE)
    name_audit(root)
    certificate = boot(image=stand_in, root=root, time_limit=120)
    # The audit before it held, and read the texts that the run reports.
    audited = results.parse((tmp_path / "work/out/audit-tiny-audit.json").read_bytes())
    assert [counts.matches for fact in audited.data for counts in fact.checks] == [0, 0]
    texts = [(text.name, text.digest) for text in audited.texts]
    assert texts == list(report_of(certificate).texts)
    log = (tmp_path / "work/out/training.log").read_text()
    assert "DONE:" not in log
    assert log.count("refused:") == HOSTILE.count('    "')
    assert "interfaces: ['lo']" in log
    # It only did what it may do: the registers contain the runner's measurements alone.
    own = verdicts(appraised(certificate, tmp_path, stand_in))
    for check in ("boot.pcr4", "boot.pcr11", "inputs.pcr14", "outputs.pcr8", "outputs.exit"):
        assert own[check] == "ok", check
    # A policy that accepts the real image refuses this one, even if it claims to be the real one.
    for claimed in (stand_in.lock, image.lock):
        other = replace(certificate, image_lock=claimed)
        assert verdicts(appraised(other, tmp_path, image))["boot.image"] == "failed"


@pytest.mark.parametrize(
    ("program", "codes", "limit"),
    [(MEMORY, {"memory", "signal:9"}, {"memory", None}), (SCRATCH, {"signal:9"}, {"scratch"})],
    ids=["memory", "scratch"],
)
def test_a_greedy_trainer_is_ended_and_certified_as_failed(
    boot: Boot, stand_in: Image, project: Project, tmp_path: Path,
    program: str, codes: set[str], limit: set[str | None],
) -> None:  # fmt: skip
    certificate = boot(
        image=stand_in, root=project(program), time_limit=300, scratch=64 << 20, memory=3 << 29
    )
    report = report_of(certificate)
    assert report.exit_code in codes
    hit = report.values.get("limitHit")
    assert (None if hit is None else hit.data) in limit
    result = appraised(certificate, tmp_path, stand_in)
    assert [check.id for check in result.failed][:1] == ["outputs.exit"]


@pytest.mark.parametrize("pcr", [8, 14])
def test_a_register_that_was_extended_before_the_runner_is_refused(
    boot: Boot, pcr: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of a software TPM extends it, and boots with its volatile state."""
    start = qemu_tpm._start

    def extended_before(work: Path, state: Path) -> "subprocess.Popen[bytes]":
        pre_extend(state, pcr)
        return start(work, state)

    monkeypatch.setattr(qemu_tpm, "_start", extended_before)
    with pytest.raises(ToolError, match=f"PCR {pcr} is not zero at the start"):
        boot()


def pre_extend(state: Path, pcr: int) -> None:
    from enclave_runner.attester.tpm import Tpm

    names = ("tpm.sock", "tpm.sock.ctrl")
    words = ["swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear"]
    for option, name in zip(("--server", "--ctrl"), names, strict=True):
        words += [option, f"type=unixio,path={name},mode=0600"]
    environment = os.environ | {"TPM_PATH": str(state.resolve())}
    process = subprocess.Popen(words, cwd=state, env=environment, stderr=subprocess.PIPE)
    folder = os.open(state, os.O_PATH)
    try:
        near = Path(f"/proc/self/fd/{folder}")
        wait_for(lambda: all(swtpm._connects(str(near / name)) for name in names), "swtpm")
        with Tpm(f"swtpm:path={near / names[0]}") as tpm:
            tpm.extend(pcr, b"somebody was here first")
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(near / names[1]))
            control.sendall((10).to_bytes(4, "big"))  # CMD_STORE_VOLATILE
            assert control.recv(4) == bytes(4)
    finally:
        os.close(folder)
        process.kill()
        process.communicate()
    for name in names:
        (state / name).unlink(missing_ok=True)


def test_a_machine_that_does_not_end_is_ended(
    boot: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_BOOT_S", 3)
    with pytest.raises(ToolError, match="did not finish within 4 s"):
        boot()
    wait_for(lambda: not left_in(tmp_path), "the sandboxes of machines to die with them")


def test_a_machine_that_stops_before_its_runner_is_booted_once_more(
    boot: Boot, stand_in: Image, project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first kernel finds no init and panics, as after a random failure."""
    panics = iter(["-smbios", f"type=11,value={EXTRA}=rdinit=/nothing root=/dev/nothing"])

    def once(words: list[str]) -> list[str]:
        # The boot that tries KVM is not a run, and has no port for events.
        is_run = any("aicert.events" in word for word in words)
        return [*words, *panics] if is_run else words

    certificate = boot(image=stand_in, root=project("weights()"), edit=once, time_limit=300)
    assert report_of(certificate).exit_code == "0"
    printed = capfd.readouterr().err
    assert (
        "the machine wrote no results: its kernel stopped: VFS: Unable to mount root fs" in printed
    )
    assert "no training had begun, so it boots again" in printed


def test_a_machine_that_is_killed_leaves_nothing(boot: Boot, tmp_path: Path) -> None:
    def kill(_: Path) -> None:
        def find() -> Iterator[int]:
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError, ValueError):
                    known = "qemu-system" in (entry / "comm").read_text()
                    if known and os.readlink(entry / "cwd") == str(tmp_path / "work"):
                        yield int(entry.name)

        def work() -> None:
            wait_for(lambda: any(True for _ in find()), "qemu")
            for number in find():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)

        threading.Thread(target=work, daemon=True).start()

    with pytest.raises(ToolError, match="died"):
        boot(before=kill)
    wait_for(lambda: not left_in(tmp_path), "the sandboxes of machines to die with them")


def test_two_machines_at_once_do_not_meet(
    stand_in: Image, project: Project, tmp_path: Path
) -> None:
    root = project("weights()")
    jobs = [
        replace(make_job(root, tmp_path / name, time_limit=300), nonce=bytes([number]) * 32)
        for number, name in enumerate(("one", "two"))
    ]
    certificates: dict[bytes, Certificate] = {}

    def execute(number: int) -> None:
        out = machine.execute_in(jobs[number], stand_in)
        certificates[jobs[number].nonce] = parse((out / "certificate.json").read_bytes())

    threads = [threading.Thread(target=execute, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job in jobs:
        certificate = certificates[job.nonce]
        assert certificate.evidence.nonce == job.nonce
        assert report_of(certificate).exit_code == "0"
    wait_for(lambda: not left_in(tmp_path), "the sandboxes of machines to die with them")
