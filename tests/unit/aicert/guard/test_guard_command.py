"""`aicert guard`: which command's Python it would guard; tests/e2e shows that it does."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

import pytest

from aicert.cli.main import main
from aicert.errors import ToolError
from aicert.guard import command
from aicert.guard.line import LINE
from tests.unit.signing_keys import pair

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    pair(tmp_path, "k")
    place = tmp_path / "guard.toml"
    place.write_text('[[signer]]\nkey = "k.pub"\n')
    return place


def script(folder: Path, text: str, mode: int = 0o755) -> str:
    place = folder / "program"
    place.write_text(text)
    place.chmod(mode)
    return str(place)


@pytest.mark.parametrize(
    ("words", "skips"),
    [
        (["-S", "x.py"], True),
        (["-BS", "x.py"], True),
        (["-X", "utf8", "-S"], True),
        (["-Xutf8", "-S"], True),
        (["-W", "error", "-IS"], True),
        (["x.py", "-S"], False),
        (["-c", "1", "-S"], False),
        (["-mS", "-S"], False),
        (["-Bc", "S"], False),
        (["--version", "-S"], False),
        (["-", "-S"], False),
        (["-XS", "x.py"], False),
        ([], False),
    ],
)
def test_an_interpreter_without_its_site_is_recognised(words: list[str], skips: bool) -> None:
    assert command._skips_site(words) is skips


def test_the_interpreter_of_a_script_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for text, interpreter in (
        ("#!/opt/bin/python3.11 -I\n", "/opt/bin/python3.11"),
        ("#!/usr/bin/env python3\n", str(tmp_path / "python3")),
        ("#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n", "/a b/bin/python"),
        ("#!/bin/sh\n'''exec' /a/bin/python \"$0\" \"$@\"\n' '''\n", "/a/bin/python"),
    ):
        assert command._interpreter(script(tmp_path, text)) == interpreter


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\n", "is not recognised as a Python program"),
        ("#!/usr/bin/env no-such-python\n", "is not recognised as a Python program"),
        ("\x7fELF", "is not recognised as a Python program"),
        ("#!/opt/bin/python -S\n", "python -S reads no .pth"),
        ("#!/no/such/folder/python\n", "cannot start '/no/such/folder/python'"),
    ],
)
def test_what_would_not_be_guarded_is_not_started(
    policy: Path, tmp_path: Path, capsys: Captured, text: str, message: str
) -> None:
    code = main(["guard", "--policy", str(policy), "--", script(tmp_path, text)])
    assert code in (2, 3)
    assert message in capsys.readouterr().err


def test_wrong_command_lines(policy: Path, capsys: Captured) -> None:
    for words, message in (
        (["guard"], "a guard needs a policy"),
        (["guard", "--policy", str(policy)], "no command"),
        (["guard", "--policy", str(policy), "--", "no-such-program"], "no program"),
        (["guard", "--policy", str(policy), "--", sys.executable, "-S"], "python -S"),
        (["guard", "--policy", str(policy), "--", sys.executable, "x.py"], "no aicert-guard.pth"),
    ):
        assert main(words) == 3
        assert message in capsys.readouterr().err


class BecameError(Exception):
    pass


def test_it_becomes_the_command(
    policy: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def become(*words: object) -> NoReturn:
        raise BecameError(*words)

    def deny(*words: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    words = [script(tmp_path, "#!/opt/bin/python\n"), "-x"]
    monkeypatch.setattr(command, "_exit_code", lambda *_: 0)
    monkeypatch.setattr(os, "execve", become)
    with pytest.raises(BecameError) as raised:
        command.run(str(policy), words)
    program, arguments, environment = raised.value.args
    assert (program, arguments) == (words[0], words)
    assert environment["AICERT_GUARD"] == str(policy)
    monkeypatch.setattr(os, "execve", deny)
    assert main(["guard", "--policy", str(policy), "--", *words]) == 2
    assert "cannot start" in capsys.readouterr().err
    monkeypatch.setattr(command, "_exit_code", lambda *_: 1)
    assert main(["guard", "--policy", str(policy), "--", *words]) == 2
    assert "does not start under the guard: exit code 1" in capsys.readouterr().err


def test_a_program_that_cannot_be_read(policy: Path, tmp_path: Path, capsys: Captured) -> None:
    with pytest.raises(ToolError, match="cannot read"):
        command._interpreter(str(tmp_path))


def test_the_line_is_installed_beside_the_packages(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert main(["guard", "--install"]) == 0
    text = (tmp_path / "aicert-guard.pth").read_text()
    assert str(tmp_path / "aicert-guard.pth") in capsys.readouterr().out
    # `site` runs each line that begins with `import`, by itself.
    assert text.startswith("import ")
    assert text.count("\n") == 1
    monkeypatch.delenv("AICERT_GUARD", raising=False)
    exec(text)  # noqa: S102 - as `site` does; without the variable it does nothing


def test_a_python_without_aicert_ends_where_the_variable_is_set() -> None:
    # Python itself continues after an error in a `.pth` file.
    for value, code, output in (("guard.toml", 2, ""), ("", 0, "on\n")):
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LINE + "print('on')"],
            env={"AICERT_GUARD": value},
            capture_output=True,
            text=True,
        )
        assert (ended.returncode, ended.stdout) == (code, output), ended.stderr
        assert ("error: the guard did not start" in ended.stderr) is (code == 2)


def test_the_limits_are_printed(capsys: Captured) -> None:
    assert main(["guard", "--limits"]) == 0
    assert "  - python -S and interpreters without the .pth" in capsys.readouterr().out
