"""`[leases.NAME]` of `aicert.toml`, and the keys of machines that serve, parsed strictly."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from aicert.sources import forms
from rules.host import toml_table
from rules.host.names import suggestion
from rules.host.toml_table import Table
from rules.machines.machine import Driver, Machine, Serving
from rules.project import sources

FILE = toml_table.FILE
DEFAULT_PORT = 8443
# What a machine's image is for.
TRAIN, SERVE, TOOLS = "train", "serve", "tools"
IMAGES = (TRAIN, SERVE, TOOLS)
_BROKER = re.compile(
    r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(?::[1-9][0-9]{0,4})?/?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One `[leases.NAME]`: a leased model, and the machine that runs it.

    `run` and `output`: the certified output of this repository that is leased; or only `bundle`, a
    folder. `broker`: its address, or None if licences come as files. `broker_root`: certificates to
    trust for that address in addition to the system's. `licence`: the folder of licence files.
    """

    name: str
    machine: Machine
    bundle: str
    run: str | None = None
    output: str | None = None
    broker: str | None = None
    broker_root: str | None = None
    licence: str | None = None


def image_of(table: Table, driver: Driver, *, gpu: bool) -> str | None:
    """Return what the machine's image is for; None if the table does not name it."""
    image = table.text("image") if table.has("image") else None
    if image not in (None, *IMAGES):
        raise ConfigError(
            f"{FILE}: {table.where}.image {image!r} is not one of {', '.join(IMAGES)}"
        )
    if image is not None and not driver.in_image:
        raise ConfigError(
            f"{FILE}: {table.where}.image is for measured machines, but the driver is {driver.name}"
        )
    if image == SERVE and (gpu or not driver.serves):
        what = "a machine with a GPU" if gpu else f"driver {driver.name}"
        raise ConfigError(
            f"{FILE}: {table.where}.image is {SERVE!r}, but there is no serving image for {what}"
        )
    if image == TOOLS and gpu:
        raise ConfigError(
            f"{FILE}: {table.where}.image is {TOOLS!r}, but there is no tools image for a "
            "machine with a GPU"
        )
    return image


def serving(
    table: Table, driver: Driver, options: Mapping[str, object], image: str | None
) -> Serving | None:
    """Return the serving keys of a machine. On `local` every machine may serve, because none has an
    image.
    """
    if image != SERVE and driver.in_image:
        for key in ("listen", "port", "clients"):
            if table.has(key) or options.get(key):
                raise ConfigError(
                    f"{FILE}: {table.where}.{key} is for machines that serve",
                    hint=f'image = "{SERVE}"',
                )
        return None
    if driver.cloud:
        _check_cloud(table, driver, options)
    listen = table.text("listen") if table.has("listen") else "127.0.0.1"
    try:
        ipaddress.IPv4Address(listen)
    except ValueError:
        raise ConfigError(
            f"{FILE}: {table.where}.listen is not an IPv4 address: {listen!r}"
        ) from None
    port = table.count("port", DEFAULT_PORT)
    if port >= 1 << 16:
        raise ConfigError(f"{FILE}: {table.where}.port must be at most 65535")
    return Serving(listen=listen, port=port)


def _check_cloud(table: Table, driver: Driver, options: Mapping[str, object]) -> None:
    """Raise ConfigError unless a cloud's machine has what one that serves needs: it has an address
    of its own, which only named networks may reach, and costs money for as long as it exists.
    """
    if table.has("listen"):
        raise ConfigError(f"{FILE}: {table.where}.listen is not for driver {driver.name}")
    if not options["clients"]:
        raise ConfigError(
            f"{FILE}: {table.where}.clients is missing: who may reach the machine's port",
            hint='clients = ["203.0.113.0/24"], with the address of this computer in it',
        )
    if not table.has("time-limit"):
        raise ConfigError(
            f"{FILE}: {table.where}.time-limit is missing: when serving ends at the latest",
            hint='time-limit = "12 h"',
        )


def read(
    name: str,
    table: Table,
    outputs: Mapping[str, tuple[str, ...]],
    machines: Mapping[str, Machine],
) -> Lease:
    """Read the table `[leases.NAME]`. `outputs`: the names of each run's outputs."""
    table.only("model", "machine", "broker", "broker-root", "licence")
    where = table.where
    machine = table.text("machine")
    if machine not in machines:
        raise ConfigError(
            f"{FILE}: {where}.machine is unknown: {machine!r}{suggestion(machine, machines)}"
        )
    if machines[machine].serving is None:
        raise ConfigError(
            f"{FILE}: {where}.machine: machine {machine} cannot serve",
            hint=f'image = "{SERVE}" in [machines.{machine}], with driver qemu or azure',
        )
    broker = table.text("broker") if table.has("broker") else None
    if broker is not None and not _BROKER.fullmatch(broker):
        raise ConfigError(
            f"{FILE}: {where}.broker is {broker[:80]!a}, but should be like "
            "'https://custodian.example:8444'"
        )
    if broker is None and machines[machine].driver.cloud:
        raise ConfigError(
            f"{FILE}: {where}.broker is missing: machine {machine} and its TPM are removed when "
            "serving ends, so no licence can be issued for it beforehand"
        )
    for key in ("broker-root",) if broker is None else ("licence",):
        if table.has(key):
            online = "without a broker" if broker is None else "with a broker"
            raise ConfigError(f"{FILE}: {where}.{key} is not allowed {online}")
    run, output, bundle = _model(name, table, outputs)
    return Lease(
        name=name,
        machine=machines[machine],
        bundle=bundle,
        run=run,
        output=output,
        broker=broker,
        broker_root=_path(table, "broker-root", None),
        licence=_path(table, "licence", f"leases/{name}.issued") if broker is None else None,
    )


def _model(
    name: str, table: Table, outputs: Mapping[str, tuple[str, ...]]
) -> tuple[str | None, str | None, str]:
    """Run, output and bundle of a lease's model."""
    where = f"{FILE}: {table.where}.model"
    source = forms.parse(sources.checked(table.text("model"), f"{table.where}.model"))
    if isinstance(source, forms.PathSource):
        return None, None, source.path
    if not isinstance(source, forms.RunSource):
        raise ConfigError(f"{where} must be a bundle or an output", hint="path:FOLDER")
    sources.check_output(source, outputs, where)
    return source.run, source.output, f"leases/{name}"


def _path(table: Table, key: str, default: str | None) -> str | None:
    """Return a path in this repository, as in `path:` sources."""
    if not table.has(key):
        return default
    text = table.text(key)
    sources.checked(f"path:{text}", f"{table.where}.{key}")
    return text
