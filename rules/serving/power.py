"""Start and end machines that serve: `local`, a process, and `qemu`, the serving image.

Each is a context manager. Whatever happens in the block, nothing of the machine is left running
afterwards, and no weights stay in memory. The machine's TPM state stays: with its counters it is
the machine's identity for a broker. What courier and machine send is elsewhere.
"""

import contextlib
import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from aicert.errors import ToolError
from aicert.formats.digest import of_bytes
from aicert.frozen import dataclass
from aicert.lease import serve_settings
from aicert.lease.serve_settings import Settings
from rules.host import extras, locked_env, training_env
from rules.host.places import code_of
from rules.host.work import remove
from rules.image import build
from rules.image.store import Image
from rules.image.tasks import ensure
from rules.machines import local, swtpm
from rules.machines.ca import local_ca
from rules.machines.machine import Machine, Serving
from rules.machines.qemu import accelerator as qemu_accelerator
from rules.machines.qemu.command import GUEST, PREFIX, Network, boot, processors
from rules.machines.qemu.console import CONSOLE, console_tail
from rules.machines.qemu.tpm import kept_tpm
from rules.machines.volumes import OWN_MEMORY, Volumes, make_volume
from rules.serving.lease_state import LeaseFolder
from rules.serving.link import Link

ENGINE_LOCK: Final = Path("enclave_runner/serving/requirements.lock")
# The port in a qemu machine; only qemu's own network sees it.
GUEST_PORT: Final = 8443
# The name of what keeps weights in memory, while a process serves.
_SHARED: Final = Path("/dev/shm")  # noqa: S108 - made here, for its owner alone
_ENDS_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Powered:
    """A running machine. `url`: for the port that the machine names; `last_lines`: the last lines
    of its console; `until`: when it has to end (`time.monotonic`), because it costs money.
    """

    link: Link
    url: Callable[[int], str]
    last_lines: Callable[[], str]
    until: float = math.inf


@contextlib.contextmanager
def powered(
    root: Path, kept: LeaseFolder, bundle: Path, machine: Machine, say: Callable[[str], None]
) -> Iterator[Powered]:
    """Run this lease's machine until the block ends."""
    if machine.serving is None:
        raise ToolError(f"machine {machine.name} serves nothing")
    make = _image if machine.driver.in_image else _process
    with make(root, kept, bundle, machine, machine.serving, say) as running:
        yield running


# --- A process.


@contextlib.contextmanager
def _process(
    root: Path,
    kept: LeaseFolder,
    bundle: Path,
    machine: Machine,
    serving: Serving,
    say: Callable[[str], None],
) -> Iterator[Powered]:
    environment = training_env.ensure_shown(root)
    packages = _engine_packages(root, say)
    with (
        swtpm.kept(kept.work, kept.tpm, local_ca(root, "local")) as tcti,
        _memory(kept) as at,
    ):
        console = kept.work / CONSOLE
        words = ["--tcti", tcti, "--bundle", str(bundle.resolve())]
        words += ["--memory", str(at / "weights"), "--copies", str(at / "copies")]
        words += ["--scratch", str(at / "engine"), "--log", str(at / "engine.log")]
        words += ["--environment", str(environment), "--packages", str(packages)]
        words += ["--engine-memory", str(machine.memory), "--threads", str(machine.cpus or 1)]
        words += ["--host", serving.listen, "--port", str(serving.port)]
        with console.open("wb") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--",
                 sys.executable, "-P", "-m", "enclave_runner.serving", *words],
                # The TPM's socket has a relative name, because paths of UNIX sockets are limited to
                # 107 bytes.
                cwd=kept.work,
                env=local.environment(extras.python_path(code_of(root))),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        if process.stdin is None or process.stdout is None:
            raise ToolError("the machine has no standard input and output")
        link = Link(os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()))
        process.stdin.close()
        process.stdout.close()
        with _ended(process, link):
            yield Powered(
                link=link,
                url=lambda port: f"https://{serving.listen}:{port}",
                last_lines=lambda: console_tail(kept.work),
            )


def _engine_packages(root: Path, say: Callable[[str], None]) -> Path:
    """Return the folder of packages that the engine needs in addition to the training
    environment.
    """
    python = locked_env.interpreter(code_of(root) / ENGINE_LOCK, "serving", say)
    (packages,) = python.parents[1].glob("lib/python3*/site-packages")
    return packages


def memory_of(lease: Path) -> Path:
    """Return the folder in which a process that serves the lease in `lease` stores what must not be
    on a disk.
    """
    return _SHARED / f"aicert-{hashlib.sha256(os.fsencode(lease.resolve())).hexdigest()[:16]}"


@contextlib.contextmanager
def _memory(kept: LeaseFolder) -> Iterator[Path]:
    """Yield that folder, cleared of what a killed machine left there."""
    folder = memory_of(kept.folder)
    remove(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove(folder)


# --- The serving image.


@contextlib.contextmanager
def _image(
    root: Path,
    kept: LeaseFolder,
    bundle: Path,
    machine: Machine,
    serving: Serving,
    say: Callable[[str], None],
) -> Iterator[Powered]:
    image = ensure(root, serve=True)
    network = Network(listen=serving.listen, port=serving.port, guest_port=GUEST_PORT)
    with build.in_use(build.place(root, serve=True)):
        with booted(root, kept, bundle, machine, image, network, say) as running:
            yield running


@contextlib.contextmanager
def booted(
    root: Path,
    kept: LeaseFolder,
    bundle: Path,
    machine: Machine,
    image: Image,
    network: Network,
    say: Callable[[str], None],
) -> Iterator[Powered]:
    """Boot a qemu machine with the serving image."""
    work = kept.work
    accelerator = qemu_accelerator.choose(image)
    say("booting the machine" if accelerator == "kvm" else "booting the machine, emulated")
    settings = Settings(
        address=GUEST,
        prefix=PREFIX,
        port=network.guest_port,
        image=of_bytes(image.lock),
        memory=max(machine.memory - OWN_MEMORY, OWN_MEMORY),
        threads=processors(machine),
    )
    volumes = Volumes(image=image.disk, inputs=work / "inputs.img")
    files = {serve_settings.SETTINGS: serve_settings.emit(settings)}
    make_volume(image.tools, work, files, {serve_settings.BUNDLE: bundle}, work / "inputs.img")
    with kept_tpm(work, kept.tpm, local_ca(root, "qemu")) as control:
        process, ours = boot(
            work,
            image,
            volumes,
            machine,
            accelerator,
            control=control,
            port=serve_settings.COURIER_PORT,
            network=network,
        )
        end = ours.detach()
        link = Link(end, end)
        with _ended(process, link):
            yield Powered(
                link=link,
                url=lambda _: f"https://{network.listen}:{network.port}",
                last_lines=lambda: console_tail(work),
            )


# --- Both.


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]", link: Link) -> Iterator[None]:
    """Give a machine that is ending by itself a moment to power off; kill any other."""
    try:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDS_S)
    finally:
        process.kill()
        process.wait()
        link.close()
