"""System errors, in words that tell people what to do."""

import errno
import os
import pty
import select
import signal
import sys
from pathlib import Path

import pytest

from enclave_runner.sandbox import containment
from rules.example import example
from rules.host import git
from rules.host.os_errors import explained
from rules.project import config
from rules.runs import certify

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"),
         "no space left on device: '/a/b'", "df -h"),
        (PermissionError(errno.EACCES, "Permission denied", "/a b"),
         "permission denied: '/a b'", "ls -ld '/a b'"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "git"),
         "git is not installed", "apt-get install git"),
        (OSError(errno.ENOLCK, "No locks available"), "no locks available", "local disk"),
        (OSError(errno.EOPNOTSUPP, "Operation not supported"), "not supported", "local disk"),
        (OSError(errno.EROFS, "Read-only file system", b"/x\xff"), "'/x\\udcff'", "copy"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/f/g"), "/f/g", "ls -ld /f/g"),
        (OSError("odd"), "odd", ""),
    ],
)  # fmt: skip
def test_errors_of_the_system_are_words(error: OSError, message: str, hint: str) -> None:
    shown = explained(error)
    assert shown.exit_code == 2
    assert message in shown.message
    assert hint in (shown.hint or "")


DUBIOUS = """fatal: detected dubious ownership in repository at '/x'
To add an exception for this directory, call:

\tgit config --global --add safe.directory /x"""


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (DUBIOUS, "git config --global --add safe.directory /x"),
        ("fatal: not a git repository (or any of the parent directories): .git", "git init"),
        ("fatal: bad object 0123", "git fetch --unshallow"),
        ("fatal: something else", None),
    ],
)  # fmt: skip
def test_gits_reason_is_kept_and_hinted(tmp_path: Path, reason: str, hint: str | None) -> None:
    refusal = git.refused(tmp_path, "ls-files", reason.encode())
    assert reason in refusal.message
    assert (refusal.hint or "").startswith(hint or "")
    assert (refusal.hint is None) == (hint is None)


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({"sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
         "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"sys/kernel/unprivileged_userns_clone": "0"},
         "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"sys/user/max_user_namespaces": "0"}, "sudo sysctl -w user.max_user_namespaces=15000"),
        ({"sys/kernel/unprivileged_userns_clone": "1"}, "unshare --user true"),
        ({".dockerenv": "", "sys/kernel/unprivileged_userns_clone": "0"}, "--privileged"),
        ({"run/.containerenv": ""}, "--privileged"),
    ],
)  # fmt: skip
def test_namespaces_that_are_forbidden_are_hinted_for_this_machine(
    tmp_path: Path, files: dict[str, str], hint: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert hint in containment._namespaces(tmp_path / "sys", tmp_path)


def test_on_a_fresh_clone_the_example_is_foreseen(tmp_path: Path) -> None:
    data = (REPOSITORY / "aicert.toml").read_bytes()
    run = config.parse(tmp_path, data).run("tiny-alpaca")
    reason = certify.why(tmp_path, run, None)
    assert reason is not None
    assert not reason.stops
    assert "certify makes them" in reason.text
    for folder in example.EXPECTED:
        (tmp_path / folder).mkdir(parents=True)
    reason = certify.why(tmp_path, run, None)
    assert reason is not None
    assert reason.stops


SPINNER = """
import sys, time
from rules import __main__ as program
from rules.host import progress

def main(words):
    try:
        with progress.task("waiting", stream=sys.stderr):
            time.sleep(600)
    except KeyboardInterrupt:
        return 130

program.main = main
sys.exit(program.run())
"""


@pytest.mark.parametrize("key", [b"\x1c", b"\x03"])
def test_whatever_ends_it_on_a_terminal_the_cursor_is_shown_again(key: bytes) -> None:
    """Type Ctrl-\\ and Ctrl-C at a terminal while a bar is drawn."""
    child, terminal = pty.fork()
    if child == 0:
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.environ["PYTHONPATH"] = str(REPOSITORY)
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", SPINNER])  # noqa: S606 - on that terminal
    shown, typed = b"", False
    while select.select([terminal], [], [], 600)[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
        if b"\x1b[?25l" in shown and not typed:
            os.write(terminal, key)
            typed = True
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.WIFEXITED(status), status
    assert os.WEXITSTATUS(status) == 128 + (signal.SIGQUIT if key == b"\x1c" else signal.SIGINT)
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
