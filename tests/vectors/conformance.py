"""Run somebody's verifier over the corpus: `aicert-conformance ENTRYPOINT` (PROTOCOL.md).

Standard library alone, so that a copy of this repository is all that it needs. A verifier agrees
with a scenario if it ends with the exit code that the scenario expects; if it prints a check's
name, that must be the expected one as well.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.vectors import reading

CODES = {0: "passed", 1: "failed", 2: "no verdict"}
NO_CHECK = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one scenario came to. `check`: what the verifier printed; `why` it differs, or empty."""

    path: str
    name: str
    code: int | None
    check: str | None
    why: str


def written(vector: reading.Vector, folder: Path) -> list[str]:
    """The scenario as files in `folder`, and the words that name them."""
    (folder / "certificate.json").write_bytes(vector.certificate)
    words = ["--certificate", str(folder / "certificate.json")]
    words += ["--policy", str(reading.write_policy(vector, folder)), "--at", vector.at.isoformat()]
    if vector.model is not None:
        listing = {
            path: {"size": size, "sha256": sha} for path, (size, sha) in vector.model.items()
        }
        (folder / "model.json").write_text(json.dumps(listing), encoding="utf-8")
        words += ["--model", str(folder / "model.json")]
    if vector.lockfile is not None:
        words += ["--lockfile", vector.lockfile]
    if vector.nonce is not None:
        words += ["--nonce", vector.nonce.hex()]
    if vector.ancestors is not None:
        (folder / "lineage").mkdir()
        for number, ancestor in enumerate(vector.ancestors):
            (folder / "lineage" / f"{number}.json").write_bytes(ancestor)
        words += ["--lineage", str(folder / "lineage")]
    return words


def run(entrypoint: Sequence[str], path: Path, limit_s: float) -> Outcome:
    """Ask the verifier of one scenario."""
    vector = reading.read(path)
    here = path.relative_to(reading.FOLDER).as_posix()
    with tempfile.TemporaryDirectory() as folder:
        command = [*entrypoint, *written(vector, Path(folder))]
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s)
        except subprocess.TimeoutExpired:
            why = f"no answer within {limit_s:g} s"
            return Outcome(path=here, name=vector.name, code=None, check=None, why=why)
    first = done.stdout.decode("utf-8", "replace").partition("\n")[0].strip()[:80]
    check = first or None
    why = ""
    if done.returncode != vector.exit_code:
        wanted = CODES[vector.exit_code]
        why = f"expected {wanted}, found {CODES.get(done.returncode, f'exit {done.returncode}')}"
    elif check is not None and check != (vector.check or NO_CHECK):
        why = f"expected {vector.check or NO_CHECK}, found {check}"
    return Outcome(path=here, name=vector.name, code=done.returncode, check=check, why=why)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite: 0 all agree, or differ where that was said before; 1 not; 2 bad words."""
    parser = argparse.ArgumentParser(prog="aicert-conformance", description=__doc__)
    parser.add_argument("entrypoint", help="the verifier's program, with words of its own if any")
    parser.add_argument("--only", metavar="TEXT", help="scenarios whose path has this in it")
    parser.add_argument("--xfail", metavar="FILE", help="paths, one a line, that may differ")
    parser.add_argument("--report", metavar="FILE", help="write every outcome there, as JSON")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--limit", type=float, default=60, metavar="S", help="for one scenario")
    options = parser.parse_args(arguments)
    paths = [path for path in reading.paths() if (options.only or "") in str(path)]
    entrypoint = shlex.split(options.entrypoint)
    if not paths or not entrypoint:
        parser.error("there is no such scenario, or no entrypoint")
    allowed = set()
    if options.xfail is not None:
        allowed = set(Path(options.xfail).read_text(encoding="utf-8").split())
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        outcomes = list(pool.map(lambda path: run(entrypoint, path, options.limit), paths))
    for outcome in outcomes:
        if outcome.why and outcome.path not in allowed:
            print(f"DIFFERS  {outcome.path}: {outcome.why}")
    differ = {outcome.path for outcome in outcomes if outcome.why}
    for path in sorted(allowed & {outcome.path for outcome in outcomes} - differ):
        print(f"AGREES   {path}: take it out of {options.xfail}")
    named = sum(outcome.check is not None for outcome in outcomes)
    print(
        f"{len(outcomes) - len(differ)} of {len(outcomes)} agree, {len(differ & allowed)} of the "
        f"others were expected to differ; {named} named their check; corpus {corpus_digest()}"
    )
    if options.report is not None:
        report = {"corpus": corpus_digest(), "outcomes": [asdict(one) for one in outcomes]}
        Path(options.report).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(bool(differ - allowed))


def corpus_digest() -> str:
    """Which corpus this is, by its index."""
    return str(json.loads((reading.FOLDER / "index.json").read_bytes())["digest"])


if __name__ == "__main__":
    sys.exit(main())
