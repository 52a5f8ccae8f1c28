"""However the local platform ends, nothing of it is left, and every error is reported."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.errors import ToolError
from enclave_runner.attester.tpm import Tpm
from rules.machines import swtpm
from rules.machines.ca import Ca
from tests.e2e.verify.make_evidence import working_directory

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def swtpm_pids(run_dir: Path) -> list[int]:
    """Return the ids of all processes that have this run's state in their environment, dead or
    alive.
    """
    wanted = f"TPM_PATH={run_dir.resolve()}/".encode()
    pids = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes():
                pids.append(int(entry.name))
    return pids


def assert_nothing_left(run_dir: Path) -> None:
    assert swtpm_pids(run_dir) == []
    assert list(run_dir.iterdir()) == []


def test_checkout_with_a_long_and_strange_path(tmp_path: Path, ca: Ca) -> None:
    deep = tmp_path / ("long-" * 40) / "comma, space and ümlaut" / ("deeper-" * 30) / "run"
    deep.mkdir(parents=True)
    before = Path.cwd()
    with swtpm.platform(deep, ca) as tcti:
        assert Path.cwd() == before
        with working_directory(deep), Tpm(tcti) as tpm:
            assert tpm.read_pcrs([14]) == {14: bytes(32)}
    assert_nothing_left(deep)


def test_two_at_once(tmp_path: Path, ca: Ca) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with swtpm.platform(one, ca) as tcti, swtpm.platform(two, ca):
        with working_directory(one), Tpm(tcti) as tpm:
            tpm.extend(14, b"only here")
        with working_directory(two), Tpm(tcti) as tpm:
            assert tpm.read_pcrs([14]) == {14: bytes(32)}
    assert_nothing_left(one)
    assert_nothing_left(two)


def test_second_in_one_directory_is_refused_and_harms_nothing(run_dir: Path, ca: Ca) -> None:
    with swtpm.platform(run_dir, ca) as tcti:
        with pytest.raises(ToolError) as caught, swtpm.platform(run_dir, ca):
            pass
        assert caught.value.hint is not None
        with working_directory(run_dir), Tpm(tcti) as tpm:
            assert tpm.read_pcrs([8]) == {8: bytes(32)}
    assert_nothing_left(run_dir)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after(error: type[BaseException], run_dir: Path, ca: Ca) -> None:
    with pytest.raises(error), swtpm.platform(run_dir, ca):
        assert swtpm_pids(run_dir) != []
        raise error
    assert_nothing_left(run_dir)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_killed_in_mid_run_is_an_error_at_once(run_dir: Path, ca: Ca) -> None:
    # "At once" shows in the message: after waiting in vain it would be "no answer in".
    with (
        pytest.raises(ToolError, match=r"ended before the run did.*SIGKILL") as caught,
        swtpm.platform(run_dir, ca) as tcti,
        working_directory(run_dir),
        Tpm(tcti) as tpm,
    ):
        tpm.make_run_key()
        for pid in swtpm_pids(run_dir):
            os.kill(pid, signal.SIGKILL)
        tpm.quote(bytes(32))
    assert isinstance(caught.value.__cause__, ToolError)
    assert caught.value.hint is not None
    assert_nothing_left(run_dir)


def test_killed_unnoticed_is_an_error_at_the_end(run_dir: Path, ca: Ca) -> None:
    with pytest.raises(ToolError, match="SIGKILL"), swtpm.platform(run_dir, ca):
        [pid] = swtpm_pids(run_dir)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert_nothing_left(run_dir)


def test_tpm_that_stops_answering_is_an_error(
    run_dir: Path, ca: Ca, monkeypatch: pytest.MonkeyPatch
) -> None:
    with swtpm.platform(run_dir, ca) as tcti, working_directory(run_dir):
        [pid] = swtpm_pids(run_dir)
        with (
            pytest.raises(ToolError, match=r"no answer in") as caught,
            Tpm(tcti) as tpm,
        ):
            tpm.read_pcrs([0])
            os.kill(pid, signal.SIGSTOP)
            # This is not set earlier, because a busy computer's TPM takes its time too.
            monkeypatch.setattr(tpm, "_answer_s", 0.5)
            tpm.read_pcrs([0])
        assert caught.value.hint is not None
        with pytest.raises(ToolError, match="the connection to it is closed"):
            tpm.read_pcrs([0])
    assert_nothing_left(run_dir)


def test_no_tpm_at_all_is_an_error(run_dir: Path) -> None:
    with (
        working_directory(run_dir),
        pytest.raises(ToolError, match="cannot answer"),
        Tpm(swtpm.TCTI),
    ):
        pass


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that is the whole PATH, with everything that the platform needs except
    swtpm.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("setpriv", "sh"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_missing_program_is_named(without: Path, run_dir: Path, ca: Ca) -> None:
    with pytest.raises(ToolError, match="swtpm is not installed") as caught:
        with swtpm.platform(run_dir, ca):
            pass
    assert caught.value.hint == "sudo apt-get install --yes swtpm"
    assert_nothing_left(run_dir)


def test_program_that_ends_at_once_is_quoted(without: Path, run_dir: Path, ca: Ca) -> None:
    (without / "swtpm").write_text("#!/bin/sh\necho 'the disk is on fire'\nexit 7\n")
    (without / "swtpm").chmod(0o755)
    with pytest.raises(ToolError, match=r"(?s)exit code 7.*the disk is on fire"):
        with swtpm.platform(run_dir, ca):
            pass
    assert_nothing_left(run_dir)


# A signal that arrives just before a read begins is handled when the read ends, so no read may wait
# for ever.
HOST = """
import select
import sys
from pathlib import Path
from rules.machines import swtpm
from rules.machines.ca import local_ca
run_dir = Path(sys.argv[1])
with swtpm.platform(run_dir, local_ca(run_dir.parent, "local")):
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
"""


@contextlib.contextmanager
def host(run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start another process that holds a platform until it is told to stop."""
    command = [sys.executable, "-c", HOST, str(run_dir)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_host_leaves_nothing(number: signal.Signals, run_dir: Path) -> None:
    with host(run_dir) as process:
        process.send_signal(number)
        assert process.wait(600) != 0
    assert_nothing_left(run_dir)


def test_kill_of_the_host_takes_swtpm_with_it(run_dir: Path, ca: Ca) -> None:
    with host(run_dir) as process:
        [pid] = swtpm_pids(run_dir)
        watch = os.pidfd_open(pid)
        try:
            process.kill()
            assert select.select([watch], [], [], 600)[0] == [watch]
        finally:
            os.close(watch)
    # Its files are left in the run's own directory, which the next run does not use.
    assert (run_dir / "swtpm").is_dir()
    with pytest.raises(ToolError, match="uses or used"), swtpm.platform(run_dir, ca):
        pass
