"""`./doit update [RUN [INPUT]]`."""

from pathlib import Path
from typing import Any

from aicert.errors import ConfigError
from rules.commands import editing
from rules.commands.base import Command
from rules.example import example
from rules.project import config


class Update(Command):
    """Resolve inputs again."""

    name = "update"
    doc_purpose = "resolve inputs again, write the lockfiles, show what changed"
    doc_usage = "[RUN [INPUT]]"
    doc_description = """\
Resolves each source again and writes the lockfiles. aicert.toml does not change.
If no run could use a run's config, it is refused and its lockfile stays.
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
        return editing.show(editing.update(root, runs, args[1] if len(args) == 2 else None))
