"""Run one command in its own sandbox, within limits, and leave none of its processes (ADR 2).

The sandbox is made by bubblewrap: it has its own user, process, network, mount and IPC namespaces,
can make no others, and runs without capabilities as user 65534. It sees the given directories
read-only, one writable scratch, a minimal /dev (no TPM) and no network but its own loopback.
Nothing runs uncontained: without user namespaces there is a ToolError. `run` returns only after the
last process of the sandbox is gone, whatever ended it. `syscalls` covers what namespaces do not.
Control groups are not used: memory and processes are polled, so a burst between two polls gets
through.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aicert.errors import ToolError
from aicert.formats import machine_io
from enclave_runner.sandbox import kernel_files, syscalls
from enclave_runner.sandbox.pipes import CappedLog, Lines
from enclave_runner.sandbox.places import SCRATCH
from enclave_runner.sandbox.processes import bytes_below, children_of, usage_below

_POLL_SECONDS = 0.25
_SCRATCH_EVERY = 4
_LAST_WAIT_SECONDS = 30.0
_SHARED_MEMORY = 512 * 1024 * 1024
_PR_SET_CHILD_SUBREAPER = 36
_NOTHING = Path(os.devnull)
_INSTALL = "sudo apt-get install bubblewrap"
# Settings that may forbid user namespaces, the value that does, and the value that allows them.
_SWITCHES = (
    # Ubuntu 23.10 and newer; an AppArmor profile for bwrap would work as well.
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of a run, and the number of `threads` that the trainer is told to use."""

    seconds: float = 24 * 3600.0
    memory_bytes: int = 16 * 2**30
    processes: int = 1024
    scratch_bytes: int = 64 * 2**30
    log_bytes: int = 16 * 2**20
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """A sandbox, described by what it shows inside.

    `read_only`: place in the sandbox → file or folder that it shows. `user`: the user that
    bubblewrap runs as outside, if the runner is root, who must be able to read everything named
    here; None means the runner's own user. `devices`: nodes that keep their paths.
    """

    read_only: Mapping[str, Path]
    scratch: Path
    environment: Mapping[str, str]
    directory: str = SCRATCH
    user: int | None = None
    devices: tuple[Path, ...] = ()


class StopRun(Exception):  # noqa: N818  # nothing went wrong in what raises it
    """Raised by `on_message` to end the run as killed, with all its processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A run that ended.

    `exit_code`: CODE of docs/spec/measurement.md. `limit_hit`: the limit that ended the run, or
    None. `max_rss`: the most memory in bytes at any poll.
    """

    exit_code: str
    limit_hit: str | None
    wall_seconds: float
    cpu_seconds: float
    max_rss: int
    log_truncated: bool


def exit_text(status: int) -> str:
    """Return the CODE for bubblewrap's exit status (negative: that signal ended it)."""
    if status < 0:
        return f"signal:{-status}"
    return f"signal:{status - 128}" if 128 < status <= 192 else str(status & 0xFF)


