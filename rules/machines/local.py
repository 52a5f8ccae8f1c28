"""The `local` machine: the runner as a process on this computer, with a fresh software TPM.

A driver does little: it gets a job, runs it to its end while following the runner's events, and
returns the folder of results. Nothing is left running, whatever happens.
"""

import os
import subprocess
import sys
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats import machine_io
from rules.host.places import code_of
from rules.machines.ca import local_ca
from rules.machines.events import Follower
from rules.machines.machine import Job, tail
from rules.machines.swtpm import platform

# A runner asked to stop kills its sandbox and exits; after this it counts as hung.
_END_S = 10


def execute(job: Job) -> Path:
    """Run the job. Returns the folder with `certificate.json`, `training.log`, `outputs/`.

    Raises the runner's own error (ConfigError, LockError, ToolError), or ToolError if it died.
    """
    out = job.work / "out"
    scratch = job.work / "scratch"
    for folder in (out, scratch):
        folder.mkdir()
    lockfile = job.work / machine_io.LOCKFILE
    lockfile.write_bytes(job.lockfile)
    tpm = job.work / "tpm"
    tpm.mkdir()
    with platform(tpm, local_ca(job.root, "local")) as tcti:
        read_fd, write_fd = os.pipe()
        with os.fdopen(read_fd, "rb") as events, (job.work / "console").open("w+b") as console:
            process = _start(job, tcti, tpm, write_fd, console.fileno())
            try:
                follower = Follower(job.run)
                follower.follow(events)
                code = process.wait()
            finally:
                _end(process)
        follower.finish(code, tail(job.work / "console"))
    if not (out / machine_io.CERTIFICATE).is_file():
        raise ToolError("the runner ended with neither an error nor a certificate")
    return out


def _start(
    job: Job, tcti: str, tpm: Path, write_fd: int, console: int
) -> "subprocess.Popen[bytes]":
    machine = job.machine
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-P", "-m", "enclave_runner"]
    command += [f"--tcti={tcti}", f"--nonce={job.nonce.hex()}"]
    command += [f"--lockfile={job.work / machine_io.LOCKFILE}", f"--events-fd={write_fd}"]
    command += [f"--input={name}={path}" for name, path in job.inputs.items()]
    command += [f"--scratch={job.work / 'scratch'}", f"--out={job.work / 'out'}"]
    command += [f"--training-env={job.training_env}"]
    command += [f"--tools={job.tools}"] if job.tools is not None else []
    limits = machine_io.limits(
        seconds=machine.time_limit,
        memory=machine.memory,
        processes=machine.processes,
        scratch=machine.scratch,
        threads=machine.cpus or 1,
    )
    command += [f"--{name}={value}" for name, value in limits.items()]
    try:
        return subprocess.Popen(
            command,
            # The TPM's socket has a relative name, because paths of UNIX sockets are limited to 107
            # bytes.
            cwd=tpm,
            env=environment(str(code_of(job.root))),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            pass_fds=(write_fd,),
            # Only this process gets Ctrl-C; it then stops the runner.
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"cannot start the runner: {error}") from None
    finally:
        os.close(write_fd)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment(python_path: str) -> dict[str, str]:
    """Return the environment of a process that stands for a machine. No variable of ours is in it,
    because only the lockfile may decide what a run does.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": python_path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
