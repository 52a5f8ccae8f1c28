"""`./doit trust [sha256:HEX or PEM] [--remove] [--make DRIVER]`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.cli import terminal
from aicert.crypto import simulated
from aicert.errors import ConfigError
from aicert.formats.digest import is_hex
from aicert.text import safe
from rules.commands.base import Command
from rules.host.terminal import users_path
from rules.machines.ca import local_ca
from rules.machines.machine import DRIVERS
from rules.project import platform_cas
from rules.project.platform_cas import PlatformCa


class Trust(Command):
    """Which other checkouts' CAs count here."""

    name = "trust"
    doc_purpose = "trust another checkout's CA of simulated machines, by its fingerprint"
    doc_usage = "[sha256:HEX or PEM]"
    doc_description = """\
A CA that belongs to one checkout vouches for the software TPM of a `local` or `qemu` machine.
Its owner can certify anything under it. A teammate's certificate is therefore kept, but gives
no verdict here until you trust their CA: ask them for its fingerprint, which `./doit trust` prints
in their checkout.

  ./doit trust                # list own, trusted and unknown CAs
  ./doit trust sha256:HEX     # one in certificates/RUN/ca.pem
  ./doit trust ~/ca.pem       # one from a file
  ./doit trust sha256:HEX --remove
  ./doit trust --make local   # your own, before your first run makes it

Trusted CAs are stored in .aicert/trusted/, which is never committed. They apply to this
checkout only; `aicert verify` never reads them.
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "remove",
            "short": "",
            "long": "remove",
            "type": bool,
            "default": False,
            "help": "stop trusting it",
        },
        {
            "name": "make",
            "short": "",
            "long": "make",
            "type": str,
            "default": "",
            "help": "make your own CA for machines of this driver: local or qemu",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """List, trust or stop trusting."""
        root = Path.cwd()
        if len(args) > 1:
            raise ConfigError("trust takes one fingerprint or one file", hint="./doit trust")
        if params["make"]:
            _make(root, params["make"], args)
        elif params["remove"]:
            fingerprint = _fingerprint(args[0]) if args else None
            if fingerprint is None:
                raise ConfigError("--remove needs a fingerprint", hint="./doit trust")
            platform_cas.distrust(root, fingerprint)
            print(f"no longer trusted  sha256:{fingerprint}")
        elif args:
            _trust(root, args[0])
        else:
            terminal.write("".join(f"{line}\n" for line in _lines(root)))
        return 0


def _make(root: Path, driver: str, args: list[str]) -> None:
    if args or driver not in simulated.DRIVERS:
        raise ConfigError(
            f"--make takes a driver of simulated machines: {' or '.join(simulated.DRIVERS)}",
            hint="./doit trust --make local",
        )
    ca = platform_cas.read(local_ca(root, driver).path)
    print(f"own      {_line(ca)}\n         {safe(str(ca.path.relative_to(root)), 200)}")


def _fingerprint(text: str) -> str | None:
    """Return the hex of `sha256:HEX`; None for any other text, for example a path."""
    kind, colon, value = text.partition(":")
    if kind != "sha256" or not colon:
        return None
    if not is_hex(value.lower()):
        raise ConfigError(f"not a fingerprint: {text[:80]!a}", hint="./doit trust")
    return value.lower()


def _trust(root: Path, asked: str) -> None:
    fingerprint = _fingerprint(asked)
    if fingerprint is None:
        ca = platform_cas.read(users_path(asked))
    else:
        brought = platform_cas.all_beside(root).values()
        matching = [ca for ca in brought if ca.fingerprint == fingerprint]
        if not matching:
            raise ConfigError(
                f"no certificate here comes with a CA with this fingerprint: {asked}",
                hint="./doit trust PEM, with its owner's .aicert/ca/local.pem",
            )
        ca = matching[0]
    mine = platform_cas.own(root, ca.driver)
    if mine is not None and mine.fingerprint == ca.fingerprint:
        raise ConfigError("that is this checkout's own CA", hint="./doit trust")
    platform_cas.trust(root, ca)
    print(f"trusted  {_line(ca)}")
    print("         its owner can make certificates that pass in this checkout")


def _line(ca: PlatformCa) -> str:
    return safe(f"sha256:{ca.fingerprint}  {ca.driver}", 200)


def _lines(root: Path) -> list[str]:
    owned = [ca for name in DRIVERS if (ca := platform_cas.own(root, name)) is not None]
    trusted = platform_cas.trusted(root)
    known = {ca.fingerprint for ca in (*owned, *trusted)}
    lines = [f"own      {_line(ca)}" for ca in owned]
    lines += [f"trusted  {_line(ca)}" for ca in trusted]
    for run, ca in platform_cas.all_beside(root).items():
        if ca.fingerprint not in known:
            lines.append(f"unknown  {_line(ca)}  of {safe(f'certificates/{run}', 120)}")
    return lines or [
        "no CA yet: the first run on a simulated machine makes one, or `./doit trust --make local`"
    ]
