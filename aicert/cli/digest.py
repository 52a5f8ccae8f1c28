"""`aicert digest`: the digest by which lockfiles and certificates name a file or a directory."""

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from aicert.cli.terminal import add_format, complain, help_formatter
from aicert.errors import ConfigError, EvidenceError
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers

_DIGEST = """\
Print the digest of a directory (dirHash) or of one file (sha256), as lockfiles and certificates
name it. Every byte is read, without a cache. A dirHash is the SHA-256 of the listing that --files
prints, which `sha256sum --check` reads too.

  aicert digest model/
  aicert digest model/ --ignore README.md --ignore .cache
  aicert digest model/ --files > model.sha256

In a snapshot of the hub's cache, links are read as the files that they stand for. An empty
lost+found belongs to the file system and is left out. A digest names bytes. It does not say whose
they are: `aicert verify` and `verify-signature` do.
"""


def add_command(commands: "Subparsers") -> None:
    """Add `digest` to the parser of `aicert`."""
    digest = commands.add_parser(
        "digest",
        help="print the digest of a directory or a file",
        description=_DIGEST,
        epilog="exit codes: 0 printed, 2 it cannot be read, 3 bad command line",
        formatter_class=help_formatter,
    )
    add = digest.add_argument
    add("target", metavar="PATH", help="the directory, or one file")
    add("--ignore", metavar="PATH", action="append", default=[], help="leave this path out")
    add("--files", action="store_true", help="print the listing of the directory's files")
    add_format(digest)
    digest.set_defaults(run=_digest)


def _refuse(path: str, error: EvidenceError) -> None:
    """Raise: only regular files have a digest, and the links in a snapshot of the hub's cache."""
    del path
    raise error


def _digest(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.cli.progress import Progress
    from aicert.files.tree import read_file
    from aicert.formats.digest import Digest
    from aicert.formats.listing import dir_digest, listing
    from aicert.signing.hashing import plain_paths, whole_files
    from aicert.signing.sign import located

    root = located(options.target)
    ignored = plain_paths(options.ignore, hint="paths are relative to the directory")
    with Progress(options.target, complain) as progress:
        if root.is_dir():
            facts = whole_files(root, ignored, progress.on_bytes, _refuse)
            digest = dir_digest(facts)
            files = {path: facts[path].sha256 for path in sorted(facts)}
        elif options.files or ignored:
            raise ConfigError("--files and --ignore are for a directory")
        else:
            digest = Digest("sha256", read_file(root, on_bytes=progress.on_bytes).sha256)
            files = {}
    if options.format == "json":
        document = {"digest": str(digest), "files": files, "ignored": ignored}
        write(json.dumps(document, indent=2) + "\n")
    elif options.files:
        write(listing(files).decode())
    else:
        write(f"{digest}  {safe(options.target)}\n")
    return 0
