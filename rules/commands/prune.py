"""`./doit prune [--yes]`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.cli import terminal
from aicert.errors import ConfigError
from aicert.text import safe
from rules.commands.base import Command
from rules.dvc import tracking
from rules.project import config, leftovers


class Prune(Command):
    """Files of runs that are no longer in aicert.toml."""

    name = "prune"
    doc_purpose = "list what removed runs left behind; --yes deletes it"
    doc_description = """\
Lists the lockfiles, listings, `.dvc` files, certificates and reproductions of runs that are no
longer in aicert.toml. A `.dvc` file of an input that another run shares moves to that run. Removed
files stay in git's history. Certificates of other runs that used the removed outputs
may need them for a lineage. Outputs stay, because they are not in the repository.

  ./doit prune            # only lists them
  ./doit prune --yes      # removes them
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "yes",
            "short": "y",
            "long": "yes",
            "type": bool,
            "default": False,
            "help": "remove what is listed",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """List the files, and remove them with --yes."""
        if args:
            raise ConfigError("prune takes no names: it covers every removed run")
        root = Path.cwd()
        project = config.load(root)
        files_by_run = leftovers.of(root, project)
        lines = [
            f"{safe(run, 80)}  {safe(str(path.relative_to(root)), 200)}"
            for run, files in files_by_run.items()
            for path in files
        ]
        terminal.write("".join(f"{line}\n" for line in lines or ["nothing to remove"]))
        if not files_by_run or not params["yes"]:
            if files_by_run:
                terminal.write("remove them: ./doit prune --yes\n")
            return 0
        files = [path for each in files_by_run.values() for path in each]
        moved = tracking.hand_over(root, project, [path for path in files if path.suffix == ".dvc"])
        leftovers.remove(path for path in files if path not in moved)
        for old, new in moved.items():
            terminal.write(f"moved  {old.relative_to(root)} to {new.relative_to(root)}\n")
        terminal.write(f"removed {len(files) - len(moved)} files\n")
        return 0
