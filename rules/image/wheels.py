"""Get Python packages by digest, for the machine's two environments and their build tools.

pip's ordinary client downloads them from wherever it is configured to; hashes decide. Nothing is
installed here: that happens in the image, without network, from the store.
"""

import os
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats.image_lock import Package
from aicert.formats.machine_io import TOOLS
from rules.host import installer, progress, tool_envs
from rules.host.work import remove
from rules.image.debian import GoneError, Missing, Store, absent, run

# Packages of the orchestrator's environment that the runner imports: cryptography for the core, the
# others for the TPM and for configs. cffi also helps to compile tpm2-pytss.
RUNNER = ("cffi", "cryptography", "packaging", "pyyaml", "tpm2-pytss")
# Packages for the gateway's TLS, in addition to those.
GATEWAY = ("pyopenssl", "typing-extensions")
BUILDER = (
    "cffi",
    "packaging",
    "pkgconfig",
    "pycparser",
    "setuptools",
    "setuptools-scm",
    "vcs-versioning",
)
# PyPI has no CPU-only build of torch; used if pip's own sources have none either.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_BLOCK = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^ \n]+).*\n((?:    --hash=.*\n)+)", re.MULTILINE)
_NOT_FOUND = re.compile(r"No matching distribution found for (\S+)")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A requirement with the hashes of its files, any of which will do."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """Return the requirement in pip's format."""
        return f"{self.name}=={self.version} " + " ".join(f"--hash={h}" for h in self.hashes) + "\n"


def wanted(root: Path) -> dict[str, list[Requirement]]:
    """Read the requirements from the checkout's hashed locks, by part of the image."""
    own = _read(root / "rules" / "build-requirements.lock") | _read(
        root / "rules" / "requirements.lock"
    )
    training = _read(root / "enclave_runner" / "requirements.lock")
    torch = training["torch"]
    # The CPU-only build, whose hash comes first.
    training["torch"] = Requirement(
        name="torch", version=torch.version + "+cpu", hashes=torch.hashes[:1]
    )
    return {
        "builder": [own[name] for name in BUILDER],
        "runner": [own[name] for name in RUNNER],
        "training": [training[name] for name in sorted(training)],
    }


def wanted_gpu(root: Path) -> list[Requirement]:
    """Read the packages that the GPU image's training environment has in addition to the base
    image's, and torch for GPUs in place of the CPU-only build.
    """
    torch = _read(root / "enclave_runner" / "requirements.lock")["torch"]
    # PyPI's own build, whose hash comes second, and the libraries that it loads.
    own = Requirement(name="torch", version=torch.version, hashes=torch.hashes[1:2])
    libraries = _read(root / "enclave_runner" / "requirements-cuda.lock")
    kernels = _read(root / "enclave_runner" / "requirements-kernels.lock")
    return [*libraries.values(), *kernels.values(), own]


def wanted_serve(root: Path) -> dict[str, list[Requirement]]:
    """Read the packages that the serving image has in addition to the base image, by part."""
    own = _read(root / "rules" / "requirements.lock")
    engine = _read(root / "enclave_runner" / "serving" / "requirements.lock")
    trained_with = _read(root / "enclave_runner" / "requirements.lock")
    for name, wanted_too in engine.items():
        if name in trained_with and trained_with[name].version != wanted_too.version:
            raise ToolError(
                f"the engine wants {name} {wanted_too.version}, and its environment has "
                f"{trained_with[name].version}",
                hint="see CONTRIBUTING.md",
            )
    return {
        "engine": [item for name, item in engine.items() if name not in trained_with],
        "gateway": [own[name] for name in GATEWAY],
    }


def wanted_tools(root: Path) -> dict[str, list[Requirement]]:
    """Read the packages that the tools image has in addition to the base image, by trainer."""
    parts = {}
    for trainer, room in TOOLS.items():
        own = _read(root / "enclave_runner" / room / "requirements.lock")
        tool_envs.require_open(set(own), trainer)
        parts[trainer] = list(own.values())
    return parts


def unlike(
    root: Path,
    packages: Sequence[Package],
    *,
    gpu: bool = False,
    serve: bool = False,
    tools: bool = False,
) -> list[str]:
    """Return the names of Python packages in the machine that the checkout's own locks name in
    another version, or that only one of the two names.

    What only builds the image is not compared: `makers` may replace it.
    """
    parts = wanted(root)
    parts |= wanted_serve(root) if serve else wanted_tools(root) if tools else {}
    if gpu:
        parts["training"] += wanted_gpu(root)
    del parts["builder"]
    asked = {(part, item.name): item for part, items in parts.items() for item in items}
    locked = {(each.part, each.name): each for each in packages if each.part in parts}
    same = {
        key
        for key in asked.keys() & locked.keys()
        if asked[key].version == locked[key].version
        and str(locked[key].digest) in asked[key].hashes
    }
    return sorted({name for _, name in (asked.keys() | locked.keys()) - same})


def _read(lock: Path) -> dict[str, Requirement]:
    blocks = _BLOCK.findall(lock.read_text(encoding="ascii"))
    return {
        name: Requirement(name=name, version=version, hashes=tuple(_HASH.findall(hashes)))
        for name, version, hashes in blocks
    }


def resolve(
    store: Store, requirements_of: Mapping[str, Sequence[Requirement]], work: Path
) -> list[Package]:
    """Fetch these requirements; the files that pip chooses become the image's lock."""
    packages: list[Package] = []
    for part, requirements in requirements_of.items():
        place = _download(requirements, work / part)
        by_name = {_name(path): path for path in sorted(place.iterdir())}
        for item in requirements:
            path = by_name.get(item.name)
            if path is None:
                raise ToolError(f"pip did not fetch {item.name} {item.version}")
            digest = store.add(path)
            packages.append(Package(part=part, name=item.name, version=item.version, digest=digest))
    return packages


