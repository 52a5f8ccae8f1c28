"""Make what boots from trees: verity volumes and the unified kernel image.

Equal inputs give equal bytes: times, owners, identifiers and order are fixed. The volumes are plain
erofs (uncompressed, so the machine's kernel only reads blocks) followed by their hash tree. Their
root hashes are on the kernel's command line, which is a section of the UKI.
"""

from dataclasses import dataclass
from pathlib import Path

from aicert.formats.machine_io import VERITY_VOLUMES, verity_word
from rules.image import disk, verity
from rules.image import initrd as image_initrd
from rules.image.sandbox import EPOCH, Sandbox
from rules.image.verity import Verity

STUB = Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
_OS_RELEASE = 'ID=aicert\nNAME="aicert machine"\nPRETTY_NAME="aicert measured machine"\n'

# docs/spec/image.md explains each word.
COMMAND_LINE = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "no_timer_check",
    "oops=panic",
    "lockdown=confidentiality",
    "module.sig_enforce=1",
    "sysctl.kernel.sysrq=0",
    "sysctl.kernel.kexec_load_disabled=1",
    "init_on_alloc=1",
    "page_alloc.shuffle=1",
    "slab_nomerge",
    "vsyscall=none",
    "ia32_emulation=0",
    "debugfs=off",
    "ipv6.disable=1",
    "swiotlb=noforce",
)
# No key known to the kernel has signed the driver's modules, so with them the init locks the kernel
# down, after loading everything in the initrd.
BY_INIT = ("lockdown=confidentiality", "module.sig_enforce=1")
# The state measured at a boot must not come back without a boot: no hibernation.
SERVING = ("nohibernate",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel: its release, the path of its image, and the modules that the init loads."""

    release: str
    image: Path
    modules: dict[str, bytes]


def read_kernel(tree: Path, driver: Path | None = None, *, network: bool = False) -> Kernel:
    """Read the only kernel in an unpacked kernel package, with the modules in `driver` added."""
    (image,) = sorted((tree / "boot").glob("vmlinuz-*"))
    release = image.name.removeprefix("vmlinuz-")
    modules = image_initrd.read_modules(tree, release, driver, network=network)
    return Kernel(release=release, image=image, modules=modules)


def volume(tools: Path, stage: Path, target: Path) -> Verity:
    """Make an erofs of `stage` with its hash tree at `target`."""
    target.unlink(missing_ok=True)
    # erofs keeps no trace of the order in which a directory is read.
    sandbox = Sandbox(tree=tools, readable=[stage], writable=[target.parent])
    sandbox.run(erofs_words(stage, target, str(disk.identifier(target.stem))))
    return verity.append_tree(target)


def erofs_words(stage: Path, target: Path, identifier: str) -> list[str]:
    """Return the command that makes a plain erofs; equal trees give equal bytes."""
    words = ["mkfs.erofs", "--quiet", "-b4096", "-x-1", f"-T{EPOCH}", "--all-root", "--all-time"]
    return [*words, "--hard-dereference", "--workers=1", f"-U{identifier}", str(target), str(stage)]


def command_line(root: Verity, training: Verity, *, gpu: bool = False, serve: bool = False) -> str:
    """Return the kernel command line: fixed words, then this machine's volumes."""
    named = zip(VERITY_VOLUMES, (root, training), strict=True)
    volumes = [verity_word(name, each.root.hex, each.blocks) for name, each in named]
    fixed = [word for word in COMMAND_LINE if not (gpu and word in BY_INIT)]
    return " ".join([*fixed, *(SERVING if serve else ()), *volumes])


def unified_kernel(
    tools: Path, kernel: Kernel, stub: Path, init: bytes, words: str, work: Path, target: Path
) -> None:
    """Make the UKI at `target`: kernel, initrd and command line in one image for firmware."""
    initrd = work / "initrd.cpio"
    initrd.write_bytes(image_initrd.build(init, kernel.modules))
    sandbox = Sandbox(
        tree=tools, readable=[kernel.image, stub], writable=sorted({work, target.parent})
    )
    (work / "cmdline").write_text(words, encoding="ascii")
    (work / "os-release").write_text(_OS_RELEASE, encoding="ascii")
    ukify = ["ukify", "build", f"--linux={kernel.image}", f"--initrd={initrd}", f"--stub={stub}"]
    ukify += [f"--cmdline=@{work / 'cmdline'}", f"--os-release=@{work / 'os-release'}"]
    ukify += [f"--uname={kernel.release}", f"--output={target}"]
    sandbox.run(ukify)
