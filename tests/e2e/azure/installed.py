"""Run once through the driver of an installed package, in a repository of its own.

Start `installed.py REPOSITORY [MODULE]` with that repository's own Python and the package's code in
PYTHONPATH. It prints where the driver and its module are, then where the results are.
"""

import sys
from dataclasses import replace
from pathlib import Path

from aicert.errors import AicertError
from rules.host.work import remove
from rules.image.store import Image
from rules.machines.azure import machine, run, vhd
from rules.machines.machine import Job
from rules.project import config


def main(root: Path, module: Path) -> int:
    work = root / ".aicert/runs/tiny/work"
    remove(work)
    work.mkdir(parents=True)
    disk, inputs = work / "disk.raw", work / "inputs.img"
    disk.write_bytes(b"EFI" * 700_000)
    inputs.write_bytes(b"erofs" * 1000 + bytes(3192) + b"aicert inputs 1\n".ljust(4096, b"\0"))
    vhd.widen(inputs, 4096)
    job = Job(
        root=root, run="tiny", machine=config.load(root).machine("cloud"), lockfile=b"",
        # The volumes have been made already.
        inputs={}, nonce=bytes(32), training_env=None, work=work,
    )  # fmt: skip
    lock = (root / "lockfiles/image.lock.toml").read_bytes()
    image = Image(folder=work, disk=disk, tools=work, lock=lock)
    order = replace(machine.order_of(job), module=module, look_s=0.02)
    print(machine.__file__, run.MODULE, sep="\n")
    try:
        print(machine.carry_out(job, image, order))
    except AicertError as error:
        print(error.message, error.hint)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(*sys.argv[2:]) if sys.argv[2:] else run.MODULE))
