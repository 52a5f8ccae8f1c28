"""Fetch what mirrors and pip have today for the machine's images; its digests become the lock."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats.image_lock import Package
from rules.host.work import remove
from rules.image import gpu_driver, progress
from rules.image import wheels as image_wheels
from rules.image.build import (
    KERNEL,
    LOCK,
    MACHINE_RELEASE,
    TOOLS_RELEASE,
    Place,
    adopt_tools,
    mkosi_of,
    read_lock,
    settled_tools,
    tools_tree,
    umask,
)
from rules.image.debian import add
from rules.image.mkosi import CACHE_DEBS


@umask()
def resolve(where: Place) -> tuple[Package, ...]:
    """Fetch what the mirrors and pip have today for the machine and its tools."""
    store, packages = where.store, list[Package]()
    progress.begin("asking the mirrors")
    apt = where.apt(TOOLS_RELEASE)
    apt.update()
    kernels = [name for name in apt.depends(KERNEL) if name.startswith("linux-image-")]
    if len(kernels) != 1:
        raise ToolError(f"{KERNEL} of {TOOLS_RELEASE} does not name one kernel: {kernels}")
    for part, name in (("mkosi", "mkosi"), ("kernel", kernels[0])):
        packages += add(store, part, apt.download([name]))
    builder = mkosi_of(where, packages)
    work = where.cache / "resolve"
    remove(work)
    (work / "machine").mkdir(parents=True)
    progress.begin("finding the tools' packages")
    debs = builder.build(where.code / "image" / "tools", work / "tools-tree", sources=apt.sources)
    packages += add(store, "tools", sorted((debs / CACHE_DEBS).glob("*.deb")))
    progress.begin("finding the machine's packages")
    # Only the packages are wanted here, not what is compiled with them.
    shutil.copy(where.code / "image" / "machine" / "mkosi.conf", work / "machine")
    script = work / "machine" / "mkosi.build.chroot"
    script.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    script.chmod(0o755)
    debs = builder.build(
        work / "machine",
        work / "machine-tree",
        sources=where.apt(MACHINE_RELEASE).sources,
        tools=work / "tools-tree",
    )
    installed = _installed(work / "machine-tree")
    for package in add(store, "build", sorted((debs / CACHE_DEBS).glob("*.deb"))):
        part = "machine" if package.name in installed else "build"
        packages.append(
            Package(part=part, name=package.name, version=package.version, digest=package.digest)
        )
    progress.begin("fetching Python packages")
    packages += image_wheels.resolve(store, image_wheels.wanted(where.code), work)
    adopt_tools(where, _sorted(packages), work / "tools-tree")
    remove(work)
    return _sorted(packages)


@umask()
def resolve_gpu(where: Place) -> tuple[Package, ...]:
    """Return the base image's packages and those for a GPU; nothing else differs."""
    lock = read_lock(where.root)
    if lock is None:
        raise ToolError(
            f"{LOCK} does not exist, and this image is made from it", hint="./doit image"
        )
    packages = [package for package in lock.packages if package.name != "torch"]
    kernel = next(package.name for package in packages if package.part == "kernel")
    apt = where.apt(TOOLS_RELEASE)
    apt.update()
    packages += gpu_driver.resolve(
        where.store,
        apt,
        gpu_driver.archive(where.cache, apt),
        mkosi_of(where, packages),
        where.code / "image" / "driver",
        tools_tree(where, settled_tools(where, tuple(packages))),
        kernel,
    )
    wheels = {"training": image_wheels.wanted_gpu(where.code)}
    packages += image_wheels.resolve(where.store, wheels, where.cache / "resolve")
    remove(where.cache / "resolve")
    return _sorted(packages)


@umask()
def resolve_besides(
    where: Place, wheels: Mapping[str, Sequence[image_wheels.Requirement]]
) -> tuple[Package, ...]:
    """Return the base image's packages and these wheels, by part; nothing else differs."""
    lock = read_lock(where.root)
    if lock is None:
        raise ToolError(
            f"{LOCK} does not exist, and this image is made from it", hint="./doit image"
        )
    work = where.cache / "resolve"
    packages = [*lock.packages, *image_wheels.resolve(where.store, wheels, work)]
    remove(work)
    return _sorted(packages)


def _sorted(packages: Iterable[Package]) -> tuple[Package, ...]:
    return tuple(sorted(packages, key=lambda p: (p.part, p.name, p.version)))


def _installed(tree: Path) -> set[str]:
    text = (tree / "var/lib/dpkg/status").read_text(encoding="utf-8")
    return {
        line.removeprefix("Package: ") for line in text.splitlines() if line.startswith("Package: ")
    }
