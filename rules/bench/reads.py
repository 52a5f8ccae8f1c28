"""How much of a run's model one `certify` reads on the host.

As a program, it is a `./doit` that counts system calls in its own process: bytes
read from outputs, appraisals, parsed lockfiles.

    python -m rules.bench.reads COUNTS.json certify

What the machine reads in its own process, and what DVC does, is not counted.
"""

import json
import os
import runpy
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aicert.appraisal import appraise
from aicert.files.tree import read_tree
from aicert.formats import lockfile
from rules.bench import training
from rules.project.sources import OUTPUTS
from rules.runs.placing import FINISHED

READING = ("read", "readv", "pread", "preadv")


def measure(folder: Path) -> dict[str, int]:
    """Return the counts for one `certify` of the example, and the size of its model."""
    checkout, counts = folder / "checkout", (folder / "counts.json").absolute()
    training.lay_out(checkout, 2)
    training.doit(checkout, str(counts), "certify", module=__name__)
    numbers: dict[str, int] = json.loads(counts.read_bytes())
    model = read_tree(checkout / OUTPUTS / training.RUN / "model")
    return numbers | {"size": sum(fact.size for fact in model.values())}


def run(words: Sequence[str], counts: Path) -> int:
    """Run `./doit WORDS` in this process, which ends soon, and write the counts to the file
    `counts`.
    """
    totals: Counter[str] = Counter(bytes=0, files=0, appraisals=0, lockfiles=0)
    places = tuple(f"{Path.cwd().resolve() / folder}/" for folder in (FINISHED, OUTPUTS))

    def is_output(name: str) -> bool:
        return os.path.abspath(name).startswith(places)

    for call in READING:
        _replace(os, call, lambda real: _counting_bytes(real, totals, is_output))
    _replace(lockfile, "parse", lambda real: _counting(real, totals, "lockfiles"))
    _replace(appraise, "appraise", lambda real: _counting(real, totals, "appraisals"))

    def opened(event: str, arguments: tuple[Any, ...]) -> None:
        # Python's own files, whose reads bypass the calls above, have a mode.
        if event == "open" and arguments[1] and isinstance(arguments[0], str | bytes):
            name = os.fsdecode(arguments[0])
            # The certificate next to the outputs is not part of them.
            totals["files"] += is_output(name) and "/outputs/" in os.path.abspath(name)

    sys.addaudithook(opened)
    sys.argv = ["./doit", *words]
    try:
        # From here on, whoever imports one of these functions gets the counted one.
        runpy.run_module("rules", run_name="__main__")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    finally:
        counts.write_text(json.dumps(totals), encoding="ascii")
    return 0


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


def _counting(real: Callable[..., Any], totals: Counter[str], what: str) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        totals[what] += 1
        return real(*arguments, **options)

    return counted


def _counting_bytes(
    real: Callable[..., Any], totals: Counter[str], is_output: Callable[[str], bool]
) -> Callable[..., Any]:
    def counted(fd: int, *arguments: Any) -> Any:
        got = real(fd, *arguments)
        if is_output(os.readlink(f"/proc/self/fd/{fd}")):
            totals["bytes"] += got if isinstance(got, int) else len(got)
        return got

    return counted


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], Path(sys.argv[1])))
