"""Select the files of the built tree that go into the machine, and stage them.

The system has allow-lists: it keeps a file because something in docs/spec/image.md uses it. The
training environment has exclusions: it loses what Axolotl on a CPU never loads, which are tests,
sources, and code for accelerators. Trees are staged as hard links: nothing is copied, and nothing
is written through them.
"""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from aicert.files.machine_code import MACHINE_CODE, machine_code
from rules.host.work import remove
from rules.image.sandbox import Sandbox

# The only programs: Python, the sandbox of the training and the limits that are set in it, the
# sandbox's own probe, and what ctypes calls to find libraries.
PROGRAMS = ("bwrap", "ldconfig", "prlimit", "python3", "python3.11", "true")
SETTINGS = (
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "nsswitch.conf",
    "os-release",
    "passwd",
)
_LIBRARIES = re.compile(
    r"usr/lib/(?:os-release|python3/dist-packages/.+|python3\.11/.+|x86_64-linux-gnu/.+|ssl/.+)"
    r"|usr/lib64/.+"
)
_NOT_LIBRARIES = re.compile(
    r"usr/lib/python3\.11/(?:(?:test|idlelib|lib2to3|ensurepip|tkinter|turtledemo|venv|config-[^/]*)/.+"
    r"|.*/tests?/.+|.*/__pycache__/.+)"
    r"|usr/lib/python3/dist-packages/(?:doit|tomlkit|cffi|pycparser|bin)(?:[-.][^/]*)?/.+"
    r"|usr/lib/x86_64-linux-gnu/(?:perl|perl-base|gconv|security|audit|systemd)/.+"
)
# Mount points; the last three are for the volumes and the run.
PLACES = ("dev", "proc", "run", "sys", "tmp", "training", "inputs", "scratch")
CODE = Path("usr/lib/python3/dist-packages")
PACKAGES = tuple(sorted({entry.partition("/")[0] for entry in MACHINE_CODE}))
# Applies the same removals to the training environment in the machine's tree as to the local one.
HARDENING = Path("rules/host/hardening.py")
# Makes Triton's kernels run in the GPU image: a script that mkosi runs.
KERNELS = Path("image/kernels/kernels.chroot")

# Only a GPU would load these. The GPU image takes bitsandbytes' build for its CUDA.
_GPU_CUTS = re.compile(
    r"axolotl/integrations/liger/.*"
    r"|bitsandbytes/libbitsandbytes_(?:cuda|rocm|xpu)[^/]*"
    r"|numba/cuda/.*"
    r"|triton/backends/(?:nvidia|amd)/(?:bin|lib)/.*"
)
_GPU_KEPT = re.compile(
    r"axolotl/integrations/liger/.*"
    r"|bitsandbytes/libbitsandbytes_cuda130\.so|numba/.*|triton/backends/nvidia/.*"
)
_TRAINING_CUTS = re.compile(
    r"(?:PIL/_avif|pillow\.libs/libavif-)[^/]*"
    r"|art/.*|setuptools/.*"
    # Plugins, except those that a config may name and one that FSDP imports.
    r"|axolotl/integrations/(?!(?:__pycache__|diffusion|expert_parallel|grokfast|liger|spectrum)/)[^/]+/.*"
    r"|hf_xet/[^/]*\.so"
    r"|numpy/(?:distutils|f2py)/.*"
    r"|pyarrow/libarrow_(?:flight|s3)\.so\..*|pyarrow/_(?:flight|s3fs)\..*"
    # Copies of libarrow_python.so.2600.
    r"|pyarrow/libarrow_python\.so(?:\.2600\..*)?"
    r"|pygments/lexers/(?!(?:__pycache__/)?(?:_|python|special)).*"
    r"|sympy/physics/.*"
    r"|torch/bin/(?!torch_shm_manager).*"
    r"|torch/include/.*|torch/share/.*"
    r"|torch/lib/lib(?:aoti_custom_ops|backend_with_compiler|torchbind_test)\.so"
    r"|torch/testing/_internal/"
    r"(?!(?:distributed/)?(?:__pycache__/)?(?:__init__|common_dtype|fake_pg|logging_tensor)\.).*"
    r"|triton/(?:instrumentation/.*|plugins/.*|FileCheck)"
    r"|triton/_C/libproton\.so"
    r"|wandb/bin/.*"
)


