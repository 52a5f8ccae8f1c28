"""One run on Azure: provision, upload, boot, follow, collect, destroy.

Everything is destroyed afterwards, after success, an error, Ctrl-C or SIGTERM. If that fails, or if
this process is killed, the run's folder keeps terraform's state and `./doit clean` finishes the
job. Only terraform talks to Azure, apart from storage requests with signatures that terraform
makes; nothing else holds a credential. Making volumes and judging results is in
rules/machines/azure/machine.py.
"""

import datetime
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aicert.errors import AicertError, ToolError
from rules.host import progress
from rules.host.places import CODE
from rules.host.progress import say
from rules.host.work import held, is_held, remove
from rules.machines.azure import blobs, client
from rules.machines.azure import costs as azure_costs
from rules.machines.azure import vhd as azure_vhd
from rules.machines.azure.console import ConsoleStream, Signs
from rules.machines.azure.terraform import Terraform

HOME = Path(".aicert") / "azure"
MODULE = CODE / "terraform" / "azure"
FOLDERS = "aicert*"
MARK = "held"
# Time for copying the image into the region and back, and for slow machines.
BOOT_S = 900
# If a driver has died: by then the signatures have expired and the machine has shut down.
_GRACE_S = 4 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run and where. `output_gib` is the output disk's size, `limit_s` the machine's time.
    A machine that serves has no such disk, but a `port` that the networks `clients` may reach.
    """

    run: str
    region: str
    size: str
    hourly_price: float | None
    budget: int
    output_gib: int
    limit_s: float
    keep: bool = False
    port: int = 0
    clients: tuple[str, ...] = ()
    module: Path = MODULE
    boot_s: float = BOOT_S
    look_s: float = 5.0
    ask_s: float = 60.0


def execute(
    home: Path,
    order: Order,
    *,
    image: Path,
    inputs: Path,
    output: Path,
    follow: Callable[[ConsoleStream], None],
) -> None:
    """Boot `image` with `inputs`, and download its output disk to `output`.

    `follow` reads the console to its end and raises the runner's error.
    """
    with _booted(home, order, image=image, inputs=inputs) as (terraform, store):
        stream = ConsoleStream(
            blobs.Console(store).more,
            boot_s=order.boot_s,
            limit_s=order.limit_s,
            look_s=order.look_s,
            is_off=lambda: _is_off(terraform),
            ask_s=order.ask_s,
        )
        follow(stream)
        _apply(terraform, order, "stopped")
        _apply(terraform, order, "collect")
        blobs.download(terraform.output("output_disk"), output, order.output_gib * azure_vhd.GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A machine that serves: its address, and what its console and Azure say about it."""

    address: str
    signs: Signs


@contextmanager
def standing(home: Path, order: Order, *, image: Path, inputs: Path) -> Iterator[Standing]:
    """Boot `image` with `inputs` for as long as the block runs."""
    with _booted(home, order, image=image, inputs=inputs) as (terraform, store):
        signs = Signs(
            blobs.Console(store).more, is_off=lambda: _is_off(terraform), ask_s=order.ask_s
        )
        yield Standing(address=str(terraform.output("address")), signs=signs)


@contextmanager
def _booted(
    home: Path, order: Order, *, image: Path, inputs: Path
) -> Iterator[tuple[Terraform, Any]]:
    """The machine, with what holds it and its store. All of it is destroyed afterwards."""
    disks = {"image.vhd": azure_vhd.of_file(image), "inputs.vhd": azure_vhd.of_file(inputs)}
    costs = azure_costs.of(order.size, order.hourly_price)
    say(f"{order.run}: azure {order.region}, {costs.before(order.limit_s)}")
    # Before anything costs money.
    client.library()
    began = time.monotonic()
    try:
        with provisioned(home, order) as terraform:
            store = client.service(terraform.output("store"))
            for name, vhd in disks.items():
                say(f"{order.run}: {name}: {blobs.show_size(vhd)}")
                blobs.upload(store, vhd, name)
            _apply(terraform, order, "machine")
            yield terraform, store
    finally:
        say(f"{order.run}: azure {order.region}, {costs.after(time.monotonic() - began)}")


@contextmanager
def provisioned(home: Path, order: Order) -> Iterator[Terraform]:
    """Provide a resource group with a storage account, and destroy it afterwards with everything in
    it.
    """
    name = f"aicert{secrets.token_hex(6)}"
    folder = home / name
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as until_done:
        # Whoever looks for interrupted runs waits, so a folder is seen only once its lock is held.
        with held(home, alone=True):
            with progress.task(f"{order.run}: {name}") as bar:
                terraform = Terraform.in_copy_of(
                    order.module, folder, lambda line: bar.update(note=line)
                )
            (folder / MARK).touch()
            until_done.enter_context(held(folder / MARK))
            left = cut_off(home)
        for other in left:
            say(
                f"an earlier run was interrupted and may still cost money: {other.name} "
                "(./doit clean)"
            )
        try:
            terraform.init()
            _apply(terraform, order, "store", name=name, **_facts(order))
            yield terraform
        except BaseException as error:
            _discard(terraform, order, error)
            raise
        _discard(terraform, order, None)


def _is_off(terraform: Terraform) -> bool:
    """Whether Azure says that the machine is off. No answer means no, and the time limit still
    applies.
    """
    try:
        terraform.refresh()
        state = str(terraform.output("power_state"))
    except AicertError:
        return False
    return state.lower().endswith(("stopped", "deallocated"))


def cut_off(home: Path) -> list[Path]:
    """Return the folders of runs that have ended. The caller must hold `home` alone."""
    return [folder for folder in sorted(home.glob(FOLDERS)) if not _in_use(folder)]


def _in_use(folder: Path) -> bool:
    """Whether a certify uses it: a running one shares a lock on it."""
    try:
        mark = os.open(folder / MARK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    return is_held(mark)


def _facts(order: Order) -> dict[str, object]:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    # Clocks differ: a signature that begins now may not be valid there yet.
    starts = now - datetime.timedelta(minutes=15)
    expires = now + datetime.timedelta(seconds=order.limit_s + _GRACE_S)
    return {
        "run": order.run,
        "region": order.region,
        "size": order.size,
        "budget": order.budget,
        "output_gib": order.output_gib,
        "port": order.port,
        "clients": order.clients,
        "starts": starts.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _apply(terraform: Terraform, order: Order, stage: str, **variables: object) -> None:
    words = {"store": "creating the storage account", "machine": "creating disks and the machine",
             "stopped": "removing the machine", "collect": "opening its output disk"}  # fmt: skip
    with progress.task(f"{order.run}: {words[stage]}"):
        terraform.apply({"stage": stage, **variables})


def _discard(terraform: Terraform, order: Order, error: BaseException | None) -> None:
    name = terraform.folder.name
    if order.keep and terraform.may_have_made_something:
        say(
            f"{order.run}: kept, and still costs money: resource group {name} (./doit clean azure "
            "removes it)"
        )
        return
    try:
        discard(terraform)
    except AicertError as failure:
        first = f"{error.message}\n" if isinstance(error, AicertError) else ""
        raise ToolError(
            f"{first}resource group {name} could not be destroyed and still costs money: "
            f"{failure.message}",
            hint=f"./doit clean azure, or: az group delete --name {name}",
        ) from None


def discard(terraform: Terraform) -> None:
    """Destroy what the folder's state names, then remove the folder."""
    terraform.check_destroyable()
    if terraform.may_have_made_something:
        with progress.task(f"destroying {terraform.folder.name}"):
            terraform.destroy()
    remove(terraform.folder)
