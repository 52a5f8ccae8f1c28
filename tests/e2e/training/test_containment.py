"""Real sandboxes: code inside cannot reach out or exceed a limit, and nothing is left behind."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.errors import ToolError
from enclave_runner.sandbox import containment, kernel_files, syscalls
from enclave_runner.sandbox.containment import Ended, Limits, Sandbox, run
from tests.e2e.conftest import wait_for

PYTHON = "/usr/bin/python3"
MIB = 2**20


class Box:
    """Runs Python text in a sandbox over `tmp_path`."""

    def __init__(self, tmp_path: Path) -> None:
        self.scratch = tmp_path / "scratch"
        self.scratch.mkdir()
        self.input = tmp_path / "input"
        self.input.mkdir()
        (self.input / "file").write_text("given")
        self.log = tmp_path / "log"
        self.messages: list[bytes] = []
        self.devices: tuple[Path, ...] = ()

    def run(self, text: str, **limits: float) -> Ended:
        sandbox = Sandbox(
            read_only={"/aicert/inputs/data": self.input},
            scratch=self.scratch,
            environment={"ONLY": "this"},
            devices=self.devices,
        )
        settings = Limits(**{"seconds": 60.0, **limits})  # type: ignore[arg-type]  # by name
        command = (PYTHON, "-I", "-c", text)
        return run(command, sandbox, settings, self.log, self.messages.append)

    def printed(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def left_behind(marker: str) -> list[str]:
    process_ids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in words:
                process_ids.append(entry)
    return process_ids


def test_it_reads_inputs_writes_scratch_and_tells(box: Box) -> None:
    ended = box.run(
        "import os\n"
        "open('/aicert/scratch/out','w').write(open('/aicert/inputs/data/file').read())\n"
        "os.write(int(os.environ['AICERT_PROGRESS_FD']), b'one\\ntwo\\n')\n"
        "print('hello')"
    )
    assert (ended.exit_code, ended.limit_hit) == ("0", None)
    assert (box.scratch / "out").read_text() == "given"
    assert box.messages == [b"one", b"two"]
    assert box.printed() == "hello\n"
    assert ended.cpu_seconds > 0.0


@pytest.mark.parametrize(
    "place",
    ["/x", "/aicert/x", "/aicert/inputs/data/x", "/aicert/inputs/data/file", "/usr/x", "/dev/x",
     "/var/x", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern",
     "/proc/sysrq-trigger", "/proc/acpi/x", "/proc/sys/x", "/proc/sys/vm/overcommit_memory",
     "/proc/self/oom_score_adj", "/root/x", "/home/x"],
)  # fmt: skip
def test_nothing_but_scratch_can_be_written(box: Box, place: str) -> None:
    ended = box.run(f"open({place!r}, 'w').write('x')")
    assert ended.exit_code == "1", box.printed()
    assert (box.input / "file").read_text() == "given"


@pytest.mark.parametrize("way", ["/dev/tpm0", "/dev/tpmrm0", "/dev/mem", "/dev/kvm", "/dev/vda"])
def test_no_device_is_there(box: Box, way: str) -> None:
    assert box.run(f"open({way!r}, 'rb')").exit_code == "1"


def test_with_gpus_threads_can_be_named_and_processors_seen_and_no_more(box: Box) -> None:
    """NVIDIA's driver needs this; to the sandbox, any device is a GPU."""
    box.devices = (Path("/dev/full"),)
    ended = box.run(
        "import os, threading\n"
        "name = f'/proc/self/task/{threading.get_native_id()}/comm'\n"
        "open(name, 'w').write('cuda')\n"
        "assert os.listdir('/sys/devices/system')\n"
        "assert set(os.listdir('/sys')) <= {'devices', 'module'}\n"
        "assert set(os.listdir('/sys/devices')) == {'system'}\n"
        "seen = ['/proc/' + each for each in os.listdir('/proc') if not each.isdigit()]\n"
        "seen = ['/sys/devices/system', *(each for each in seen if not os.path.islink(each))]\n"
        "assert {'/proc/sys', '/proc/cpuinfo', '/proc/devices', '/proc/keys'} <= {*seen}\n"
        "for each in seen:\n"
        "    if not os.statvfs(each).f_flag & os.ST_RDONLY:\n"
        "        assert os.stat(each).st_rdev == os.stat('/dev/null').st_rdev, each\n"
        "        try: open(each)\n"
        "        except PermissionError: continue\n"
        "        raise SystemExit(7)\n"
        "assert not os.path.exists('/proc/sys/kernel')\n"
    )
    assert ended.exit_code == "0", box.printed()