def check(user: int | None = None) -> None:
    """Raise ToolError if this machine cannot make a sandbox."""
    _bwrap()
    nothing = Sandbox(read_only={}, scratch=Path("/"), environment={}, user=user)
    probe = subprocess.run(
        [*_command(nothing, writable=False), "--", "/usr/bin/true"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **_as(user),
    )  # fmt: skip
    if probe.returncode != 0:
        reason = probe.stderr.strip()[:300]
        raise ToolError(f"training needs a sandbox, but none can be made here: {reason}",
                        hint=_namespaces())  # fmt: skip


def run(
    command: Sequence[str],
    sandbox: Sandbox,
    limits: Limits,
    log: Path,
    on_message: Callable[[bytes], None],
    *,
    stdin: Path = _NOTHING,
) -> Ended:
    """Run `command` to its end.

    `on_message`: gets the lines that the command writes to AICERT_PROGRESS_FD, and may raise
    StopRun. `stdin`: a file that the command reads. Call this from a thread that outlives the run:
    the sandbox dies with the thread that made it.
    """
    with _adopting_orphans(), log.open("wb") as log_file:
        watch = _Watch(limits=limits, sandbox=sandbox, log_file=log_file, on_message=on_message)
        try:
            watch.start(command, stdin)
            watch.follow()
        finally:
            watch.kill()
        return watch.ended()


def _namespaces(sysctl: Path = Path("/proc/sys"), system: Path = Path("/")) -> str:
    """Return a hint for a machine that does not allow user namespaces."""
    if any((system / name).exists() for name in (".dockerenv", "run/.containerenv")):
        return "start the container with --privileged, as `docker run --privileged …`"
    for name, forbids, allows in _SWITCHES:
        try:
            value = (sysctl / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == forbids:
            return f"sudo sysctl -w {name.replace('/', '.')}={allows}"
    return f"{_INSTALL}; user namespaces may be forbidden here: unshare --user true"


def _bwrap() -> str:
    program = shutil.which("bwrap")
    if program is None:
        raise ToolError("training needs bubblewrap (bwrap), which is missing", hint=_INSTALL)
    return program


def _as(user: int | None) -> dict[str, Any]:
    """Return arguments for subprocess that start a program as `user`, without other groups."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def _command(sandbox: Sandbox, *, writable: bool = True) -> list[str]:
    words = [
        _bwrap(),
        "--unshare-user",
        "--unshare-all",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
    ]
    words += ["--uid", "65534", "--gid", "65534", "--hostname", "aicert", "--cap-drop", "ALL"]
    words += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        place = Path("/", name)
        if place.is_symlink():
            words += ["--symlink", os.readlink(place), str(place)]
        elif place.is_dir():
            words += ["--ro-bind", str(place), str(place)]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for device in sandbox.devices:
        words += ["--dev-bind", str(device), str(device)]
    for inside, outside in sorted(sandbox.read_only.items()):
        words += ["--ro-bind", str(outside), inside]
    if writable:
        words += ["--bind", str(sandbox.scratch), SCRATCH]
    words += kernel_files.shown(gpus=bool(sandbox.devices))
    # bubblewrap's own root and /dev are file systems in memory that the sandbox could fill.
    words += ["--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm"]  # noqa: S108 - the sandbox's own
    words += ["--remount-ro", "/dev"]
    words += ["--remount-ro", "/", "--clearenv"]
    for name, value in sorted(sandbox.environment.items()):
        words += ["--setenv", name, value]
    return [*words, "--chdir", sandbox.directory] if writable else words


@contextlib.contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Adopt the sandbox's init if bubblewrap ends before it, so that it can be waited for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise ToolError(f"prctl: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class _Watch:
    """One run; call `start`, `follow` (until its end or a limit), `kill`, then `ended`."""

    def __init__(
        self,
        *,
        limits: Limits,
        sandbox: Sandbox,
        log_file: BinaryIO,
        on_message: Callable[[bytes], None],
    ) -> None:
        self._limits = limits
        self._sandbox = sandbox
        self._log = CappedLog(log_file, limits.log_bytes)
        self._messages = Lines(on_message)
        self._statuses = Lines(self._take_status)
        self._bubble: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        self._init_fd: int | None = None
        self._exit_known = False
        self._limit_hit: str | None = None
        self._stopped = False
        self._reading: dict[int, Callable[[bytes], None]] = {}
        self._max_rss = 0
        self._polls = 0
        self._began = time.monotonic()
        self._wall = 0.0
        self._cpu_before = _cpu_of_children()

    def start(self, command: Sequence[str], stdin: Path) -> None:
        log, messages, status = os.pipe(), os.pipe(), os.pipe()
        takers = (self._log.take, self._messages.take, self._statuses.take)
        self._reading = {
            end[0]: taker for end, taker in zip((log, messages, status), takers, strict=True)
        }
        words = _command(self._sandbox)
        words += ["--setenv", "AICERT_PROGRESS_FD", str(messages[1])]
        syscalls.leave_session_keyring()
        seccomp = syscalls.open_program()
        words += ["--json-status-fd", str(status[1]), "--seccomp", str(seccomp)]
        # The limit on processes is set inside, where only the sandbox's own count, because a fork
        # bomb is faster than the polls.
        words += ["--", "/usr/bin/prlimit", f"--nproc={self._limits.processes}", "--core=0"]
        words += [f"--fsize={self._limits.scratch_bytes}", "--", *command]
        reading = os.open(stdin, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._bubble = subprocess.Popen(
                words, stdin=reading, stdout=log[1], stderr=log[1],
                pass_fds=(messages[1], status[1], seccomp),
                # Programs inside can read bubblewrap's environment, since it is process 1 of the
                # sandbox, so the environment is empty.
                env={}, **_as(self._sandbox.user),
            )  # fmt: skip
        finally:
            os.close(seccomp)
            os.close(reading)
            for _, writing in (log, messages, status):
                os.close(writing)

    def follow(self) -> None:
        """Read until the last process has closed its pipes, or a limit is hit."""
        with selectors.DefaultSelector() as selector:
            for reading in self._reading:
                selector.register(reading, selectors.EVENT_READ)
            next_check = 0.0
            while selector.get_map() and self._limit_hit is None:
                for key, _ in selector.select(_POLL_SECONDS):
                    data = os.read(key.fd, 65536)
                    try:
                        self._reading[key.fd](data)
                    except StopRun:
                        self._stopped = True
                        self._read_log()
                        return
                    if not data:
                        selector.unregister(key.fd)
                if time.monotonic() >= next_check:
                    self._check_limits()
                    next_check = time.monotonic() + _POLL_SECONDS
        if self._bubble is not None and self._limit_hit is None:
            self._bubble.wait()

    def _read_log(self) -> None:
        """Read what is in the log's pipe by now: the reason was written before the message."""
        reading = next(iter(self._reading))
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reading, 65536):
                self._log.take(data)

    def _check_limits(self) -> None:
        limits, bubble = self._limits, self._bubble
        if bubble is None:
            return
        now = usage_below(bubble.pid)
        self._max_rss = max(self._max_rss, now.resident_bytes)
        self._polls += 1
        if time.monotonic() - self._began > limits.seconds:
            self._limit_hit = machine_io.TIME
        elif now.resident_bytes > limits.memory_bytes:
            self._limit_hit = machine_io.MEMORY
        elif now.threads > limits.processes:
            self._limit_hit = machine_io.PROCESSES
        elif self._polls % _SCRATCH_EVERY == 0:
            enough = limits.scratch_bytes
            if bytes_below(str(self._sandbox.scratch), enough=enough) > enough:
                self._limit_hit = machine_io.SCRATCH

    def _take_status(self, line: bytes) -> None:
        # These lines come from bubblewrap itself; programs in the sandbox do not have this pipe.
        status = json.loads(line)
        if "child-pid" in status:
            self._init = int(status["child-pid"])
            with contextlib.suppress(ProcessLookupError):
                self._init_fd = os.pidfd_open(self._init)
        self._exit_known = self._exit_known or "exit-code" in status

    def kill(self) -> None:
        """End all of the sandbox's processes, and wait until the last one is gone.

        Killing its init ends the whole process namespace, and the kernel lets init be waited for
        only when no other process of the namespace is left.
        """
        bubble = self._bubble
        try:
            if bubble is None:
                return
            if self._init_fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)
            else:
                _kill_with_children(bubble)
            self._wait_for(bubble)
            if (
                self._init_fd is not None
                and not select.select([self._init_fd], [], [], _LAST_WAIT_SECONDS)[0]
            ):
                raise ToolError("processes in the sandbox did not stop")
            if self._init is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self._init, 0)
        finally:
            self._wall = time.monotonic() - self._began
            for each in [*self._reading, *([self._init_fd] if self._init_fd is not None else [])]:
                os.close(each)
            self._reading, self._init_fd = {}, None

    def _wait_for(self, bubble: subprocess.Popen[bytes]) -> None:
        try:
            bubble.wait(_LAST_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            bubble.kill()
            bubble.wait()

    def ended(self) -> Ended:
        if self._bubble is None or self._bubble.returncode is None:
            raise ToolError("the sandbox was never started")
        status = self._bubble.returncode
        codes = {machine_io.TIME: "timeout", machine_io.MEMORY: "memory"}
        code = codes.get(self._limit_hit or "")
        if code is None:
            code = exit_text(-signal.SIGKILL if self._limit_hit or self._stopped else status)
        if self._limit_hit is None and status == 1 and not self._exit_known:
            raise ToolError(f"the sandbox could not be made: {self._log.first_line()}",
                            hint=_namespaces())  # fmt: skip
        return Ended(
            exit_code=code,
            limit_hit=self._limit_hit,
            wall_seconds=self._wall,
            cpu_seconds=_cpu_of_children() - self._cpu_before,
            max_rss=self._max_rss,
            log_truncated=self._log.truncated,
        )


def _kill_with_children(bubble: subprocess.Popen[bytes]) -> None:
    """Kill a bubblewrap that has not named its child yet, together with its children.

    Otherwise its child, the sandbox's init, would wait for ever: only later does the init arrange
    to die with its parent.
    """
    if bubble.poll() is not None:
        return
    bubble.send_signal(signal.SIGSTOP)
    # A stopped process starts nothing more and does not reap its children, so none of their process
    # IDs has been reused.
    os.waitid(os.P_PID, bubble.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    children = children_of(bubble.pid)
    for child in children:
        os.kill(child, signal.SIGKILL)
    bubble.kill()
    bubble.wait()
    # The orphans are the runner's children now (`_adopting_orphans`).
    for child in children:
        os.waitpid(child, 0)


def _cpu_of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
