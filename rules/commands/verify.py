"""`./doit verify [RUN…] [--all] [--policy P] [--root PEM] [--nonce HEX] [--format text|json]`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import AicertError, ConfigError
from rules.commands.base import ALL, Command
from rules.host.reporter import show_error
from rules.project import config
from rules.runs import evidence, verify
from rules.runs.appraisal import AppraisalRequest, request_of
from rules.runs.evidence import Folder


class Verify(Command):
    """Verify certificates/ against the lockfiles here."""

    name = "verify"
    doc_purpose = "verify certificates/ against the lockfiles here"
    doc_usage = "[RUN …]"
    doc_description = """\
Reads certificates/RUN/certificate.json and outputs/RUN/, and appraises them with this repository's
code against this repository's lockfiles. This is for the repository's owners; a relying party
uses `aicert verify` with a policy of its own.

  ./doit verify --policy local      # accepts this checkout's simulated platform
  ./doit verify tiny-alpaca-measured --policy qemu
  ./doit verify                     # the default policy requires a cloud's TPM

Exit codes: 0 passed, 1 the evidence says no, 2 no verdict, 3 bad configuration or command line.
With several runs, the exit code is the first of 1, 2, 3 that occurred. --format json prints one
object for each run, each on its own line.
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        ALL,
        {
            "name": "policy",
            "short": "",
            "long": "policy",
            "type": str,
            "default": "default",
            "help": "default (if you give none), confidential, confidential-gpu, google, local, "
            "qemu, or the path of a policy file",
        },
        {
            "name": "root",
            "short": "",
            "long": "root",
            "type": str,
            "default": "",
            "help": "the CA of a simulated platform (default: this checkout's own)",
        },
        {
            "name": "nonce",
            "short": "",
            "long": "nonce",
            "type": str,
            "default": "",
            "help": "the 64 hex digits that you gave to certify",
        },
        {
            "name": "evidence",
            "short": "",
            "long": "evidence",
            "type": str,
            "default": "",
            "help": "a folder with RUN/certificate.json and results of audits and evaluations: "
            "shown, and judged if the policy requires some",
        },
        {
            "name": "format",
            "short": "",
            "long": "format",
            "type": str,
            "default": "text",
            "help": "text or json",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Verify the named runs; without names, those that certify takes."""
        root = Path.cwd()
        project = config.load(root)
        runs = project.chosen(args, everything=params["all"])
        if params["format"] not in ("text", "json"):
            raise ConfigError("--format is text or json")
        policy = params["policy"]
        able = [r for r in (*runs, *project.runs.values()) if r.machine.driver.policy == policy]
        maker = (able or runs)[0].name
        given = (root, policy, params["root"], params["nonce"], maker)
        folder = evidence.read(params["evidence"])
        audits = None if folder is None else folder.audits
        asked = [
            replace(request_of(*given, gpu=run.machine.gpu, tools=run.machine.tools), audits=audits)
            for run in runs
        ]
        codes = []
        for number, run in enumerate(runs):
            if len(runs) > 1 and params["format"] == "text":
                print(("\n" if number else "") + f"run {run.name}", flush=True)
            codes.append(self._one(root, run, asked[number], folder, params))
        return min((code for code in codes if code), default=0)

    def _one(
        self,
        root: Path,
        run: config.Run,
        asked: AppraisalRequest,
        folder: Folder | None,
        params: Any,
    ) -> int:
        try:
            appraised = verify.judged(root, run, asked)
            shown = folder and evidence.judged(folder, appraised, asked, params["policy"])
            verify.show(appraised.result, params["format"], shown)
            return appraised.result.exit_code
        except AicertError as error:
            sys.stdout.flush()
            show_error(error)
            return error.exit_code