def test_nothing_of_the_machine_outside_is_seen(box: Box) -> None:
    secret = box.log.with_name("secret")
    secret.write_text("x")
    ended = box.run(
        "import os\n"
        f"assert not os.path.exists({str(secret)!r})\n"
        "assert os.listdir('/') and not os.path.exists('/etc/passwd')\n"
        "assert not os.path.exists('/sys')\n"
        "assert set(os.environ) - {'PWD', 'LC_CTYPE'} == {'AICERT_PROGRESS_FD', 'ONLY'}\n"
        "assert len([x for x in os.listdir('/proc') if x.isdigit()]) < 5\n"
        "assert os.getuid() == 65534\n"
    )
    assert ended.exit_code == "0", box.printed()


def test_the_environment_outside_is_seen_nowhere(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSIDE", "a-secret-of-the-machine")
    ended = box.run(
        "import os\n"
        "for each in os.listdir('/proc'):\n"
        "    if each.isdigit(): print(open(f'/proc/{each}/environ', 'rb').read())\n"
    )
    assert ended.exit_code == "0", box.printed()
    assert "ONLY" in box.printed()
    assert "OUTSIDE" not in box.printed()


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_ALG", "AF_PACKET", "AF_CAN"])
def test_no_socket_passes_the_network_namespace(box: Box, family: str) -> None:
    number = int(getattr(socket, family))
    ended = box.run(
        "import errno, socket\n"
        "socket.socketpair()\n"
        "socket.socket(socket.AF_INET6).close()\n"
        f"try: socket.socket({number}, socket.SOCK_STREAM)\n"
        "except OSError as error: raise SystemExit(error.errno)\n"
    )
    assert ended.exit_code == str(errno.EAFNOSUPPORT), box.printed()


# Without arguments, the kernel's own error would differ from the filter's.
@pytest.mark.parametrize("number", [*syscalls._numbers(platform.machine()).refused, 0x40000027])
def test_calls_that_reach_past_namespaces_are_refused(box: Box, number: int) -> None:
    ended = box.run(
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"assert libc.syscall({number}, -1, -1, -1, -1) == -1\n"
        "raise SystemExit(ctypes.get_errno())\n"
    )
    assert ended.exit_code == str(errno.EPERM), box.printed()


def test_of_the_kernel_only_what_training_reads_is_seen(box: Box) -> None:
    ended = box.run(
        "import json, os\n"
        "seen = []\n"
        "for name in os.listdir('/proc'):\n"
        "    if name.isdigit() or os.path.islink('/proc/' + name): continue\n"
        "    for folder, _, files in os.walk('/proc/' + name):\n"
        "        seen += [folder + '/' + each for each in files]\n"
        "    if os.path.isfile('/proc/' + name) or not os.path.isdir('/proc/' + name):\n"
        "        seen.append('/proc/' + name)\n"
        "def read(path):\n"
        "    try: return bool(open(path, 'rb').read())\n"
        "    except OSError: return False\n"
        "print(json.dumps(sorted(path for path in seen if read(path))))\n"
        "assert not os.path.exists('/sys') and not os.path.exists('/proc/sys/kernel')\n"
    )
    assert ended.exit_code == "0", box.printed()
    seen = [f"/proc/{name}" for name in kernel_files.SEEN]
    seen += [f"/proc/sys/{name}" for name in kernel_files.SEEN_IN_SYS]
    assert json.loads(box.printed()) == sorted(seen)


def test_no_key_of_the_session_outside_is_seen(box: Box) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = syscalls._numbers(platform.machine())
    name = f"aicert-test-{os.getpid()}".encode()
    session, set_timeout = -3, 15
    # If the system refuses this call, there is no key to see.
    key = libc.syscall(numbers.refused[0], b"user", name, b"secret", 6, session)
    libc.syscall(numbers.keyctl, set_timeout, key, 60)
    for place in ("/proc/keys", "/proc/key-users"):
        assert box.run(f"print(open({place!r}).read())").exit_code == "1", box.printed()
    assert name.decode() not in box.printed()


def test_no_network_is_there(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = box.run(
            "import socket\n"
            f"for where in (('127.0.0.1', {port}), ('1.1.1.1', 53)):\n"
            "    try: socket.create_connection(where, 2)\n"
            "    except OSError: continue\n"
            "    raise SystemExit(7)\n"
        )
    assert ended.exit_code == "0", box.printed()


def test_an_abstract_socket_outside_is_out_of_reach(box: Box) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0aicert-test-{os.getpid()}")
        server.listen()
        ended = box.run(
            "import socket\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            f"s.connect('\\0aicert-test-{os.getpid()}')\n"
        )
    assert ended.exit_code == "1"


def test_no_further_user_namespace_can_be_made(box: Box) -> None:
    ended = box.run("import ctypes\nraise SystemExit(ctypes.CDLL(None).unshare(0x10000000) != -1)")
    assert ended.exit_code == "0", box.printed()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("raise SystemExit(1)", "1"),
        ("raise SystemExit(42)", "42"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal:9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "signal:15"),
        ("import os; os.abort()", "signal:6"),
    ],
)
def test_exit_codes_come_through(box: Box, text: str, code: str) -> None:
    ended = box.run(text)
    assert (ended.exit_code, ended.limit_hit) == (code, None)


