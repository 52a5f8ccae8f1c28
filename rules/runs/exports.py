"""Files next to a certificate for other people's tools: model signatures and exports.

The run key made the signatures inside the machine. The rest is computed from the certificate, and
the list of the training environment's packages from its lock.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

from aicert.errors import AicertError, EvidenceError
from aicert.exports import facts, files, packages
from aicert.files.atomic import require_replaceable
from aicert.files.bounded import read_bounded
from aicert.formats import image_lock, run_report
from aicert.formats.certificate import MAX_BYTES, Certificate
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.machine_io import TOOLS
from aicert.formats.statement import parse as parse_statement
from aicert.model_signature.reader import MAX_BYTES as MAX_SIGNATURE
from rules.host import installer, tool_envs, training_env
from rules.host.work import write_whole
from rules.project import locked

MAX_LOCK = 1 << 22


def signatures_of(certificate: Certificate) -> dict[str, Digest]:
    """Return the digest of each output's model signature, according to the certificate's run
    report.
    """
    statement = parse_statement(certificate.envelope.payload)
    return dict(run_report.parse(statement.report).signatures)


def require_signatures(certificate: Certificate, folder: Path) -> None:
    """Raise EvidenceError unless `folder` has each signature in the report, as OUTPUT.sig."""
    for name, digest in signatures_of(certificate).items():
        computed = of_bytes(read_bounded(folder / f"{name}.sig", MAX_SIGNATURE, "model signature"))
        if computed != digest:
            raise EvidenceError(
                f"the model signature {name}.sig is not the one that the run report names\n"
                f"found     {computed}\nexpected  {digest}"
            )


def has_signatures(certificate: Certificate, folder: Path) -> bool:
    """Whether `require_signatures` would raise nothing."""
    try:
        require_signatures(certificate, folder)
    except AicertError:
        return False
    return True


def are_written(certificate: Path) -> bool:
    """Whether every export exists next to the certificate file and matches it."""
    try:
        return all(_stands(path, data) for path, data in _exports(certificate))
    except (AicertError, OSError):
        return False


def write(certificate: Path) -> None:
    """Write every missing or outdated export next to the certificate file."""
    for path, data in _exports(certificate):
        if not _stands(path, data):
            # This also removes what a killed writer of this file left.
            write_whole(path, data)


def _stands(path: Path, data: bytes) -> bool:
    """Whether `path` is a file with exactly these bytes. Raises ToolError if what is there must not
    be replaced by a file.
    """
    if require_replaceable(path) is None or path.stat().st_size != len(data):
        return False
    return path.read_bytes() == data


def _exports(certificate: Path) -> list[tuple[Path, bytes]]:
    files_of = _exports_of(read_bounded(certificate, MAX_BYTES, "certificate"))
    return [(certificate.with_name(name), data) for name, data in files_of.items()]


@functools.lru_cache(maxsize=4)
def _exports_of(certificate: bytes) -> Mapping[str, bytes]:
    """Return the exports of a certificate. Cached, because a task asks for them, writes them and
    asks again.
    """
    run_facts = facts.read(certificate, locked.parsed)
    # The runner's digest in the certificate covers these locks.
    lock = read_bounded(training_env.LOCK, MAX_LOCK, "lock of the training environment")
    if not run_facts.packages().get("torch", "+cpu").endswith("+cpu"):
        lock += read_bounded(training_env.CUDA_LOCK, MAX_LOCK, "lock of the CUDA libraries")
    kernels = read_bounded(training_env.KERNELS_LOCK, MAX_LOCK, "lock of the kernels")
    if _has_kernels(run_facts.certificate.image_lock, kernels):
        lock += kernels
    lock = _with_tools(lock, run_facts.lockfile.trainer)
    training = {"bom.training.cdx.json": packages.bom(lock, "training environment")}
    return files.exports(run_facts) | training


def _with_tools(lock: bytes, trainer: str) -> bytes:
    """Return the lock of what a trainer's child imports: its own packages come before others."""
    if trainer not in TOOLS:
        return lock
    own = read_bounded(tool_envs.lock(trainer), MAX_LOCK, f"lock of {trainer}")
    named = installer.members(lock.decode("ascii")) | installer.members(own.decode("ascii"))
    return "".join(named[name] for name in sorted(named)).encode("ascii")


def _has_kernels(image: bytes | None, kernels: bytes) -> bool:
    """Whether the machine's image has the packages of kernels beside the training environment's."""
    if image is None:
        return False
    there = {item.name for item in image_lock.parse(image).packages if item.part == "training"}
    return there.issuperset(installer.members(kernels.decode("ascii")))