def stage_training(machine: Path, stage: Path, *, gpu: bool = False) -> None:
    """Stage the training environment, as the machine mounts it at /training."""
    site = "lib/python3.11/site-packages/"

    def keep(name: str) -> bool:
        return not name.startswith(site) or is_trained_with(name.removeprefix(site), gpu=gpu)

    remove(stage)
    _link(machine / "training", stage, keep)


def is_trained_with(name: str, *, gpu: bool) -> bool:
    """Return whether a run loads this path, relative to the training environment's packages."""
    if _GPU_CUTS.fullmatch(name) and not (gpu and _GPU_KEPT.fullmatch(name)):
        return False
    return not _TRAINING_CUTS.fullmatch(name)


def stage_root(
    machine: Path,
    repository: Path,
    stage: Path,
    more: Sequence[Path] = (),
    entries: tuple[str, ...] = MACHINE_CODE,
) -> None:
    """Stage the system's tree, this checkout's code for the machine, and the trees in `more`."""
    remove(stage)
    _link(machine, stage, is_kept)
    for tree in more:
        _link(tree, stage, lambda _: True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (stage / name).symlink_to(f"usr/{name}")
    for name in PLACES:
        (stage / name).mkdir()
    _copy_code(repository, stage / CODE, entries)


def is_kept(name: str) -> bool:
    """Return whether the path, relative to the machine's tree, belongs to the system."""
    top, _, rest = name.partition("/")
    if top == "etc":
        return rest.partition("/")[0] in SETTINGS
    if re.fullmatch(r"usr/s?bin/[^/]+", name):
        return os.path.basename(name) in PROGRAMS
    return bool(_LIBRARIES.fullmatch(name)) and not _NOT_LIBRARIES.fullmatch(name)


def compile_code(stage: Path, more: Sequence[Path] = ()) -> None:
    """Write byte code with the machine's own Python. `more`: further folders in the stage.

    The machine never checks it against sources, because nothing there can change.
    """
    code = [str(Path("/", CODE, name)) for name in PACKAGES]
    code += [str(Path("/", place)) for place in more]
    words = ["/usr/bin/python3.11", "-I", "-m", "compileall", "-q", "--invalidation-mode"]
    sandbox = Sandbox(tree=stage, system_writable=True)
    sandbox.run([*words, "unchecked-hash", "/usr/lib/python3.11", *code])


def manifest(stage: Path) -> str:
    """List every file of a staged tree with permissions and digest or link target.

    Such lists show where two images differ.
    """
    lines = []
    for folder, folders, names in os.walk(stage):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            inside, status = os.path.relpath(path, stage), os.lstat(path)
            what = "directory"
            if stat.S_ISLNK(status.st_mode):
                what = f"-> {os.readlink(path)}"
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    what = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{inside}  {stat.S_IMODE(status.st_mode):04o}  {what}\n")
    return "".join(sorted(lines))


def _copy_code(repository: Path, target: Path, entries: tuple[str, ...]) -> None:
    """Copy the code with fixed permissions: those of a checkout depend on its owner's umask."""
    for name in machine_code(repository, entries):
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, copy)
    for package in PACKAGES:
        for folder, _, names in os.walk(target / package):
            os.chmod(folder, 0o755)  # noqa: S103  # a read-only system, which the trainer reads too
            for name in names:
                os.chmod(os.path.join(folder, name), 0o644)


def _link(source: Path, target: Path, keep: Callable[[str], bool]) -> None:
    """Hard-link the paths that `keep` accepts, and create the folders that this needs."""
    for folder, folders, names in os.walk(source):
        inside = os.path.relpath(folder, source)
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*names, *links):
            path = os.path.normpath(os.path.join(inside, name))
            if keep(path):
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                os.link(os.path.join(folder, name), target / path, follow_symlinks=False)