def test_too_long_is_killed(box: Box) -> None:
    ended = box.run("import time; time.sleep(600)  # too-long-marker", seconds=1.0)
    assert (ended.exit_code, ended.limit_hit) == ("timeout", "time")
    assert left_behind("too-long-marker") == []


def test_too_much_memory_is_killed(box: Box) -> None:
    text = "import time\nx = bytearray(300 * 2**20)\nx[::4096] = b'x' * len(x[::4096])\n"
    ended = box.run(text + "time.sleep(600)", memory_bytes=200 * MIB)
    assert (ended.exit_code, ended.limit_hit) == ("memory", "memory")
    assert ended.max_rss > 200 * MIB


def test_too_much_memory_in_a_child_is_killed(box: Box) -> None:
    text = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        x = bytearray(300 * 2**20); x[::4096] = b'x' * len(x[::4096])\n"
        "time.sleep(600)"
    )
    assert box.run(text, memory_bytes=200 * MIB).exit_code == "memory"


def test_a_full_scratch_is_killed(box: Box) -> None:
    text = (
        "import time\n"
        "for n in range(30):\n"
        "    open(f'/aicert/scratch/{n}', 'wb').write(b'x' * 2**20)\n"
        "time.sleep(600)"
    )
    ended = box.run(text, scratch_bytes=20 * MIB)
    assert (ended.exit_code, ended.limit_hit) == ("signal:9", "scratch")


def test_one_file_larger_than_scratch_is_refused_at_once(box: Box) -> None:
    ended = box.run(
        "f = open('/aicert/scratch/x', 'wb')\nfor _ in range(30): f.write(b'x' * 2**20)",
        scratch_bytes=20 * MIB,
    )
    assert ended.exit_code != "0"
    assert (box.scratch / "x").stat().st_size <= 20 * MIB


def test_shared_memory_is_bounded(box: Box) -> None:
    ended = box.run(
        "f = open('/dev/shm/x', 'wb')\nfor _ in range(600): f.write(b'x' * 2**20)",
        memory_bytes=8 * 2**30,
    )
    assert ended.exit_code == "1"
    assert "No space left" in box.printed()


def test_many_processes_are_stopped(box: Box) -> None:
    ended = box.run(
        "import os, time\n"
        "for _ in range(500):\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "    except BlockingIOError: pass\n"
        "time.sleep(600)",
        processes=40,
        seconds=20.0,
    )
    assert ended.limit_hit in ("processes", "time")
    assert ended.exit_code in ("signal:9", "timeout")


def test_processes_that_stay_behind_end_with_the_run(box: Box) -> None:
    ended = box.run(
        "import os, time  # daemon-marker\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(600)\n"
    )
    assert ended.exit_code == "0"
    assert left_behind("daemon-marker") == []


def test_a_flood_of_output_is_cut(box: Box) -> None:
    ended = box.run(
        "import os\n"
        "fd = int(os.environ['AICERT_PROGRESS_FD'])\n"
        "for _ in range(200): os.write(1, b'x' * 65536); os.write(fd, b'y' * 65536)\n"
        "os.write(fd, b'\\nend\\n')",
        log_bytes=MIB,
    )
    assert ended.exit_code == "0"
    assert ended.log_truncated
    assert box.log.stat().st_size < MIB + 100
    assert box.messages == [b"end"]


