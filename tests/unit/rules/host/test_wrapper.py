"""`./doit` and rules/host/bootstrap.py on small checkouts, with a real venv and a real pip.

The locks name one wheel that the test builds; nothing is fetched. A directory of programs that the
test controls stands for what apt would install.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
PROGRAMS = ("swtpm", "bwrap", "setpriv")
MAIN = """\
import os, sys
import carried
print("arguments", sys.argv[1:])
print("in", os.getcwd())
print("from", os.environ["AICERT_INVOKED_FROM"])
print("version", carried.VERSION)
sys.exit(int(os.environ.get("EXIT", "0")))
"""
APT = """\
echo "apt-get $*" >> "{log}"
case "$*" in *install*) ;; *) exit 0 ;; esac
for name in {programs}; do printf '#!/bin/sh\\n' > "{bin}/$name"; chmod +x "{bin}/$name"; done
"""


def wheel(folder: Path, version: str) -> str:
    """Build a wheel by hand, and return the lock line that names it."""
    path = folder / f"carried-{version}-py3-none-any.whl"
    info = f"carried-{version}.dist-info"
    files = {
        "carried.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: carried\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            # A fixed time gives the wheel the same hash in every test.
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"carried=={version} --hash=sha256:{digest}\n"


@dataclass(kw_only=True)
class Checkout:
    root: Path
    wheels: Path
    environment: dict[str, str]

    def lock(self, line: str) -> None:
        (self.root / "rules/requirements.lock").write_text(line)

    def start(
        self, *arguments: str, cwd: Path | None = None, **more: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(self.root / "doit"), *arguments],
            cwd=cwd or self.root,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **more: str) -> tuple[int, str, str]:
        with self.start(*arguments, cwd=cwd, **more) as process:
            out, err = process.communicate()
        return process.returncode, out, err


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Share environments between these tests: their key is their content."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def checkout(tmp_path: Path, cache: Path) -> Checkout:
    root = tmp_path / "a path with spaces"
    (root / "rules/host").mkdir(parents=True)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    shutil.copy(ROOT / "doit", root)
    for name in ("bootstrap.py", "file_lock.py", "installer.py", "os_errors.py", "places.py"):
        shutil.copy(ROOT / "rules/host" / name, root / "rules/host")
    (root / "aicert").mkdir()
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "aicert" / name, root / "aicert")
    for name in ("__init__.py", "start.py"):
        shutil.copy(ROOT / "rules" / name, root / "rules")
    (root / "rules/__main__.py").write_text(MAIN)
    (root / "rules/build-requirements.lock").write_text(wheel(wheels, "1.0"))
    (root / "rules/requirements.lock").write_text(wheel(wheels, "1.0"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AICERT_CACHE": str(cache),
        "AICERT_PYTHON": sys.executable,
        "AICERT_INSTALL": "no",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels.as_uri(),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }
    return Checkout(root=root, wheels=wheels, environment=environment)


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def restricted(checkout: Checkout, folder: Path, *programs: str) -> Path:
    """Leave `checkout` only the named programs and those that every Debian has."""
    folder.mkdir()
    for name in ("sh", "env", "cmp"):
        path = shutil.which(name)
        assert path
        (folder / name).symlink_to(path)
    for name in programs:
        program(folder / name, "")
    # For users who are not root: a sudo that asks for no password.
    program(folder / "sudo", 'shift; exec "$@"')
    checkout.environment["PATH"] = str(folder)
    return folder


def test_sets_up_then_runs_from_the_root_with_the_callers_directory(
    checkout: Checkout, tmp_path: Path
) -> None:
    code, out, err = checkout.run("verify", "--at", "a b", "*", cwd=tmp_path)
    assert code == 0, err
    assert "arguments ['verify', '--at', 'a b', '*']\n" in out
    assert f"in {checkout.root}\n" in out
    assert f"from {tmp_path}\n" in out
    assert (checkout.root / ".venv").is_symlink()
    again = checkout.run(cwd=tmp_path, EXIT="1")
    where = f"doit  works on {checkout.root}\n"
    assert (again[0], again[2]) == (1, where), "it says where, and keeps the exit code"
    assert checkout.run()[2] == "", "called in the repository itself, it says nothing"
    (checkout.root / "deep/er").mkdir(parents=True)
    assert checkout.run(cwd=checkout.root / "deep/er")[2] == ""


def test_called_by_a_relative_name(checkout: Checkout) -> None:
    done = subprocess.run(
        ["sh", "./doit", "x"],
        cwd=checkout.root,
        env=checkout.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"in {checkout.root}\n" in done.stdout


def test_called_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(checkout.root / "doit")
    done = subprocess.run(
        [tmp_path / "link", "x"],
        cwd=tmp_path,
        env=checkout.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"in {checkout.root}" in done.stdout
    assert f"doit  works on {checkout.root}\n" in done.stderr


def test_another_repository_that_is_named(checkout: Checkout, tmp_path: Path) -> None:
    other = tmp_path / "another one"
    (other / "rules").mkdir(parents=True)
    (other / "rules/__main__.py").write_text("raise SystemExit('not ours')\n")
    (other / ".venv").mkdir()
    code, out, err = checkout.run("--project", str(other), "lock", "a b", cwd=other)
    assert code == 0, err
    assert "arguments ['lock', 'a b']\n" in out
    assert f"in {other}\n" in out
    assert f"from {other}\n" in out
    assert (other / ".aicert/venv").is_symlink()
    assert list((other / ".venv").iterdir()) == [], "that name belongs to its owner"
    assert checkout.run("--project", str(other), cwd=other)[2] == ""


def test_a_variable_names_no_repository(checkout: Checkout, tmp_path: Path) -> None:
    code, out, err = checkout.run(AICERT_PROJECT=str(tmp_path))
    assert code == 0, err
    assert f"in {checkout.root}\n" in out
    assert not (tmp_path / ".aicert").exists()


def test_a_changed_lock_makes_a_new_environment_and_keeps_the_old_one(checkout: Checkout) -> None:
    assert checkout.run()[0] == 0
    before = (checkout.root / ".venv").readlink()
    checkout.lock(wheel(checkout.wheels, "2.0"))
    code, out, err = checkout.run()
    assert code == 0, err
    assert "version 2.0\n" in out
    assert "installing rules/requirements.lock" in err
    assert (checkout.root / ".venv").readlink() != before
    assert (before / "bin/python").exists(), "a doit that still runs there is not cut off"


def test_an_interrupted_set_up_is_redone(checkout: Checkout) -> None:
    checkout.lock(wheel(checkout.wheels, "3.0"))
    assert checkout.run()[0] == 0
    environment = (checkout.root / ".venv").resolve()
    # The state after an interruption between the last pip and the marker.
    (environment / "requirements.lock").unlink()
    next(environment.glob("lib/python*/site-packages/carried.py")).unlink()
    code, out, err = checkout.run()
    assert code == 0, err
    assert "version 3.0\n" in out


def test_an_environment_whose_python_is_gone_is_redone(checkout: Checkout) -> None:
    checkout.lock(wheel(checkout.wheels, "3.1"))
    assert checkout.run()[0] == 0
    for link in (checkout.root / ".venv/bin").glob("python*"):
        link.unlink()
    code, _, err = checkout.run()
    assert code == 0, err


def test_a_wrong_hash_is_refused_and_nothing_is_switched(checkout: Checkout) -> None:
    assert checkout.run()[0] == 0
    before = (checkout.root / ".venv").readlink()
    line = wheel(checkout.wheels, "4.0")
    checkout.lock(line[:-3] + ("00" if line[-3:-1] != "00" else "11") + "\n")
    code, out, err = checkout.run()
    assert (code, out) == (2, "")
    assert "error: pip could not install rules/requirements.lock" in err
    assert "Traceback" not in err
    assert (checkout.root / ".venv").readlink() == before


def test_an_unhashed_requirement_is_refused(checkout: Checkout) -> None:
    wheel(checkout.wheels, "5.0")
    checkout.lock("carried==5.0\n")
    assert checkout.run()[0] == 2


def test_two_at_once_make_one_environment(checkout: Checkout) -> None:
    checkout.lock(wheel(checkout.wheels, "6.0"))
    with checkout.start() as one, checkout.start() as other:
        results = [one.communicate(), other.communicate()]
    assert (one.returncode, other.returncode) == (0, 0), results
    assert sum("making" in err for _, err in results) == 1
    assert all("version 6.0\n" in out for out, _ in results)


def test_missing_packages_are_named_with_the_command(checkout: Checkout, tmp_path: Path) -> None:
    restricted(checkout, tmp_path / "bin", "setpriv", "apt-get")
    code, out, err = checkout.run("list")
    assert (code, out) == (3, "")
    assert "error: system packages are missing: swtpm, bubblewrap" in err
    assert "apt-get install --yes --no-install-recommends swtpm bubblewrap" in err


def test_missing_packages_without_apt(checkout: Checkout, tmp_path: Path) -> None:
    restricted(checkout, tmp_path / "bin", "swtpm", "setpriv")
    code, _, err = checkout.run()
    assert code == 3
    assert "bubblewrap" in err
    assert "package manager" in err


def test_missing_packages_are_installed_where_that_takes_no_password(
    checkout: Checkout, tmp_path: Path
) -> None:
    assert checkout.run()[0] == 0
    folder = restricted(checkout, tmp_path / "bin")
    log = tmp_path / "log"
    for name in ("printf", "chmod", "true"):
        (folder / name).symlink_to(shutil.which(name) or "")
    program(folder / "apt-get", APT.format(log=log, bin=folder, programs=" ".join(PROGRAMS)))
    code, out, err = checkout.run("list", AICERT_INSTALL="")
    assert code == 0, err
    assert "arguments ['list']" in out
    install = [line for line in log.read_text().splitlines() if "install" in line]
    assert install[0].endswith("swtpm bubblewrap util-linux")


def test_apt_that_fails_ends_with_the_command(checkout: Checkout, tmp_path: Path) -> None:
    folder = restricted(checkout, tmp_path / "bin", *PROGRAMS[:2])
    (folder / "true").symlink_to(shutil.which("true") or "")
    program(folder / "apt-get", "exit 100")
    code, _, err = checkout.run(AICERT_INSTALL="")
    assert code == 3
    assert "error: apt-get did not install util-linux" in err
    assert "--no-install-recommends util-linux" in err.partition("hint: ")[2]


def test_a_python_that_is_none_is_refused(checkout: Checkout) -> None:
    code, _, err = checkout.run(AICERT_PYTHON="/nowhere/python3")
    assert code == 3
    assert "AICERT_PYTHON is not a Python 3.11" in err


def test_a_foreign_venv_is_left_alone(checkout: Checkout) -> None:
    (checkout.root / ".venv").mkdir()
    (checkout.root / ".venv/keep").touch()
    code, _, err = checkout.run()
    assert code == 3
    assert "hint: mv " in err
    assert (checkout.root / ".venv/keep").exists()


@pytest.mark.parametrize(
    ("error", "calls", "words"),
    [
        (
            "EPERM",
            "symlink,symlinkat",
            "this file system does not support symbolic links",
        ),
        ("ENOLCK", "flock", "no locks available"),
    ],
)
def test_a_poorer_file_system_is_said_in_words(
    checkout: Checkout, error: str, calls: str, words: str
) -> None:
    """The exit code is never 1, which is doit's own and a verdict's."""
    assert checkout.run()[0] == 0
    (checkout.root / ".venv").unlink()
    refusing = [sys.executable, str(ROOT / "tests/refusing.py"), error, calls]
    done = subprocess.run(
        [*refusing, checkout.root / "doit"],
        env=checkout.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
