"""The explanation for a machine without results, and when the machine is booted again."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from aicert.errors import ToolError
from aicert.formats.machine_io import STREAM_HEADER as HEADER
from rules.image.store import Image
from rules.machines.machine import Job
from rules.machines.qemu import accelerator, command, console
from rules.machines.qemu import machine as qemu
from rules.machines.qemu.command import VARIABLES
from rules.machines.volumes import Volumes

PANIC = "[    0.71] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug"
CORRUPTED = "[    9.1] Kernel panic - not syncing: dm-verity device corrupted"
INIT = "aicert-init: the input volume does not end in its root hash: Success"


@pytest.mark.parametrize(
    ("lines", "words", "is_chance"),
    [
        ([PANIC, "CPU: 0 PID: 1"], "its kernel stopped: IO-APIC + timer doesn't work!", True),
        ([CORRUPTED], "a volume's bytes do not match its root hash", False),
        (["dm-verity device has I/O error", PANIC], "its kernel stopped: IO-APIC", True),
        (
            ["Kernel panic - not syncing: dm-verity device has I/O error"],
            "a block of a volume could not be read",
            False,
        ),
        ([INIT, "reboot: Power down"], "its init stopped: the input volume does not end", False),
        (["BdsDxe: No bootable option or device was found."], "firmware found nothing", False),
        (["Loading \x1b]0;x"], r"the last line of its console is 'Loading \x1b]0;x'", True),
        ([], "wrote nothing to its console", True),
    ],
)
def test_the_console_becomes_a_sentence(lines: list[str], words: str, is_chance: bool) -> None:
    end = console.end_of(lines)
    assert words in end.words
    assert end.is_chance is is_chance


def test_a_reason_before_a_long_trace_is_still_found(tmp_path: Path) -> None:
    trace = "\n".join(f"[ 1.{n:04}] ? some_function+0x{n:x}/0x40" for n in range(200))
    (tmp_path / "console").write_text(f"\x1b[2J\x1b[01;01H\n{PANIC}\n{trace}\n")
    lines = console.read(tmp_path)
    message = console.explained("the machine wrote no results", lines)
    assert message.startswith("the machine wrote no results: its kernel stopped: IO-APIC + timer")
    assert len(message.splitlines()) == 13
    assert console.explained("the results end early", []) == "the results end early"


class Machines:
    """A stand-in for qemu: each start plays the next of `acts`, a program of a few lines."""

    def __init__(self, *acts: str) -> None:
        self.acts = list(acts)
        self.started = 0

    def start(
        self, work: Path, *_: object, pass_fds: Sequence[int] = (), network: bool = False
    ) -> "subprocess.Popen[bytes]":
        assert not network
        act = self.acts[self.started]
        self.started += 1
        script = f'cd "$0" && events=/dev/fd/{pass_fds[0]} && {act}'
        return subprocess.Popen(["bash", "-c", script, work], pass_fds=pass_fds)


STOPS = f'echo "{PANIC}" > console'


def event(text: str) -> str:
    """Return a shell command that emits one event, as a runner does."""
    return f"printf '%s\\n' '{text}' >&${{events#/dev/fd/}}"


SAYS = event('{"event":"started"}')
FAILS = event('{"event":"error","exitCode":2,"message":"the TPM cannot answer"}')
TRAINS = event('{"event":"training","step":0}')
LATE = 'echo "[   60.1] tpm tpm0: Operation Timed out" > console'
RESULTS = f"printf '{HEADER.decode().strip()}\\nfile 2 certificate.json\\n{{}}end\\n' > output.img"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return a run whose machine needs no image; its TPM and its volumes are files."""

    @contextmanager
    def machine_tpm(work: Path, _: object) -> Iterator[str]:
        # Like the real one: the folder must not exist yet.
        (work / "tpm").mkdir()
        yield "tpm.ctrl"

    def make_volumes(_: Job, __: Image, volumes: Volumes) -> None:
        assert volumes.inputs is not None
        assert volumes.output is not None
        volumes.inputs.write_bytes(b"inputs")
        volumes.output.write_bytes(bytes(5000))

    monkeypatch.setattr(qemu, "machine_tpm", machine_tpm)
    monkeypatch.setattr(qemu, "make_volumes", make_volumes)
    monkeypatch.setattr(qemu, "local_ca", lambda *_: None)
    monkeypatch.setattr(qemu, "attach_lock", lambda *_: None)
    monkeypatch.setattr(command, "command", lambda *_, **__: [])
    variables = tmp_path / "tools" / VARIABLES
    variables.parent.mkdir(parents=True)
    variables.touch()
    monkeypatch.setattr(accelerator, "choose", lambda _: "tcg")
    machine = SimpleNamespace(time_limit=60, scratch=1 << 20, memory=1 << 30, cpus=1)
    work = tmp_path / "work"
    work.mkdir()
    return cast(Job, SimpleNamespace(root=tmp_path, run="a-run", machine=machine, work=work))


