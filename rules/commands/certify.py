"""`./doit certify [RUN…] [--all] [--nonce HEX] [--accept] [--again]`."""

import re
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError
from rules.commands.base import ALL, RunTasks
from rules.host import progress, work
from rules.machines.machine import DRIVERS
from rules.project import config
from rules.runs import afterwards, certify, placing
from rules.runs.request import request


class Certify(RunTasks):
    """Train, certify and verify what is not up to date."""

    name = "certify"
    doc_purpose = "train, certify and verify what changed"
    doc_usage = "[RUN …]"
    doc_description = """\
Creates the example's inputs and the training environment if they are missing, checks that each
lockfile matches the bytes here, trains on the run's machine, measures, certifies,
verifies, and puts outputs/RUN/ and certificates/RUN/ in place.

Missing remote inputs are fetched. A run that takes another run's output is
certified after that run; if it has no lockfile yet, one is written and certify stops for review.

Once certificate and outputs are in place, the run has succeeded: if DVC or an export fails after
that, a warning says why, the exit code is 0, and the next certify tries it again.

A run is up to date if its certificate passes for the lockfile, outputs and runner here. A
certificate that fits them, but chains to another checkout's CA or comes from an image that is not
accepted here, is kept. There is no verdict (exit code 2) until `./doit trust` or
lockfiles/images.policy.toml accepts it. --again replaces it. A new image is no reason to train
again.

A run that failed is not trained again until something changes, unless you name it.

Without RUN, certify takes every run of aicert.toml except those that say `default = false` there.

  ./doit certify tiny-alpaca
  ./doit certify -n 2                         # two runs at a time
  ./doit certify tiny-alpaca-measured         # builds its image first
  ./doit certify tiny-alpaca --nonce HEX      # answer a verifier's challenge
"""
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        *RunTasks.cmd_options,
        ALL,
        {
            "name": "nonce",
            "short": "",
            "long": "nonce",
            "type": str,
            "default": "",
            "help": "64 hex digits from whoever needs proof that the certificate is fresh",
        },
        {
            "name": "accept",
            "short": "",
            "long": "accept",
            "type": bool,
            "default": False,
            "help": "continue with a lockfile that this command has just written",
        },
        {
            "name": "again",
            "short": "",
            "long": "again",
            "type": bool,
            "default": False,
            "help": "also run what is up to date or kept, and replace its certificate and outputs",
        },
        {
            "name": "keep",
            "short": "",
            "long": "keep",
            "type": bool,
            "default": False,
            "help": "leave the cloud machine running afterwards, to debug it (it costs money)",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Run the certify tasks of the named runs, then let DVC track their inputs and outputs."""
        project = config.load(Path.cwd())
        runs = project.chosen(args, everything=params["all"])
        names = [run.name for run in runs]
        request.accept, request.keep = params["accept"], params["keep"]
        request.again = frozenset(names) if params["again"] else frozenset()
        request.named = frozenset(args)
        request.is_certifying = True
        nonce = params["nonce"].lower()
        if nonce:
            if not re.fullmatch(r"[0-9a-f]{64}", nonce):
                raise ConfigError(
                    "--nonce takes 64 hexadecimal digits", hint="openssl rand -hex 32"
                )
            if len(names) != 1:
                raise ConfigError(
                    "--nonce is for one run: name it", hint="./doit certify RUN --nonce …"
                )
            request.nonce, request.run = bytes.fromhex(nonce), names[0]
        if request.keep and not any(run.machine.driver.cloud for run in runs):
            clouds = ", ".join(name for name, driver in DRIVERS.items() if driver.cloud)
            raise ConfigError(
                f"--keep is for machines on {clouds}: other machines leave nothing running"
            )
        for run in runs:
            work.sweep(project.root, run.name)
            placing.sweep(
                placing.Place(
                    root=project.root, run=run.name, outputs=run.outputs, audits=run.audits
                )
            )
        before = {run.name: certify.file_of(project.root, run) for run in runs}
        code = super().execute(
            params, [f"{task}:{name}" for name in names for task in ("track", "export")]
        )
        left = [] if args else [name for name in project.runs if name not in names]
        if left:
            progress.say(f"skipped (default = false): {', '.join(left)}; ./doit certify --all")
        if code == 0 and self.reporter.executed:
            afterwards.tell(project.root, project, names)
        # Printed last, because this is the line that people wait for.
        for run in runs:
            if certify.file_of(project.root, run) not in (None, before[run.name]):
                verdict = request.verdicts.get(run.name)
                certify.show(project.root, run, request.nonce_for(run.name), verdict)
        return code
