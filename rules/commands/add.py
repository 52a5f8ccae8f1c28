"""`./doit add RUN NAME SOURCE`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError
from rules.commands import editing
from rules.commands.base import Command
from rules.example import example
from rules.host import progress
from rules.project import canonical


class Add(Command):
    """Add an input to a run, or change its source."""

    name = "add"
    doc_purpose = "add an input to a run in aicert.toml, lock it, show what changed"
    doc_usage = "RUN NAME SOURCE"
    doc_description = """\
Writes the input to aicert.toml (keeping comments, order and style), locks the run and shows a
review of what changed. If the run has an input of that name, its source is replaced. A new run
starts with its config and uses the first machine in aicert.toml. If the source cannot be locked,
or if no run could use the config, nothing changes.

  ./doit add tiny-alpaca alpaca path:examples/other-rows
  ./doit add my-run config path:examples/my-run.yml

Rows in any supported format (docs/spec/records.md) can be converted to the one that runs read
without a copy. The new file is written next to the old one and becomes the input:

  ./doit add tiny-alpaca alpaca path:examples/rows.csv --canonical
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "allow-pickle",
            "short": "",
            "long": "allow-pickle",
            "type": bool,
            "default": False,
            "help": "accept pickled weights, which can run code; reviewers will see this",
        },
        {
            "name": "canonical",
            "short": "",
            "long": "canonical",
            "type": bool,
            "default": False,
            "help": "convert the file's rows to canonical form first, and add that file",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Edit, lock, show the review."""
        if len(args) != 3:
            raise ConfigError("add takes a run, an input name and a source")
        root = Path.cwd()
        example.make_example(root)
        run, name, source = args
        if params["canonical"]:
            source = canonical.write(root, source)
        code = editing.show(
            editing.add(root, run, name, source, allow_pickle=params["allow-pickle"])
        )
        if advice := canonical.advice(root, run, name, source):
            progress.say(advice)
        return code