def fetch(store: Store, packages: Sequence[Package], work: Path) -> None:
    """Make sure that exactly these files are in the store.

    Raises GoneError for a file that no source has.
    """
    for missing in obtain(store, packages, work):
        raise GoneError(missing.reason, hint="./doit image_update")


def obtain(store: Store, packages: Sequence[Package], work: Path) -> list[Missing]:
    """Fetch packages that the store lacks, and return those that pip's sources do not have."""
    missing: list[Missing] = []
    # Fetch by part, because two parts may want different versions of one package.
    for part, own in by_part(absent(store, packages)).items():
        progress.say(f"fetching {len(own)} Python packages for the {part}")
        try:
            _obtain(store, own, work)
        except GoneError:
            # pip stops at the first missing one, so ask for the others one by one.
            missing += [each for package in own if (each := _obtain_one(store, package, work))]
    return missing


def _obtain_one(store: Store, package: Package, work: Path) -> Missing | None:
    try:
        _obtain(store, [package], work)
    except GoneError as error:
        return Missing(package=package, reason=error.message)
    return None


def _obtain(store: Store, packages: Sequence[Package], work: Path) -> None:
    requirements = [
        Requirement(name=package.name, version=package.version, hashes=(str(package.digest),))
        for package in packages
    ]
    try:
        fetched = _download(requirements, work)
    except ToolError as error:
        raise _gone(error) or error from None
    for path in sorted(fetched.iterdir()):
        store.add(path)
    for package in absent(store, packages):
        raise GoneError(
            f"no source has the locked file of {package.name} {package.version}",
            hint="./doit image_update",
        )


def _gone(error: ToolError) -> GoneError | None:
    """Return a GoneError if pip says that a file is gone; None for any other error."""
    name = _NOT_FOUND.search(error.message)
    # torch has an error of its own: pip was not given its index.
    if error.hint or (name is None and "DO NOT MATCH THE HASHES" not in error.message):
        return None
    what = name[1] if name else "a package that the image lock names"
    return GoneError(
        f"no source has the locked file of {what}\n{error.message}", hint="./doit image_update"
    )


def place(store: Store, packages: Sequence[Package], target: Path) -> str:
    """Put the files into `target` under their names; return requirements for exactly these."""
    remove(target)
    target.mkdir(parents=True)
    lines = []
    for package in packages:
        path = store.get(package)
        os.link(path, target / file_name(package, path))
        lines.append(f"{package.name}=={package.version} --hash={package.digest}\n")
    return "".join(lines)


def file_name(package: Package, path: Path) -> str:
    """Return the file name that pip expects; a file stored by digest may have another name.

    A wheel contains its tags (binary distribution format, "The .dist-info directory", WHEEL).
    """
    if path.suffix in (".whl", ".gz"):
        return path.name
    stem = f"{package.name.replace('-', '_')}-{package.version}"
    if not zipfile.is_zipfile(path):
        return f"{stem}.tar.gz"
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/WHEEL", n))
        tags = re.findall(r"^Tag: *(\S+)$", archive.read(name).decode("ascii"), re.MULTILINE)
    # Compressed tag sets: each of the three parts, sorted and joined by dots (PEP 425).
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    return "-".join([stem, *(".".join(sorted(set(part))) for part in parts)]) + ".whl"


def _name(path: Path) -> str:
    """Return the normalised name at the start of a wheel's or source archive's file name."""
    stem = path.name.removesuffix(".tar.gz")
    parts = stem.split("-")
    name = parts[0] if path.suffix == ".whl" else "-".join(parts[:-1])
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(requirements: Sequence[Requirement], target: Path) -> Path:
    remove(target)
    target.mkdir(parents=True)
    torch = [item for item in requirements if "+" in item.version]
    rest = [item for item in requirements if "+" not in item.version]
    if rest:
        _pip(rest, target)
    for item in torch:
        _download_torch(item, target)
    return target


def _download_torch(torch: Requirement, target: Path) -> None:
    """Download torch from pip's own sources, or else from PyTorch's; the lock's hash decides."""
    try:
        _pip([torch], target)
    except ToolError as error:
        first = error.message
    else:
        return
    progress.say(f"fetching {torch.name} {torch.version} from {TORCH_INDEX}")
    try:
        _pip([torch], target, "--index-url", TORCH_INDEX, "--retries", "1")
    except ToolError:
        raise ToolError(
            f"neither a source that pip is configured with nor {TORCH_INDEX} has {torch.name} "
            f"{torch.version}, the CPU-only build that the image contains\n{first}",
            hint="pip config set site.extra-index-url URL (of PyTorch's CPU builds)",
        ) from None


def _pip(requirements: Sequence[Requirement], target: Path, *options: str) -> None:
    text = target.with_suffix(".txt")
    text.write_text("".join(item.line() for item in requirements), encoding="ascii")
    # To learn a source archive's name, pip runs its `setup.py`, with the packages of `.venv`.
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-build-isolation"]
    words += [*installer.CLOSED, *installer.FORMATS, *installer.QUIET, *options]
    run([*words, "--dest", str(target), "--requirement", str(text)])


def by_part(packages: Sequence[Package]) -> Mapping[str, list[Package]]:
    """Group packages by the part of the image that they belong to."""
    parts: dict[str, list[Package]] = {}
    for package in packages:
        parts.setdefault(package.part, []).append(package)
    return parts
