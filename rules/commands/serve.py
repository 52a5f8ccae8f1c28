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
Starts the machine of [leases.NAME] in aicert.toml, carries messages between it and the custodian's
broker, and shows what it serves. The machine dials nobody; what it signs is checked by the broker
and by whoever asks it, not here.

  ./doit serve support-bot --token token.txt   # first: what lease grant printed
  ./doit serve support-bot                     # again, with the same TPM
  aicert connect https://127.0.0.1:8443 --lease … --certificate … --policy …

A lease without a broker needs a licence in a file. The first call writes what the machine shows of
itself to .aicert/serving/NAME/enrolment.json, for the custodian's `aicert lease issue`.

Ctrl-C ends it: the last receipt is carried, and the machine powers off. Exit codes: 0 ended as it
was told or licensed, 1 the machine ended otherwise, 2 the broker said no or something is missing, 3
bad configuration or command line.
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
            "help": "64 hex digits of the custodian's, for an enrolment without a broker",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Serve the named lease; without a name, the one that there is."""
        root = Path.cwd()
        # Whoever runs a leased model need not have trained one.
        project = config.parse(root, config.read(root), may_be_empty=True)
        if len(args) > 1:
            raise ConfigError("one lease is served at a time: name one")
        if not project.leases:
            raise ConfigError(
                f"{config.FILE} has no lease",
                hint=f"less {documentation('docs/spec/aicert-toml.md')}",
            )
        if not args and len(project.leases) > 1:
            raise ConfigError(f"which lease? {', '.join(project.leases)}")
        name = args[0] if args else next(iter(project.leases))
        if name not in project.leases:
            raise UnknownNameError(config.FILE, "lease", name, project.leases)
        token = users_path(params["token"]) if params["token"] else None
        with using(root):
            return serve.serve(project, project.lease(name), token=token, nonce=params["nonce"])
