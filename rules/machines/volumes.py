"""The volumes of a measured machine: what goes into it, and how results are read back.

In: an erofs with dm-verity whose last block says its root hash (image/machine/init.c reads it),
made of the inputs where they lie. Out: a stream that the machine writes
(enclave_runner/boot/output_stream.py), hostile until the certificate in it was verified: names,
sizes and counts are bounded, files are made new in an empty folder, and nothing but regular files
comes out.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.formats import certificate as certificates
from aicert.formats import machine_io
from aicert.formats.paths import MAX_FILES, check_path
from aicert.frozen import replace
from aicert.verifier import verify
from rules.image import disk, layers
from rules.image import verity as image_verity
from rules.image.sandbox import Sandbox
from rules.image.store import Image
from rules.machines.machine import Job

# What the system itself needs beside the training: kernel, page cache, the runner.
OWN_MEMORY = 768 << 20
# What the machine writes beside what its scratch can hold: certificate, log, names.
OUTPUT_ROOM = 64 << 20
NO_RESULTS = "the machine wrote no results"
_READ = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What is attached: paths on the host."""

    image: Path
    inputs: Path | None = None
    output: Path | None = None


def make_volumes(job: Job, image: Image, volumes: Volumes) -> None:
    """The input volume, and a hole as large as what the machine may write."""
    machine = job.machine
    if volumes.inputs is None or volumes.output is None:
        raise ToolError("a run needs an input and an output volume")
    limits = machine_io.limits(
        seconds=machine.time_limit,
        memory=max(machine.memory - OWN_MEMORY, OWN_MEMORY),
        processes=machine.processes,
        scratch=machine.scratch,
        threads=machine.cpus or 1,
    )
    make_inputs(
        image.tools,
        job.work,
        lockfile=job.lockfile,
        nonce=job.nonce,
        limits=limits,
        inputs=job.inputs,
        target=volumes.inputs,
    )
    make_output(job, volumes)


def make_output(job: Job, volumes: Volumes) -> None:
    """A hole as large as what the machine may write, which takes what it does write."""
    if volumes.output is not None:
        with volumes.output.open("wb") as file:
            file.truncate(job.machine.scratch + OUTPUT_ROOM)


def make_inputs(
    tools: Path,
    work: Path,
    *,
    lockfile: bytes,
    nonce: bytes,
    limits: Mapping[str, int],
    inputs: Mapping[str, Path],
    target: Path,
) -> None:
    """Write the input volume to `target`; `inputs` are read where they are.

    Raises ToolError for a file that its owner alone may read: in the machine, nobody could.
    """
    files = {
        machine_io.LOCKFILE: lockfile,
        machine_io.NONCE: machine_io.emit_nonce(nonce),
        machine_io.LIMITS_FILE: machine_io.emit_limits(limits),
    }
    for name, path in inputs.items():
        _check_readable(name, path)
    make_volume(tools, work, files, inputs, target, below=machine_io.INPUTS)


def make_volume(
    tools: Path,
    work: Path,
    files: Mapping[str, bytes],
    shown: Mapping[str, Path],
    target: Path,
    *,
    below: str = ".",
) -> None:
    """Write a volume to `target` that brings its own root hash: `files` by name, and what is
    `shown`, which is read where it is, in the folder `below`.
    """
    stage = work / "stage"
    folder = stage / below
    folder.mkdir(parents=True)
    for each in (stage, folder):
        each.chmod(0o755)
    for name, data in files.items():
        (stage / name).write_bytes(data)
    mounts = {}
    for name, path in shown.items():
        place = folder / name
        place.mkdir() if path.is_dir() else place.touch()
        mounts[place] = path.resolve()
    sandbox = Sandbox(tree=tools, readable=[stage], mounts=mounts, writable=[target.parent])
    sandbox.run(layers.erofs_words(stage, target, str(disk.identifier("inputs"))))
    verity = image_verity.append_tree(target)
    with target.open("ab") as file:
        file.write(machine_io.input_trailer(verity.root.hex, verity.blocks))


def _check_readable(name: str, path: Path) -> None:
    """The volume keeps permissions, everything in it is root's, and who trains there is not."""
    places = [path, *(path.rglob("*") if path.is_dir() else ())]
    for place in places:
        wanted = 0o005 if place.is_dir() else 0o004
        if place.stat().st_mode & wanted != wanted:
            raise ToolError(
                f"input {name}: not everybody may read {place.name!a}, so the trainer cannot",
                hint=f"chmod -R a+rX {shlex.quote(str(path))}",
            )


def read_output(volume: Path, target: Path) -> None:
    """Take the machine's files out of the stream into `target`, an empty folder.

    Raises EvidenceError where the stream is not exactly of the form: a machine that stopped before
    its end leaves none.
    """
    with volume.open("rb") as stream:
        header = machine_io.STREAM_HEADER
        if stream.read(len(header)) != header:
            raise EvidenceError(NO_RESULTS)
        seen: set[str] = set()
        while (line := stream.readline(machine_io.MAX_FILE_LINE)) != machine_io.STREAM_END:
            path, size = machine_io.parse_file_line(line)
            name = _name(path)
            if name in seen or len(seen) >= MAX_FILES:
                raise EvidenceError("the machine's results repeat a name or hold too many files")
            seen.add(name)
            _take(stream, size, target / name)


def _name(data: bytes) -> str:
    try:
        name = data.decode("utf-8")
        check_path(name)
    except (UnicodeDecodeError, AicertError):
        raise EvidenceError(f"the machine's results have an unsafe name: {data[:80]!a}") from None
    return name


def _take(stream: BinaryIO, size: int, path: Path) -> None:
    # The volume is as large as the machine may write; a larger claim ends at its end.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
    except OSError as error:
        raise EvidenceError(f"the machine's results cannot be taken: {error.strerror}") from None
    with os.fdopen(fd, "wb") as file:
        while size:
            data = stream.read(min(size, _READ))
            if not data:
                raise EvidenceError("the machine's results end in the middle of a file")
            file.write(data)
            size -= len(data)


def attach_lock(path: Path, image: Image) -> None:
    """Put the image's lock beside the evidence, unsigned: a claim (docs/spec/certificate.md)."""
    certificate = verify.read_certificate(path)
    path.write_bytes(certificates.emit(replace(certificate, image_lock=image.lock)))
