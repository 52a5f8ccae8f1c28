"""`./doit page`: build `verify.html`, which verifies certificates in a browser."""

import hashlib
import sys
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError
from aicert.files.atomic import write_atomically
from rules.commands.base import Command
from rules.host.places import CODE
from rules.host.progress import say
from rules.page.build import build


class Page(Command):
    """The `page` command."""

    doc_purpose = "build verify.html, which verifies certificates in a browser, offline"
    doc_usage = "[--out FILE]"
    doc_description = (
        "One self-contained file; the same source gives the same bytes. The last line is "
        "its digest, in the format of sha256sum. Exit codes: 0 built, 2 a part is unavailable "
        "or is not the locked one."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "out",
            "short": "o",
            "long": "out",
            "type": str,
            "default": "verify.html",
            "help": "where to write the page",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Build the page and print its digest."""
        if args:
            raise ConfigError(f"page takes no argument {args[0]!r}")
        data = build(CODE)
        out = Path(params["out"])
        write_atomically(out, data)
        say(f"page  {out}  {len(data):,} bytes")
        sys.stdout.write(f"{hashlib.sha256(data).hexdigest()}  {out}\n")
        return 0
