"""`aicert guard`: run a command whose model frameworks load only what was verified.

Exit codes: those of the command; 1 if a load was refused and the command did not catch the error; 3
if the command would not be guarded.
"""

import argparse
import importlib
from typing import TYPE_CHECKING, Any

from aicert.cli.terminal import help_formatter
from aicert.errors import ConfigError
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write

_GUARD = """\
Run CMD so that transformers, peft, huggingface_hub, safetensors and datasets load only what the
policy's signers or certificates cover.

  aicert guard --install
  aicert guard --policy guard.toml -- python serve.py
  AICERT_GUARD=guard.toml python serve.py

--copy loads models from a copy in memory, which no other process can write to.
--install puts a .pth file beside the packages of the Python that runs it. --limits prints what is
not protected.
"""


def add_command(commands: "Subparsers") -> None:
    """Add `guard` to the parser of `aicert`."""
    parser = commands.add_parser(
        "guard",
        help="run a command that loads only verified models and data sets",
        description=_GUARD,
        epilog="exit codes: those of CMD; 1 a load was refused, 3 CMD would not be guarded",
        formatter_class=help_formatter,
    )
    add = parser.add_argument
    add("--policy", metavar="P", help="the guard's policy file")
    add("--copy", action="store_true", help="load models from a copy in memory, sealed")
    add("--install", action="store_true", help="guard this Python whenever AICERT_GUARD is set")
    add("--limits", action="store_true", help="print what the guard does not protect against")
    add("words", metavar="CMD", nargs="*", help="the command and its arguments, after --")
    parser.set_defaults(run=_run, format="text")


def _run(options: argparse.Namespace, write: "Write") -> int:
    if options.limits:
        write(_guard("limits").text())
        return 0
    if options.install:
        write(f"installed {safe(str(_guard('command').install()))}\n")
        return 0
    if options.policy is None:
        raise ConfigError("a guard needs a policy", hint="aicert guard --policy guard.toml -- CMD")
    # On success this does not return, because the command replaces this process.
    _guard("command").run(options.policy, options.words, copy=options.copy)
    return 0


def _guard(module: str) -> Any:
    """Import a module of aicert.guard by name, since no module may import that room."""
    return importlib.import_module(f"aicert.guard.{module}")