def execute(job: Job, monkeypatch: pytest.MonkeyPatch, *acts: str) -> tuple[Machines, Path]:
    machines = Machines(*acts)
    monkeypatch.setattr(command, "start", machines.start)
    return machines, qemu.execute_in(job, image_of(job))


def image_of(job: Job) -> Image:
    return Image(folder=job.root, disk=job.root / "disk.raw", tools=job.root / "tools", lock=b"")


def test_a_machine_in_which_no_runner_started_is_booted_once_more(
    job: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    machines, out = execute(job, monkeypatch, STOPS, f"{SAYS} && {RESULTS}")
    assert machines.started == 2
    assert (out / "certificate.json").read_bytes() == b"{}"
    assert (job.work / "inputs.img").read_bytes() == b"inputs"
    printed = capfd.readouterr().err
    assert "its kernel stopped: IO-APIC + timer doesn't work!" in printed
    assert "no training had begun, so it boots again" in printed


def test_a_machine_whose_tpm_was_late_is_booted_once_more(
    job: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a busy host swtpm starts late, and the kernel gives up waiting."""
    machines, out = execute(job, monkeypatch, f"{LATE} && {SAYS} && {FAILS}", RESULTS)
    assert machines.started == 2
    assert (out / "certificate.json").read_bytes() == b"{}"
    assert "the TPM cannot answer; no training had begun" in capfd.readouterr().err


def test_a_second_machine_that_stops_the_same_way_is_the_last(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = Machines(STOPS, STOPS, RESULTS)
    monkeypatch.setattr(command, "start", machines.start)
    with pytest.raises(ToolError, match="wrote no results: its kernel stopped: IO-APIC") as caught:
        qemu.execute_in(job, image_of(job))
    assert type(caught.value) is ToolError
    assert machines.started == 2


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (f"{SAYS} && {STOPS}", "its kernel stopped: IO-APIC"),
        (f"{LATE} && {SAYS} && {TRAINS} && {FAILS}", "the TPM cannot answer"),
        (f"{SAYS} && {FAILS}", "the TPM cannot answer"),
        (f'echo "{INIT}" > console', "its init stopped: the input volume does not end"),
        (f'echo "{CORRUPTED}" > console', "dm-verity device corrupted"),
        (f"{STOPS} && kill -KILL $$", "died with signal 9"),
        (f"{STOPS} && printf 'aicert output 1\\nfile' > output.img", "end early or are malformed"),
    ],
    ids=[
        "a runner had started",
        "trained when its TPM was late",
        "an error of its own",
        "refused by the init",
        "hostile disk",
        "killed",
        "half written",
    ],
)
def test_nothing_else_is_booted_again(
    job: Job, monkeypatch: pytest.MonkeyPatch, act: str, message: str
) -> None:
    machines = Machines(act, RESULTS)
    monkeypatch.setattr(command, "start", machines.start)
    with pytest.raises(ToolError, match=message):
        qemu.execute_in(job, image_of(job))
    assert machines.started == 1
