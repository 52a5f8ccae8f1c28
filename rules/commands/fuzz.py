"""`./doit fuzz`: look for inputs that a parser of hostile bytes does not refuse as it should.

The target `stand-in` is of another kind: it asks `cryptography` and what stands in for it in a
browser the same of many forged certificates, and takes as long as it takes.

Every target of `tests/fuzz/targets.py` gets its share of the time, starting from seeds that our own
emitters made and from what earlier runs found interesting. With atheris where pip has a wheel of it
for this Python, else by blind mutation, and then it says so. Findings stay in `.aicert/fuzz/`.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from aicert.errors import ConfigError, ToolError
from rules.commands.base import Command
from rules.host import extras
from rules.host.progress import say

LOCK = Path("tests/fuzz/requirements.lock")
STATE = Path(".aicert/fuzz")
STAND_IN = "stand-in"
# Scenes signed again, X.509 certificates and lists of revoked ones.
COMPARED = ("10000", "20000", "10000")
# A compiler's libFuzzer prints a line per new input; these are what a person wants of it.
SHOWN = ("Done", "stat::number_of_executed_units", "stat::peak_rss_mb", "==", "SUMMARY")


def fuzz(target: str, corpus: Path, seconds: int, atheris: Path | None) -> int:
    """Run one target; the exit code is not 0 when it found something."""
    say(f"fuzz  {target}  {seconds} s")
    path = extras.python_path(Path.cwd(), atheris)
    command = [sys.executable, "-m", "tests.fuzz.run", target, str(corpus), str(seconds)]
    log = corpus.parent / f"{target}.log"
    with log.open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": path}
        code = subprocess.run(command, env=environment, stdout=output, stderr=output).returncode
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith((*SHOWN, f"{target}:")) or "finding-" in line:
            say(f"      {line[:160]}")
    return code


def compare() -> int:
    """The stand-in beside the original; the exit code is not 0 where they differ."""
    say(f"fuzz  {STAND_IN}  {' + '.join(COMPARED)} cases")
    command = [sys.executable, "-m", "tests.browser.compare", *COMPARED]
    log = STATE / f"{STAND_IN}.log"
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    say(f"      {log.read_text(encoding='utf-8', errors='replace').splitlines()[-1][:160]}")
    return code


class Fuzz(Command):
    """The fuzzer's command line."""

    doc_purpose = "fuzz each parser of hostile bytes for some time"
    doc_usage = "[TARGET…] [--seconds N]"
    doc_description = (
        "Findings and interesting inputs stay in .aicert/fuzz/. Exit codes: 0 nothing found, "
        "1 a finding, 3 there is no such target."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "seconds",
            "short": "s",
            "long": "seconds",
            "type": int,
            "default": 60,
            "help": "how long each target runs",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Make the seeds, then run the targets one after the other."""
        if params["seconds"] < 1:
            raise ConfigError("fuzz for a second or longer")
        seeding = [sys.executable, "-m", "tests.fuzz.seeds", str(STATE)]
        STATE.mkdir(parents=True, exist_ok=True)
        subprocess.run(seeding, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
        known = [*sorted(path.name for path in STATE.iterdir() if path.is_dir()), STAND_IN]
        for name in args:
            if name not in known:
                raise ConfigError(f"there is no target {name!r}; there are {', '.join(known)}")
        try:
            atheris = extras.install("fuzz", LOCK)
        except ToolError as error:
            # There are wheels for one version of Python on one processor.
            say(
                "atheris cannot be installed here, so inputs are mutated without its "
                f"guidance\n{error.message}"
            )
            atheris = None
        findings = [
            name
            for name in args or known
            if (
                compare()
                if name == STAND_IN
                else fuzz(name, STATE / name, params["seconds"], atheris)
            )
            != 0
        ]
        say(f"fuzz  {'findings in ' + ', '.join(findings) if findings else 'nothing found'}")
        return int(bool(findings))
