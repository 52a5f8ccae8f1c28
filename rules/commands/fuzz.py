"""`./doit fuzz`: look for inputs that a parser of hostile bytes does not reject properly.

Every target of `tests/fuzz/targets.py` gets its share of the time. It starts from seeds that our
own emitters made and from inputs that earlier runs kept. It uses atheris if pip has a wheel for
this Python, and otherwise says so and mutates blindly. Findings stay in `.aicert/fuzz/`.

The target `stand-in` is different: it compares `cryptography` with its replacement in the browser
on many forged certificates, and it has no time limit.
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
# Freshly signed scenes, X.509 certificates and revocation lists.
COMPARED = ("10000", "20000", "10000")
# libFuzzer prints a line per new input; people need only these.
SHOWN = ("Done", "stat::number_of_executed_units", "stat::peak_rss_mb", "==", "SUMMARY")


def fuzz(target: str, corpus: Path, seconds: int, atheris: Path | None) -> int:
    """Run one target. The exit code is not 0 if there was a finding."""
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
    """Compare the stand-in with the original. The exit code is not 0 if they differ."""
    say(f"fuzz  {STAND_IN}  {' + '.join(COMPARED)} cases")
    command = [sys.executable, "-m", "tests.browser.compare", *COMPARED]
    log = STATE / f"{STAND_IN}.log"
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    say(f"      {log.read_text(encoding='utf-8', errors='replace').splitlines()[-1][:160]}")
    return code


class Fuzz(Command):
    """The `fuzz` command."""

    doc_purpose = "fuzz each parser of hostile bytes for a while"
    doc_usage = "[TARGET…] [--seconds N]"
    doc_description = (
        "Findings and interesting inputs stay in .aicert/fuzz/. Exit codes: 0 nothing found, "
        "1 a finding, 3 no such target."
    )
    cmd_options: ClassVar[tuple[dict[str, Any], ...]] = (
        {
            "name": "seconds",
            "short": "s",
            "long": "seconds",
            "type": int,
            "default": 60,
            "help": "seconds for each target",
        },
    )

    def execute(self, params: Any, args: list[str]) -> int:
        """Make the seeds, then run the targets one after another."""
        if params["seconds"] < 1:
            raise ConfigError("--seconds must be at least 1")
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
            # Wheels exist for one Python version on one architecture.
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
