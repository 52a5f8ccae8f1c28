"""`./doit help`: an overview of the commands, examples first."""

import textwrap
from typing import Any

from doit.cmd_help import Help as DoitHelp

from rules.commands.base import _Tidy
from rules.host.terminal import WIDTH

# In the order in which a newcomer meets them; doit's own commands come last.
OURS = (
    "certify",
    "verify",
    "reproduce",
    "lock",
    "fetch",
    "add",
    "update",
    "review",
    "why",
    "graph",
    "serve",
    "trust",
    "prune",
    "dvc",
    "test",
    "bench",
    "fuzz",
    "mutants",
    "page",
    "azure_calibrate",
    "clean",
    "list",
    "help",
)
USAGE = """\
Certify a fine-tune, and verify its certificate.

  ./doit                        certify what is not up to date
  ./doit verify --policy local  verify the certificates here
  ./doit lock                   after a change of aicert.toml or of an input

Commands (`./doit help COMMAND` shows its options):
"""
AFTER = """
Exit codes: 0 passed, 1 the evidence says no, 2 no verdict, 3 bad configuration
or command line. A relying party installs this project (`pip install .`) and
uses `aicert verify CERT MODEL_DIR`.
"""


class Help(_Tidy, DoitHelp):
    """Usage by example, then every command with its purpose."""

    name = "help"
    doc_purpose = "show this text, or the options of one command"
    doc_usage = "[COMMAND or TASK]"

    def execute(self, params: Any, args: list[str]) -> int:
        """Help on one topic. An unknown topic is an error."""
        self._topic = args[0] if len(args) == 1 and args[0] not in self.cmds else None
        return int(super().execute(params, args))

    def print_usage(self, cmds: dict[str, Any]) -> None:
        """Our commands first, doit's own on one line."""
        if self._topic is not None:
            # doit also comes here if no task has that name.
            raise self._unknown(self._topic)
        print(USAGE, end="")
        purposes = {name: cmds[name].doc_purpose for name in OURS if name in cmds}
        purposes["doit's own"] = ", ".join(sorted(set(cmds) - set(OURS)))
        width = max(map(len, purposes))
        for name, purpose in purposes.items():
            line = f"  {name:<{width}}  {purpose}"
            print(textwrap.fill(line, WIDTH, subsequent_indent=" " * (width + 4)))
        print(AFTER, end="")
