"""`./doit fetch [RUN…]`."""

from pathlib import Path
from typing import Any

from rules.commands.base import Command
from rules.project import config, config_check, fetch, lock


class Fetch(Command):
    """Fetch inputs without certifying."""

    name = "fetch"
    doc_purpose = "fetch the locked inputs that are missing here"
    doc_usage = "[RUN …]"
    doc_description = """\
Fetches by digest what the lockfile names and this computer lacks, several files at once, into
$AICERT_CACHE/store (.aicert/store). `./doit certify` does the same before it starts a machine. If
it is interrupted, run it again: it continues where it stopped. Then it checks config and models
as the runner will: LFS pointers or web pages instead of files, pickles, headers, paths in a
model's JSON.

  HF_TOKEN=… ./doit fetch tiny-alpaca    # a gated model; HF_ENDPOINT: a mirror
"""

    def execute(self, params: Any, args: list[str]) -> int:
        """Fetch for the named runs; without names, for every run."""
        root = Path.cwd()
        project = config.load(root)
        for run in [project.run(name) for name in args] or list(project.runs.values()):
            current = lock.current(root, run)
            fetched = fetch.fetch_inputs(root, current)
            # Report now what the runner would refuse, not after a machine has started.
            config_check.check_config(root, current)
            words = f"fetched {', '.join(fetched)}" if fetched else "everything is here"
            print(f"{run.name}: {words}")
        return 0
