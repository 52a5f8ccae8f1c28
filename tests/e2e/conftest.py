"""Give each test a checkout of its own, and trainers that fail on purpose."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rules.host import training_env
from rules.machines.ca import Ca, local_ca
from tests.unit.signing_keys import Printed

if TYPE_CHECKING:
    from tests.e2e.lease.lease_tpm import BorrowersTpm

REPOSITORY = Path(__file__).resolve().parents[2]
# Nothing here may wait for ever. The slowest command is one real training.
LIMIT_S = 600


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of the repository with its own CA, certificates and outputs."""

    root: Path
    environment: dict[str, str]

    def doit(self, *arguments: str, limit: float = LIMIT_S) -> "subprocess.CompletedProcess[str]":
        """Run `./doit ARGUMENTS` to its end."""
        return subprocess.run(
            [self.root / "doit", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=limit,
        )

    @contextmanager
    def start(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        """Start `./doit ARGUMENTS` in a process group of its own, with its output in pipes. It does
        not outlive the block, however the block ends.
        """
        with subprocess.Popen(
            [self.root / "doit", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                kill_group(process)

    @property
    def certificate(self) -> Path:
        return self.root / "certificates" / "tiny-alpaca" / "certificate.json"

    @property
    def model(self) -> Path:
        return self.root / "outputs" / "tiny-alpaca" / "model"

    def processes(self) -> list[str]:
        """Return the command lines of processes that work in this checkout or have a path in it as
        an argument.
        """
        command_lines = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                directory = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(self.root) in line or directory.startswith(str(self.root)):
                command_lines.append(line)
        return command_lines


def kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill a process that `Checkout.start` started, with its group, unless it has ended."""
    # Until we wait for it, its process id stays reserved, so no other process can be hit.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds, for a bounded time: nothing notifies a test of a grandchild's
    progress.
    """
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def copy_repository(target: Path) -> None:
    """Copy the files that git tracks or would track, but not what runs left behind."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and not name.startswith("certificates/") and (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            # A file that another test is replacing at this moment may be gone since it was listed.
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(REPOSITORY / name, target / name)
    (target / ".venv").symlink_to(Path(sys.prefix).resolve())


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout that trains with the real training environment."""
    root = tmp_path / "checkout"
    root.mkdir()
    copy_repository(root)
    cache = training_env.location(REPOSITORY).parents[1]
    return Checkout(root=root, environment=os.environ | {"AICERT_CACHE": str(cache)})


StandIn = Callable[[str], Checkout]


@pytest.fixture
def stand_in(checkout: Checkout, tmp_path: Path) -> StandIn:
    """Return `stand_in(source)`: a checkout whose training environment runs `source`, not Axolotl.

    It is for failures that a real trainer does not produce on demand. `config` is the effective
    config, `output` the folder to write to, and `say(step, total)` reports progress as the plugin
    does.
    """

    def make(source: str) -> Checkout:
        cache = tmp_path / "cache"
        name = training_env.location(checkout.root).name
        environment = cache / "envs" / name
        package = environment / "lib" / "python3.11" / "site-packages" / "axolotl" / "cli"
        package.mkdir(parents=True)
        (environment / "bin").mkdir()
        base = Path(sys.base_prefix)
        (environment / "bin" / "python").symlink_to(base / "bin" / "python3.11")
        (environment / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.11\n")
        (package.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
        (package / "main.py").write_text(PREAMBLE + source)
        (package / "config.py").write_text(MEASURED)
        (environment / "complete").write_text(training_env._marker())
        return Checkout(
            root=checkout.root, environment=checkout.environment | {"AICERT_CACHE": str(cache)}
        )

    return make


# The process that measures the loss imports this module of Axolotl first.
MEASURED = """
import json, os
loss = {"before": 2.5, "after": 2.0, "rows": 8, "tokens": 100, "templateTokens": 8}
os.write(int(os.environ["AICERT_PROGRESS_FD"]), (json.dumps(loss) + "\\n").encode())
os._exit(0)
"""
PREAMBLE = """
import json, os, sys, time
from pathlib import Path
config = json.loads(Path(sys.argv[2]).read_bytes())
output = Path(config["output_dir"])
output.mkdir(exist_ok=True)
def tell(**message):
    os.write(int(os.environ["AICERT_PROGRESS_FD"]), (json.dumps(message) + "\\n").encode())
def say(step, total):
    tell(step=step, total=total)
def weights(data=b"\\1", name="a"):
    entry = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({name: entry}).encode()
    (output / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    tell(counters={"steps": 3, "tokens": 30, "losses": [[1, 2.0]]})
"""


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    """Return the certificate authority of simulated platforms."""
    return local_ca(tmp_path_factory.mktemp("checkout"), "local")


@pytest.fixture
def power(ca: Ca) -> "Iterator[BorrowersTpm]":
    """Yield a borrower's TPM whose platform gave it an attestation key."""
    from rules.machines import swtpm
    from tests.e2e.lease.lease_tpm import borrowers_tpm

    with borrowers_tpm() as power:
        with power.powered():
            swtpm._prepare(power.tcti, ca)
        yield power


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return capsys.readouterr
