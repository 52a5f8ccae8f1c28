"""`./doit dvc ARGUMENTS`: run the locked DVC, then compare what it fetched by SHA-256."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from aicert.errors import ConfigError, ToolError
from rules.commands.base import Command
from rules.dvc import tampering, tracking
from rules.dvc.program import exclusive, pass_through, run_dvc
from rules.host.progress import say
from rules.image import share
from rules.project import config, leftovers

# Commands that may change bytes in the checkout.
BRINGING = ("pull", "fetch", "checkout")
# Options of `dvc push` that `dvc status --json` lacks, or that would spoil its JSON.
_ONLY_PUSH = ("--run-cache", "--no-run-cache", "-v", "-vv", "--verbose", "-q", "--quiet")


class Dvc(Command):
    """DVC, with this project's checks before and after."""

    name = "dvc"
    doc_purpose = "run DVC (remote add, push, pull, status), comparing by SHA-256 after a pull"
    doc_usage = "DVC ARGUMENTS…"
    doc_description = """\
DVC stores the inputs and outputs that are not in git. `push` first tracks what is locked or
certified but not tracked yet. After `pull`, every file is compared with lockfiles and certificates,
because DVC itself accepts a modified object. A remote that you add gets `verify = true`.

  ./doit dvc remote add -d team s3://bucket/models
  ./doit dvc push
  ./doit dvc pull

AICERT_DVC=/path/to/dvc uses another DVC, for example one with the plugin for your remote.
Exit codes: 0 success, 2 DVC failed or fetched the wrong bytes.
"""

    def parse_execute(self, in_args: list[str]) -> int:
        """Pass everything after `dvc` to DVC, options included."""
        return int(super().parse_execute(["--", *in_args]))

    def execute(self, params: Any, args: list[str]) -> int:
        """Run DVC with `args`."""
        root = Path.cwd()
        if not tracking.is_on(root):
            raise ConfigError(
                "DVC needs a git repository with .dvc/config", hint="git init && dvc init"
            )
        project = config.load(root)
        action = args[0] if args else ""
        if action == "push":
            staged = share.staged(root)
            for item in tracking.track(root, project, again=True, more=staged):
                say(f"tracked  {item.file.relative_to(root)}")
        with exclusive(root):
            packages = list(share.tracked(root)) if action in BRINGING else []
            before = tampering.look(root, project, packages) if action in BRINGING else None
            given = [*args, *_of_runs_that_are_there(root, project, args)]
            code = pass_through(root, given)
            sys.stdout.flush()
            if action == "remote" and args[1:2] == ["add"] and code == 0:
                _verify_remotes(root)
            if before is not None:
                # Even after a failure, because DVC may have fetched some of it.
                count = tampering.compare(root, project, before, packages, failed=code != 0)
                say(f"compared  {count} tracked inputs and outputs by SHA-256: all match")
            if action == "push" and code == 0:
                _check_pushed(root, args[1:])
        if code != 0:
            raise ToolError(f"dvc failed with exit code {code}", hint=_next(root, action))
        return 0


def _of_runs_that_are_there(root: Path, project: config.Project, args: list[str]) -> list[str]:
    """Return the targets of a bare pull if removed runs left `.dvc` files. The bytes of those may
    no longer exist anywhere, and without targets DVC fails because of them.
    """
    if not args or args[0] not in ("pull", "fetch") or _names_targets(args[1:]):
        return []
    gone = [file for files in leftovers.of(root, project).values() for file in files]
    left = {file.relative_to(root).as_posix() for file in gone if file.suffix == ".dvc"}
    if not left:
        return []
    say(
        f"skipped, because their runs no longer exist: {', '.join(sorted(left))}; "
        "./doit prune removes them"
    )
    return sorted(set(tracking.files_of_dvc(root)) - left)


def _names_targets(words: list[str]) -> bool:
    rest = iter(words)
    for word in rest:
        if word in ("-r", "--remote", "-j", "--jobs"):
            next(rest, "")
        elif not word.startswith("-"):
            return True
    return False


def _next(root: Path, action: str) -> str:
    if action in ("push", "pull", "fetch") and not _remotes(root):
        return "./doit dvc remote add -d team s3://bucket/models"
    if action in ("pull", "fetch"):
        return "./doit dvc push, in a checkout that has the missing files; or use another --remote"
    return "./doit dvc doctor"


def _remotes(root: Path) -> list[str]:
    # `dvc remote list` wraps its lines.
    listed = run_dvc(root, ["config", "--list"])
    return re.findall(r"^remote\.(.+)\.url=", listed, re.MULTILINE)


def _check_pushed(root: Path, arguments: list[str]) -> None:
    """DVC exits with 0 and only warns about bytes that neither its cache nor the remote has."""
    if {"--glob", "-h", "--help"}.intersection(arguments):
        # These subcommands take no patterns, and `--help` pushes nothing.
        return
    asked = [each for each in arguments if each not in _ONLY_PUSH]
    statuses = json.loads(run_dvc(root, ["status", "--cloud", "--json", *asked]))
    missing = {name for name, status in statuses.items() if status == "missing"}
    # If a directory's listing is missing everywhere, `status` does not report it at all.
    known = _known(asked)
    if known is not None:
        data = json.loads(run_dvc(root, ["data", "status", "--json", "--not-in-remote", *known]))
        missing |= set(data.get("not_in_cache", ())) & set(data.get("not_in_remote", ()))
    if missing:
        raise ToolError(
            "neither DVC's cache nor the remote has everything that is tracked:"
            + "".join(f"\n  {name}" for name in sorted(missing)),
            hint="./doit certify --all && ./doit dvc push",
        )


def _known(asked: list[str]) -> list[str] | None:
    """Return the options and targets of `dvc push` that `dvc data status` accepts; None if it would
    check something else.
    """
    words: list[str] = []
    rest = iter(asked)
    for word in rest:
        if word in ("-r", "--remote"):
            words += [word, next(rest, "")]
        elif word in ("-j", "--jobs"):
            next(rest, "")
        elif word.startswith("-"):
            return None
        else:
            words.append(word)
    return words


def _verify_remotes(root: Path) -> None:
    """Set `verify` for each remote: without it DVC does not compare MD5 after a download."""
    for name in _remotes(root):
        run_dvc(root, ["remote", "modify", name, "verify", "true"])
