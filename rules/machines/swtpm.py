"""A fresh software TPM for one run, prepared like a cloud platform's.

`platform` starts swtpm with empty state and gives it what a platform gives its guests: an
attestation key at 0x81000003, that key's certificate in NV 0x01C101D0, and a disabled platform
hierarchy. PCRs 0-15 are zero and nothing is loaded. Afterwards, on success, an error, Ctrl-C or
SIGTERM, no process and no file is left. swtpm dies with its parent even if that is killed.

There is no protection: whoever owns a software TPM can copy its state, and forge.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aicert.errors import ToolError
from aicert.formats.machine_io import AK_CERTIFICATE_NV, AK_HANDLE
from rules.host.signals import termination_raises
from rules.machines.ca import Ca

TCTI: Final = "swtpm:path=tpm.sock"
"""The TCTI for a process that runs in the run's directory. It is relative because a UNIX socket's
path is limited to 107 bytes.
"""

_SOCKETS: Final = ("tpm.sock", "tpm.sock.ctrl")
_STATE: Final = "swtpm"
STATE_FILE: Final = "tpm2-00.permall"
_LOG: Final = f"{_STATE}/log"
_START_S: Final = 30.0
_POLL_S: Final = 0.002
_NV_BUFFER_MAX: Final = 0x12C  # TPM_PT_NV_BUFFER_MAX (TPM 2.0 Library, Part 2, 6.13)
_AK_ATTRIBUTES: Final = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign"
_NV_ATTRIBUTES: Final = "platformcreate|ppwrite|ppread|ownerread|authread|no_da"
# Transient objects, loaded sessions, saved sessions (TPM 2.0 Library, Part 2, 7.2).
_VOLATILE: Final = (0x80000000, 0x02000000, 0x03000000)
# The parent may die before setpriv asks for the signal; then the shell sees another parent.
_WITH_PARENT: Final = 'test "$PPID" = "$1" || exit 1; shift; exec "$@"'


@contextlib.contextmanager
def platform(run_dir: Path, ca: Ca) -> Iterator[str]:
    """Start a software TPM for the run in `run_dir`, with its attestation key certified by `ca`.

    Yields the TCTI for a child process whose working directory is `run_dir`. Raises ToolError if
    swtpm cannot be started or prepared, or dies before the block ends.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(termination_raises())
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, folder)
        _claim(run_dir)
        stack.callback(_remove, run_dir)
        process = _start(run_dir, folder, run_dir / _STATE)
        stack.callback(_stop, process)
        watchdog = threading.Timer(_START_S, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            _prepare(f"swtpm:path={_within(folder, _SOCKETS[0])}", ca)
            watchdog.cancel()
            yield TCTI
        except ToolError as error:
            # The TPM's sockets close a moment before we can know that it has exited.
            if _has_ended(process, 0.2):
                raise _ended(process, run_dir) from error
            raise
        finally:
            watchdog.cancel()
        if process.poll() is not None:
            raise _ended(process, run_dir)


def make_state(work: Path, state: Path, ca: Ca) -> None:
    """Create the state of such a TPM in `state`, unless there is one; `work` is for temporary
    files.
    """
    if (state / STATE_FILE).exists():
        return
    maker = work / "platform"
    maker.mkdir(mode=0o700)
    with platform(maker, ca):
        fresh = state.with_name(f"{state.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        # When a command has returned, this file holds everything that a TPM keeps across a reset.
        shutil.copyfile(maker / _STATE / STATE_FILE, fresh / STATE_FILE)
    shutil.rmtree(state, ignore_errors=True)
    fresh.rename(state)


@contextlib.contextmanager
def kept(work: Path, state: Path, ca: Ca) -> Iterator[str]:
    """Start a TPM with persistent state in `state`, created if missing: it starts as after a reset.
    Yields the TCTI for a child process whose working directory is `work`.
    """
    make_state(work, state, ca)
    with contextlib.ExitStack() as stack:
        stack.enter_context(termination_raises())
        folder = os.open(work, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, folder)
        stack.callback(_remove_sockets, work)
        process = _start(work, folder, state)
        stack.callback(_stop, process)
        yield TCTI
        _shut_down(f"swtpm:path={_within(folder, _SOCKETS[0])}")


def _shut_down(tcti: str) -> None:
    """Shut down as a system does before power-off: otherwise the clock is not "safe" afterwards."""
    import tpm2_pytss as tss

    with contextlib.suppress(tss.TSS2_Exception), tss.ESAPI(tcti) as esapi:
        esapi.shutdown(tss.TPM2_SU.CLEAR)


def _claim(run_dir: Path) -> None:
    try:
        (run_dir / _STATE).mkdir(mode=0o700)
    except FileExistsError as error:
        raise ToolError(
            f"another software TPM uses or used this directory: {run_dir}",
            hint=f"rm -r {run_dir} (when no certify is running)",
        ) from error
    except OSError as error:
        raise ToolError(f"cannot create the software TPM's directory: {error}") from error


def _start(run_dir: Path, folder: int, state: Path) -> subprocess.Popen[bytes]:
    for program, package in (("swtpm", "swtpm"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise ToolError(
                f"{program} is not installed", hint=f"sudo apt-get install --yes {package}"
            )
    try:
        process = _spawn(run_dir, state)
    except OSError as error:
        raise ToolError(f"cannot start the software TPM: {error}") from error
    try:
        _await(process, run_dir, folder)
    except BaseException:
        _stop(process)
        raise
    return process


def _await(process: subprocess.Popen[bytes], run_dir: Path, folder: int) -> None:
    """Return when swtpm listens on both sockets, because it opens one after the other."""
    deadline = time.monotonic() + _START_S
    for name in _SOCKETS:
        while not _connects(_within(folder, name)):
            if time.monotonic() > deadline:
                raise ToolError(f"the software TPM did not start within {_START_S:.0f} s")
            if _has_ended(process, _POLL_S):
                raise _ended(process, run_dir)


def _connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def _within(folder: int, name: str) -> str:
    """Return a short path to a file in an open directory, so that this process need not change its
    own.
    """
    return f"/proc/self/fd/{folder}/{name}"


def _spawn(run_dir: Path, state: Path) -> subprocess.Popen[bytes]:
    swtpm = ["swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear"]
    for option, name in zip(("--server", "--ctrl"), _SOCKETS, strict=True):
        swtpm += [option, f"type=unixio,path={name},mode=0600"]
    parent = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _WITH_PARENT, "sh", str(os.getpid())]
    # The state's path is passed in the environment: in an option a comma would end it, and a
    # relative path puts swtpm in failure mode.
    environment = {**os.environ, "TPM_PATH": str(state.resolve())}
    with (state / "log").open("wb") as log:
        return subprocess.Popen(
            [*parent, *swtpm],
            cwd=run_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # We handle the terminal's Ctrl-C and then stop swtpm ourselves.
            process_group=0,
        )


def _has_ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    return process.returncode is not None


def _ended(process: subprocess.Popen[bytes], run_dir: Path) -> ToolError:
    code = process.returncode
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (run_dir / _LOG).read_text(errors="replace").splitlines()
    last_lines = [line for line in lines if line != "Data client disconnected"][-3:]
    message = "\n".join([f"the software TPM ended before the run did ({how})", *last_lines])
    return ToolError(message, hint="./doit certify starts over with a fresh one")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Its state is discarded, so it need not be saved.
    process.kill()
    process.wait()


def _remove_sockets(run_dir: Path) -> None:
    for name in _SOCKETS:
        (run_dir / name).unlink(missing_ok=True)


def _remove(run_dir: Path) -> None:
    _remove_sockets(run_dir)
    shutil.rmtree(run_dir / _STATE, ignore_errors=True)


def _prepare(tcti: str, ca: Ca) -> None:
    """Act as the platform: key, certificate, hierarchy. Then check that the TPM is as
    after a boot.
    """
    # Importing it is slow, and only a run needs it.
    os.environ.setdefault("TSS2_LOG", "all+none")
    import tpm2_pytss as tss

    try:
        with tss.ESAPI(tcti) as esapi:
            certificate = ca.issue(_make_ak(tss, esapi))
            _write_certificate(tss, esapi, certificate)
            # As firmware does before it starts an operating system.
            esapi.hierarchy_control(tss.ESYS_TR.PLATFORM, tss.ESYS_TR.PLATFORM, False)
            _check_fresh(tss, esapi)
    except tss.TSS2_Exception as error:
        raise ToolError(f"cannot prepare the software TPM: {error}") from error


def _make_ak(tss: Any, esapi: Any) -> rsa.RSAPublicKey:
    template = tss.TPM2B_PUBLIC.parse("rsa2048:rsassa-sha256:null", objectAttributes=_AK_ATTRIBUTES)
    ak, public, *_ = esapi.create_primary(None, template, primary_handle=tss.ESYS_TR.ENDORSEMENT)
    try:
        esapi.evict_control(tss.ESYS_TR.OWNER, ak, AK_HANDLE)
    finally:
        esapi.flush_context(ak)
    key = serialization.load_pem_public_key(public.to_pem())
    if not isinstance(key, rsa.RSAPublicKey):
        raise ToolError("the software TPM made an attestation key that is not RSA")
    return key


def _write_certificate(tss: Any, esapi: Any, certificate: bytes) -> None:
    public = tss.TPM2B_NV_PUBLIC(
        tss.TPMS_NV_PUBLIC(
            nvIndex=AK_CERTIFICATE_NV,
            nameAlg=tss.TPM2_ALG.SHA256,
            attributes=tss.TPMA_NV.parse(_NV_ATTRIBUTES),
            dataSize=len(certificate),
        )
    )
    # The owner would get TPM_RC_ATTRIBUTES, because the index belongs to the platform.
    index = esapi.nv_define_space(b"", public, auth_handle=tss.ESYS_TR.PLATFORM)
    _, capability = esapi.get_capability(tss.TPM2_CAP.TPM_PROPERTIES, _NV_BUFFER_MAX, 1)
    step = int(capability.data.tpmProperties[0].value)
    for begin in range(0, len(certificate), step):
        part = certificate[begin : begin + step]
        esapi.nv_write(index, part, begin, auth_handle=tss.ESYS_TR.PLATFORM)


def _check_fresh(tss: Any, esapi: Any) -> None:
    for selection in ("sha256:0,1,2,3,4,5,6,7", "sha256:8,9,10,11,12,13,14,15"):
        _, _, digests = esapi.pcr_read(selection)
        values = [bytes(digests[place]) for place in range(digests.count)]
        if values != [bytes(32)] * 8:
            raise ToolError("the fresh software TPM has PCRs (0-15) that are not zero")
    for first in _VOLATILE:
        _, capability = esapi.get_capability(tss.TPM2_CAP.HANDLES, first, 1)
        if capability.data.handles.count:
            raise ToolError("the fresh software TPM still holds an object or a session")
