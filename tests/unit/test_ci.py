"""`.ci/run` in a checkout whose `./doit` only reports where it was started."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOIT = """\
#!/bin/sh
env > "$(dirname "$0")/env.$1"
ls -A "$HOME" "$XDG_CACHE_HOME" > "$(dirname "$0")/empty.$1"
mkdir -p "$HOME/.cache/deep"
chmod 555 "$HOME/.cache/deep"
exit $(cat "$(dirname "$0")/code")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a checkout"
    (root / ".ci").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    shutil.copy(ROOT / ".ci/run", root / ".ci")
    (root / "doit").write_text(DOIT)
    (root / "doit").chmod(0o755)
    (root / "code").write_text("0")
    home = tmp_path / "home"
    for name in (".config/pip/pip.conf", ".npmrc", ".cache/pip/wheel", ".gitconfig"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    return root


def run(checkout: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    home = checkout.parent / "home"
    environment = {
        "PATH": f"{home}/venv/bin:{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(checkout.parent / "tmp"),
        "VIRTUAL_ENV": f"{home}/venv",
        "PYTHONPATH": str(home),
        "AICERT_CACHE": str(home),
        "PIP_CACHE_DIR": str(home),
        "XDG_DATA_HOME": str(home),
    }
    return subprocess.run(
        [checkout / ".ci/run"], env=environment | more, capture_output=True, text=True
    )


def seen(checkout: Path, command: str) -> dict[str, str]:
    lines = (checkout / f"env.{command}").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_nothing_that_lies_on_the_machine_helps(checkout: Path) -> None:
    done = run(checkout)
    assert done.returncode == 0, done.stderr
    home = checkout.parent / "home"
    for command in ("list", "test"):
        environment = seen(checkout, command)
        of_machine = {key for key, value in environment.items() if str(home) in value}
        assert of_machine == {"PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG"}
        assert environment["PIP_CONFIG_FILE"] == f"{home}/.config/pip/pip.conf"
        assert environment["PATH"] == os.environ["PATH"]
        assert environment["HOME"] != environment["XDG_CACHE_HOME"]
    assert ".cache" not in (checkout / "empty.list").read_text()
    assert not list((checkout.parent / "tmp").iterdir()), "it cleans up after itself"


def test_a_failure_is_the_exit_code_and_leaves_nothing(checkout: Path) -> None:
    (checkout / "code").write_text("2")
    done = run(checkout)
    assert done.returncode == 2
    assert not (checkout / "env.test").exists()
    assert not list((checkout.parent / "tmp").iterdir())


def test_a_configuration_that_was_named_stays(checkout: Path) -> None:
    run(checkout, PIP_CONFIG_FILE="/dev/null", NPM_CONFIG_USERCONFIG="/dev/null")
    environment = seen(checkout, "test")
    assert environment["PIP_CONFIG_FILE"] == "/dev/null"
    assert environment["NPM_CONFIG_USERCONFIG"] == "/dev/null"


def test_pip_is_told_where_packages_come_from_and_nothing_else(checkout: Path) -> None:
    sources = {
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_CERT": "/certificates.pem",
        "PIP_DEFAULT_TIMEOUT": "180",
    }
    others = {"PIP_TARGET": "/elsewhere", "PIP_NO_BINARY": ":all:", "PIP_CONSTRAINT": "/pins.txt"}
    run(checkout, **sources, **others)
    given = {key: value for key, value in seen(checkout, "test").items() if key.startswith("PIP_")}
    config = given.pop("PIP_CONFIG_FILE")
    assert config == f"{checkout.parent}/home/.config/pip/pip.conf"
    assert given == sources


@pytest.mark.parametrize("build", ["torch-2.13.0+cpu", "torch-2.13.0"])
def test_it_says_which_torch_was_trained_with(checkout: Path, build: str) -> None:
    packages = checkout / ".aicert/envs/training-0/lib/python3.11/site-packages"
    (packages / f"{build}.dist-info").mkdir(parents=True)
    (checkout / "code").write_text("1")
    assert f"ci: trained with {build}\n" in run(checkout).stderr


def test_what_is_made_already_is_named(checkout: Path) -> None:
    assert "not made again" not in run(checkout).stderr
    (checkout / ".aicert").mkdir()
    assert "not made again" in run(checkout).stderr


def test_tests_in_the_background_start_programs_that_signals_end() -> None:
    ends = "import os, signal; os.kill(os.getpid(), signal.Signals[NAME]); print('went on')"
    starts = (
        "import subprocess, sys, tests.conftest\nfor name in ('SIGINT', 'SIGQUIT', 'SIGHUP'):\n"
    )
    starts += f"    program = {ends!r}.replace('NAME', repr(name))\n"
    starts += "    print(subprocess.run([sys.executable, '-c', program]).returncode)\n"
    shell = ["sh", "-c", 'trap "" INT QUIT HUP; exec "$0" -c "$1"', sys.executable, starts]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["-2", "-3", "-1"], done.stderr
