"""Find and remove what runs left on Azure: interrupted runs of this checkout, by terraform's state,
and resource groups of any checkout, by their tag.

Azure is queried only by `./doit clean azure`, because that needs a login.
"""

import re
from collections.abc import Callable
from pathlib import Path

from aicert.errors import AicertError, ToolError
from aicert.text import safe
from rules.host import progress
from rules.host.progress import say
from rules.host.work import held, remove
from rules.machines.azure import run
from rules.machines.azure.terraform import Terraform
from rules.machines.machine import Leftover

STRAYS = run.MODULE / "strays"
_GROUP = re.compile(r"(/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/)([A-Za-z0-9._()-]{1,90})/")


def look(root: Path, *, ask_azure: bool, module: Path = STRAYS) -> list[Leftover]:
    """Return what is left: what this checkout knows, and with a login also what only Azure
    knows.
    """
    home = root / run.HOME
    leftovers = []
    if home.is_dir():
        with held(home, alone=True):
            leftovers = [_cut_off(folder) for folder in run.cut_off(home)]
    if ask_azure:
        strays = _strays(home, module)
        # A resource group is not a stray if this checkout uses it or has its state. That includes
        # the runs that began while Azure was queried.
        known = {folder.name for folder in home.glob(run.FOLDERS)}
        leftovers += [item for item in strays if item.name not in known]
    return leftovers


def end(items: list[Leftover]) -> None:
    """Remove each one, even after a failure. The first failure is raised at the end."""
    failed: list[AicertError] = []
    for item in items:
        try:
            item.remove()
        except AicertError as error:
            say(f"{item.name}: {error.message}")
            failed.append(error)
    if failed:
        raise ToolError(
            f"{len(failed)} of {len(items)} resource groups still exist and cost money",
            hint="az group list --tag aicert=machine --output table",
        )


def _cut_off(folder: Path) -> Leftover:
    return Leftover(
        name=folder.name,
        what="an interrupted run of this checkout",
        remove=lambda: run.discard(Terraform(folder)),
    )


def _strays(home: Path, module: Path) -> list[Leftover]:
    """Resource groups that contain something with our tag. Their names come from Azure, so check
    them.
    """
    with progress.task("asking Azure for resources tagged aicert=machine") as bar:
        asked = _fresh(home, module, lambda line: bar.update(note=line))
        asked.apply({"group": "", "region": ""})
        listed = asked.output("strays")
        remove(asked.folder)
    groups: dict[str, Leftover] = {}
    for item in listed if isinstance(listed, list) else []:
        match = _GROUP.match(str(item.get("id", "")))
        if match is None or match[2] in groups:
            continue
        facts = [safe(str(item.get(key, "")), 60) for key in ("run", "region", "expires")]
        groups[match[2]] = Leftover(
            name=match[2],
            what=f"run {facts[0]} in {facts[1]}, to be gone by {facts[2]}",
            remove=_end_stray(home, module, match[1] + match[2], match[2], facts[1]),
        )
    return list(groups.values())


def _end_stray(
    home: Path, module: Path, identity: str, name: str, region: str
) -> Callable[[], None]:
    def act() -> None:
        with progress.task(f"destroying {name}") as bar:
            taken = _fresh(home, module, lambda line: bar.update(note=line))
            taken.set_variables({"group": name, "region": region})
            taken.adopt("azurerm_resource_group.stray[0]", identity)
            taken.destroy()
            remove(taken.folder)

    return act


def _fresh(home: Path, module: Path, note: Callable[[str], None]) -> Terraform:
    folder = home / "strays"
    remove(folder)
    terraform = Terraform.in_copy_of(module, folder, note)
    terraform.init()
    return terraform
