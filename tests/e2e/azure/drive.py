"""Run once through the driver in a process of its own, for tests that interrupt it.

`drive.py HOME FOLDER` prints `following` when it reads the machine's console.
"""

import sys
from pathlib import Path

from rules.host.signals import termination_raises
from rules.machines.azure import run
from rules.machines.azure.console import ConsoleStream
from tests.e2e.azure.conftest import REHEARSAL


def follow(stream: ConsoleStream) -> None:
    while stream.readline():
        print("following", flush=True)


def main(home: Path, folder: Path) -> None:
    order = run.Order(
        run="tiny", region="westeurope", size="Standard_D8s_v5", hourly_price=None, budget=0,
        output_gib=1, limit_s=300, module=REHEARSAL, look_s=0.02,
    )  # fmt: skip
    disk = folder / "disk"
    disk.write_bytes(b"x" * 10000)
    with termination_raises():
        run.execute(home, order, image=disk, inputs=disk, output=folder / "output", follow=follow)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