def test_closed_pipes_do_not_end_the_run_early(box: Box) -> None:
    ended = box.run(
        "import os, time\n"
        "for fd in (0, 1, 2, int(os.environ['AICERT_PROGRESS_FD'])):\n"
        "    try: os.close(fd)\n"
        "    except OSError: pass\n"
        "time.sleep(1)\n"
        "open('/aicert/scratch/late', 'w').write('x')\n"
        "os._exit(3)"
    )
    assert ended.exit_code == "3"
    assert (box.scratch / "late").exists()


def test_an_interrupt_leaves_nothing(box: Box) -> None:
    def interrupt(_line: bytes) -> None:
        raise KeyboardInterrupt

    sandbox = Sandbox(read_only={}, scratch=box.scratch, environment={})
    text = "import os,time\nos.write(int(os.environ['AICERT_PROGRESS_FD']), b'go\\n')\n"
    command = (PYTHON, "-I", "-c", text + "time.sleep(600)  # interrupt-marker")
    with pytest.raises(KeyboardInterrupt):
        run(command, sandbox, Limits(), box.log, interrupt)
    assert left_behind("interrupt-marker") == []


# Stands for a bubblewrap that is stopped before it has named its child: it waits as that would.
UNNAMED = """\
#!/usr/bin/python3
import os, signal, sys
messages = int(sys.argv[sys.argv.index("AICERT_PROGRESS_FD") + 1])
child = os.fork()
if child:
    os.write(messages, b"%d\\n" % child)
signal.pause()
"""


def test_a_sandbox_that_ends_before_its_init_is_named_leaves_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = box.log.with_name("bwrap")
    stand_in.write_text(UNNAMED)
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent))
    named: list[int] = []

    def stop(line: bytes) -> None:
        named.append(int(line))
        raise containment.StopRun

    sandbox = Sandbox(read_only={}, scratch=box.scratch, environment={})
    ended = run(("true",), sandbox, Limits(seconds=60.0), box.log, stop)
    assert ended.exit_code == "signal:9"
    assert not Path(f"/proc/{named[0]}").exists()


def test_the_death_of_the_runner_ends_the_sandbox(box: Box) -> None:
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from enclave_runner.sandbox.containment import *\n"
        f"s = Sandbox(read_only={{}}, scratch=Path({str(box.scratch)!r}), environment={{}})\n"
        "def tell(line): print(line.decode(), flush=True)\n"
        f"run(({PYTHON!r}, '-I', '-c', sys.argv[1]), s, Limits(), Path({str(box.log)!r}), tell)\n"
    )
    inside = "import os,time\nos.write(int(os.environ['AICERT_PROGRESS_FD']), b'go\\n')\n"
    inside += "time.sleep(600)  # runner-death-marker"
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program, inside], cwd=root, stdout=subprocess.PIPE
    ) as runner:
        try:
            assert runner.stdout is not None
            assert runner.stdout.readline() == b"go\n"
        finally:
            runner.kill()
    wait_for(lambda: not left_behind("runner-death-marker"), "the sandbox to end")


def test_a_sandbox_that_cannot_be_made_is_a_tool_error(box: Box) -> None:
    sandbox = Sandbox(
        read_only={"/aicert/inputs/x": box.input / "absent"}, scratch=box.scratch, environment={}
    )
    with pytest.raises(ToolError, match="could not be made"):
        run((PYTHON, "-c", ""), sandbox, Limits(), box.log, box.messages.append)


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="bubblewrap"):
        containment.check()


def test_this_machine_can_make_one() -> None:
    containment.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user outside")
def test_where_the_runner_is_root_the_sandbox_is_nobody_outside_too(box: Box) -> None:
    containment.check(65534)
    os.chown(box.scratch, 65534, 65534)
    for folder in (box.scratch, *box.scratch.parents):
        # The sandbox's user must be able to reach the folder without root.
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o001)
    sandbox = Sandbox(read_only={}, scratch=box.scratch, environment={}, user=65534)
    text = "open('/aicert/scratch/out', 'w').write(open('/proc/self/status').read())"
    ended = run((PYTHON, "-I", "-c", text), sandbox, Limits(), box.log, box.messages.append)
    assert ended.exit_code == "0", box.printed()
    assert (box.scratch / "out").stat().st_uid == 65534
    status = (box.scratch / "out").read_text().splitlines()
    assert ["Groups:"] in [line.split() for line in status]
