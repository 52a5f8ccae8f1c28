"""Serve on Azure: the serving image, on a Trusted Launch machine that exists while it serves.

Its courier has no port there but the machine's own, so it calls at that (`caller`), with a key made
for this boot. The machine, its TPM and its address are removed when serving ends. None of this has
run on Azure itself yet (docs/azure.md).
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

from aicert.errors import ToolError
from aicert.formats.digest import of_bytes
from aicert.lease import serve_settings
from aicert.lease.serve_settings import Settings
from rules.image import build, verity
from rules.image.store import Image
from rules.image.tasks import ensure
from rules.machines.azure import run, terraform, vhd
from rules.machines.machine import Machine, Serving
from rules.machines.qemu.command import processors
from rules.machines.volumes import OWN_MEMORY, make_volume
from rules.serving.caller import Callee, calling
from rules.serving.lease_state import LeaseFolder
from rules.serving.power import Powered

# As in terraform/azure/main.tf: the machine's address in its network, and Azure's router there.
ADDRESS: Final = "10.0.0.4"
PREFIX: Final = 29
GATEWAY: Final = "10.0.0.1"


@contextlib.contextmanager
def powered(
    root: Path, kept: LeaseFolder, bundle: Path, machine: Machine, say: Callable[[str], None]
) -> Iterator[Powered]:
    """Run this lease's machine there until the block ends."""
    serving = machine.serving
    if serving is None:
        raise ToolError(f"machine {machine.name} serves nothing")
    # Fail before the image is built, which may take a long time.
    terraform.require_program()
    image = ensure(root, serve=True)
    key = secrets.token_hex(32)
    with build.in_use(build.place(root, serve=True)):
        say("making the machine's volumes")
        inputs = _volume(kept, bundle, image, settings_of(machine, serving, image, key))
        order = order_of(kept, machine, serving)
        with booted(root, order, image=image.disk, inputs=inputs, key=key, say=say) as running:
            yield running


def settings_of(machine: Machine, serving: Serving, image: Image, key: str) -> Settings:
    """What the machine is handed."""
    return Settings(
        address=ADDRESS,
        prefix=PREFIX,
        gateway=GATEWAY,
        port=serving.port,
        image=of_bytes(image.lock),
        memory=max(machine.memory - OWN_MEMORY, OWN_MEMORY),
        threads=processors(machine),
        courier=of_bytes(key.encode("ascii")),
    )


def _volume(kept: LeaseFolder, bundle: Path, image: Image, settings: Settings) -> Path:
    inputs = kept.work / "inputs.img"
    files = {serve_settings.SETTINGS: serve_settings.emit(settings)}
    make_volume(image.tools, kept.work, files, {serve_settings.BUNDLE: bundle}, inputs)
    vhd.widen(inputs, verity.BLOCK)
    return inputs


def order_of(kept: LeaseFolder, machine: Machine, serving: Serving) -> run.Order:
    """The settings for Azure in aicert.toml."""
    options = machine.options
    return run.Order(
        run=kept.folder.name,
        region=cast(str, options["region"]),
        size=cast(str, options["size"]),
        hourly_price=cast(float | None, options["hourly-price"]),
        budget=cast(int, options["budget"]),
        output_gib=0,
        # When this has passed, serving ends, which may take as long as a boot.
        limit_s=machine.time_limit + run.BOOT_S,
        port=serving.port,
        clients=cast(tuple[str, ...], options["clients"]),
    )


@contextlib.contextmanager
def booted(
    root: Path,
    order: run.Order,
    *,
    image: Path,
    inputs: Path,
    key: str,
    say: Callable[[str], None],
) -> Iterator[Powered]:
    """Make the machine from these volumes; remove everything afterwards."""
    say("making the machine on Azure")
    with run.standing(root / run.HOME, order, image=image, inputs=inputs) as standing:
        until = time.monotonic() + order.limit_s - run.BOOT_S
        say("waiting for the machine")
        callee = Callee(
            host=standing.address,
            port=order.port,
            key=key,
            boots_s=order.boot_s,
            has_ended=standing.signs.has_ended,
        )
        with calling(callee) as link:
            yield Powered(
                link=link,
                url=lambda port: f"https://{standing.address}:{port}",
                last_lines=standing.signs.last_lines,
                until=until,
            )
