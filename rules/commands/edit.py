"""`./doit add RUN NAME SOURCE` and `./doit update [RUN [INPUT]]`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.cli import terminal
from aicert.errors import ConfigError
from rules.commands import editing
from rules.commands.base import Command
from rules.example import example
from rules.host import progress
from rules.project import canonical, config
from rules.review import review, text


def _show(comparison: review.Review) -> int:
    terminal.write(text.text(comparison))
    return 0


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
        code = _show(editing.add(root, run, name, source, allow_pickle=params["allow-pickle"]))
        if advice := canonical.advice(root, run, name, source):
            progress.say(advice)
        return code


class Update(Command):
    """Resolve inputs again."""

    name = "update"
    doc_purpose = "resolve inputs again, write the lockfiles, show what changed"
    doc_usage = "[RUN [INPUT]]"
    doc_description = """\
Resolves each source again and writes the lockfiles. aicert.toml does not change.
RUN limits this to one run, INPUT to one input.

  ./doit update
  ./doit update tiny-alpaca alpaca
"""

    def execute(self, params: Any, args: list[str]) -> int:
        """Resolve, write, show."""
        if len(args) > 2:
            raise ConfigError("update takes at most a run and one of its inputs")
        root = Path.cwd()
        project = config.load(root)
        runs = [project.run(args[0])] if args else list(project.runs.values())
        example.make_example(root)
        return _show(editing.update(root, runs, args[1] if len(args) == 2 else None))
