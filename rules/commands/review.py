"""`./doit review [--base REV] [--head REV] [--check] [--format text|markdown]`."""

from pathlib import Path
from typing import Any, ClassVar

from aicert.cli import terminal
from aicert.errors import ConfigError
from aicert.trust.built_in import BUILT_IN
from aicert.verifier import verify
from rules.commands.base import Command
from rules.host.terminal import users_path
from rules.project import sources
from rules.review import check as review_check
from rules.review import review, text
from rules.review.revisions import Checkout, Files, Revision
from rules.runs.appraisal import evidence_at


class Review(Command):
    """Report what changed between two states of the lockfiles."""

    name = "review"
    doc_purpose = "show what changed in the lockfiles"
    doc_description = """\
Compares lockfiles, listings, configs, the machine's image and the training environment: inputs file
by file, rows and size of data if the bytes are here, fields of a config, packages, PCR 14.

  ./doit review                     # the checkout against the last commit
  ./doit review --base main         # a branch
  ./doit review --base main --head pr --check --format markdown

--check also checks the head's lockfiles and, under --policy, its new certificates.
It runs the code here, never the code in the change. A link, a device or an executable file below
certificates/ or lockfiles/, or in place of aicert.toml, fails a check.
Exit codes: 0 no check failed, 1 a check failed, 3 bad command line.
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = tuple(
        {
            "name": name,
            "short": "",
            "long": name,
            "type": type(default),
            "default": default,
            "help": help_,
        }
        for name, default, help_ in (
            ("base", "HEAD", "the revision to compare with"),
            ("head", "", "the revision to review (default: the checkout)"),
            ("check", False, "check lockfiles and new certificates as well"),
            ("policy", "default", "for certificates: a built-in policy, or a policy file"),
            ("root", "", "for certificates: the CA of a simulated platform"),
            ("evidence", "", "for certificates: a folder with the audits that the policy requires"),
            ("format", "text", "text or markdown"),
        )
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Compare, check if requested, print."""
        root = Path.cwd()
        if args:
            raise ConfigError(
                f"review takes no argument {args[0]!r}", hint="./doit review --base REV"
            )
        if params["format"] not in ("text", "markdown"):
            raise ConfigError("--format is text or markdown")
        base = Revision(root, params["base"])
        head: Files = Revision(root, params["head"]) if params["head"] else Checkout(root)
        comparison = review.review(root, base, head)
        checks = _checks(root, params, base, head) if params["check"] else []
        render = text.markdown if params["format"] == "markdown" else text.text
        terminal.write(render(comparison, checks))
        return int(any(check.verdict == "failed" for check in checks))


def _checks(root: Path, params: Any, base: Files, head: Files) -> list[review_check.Check]:
    pem = users_path(params["root"]) if params["root"] else None
    named = params["policy"] if params["policy"] in BUILT_IN else str(users_path(params["policy"]))
    policy = verify.choose_policy(named, root=pem)
    audits = evidence_at(params["evidence"])
    if not isinstance(head, Revision):
        return review_check.check(root, base, policy, audits=audits)
    with sources.store(root).scratch() as folder:
        tree = folder / "change"
        tree.mkdir()
        head.lay_out(tree)
        return review_check.check(tree, base, policy, head, audits=audits)
