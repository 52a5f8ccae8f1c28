"""What a machine is, what its driver must do, and the only table of drivers.

A driver is a module or folder of its own plus a row in `DRIVERS`; nothing else knows its name. The
row says what others need before a run. The module, imported on demand, does the work
(`Implementation`, and `Cloud` if its machines cost money).

This is below the code that reads `aicert.toml`, so it knows nothing about runs and lockfiles: a job
carries what the driver needs from them.
"""

import importlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from rules.host.toml_table import Table

_REGION = re.compile(r"[a-z][a-z0-9]{2,39}")
_SIZE_NAME = re.compile(r"Standard_[A-Za-z0-9_-]{2,60}")
_TAIL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One row of the table.

    `module` is imported when a run begins. `policy` is the built-in policy that a certificate of
    this checkout's own run must meet; for a simulated platform it relies on the checkout's CA of
    that name. `in_image`: the run happens in the measured image, so its scratch is memory, it needs
    no training environment here, and it may have a GPU. `serves`: it can serve leased models.
    `cloud`: the name of the cloud, if its machines cost money. `keys`: keys of `[machines.NAME]`
    that only this driver has, with their readers.
    """

    name: str
    module: str
    policy: str
    in_image: bool
    serves: bool = False
    cloud: str = ""
    keys: Mapping[str, Callable[[Table, str], object]] = field(default_factory=dict)


_TABLE = (
    Driver(
        name="local", module="rules.machines.local", policy="local", in_image=False, serves=True
    ),
    Driver(
        name="qemu", module="rules.machines.qemu.machine", policy="qemu", in_image=True, serves=True
    ),
    Driver(
        name="azure",
        module="rules.machines.azure.machine",
        policy="default",
        in_image=True,
        serves=True,
        cloud="Azure",
        keys={
            "region": lambda table, key: table.name(key, _REGION, "westeurope"),
            "size": lambda table, key: table.name(key, _SIZE_NAME, "Standard_D8s_v5"),
            "hourly-price": lambda table, key: table.price(key),
            "budget": lambda table, key: table.count(key, 0) if table.has(key) else 0,
            "clients": lambda table, key: table.networks(key) if table.has(key) else (),
        },
    ),
)
DRIVERS: Mapping[str, Driver] = {driver.name: driver for driver in _TABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a run is executed. Sizes in bytes, time in seconds; none of it is certified.

    `cpus` is the number of threads for the trainer, or one if it is None. `options` are the
    driver's own keys. `tools`: its image has the packages of every trainer (`image = "tools"`).
    """

    name: str
    driver: Driver
    memory: int
    scratch: int
    time_limit: int
    processes: int
    cpus: int | None
    options: Mapping[str, object] = field(default_factory=dict)
    gpu: bool = False
    tools: bool = False
    serving: "Serving | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where the port of a machine that serves is reachable; `listen` is of this computer."""

    listen: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One execution of a run: its lockfile, and where its inputs are on this host.

    `work` is an empty folder for this job on the repository's disk. `tools`: the folder that holds
    the folder of the trainer's own packages, on a `local` machine and if the trainer has any.
    """

    root: Path
    run: str
    machine: Machine
    lockfile: bytes
    inputs: Mapping[str, Path]
    nonce: bytes
    training_env: Path | None
    work: Path
    tools: Path | None = None
    # Leave a cloud machine running afterwards, to debug it.
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something that costs money; `remove` ends it."""

    name: str
    what: str
    remove: Callable[[], None]


class Implementation(Protocol):
    """What a driver's module must have."""

    def execute(self, job: Job) -> Path:
        """Run the job to its end. Returns the folder with `certificate.json`, `training.log`,
        `outputs/`.

        Nothing of the machine is left running, whatever happens. Raises the runner's own error
        (ConfigError, LockError, ToolError), or ToolError if it died.
        """


class Cloud(Implementation, Protocol):
    """What the module must also have if its machines cost money."""

    def leftovers(self, root: Path, *, ask: bool) -> list[Leftover]:
        """Return what runs of this checkout left there; with `ask`, also what only the
        cloud knows.
        """

    def end(self, items: list[Leftover]) -> None:
        """Remove each one, even after a failure. The first failure is raised at the end."""


def implementation(driver: Driver) -> Implementation:
    """Return the driver's module."""
    return cast(Implementation, importlib.import_module(driver.module))


def cloud(driver: Driver) -> Cloud:
    """Return the module of a driver whose machines cost money."""
    return cast(Cloud, importlib.import_module(driver.module))


def tail(path: Path) -> str:
    """Return the last whole lines of a hostile text file; empty if it does not exist."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
            file.seek(start)
            text = file.read(_TAIL).decode("utf-8", "replace")
            return text.partition("\n")[2] or text if start else text
    except OSError:
        return ""
