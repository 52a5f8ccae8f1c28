"""`./doit graph [--format text|svg]`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.cli import terminal
from aicert.errors import ConfigError
from rules.commands.base import Command
from rules.project import config
from rules.runs import graph


class Graph(Command):
    """Draw runs, inputs and certificates."""

    name = "graph"
    doc_purpose = "draw runs, inputs and certificates, as text or SVG"
    doc_description = """\
  ./doit graph
  ./doit graph --format svg > runs.svg
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "format",
            "short": "",
            "long": "format",
            "type": str,
            "default": "text",
            "help": "text or svg",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Draw every run of aicert.toml."""
        if args:
            raise ConfigError("graph takes no arguments: it draws every run")
        if params["format"] not in ("text", "svg"):
            raise ConfigError("--format is text or svg")
        root = Path.cwd()
        drawn = graph.nodes(root, config.load(root))
        terminal.write(graph.svg(drawn) if params["format"] == "svg" else graph.text(drawn))
        return 0
