"""Images with one part exchanged, made by the code that makes the real one.

Only a policy that names such an image accepts it. With them, real machines experience what Axolotl
and an honest disk do not do on demand.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from rules.image import build, layers
from rules.image.store import Image
from rules.image.verity import Verity
from tests.e2e.conftest import PREAMBLE
from tests.machine.conftest import Built

# Runs a program from the inputs as the trainer.
TRAINER = PREAMBLE + 'exec(Path("/aicert/inputs/alpaca/trainer.py").read_text())\n'
# Runs in place of training: reads one file from the disk again and again, and tolerates an error as
# loaders of optional files do.
READER = """

def train(effective, shown, *_, **__):
    import time

    for _ in range(120):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        try:
            shown["/aicert/inputs/model/generation_config.json"].read_bytes()
        except OSError as error:
            print("taken for absent:", error, flush=True)
        time.sleep(0.5)
    raise ToolError("it can be read to the end")
"""


def with_trainer(built: Built, folder: Path) -> Image:
    """Return the image with a training volume that has `TRAINER` in place of Axolotl."""
    stage = folder / "stage"
    package = stage / "lib/python3.11/site-packages/axolotl/cli"
    package.mkdir(parents=True)
    (stage / "bin").mkdir()
    (stage / "bin/python").symlink_to("/usr/bin/python3.11")
    (stage / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "main.py").write_text(TRAINER)
    verity = layers.volume(built.image.tools, stage, folder / "training.img")
    (folder / "manifest").touch()
    return _image(built, built.checkout.root, folder, (folder / "training.img", verity))


def with_reader(built: Built, folder: Path) -> Image:
    """Return the image with a runner that reads one input as long as it can, in place of
    training.
    """
    root = folder / "checkout"
    for name in ("aicert", "enclave_runner", "image", "rules"):
        shutil.copytree(built.checkout.root / name, root / name)
    with (root / "enclave_runner/axolotl/training.py").open("a") as file:
        file.write(READER)
    return _image(built, root, folder, None)


def _image(built: Built, root: Path, folder: Path, training: tuple[Path, Verity] | None) -> Image:
    where = replace(build.place(built.checkout.root), root=root)
    lock = build.read_lock(built.checkout.root)
    assert lock is not None
    machine = build._machine_tree(where, built.image.tools, built.packages())
    used = training or build._training_volume(where, built.image.tools, machine)
    kernel = next(package for package in lock.packages if package.part == "kernel")
    target = folder / "image"
    target.mkdir()
    build._make_image(
        where,
        target,
        built.image.tools,
        machine,
        kernel,
        None,
        None,
        used,
        build.Locked(packages=lock.packages),
    )
    for known in built.image.folder.glob("accelerator-*"):
        shutil.copy(known, target)
    return Image(
        folder=target,
        disk=target / "disk.raw",
        tools=built.image.tools,
        lock=(target / "lock.toml").read_bytes(),
    )
