"""Build NVIDIA's driver for the GPU image: kernel modules, firmware, libraries.

The kernel interface of NVIDIA's open modules is compiled here against the headers of the image's
kernel, and linked with the object that NVIDIA compiled. Firmware and libraries are used unchanged.
CUDA 13.0, which PyPI's torch 2.13.0 is built with, needs series 580 (NVIDIA, CUDA Toolkit Release
Notes, "CUDA Toolkit and Corresponding Driver Versions"). Debian has 550; Ubuntu's archive has 580,
signed with keys that Debian packages. Graphics is left out.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from aicert.errors import ConfigError, ToolError
from aicert.formats.image_lock import Package
from rules.host import progress
from rules.host.work import remove
from rules.image import debian as image_debian
from rules.image.debian import Apt, Store, add, run
from rules.image.mkosi import CACHE_DEBS, Mkosi, unpack
from rules.image.sandbox import Sandbox

# Parts of the lock: the compiler, in a tree of its own; headers that are unpacked over it; and the
# driver, which is compiled or copied.
TREE, HEADERS, DRIVER = "compiler", "headers", "driver"
PARTS = (TREE, HEADERS, DRIVER)
TREE_RELEASE, RELEASE = "trixie", "noble"
SERIES = "580"
SOURCE = f"nvidia-kernel-source-{SERIES}-server-open"
LIBRARIES = f"libnvidia-compute-{SERIES}-server"
FIRMWARE = f"nvidia-firmware-{SERIES}-server"
MODULES = ("nvidia", "nvidia-uvm")
UPDATE = "./doit run image_gpu_update"
_KEYS = "ubuntu-keyring"
# Debian machines have no Ubuntu mirror configured, so the user names one; signatures and digests
# are checked.
MIRROR = "AICERT_UBUNTU_MIRROR"
# The libraries that the image takes: not OpenCL, the debugger or run-time linkers.
_TAKEN = re.compile(r"lib(?:cuda|nvidia-ml|nvidia-ptxjitcompiler)\.so\..+")


def archive(folder: Path, debian: Apt) -> Apt:
    """Make an apt for the driver's archive, whose keys come from Debian.

    Raises ConfigError, with the name of the variable to set, if no address is configured.
    """
    mirror = os.environ.get(MIRROR, "")
    if not re.fullmatch(r"https?://[!-~]+", mirror):
        raise ConfigError(
            f"NVIDIA's driver {SERIES} is in Ubuntu's archive, and {MIRROR} names no mirror of it",
            hint=f"export {MIRROR}=http://…/ubuntu    # one that has {RELEASE}",
        )
    (keys,) = debian.download([_KEYS])
    place = unpack(keys, folder / f"keys-{keys.stem}")
    keyring = place / "usr/share/keyrings/ubuntu-archive-keyring.gpg"
    sources = (
        f"Types: deb\nURIs: {mirror}\nSuites: {RELEASE} {RELEASE}-updates\n"
        f"Components: restricted\nArchitectures: amd64\nSigned-By: {keyring}\n"
    )
    return Apt(folder / f"apt-{RELEASE}", RELEASE, given=sources)


def resolve(
    store: Store, debian: Apt, ubuntu: Apt, mkosi: Mkosi, directory: Path, tools: Path, kernel: str
) -> list[Package]:
    """Fetch the driver that mirrors have today, for a kernel as `linux-image-6.12.1-cloud-amd64`.

    Returns the packages for the lock.
    """
    release = kernel.removeprefix("linux-image-")
    abi = release.removesuffix("-cloud-amd64")
    debian.update()
    ubuntu.update()
    names = (f"linux-headers-{release}", f"linux-headers-{abi}-common", f"linux-kbuild-{abi}")
    packages = add(store, HEADERS, debian.download(names))
    packages += add(store, DRIVER, ubuntu.download([SOURCE, LIBRARIES]))
    version = next(package.version for package in packages if package.name == SOURCE)
    firmware = f"{FIRMWARE}-{version.partition('-')[0]}"
    packages += add(store, DRIVER, ubuntu.download([f"{firmware}={version}"]))
    tree = mkosi.work.with_name("driver-tree")
    debs = mkosi.build(directory, tree, sources=debian.sources, tools=tools)
    remove(tree)
    return packages + add(store, TREE, sorted((debs / CACHE_DEBS).glob("*.deb")))


def build(
    store: Store,
    packages: Sequence[Package],
    mkosi: Mkosi,
    directory: Path,
    tools: Path,
    target: Path,
) -> None:
    """Make `target`/modules for the initrd and `target`/root for the system, of these packages."""
    work = target / "work"
    work.mkdir(parents=True)
    progress.say("building the driver's compiler tree")
    repository = work / "repository"
    image_debian.repository(store, _of(packages, TREE), TREE_RELEASE, repository)
    mkosi.build(directory, work / "tree", repository=repository, tools=tools)
    for package in _of(packages, HEADERS):
        run(["dpkg-deb", "--extract", str(store.get(package)), str(work / "tree")])
    for package in _of(packages, DRIVER):
        run(["dpkg-deb", "--extract", str(store.get(package)), str(work / "files")])
    (source,) = (work / "files/usr/src").glob("nvidia-*")
    progress.say(f"compiling {source.name} for the kernel (minutes)")
    (target / "modules").mkdir()
    sandbox = Sandbox(
        tree=work / "tree", readable=[source, directory], writable=[target / "modules"]
    )
    script = str(directory / "compile.sh")
    sandbox.run(["sh", script, str(source), _kernel(packages), str(target / "modules")])
    _take(work / "files", target / "root")
    remove(work)


def _kernel(packages: Sequence[Package]) -> str:
    """Return the release of the kernel to compile for, which is the image's."""
    (name,) = (p.name for p in packages if p.part == "kernel")
    release = name.removeprefix("linux-image-")
    if not any(p.name == f"linux-headers-{release}" for p in _of(packages, HEADERS)):
        raise ToolError(f"the image lock has no headers for the kernel {release}", hint=UPDATE)
    return release


def _take(files: Path, root: Path) -> None:
    """Copy firmware and libraries to where the kernel and the loader look for them."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for path in sorted((files / "usr/lib/x86_64-linux-gnu").iterdir()):
        if _TAKEN.fullmatch(path.name):
            shutil.copy2(path, libraries / path.name, follow_symlinks=False)
    (firmware,) = (files / "lib/firmware/nvidia").iterdir()
    shutil.copytree(firmware, root / "usr/lib/firmware/nvidia" / firmware.name)
    for folder, _, names in os.walk(root):
        os.chmod(folder, 0o755)  # noqa: S103  # a read-only system, which the trainer reads too
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o644)


def _of(packages: Sequence[Package], part: str) -> list[Package]:
    return [package for package in packages if package.part == part]
