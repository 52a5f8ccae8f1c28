"""The volumes of a measured machine: what goes in, and how results are read back.

Input: an erofs with dm-verity whose last block contains its root hash (image/machine/init.c reads
it), made from the inputs in place. Output: a stream written by the machine
(enclave_runner/boot/output_stream.py). It is hostile until its certificate is verified: names,
sizes and counts are bounded, files are created in an empty folder, and only regular files come out.
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

# Memory for the system itself besides the training: kernel, page cache, the runner.
OWN_MEMORY = 768 << 20
# Output besides what the scratch can hold: certificate, log, names.
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
    """Make the input volume, and a sparse file as large as the machine's output may be."""
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
    """Make a sparse file as large as the machine's output may be."""
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
    """Write the input volume to `target`; `inputs` are read in place.

    Raises ToolError for a file that only its owner may read: in the machine, nobody could.
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
    """Write a volume with its own root hash to `target`. It contains `files` by name and, in the
    folder `below`, what is `shown`, which is read in place.
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
    """Check that everybody may read the files: in the volume they belong to root and keep their
    permissions, and the trainer is not root.
    """
    places = [path, *(path.rglob("*") if path.is_dir() else ())]
    for place in places:
        wanted = 0o005 if place.is_dir() else 0o004
        if place.stat().st_mode & wanted != wanted:
            raise ToolError(
                f"input {name}: the trainer cannot read {place.name!a}: not everybody may",
                hint=f"chmod -R a+rX {shlex.quote(str(path))}",
            )


def read_output(volume: Path, target: Path) -> None:
    """Extract the machine's files from the stream into `target`, an empty folder.

    Raises EvidenceError unless the stream has exactly the right form: a machine that stopped early
    leaves none.
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
                raise EvidenceError("the machine's results repeat a name or contain too many files")
            seen.add(name)
            _take(stream, size, target / name)


def _name(data: bytes) -> str:
    try:
        name = data.decode("utf-8")
        check_path(name)
    except (UnicodeDecodeError, AicertError):
        raise EvidenceError(f"the machine's results contain a bad name: {data[:80]!a}") from None
    return name


def _take(stream: BinaryIO, size: int, path: Path) -> None:
    # The volume is as large as the machine may write, so a larger claimed size runs into its end.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
    except OSError as error:
        raise EvidenceError(f"cannot extract the machine's results: {error.strerror}") from None
    with os.fdopen(fd, "wb") as file:
        while size:
            data = stream.read(min(size, _READ))
            if not data:
                raise EvidenceError("the machine's results end in the middle of a file")
            file.write(data)
            size -= len(data)


def attach_lock(path: Path, image: Image) -> None:
    """Put the image's lock next to the evidence, unsigned: a claim (docs/spec/certificate.md)."""
    certificate = verify.read_certificate(path)
    path.write_bytes(certificates.emit(replace(certificate, image_lock=image.lock)))
