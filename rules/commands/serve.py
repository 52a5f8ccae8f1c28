"""`./doit serve [NAME] [--token FILE] [--nonce HEX]`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError
from rules.commands.base import Command
from rules.host.names import UnknownNameError
from rules.host.places import documentation
from rules.host.terminal import users_path
from rules.host.work import using
from rules.project import config
from rules.serving import serve


class Serve(Command):
    """Run a leased model on a machine of aicert.toml."""

    name = "serve"
    doc_purpose = "run a leased model, and carry its receipts"
    doc_usage = "[NAME]"
    doc_description = """\
Starts the machine of [leases.NAME] in aicert.toml, relays messages between it and the custodian's
broker, and shows what it serves. The machine opens no connections. The broker and the clients
check what it signs; this command does not.

  ./doit serve support-bot --token token.txt   # printed by lease grant
  ./doit serve support-bot                     # later, with the same TPM
  aicert connect https://127.0.0.1:8443 --lease … --certificate … --policy …

Machines are `local`, a process, or `qemu`, a measured image. `azure` makes a machine there for each
call, which needs a new token, and removes it when serving ends, at `time-limit` at the latest.
Nobody has run that on the real cloud yet.

A lease without a broker needs a licence in a file. The first call writes the machine's enrolment
to .aicert/serving/NAME/enrolment.json, for the custodian's `aicert lease issue`.

Ctrl-C stops it: the last receipt is sent, and the machine powers off. Exit codes: 0 ended by
order or by the licence, 1 ended otherwise, 2 the broker refused or something is missing, 3 bad
configuration or command line.
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "token",
            "short": "",
            "long": "token",
            "type": str,
            "default": "",
            "help": "a file with the broker's token; it is kept for later calls",
        },
        {
            "name": "nonce",
            "short": "",
            "long": "nonce",
            "type": str,
            "default": "",
            "help": "64 hex digits from the custodian, for an enrolment without a broker",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Serve the named lease; without a name, the only one."""
        root = Path.cwd()
        # Whoever runs a leased model need not have trained one.
        project = config.parse(root, config.read(root), may_be_empty=True)
        if len(args) > 1:
            raise ConfigError("serve takes one lease", hint=f"./doit serve {args[0]}")
        if not project.leases:
            raise ConfigError(
                f"{config.FILE} defines no lease",
                hint=f"less {documentation('docs/spec/aicert-toml.md')}",
            )
        first = next(iter(project.leases))
        if not args and len(project.leases) > 1:
            names = ", ".join(project.leases)
            raise ConfigError(f"which lease? {names}", hint=f"./doit serve {first}")
        name = args[0] if args else first
        if name not in project.leases:
            raise UnknownNameError(config.FILE, "lease", name, project.leases)
        token = users_path(params["token"]) if params["token"] else None
        with using(root):
            return serve.serve(project, project.lease(name), token=token, nonce=params["nonce"])
