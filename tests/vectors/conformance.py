"""Run somebody's verifier over the corpus: `aicert-conformance ENTRYPOINT` (PROTOCOL.md).

Standard library alone, so that a copy of this repository is all that it needs. A verifier agrees
with a scenario if it ends with the exit code that the scenario expects; if it prints a check's
name, that must be the expected one as well. What it says on standard error is shown where it ends
with a code that the protocol does not have.
"""

import argparse
import json
import os
import shlex
import shutil
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
    """The result of one scenario: what the verifier printed (`check`), and `why` it differs."""

    path: str
    name: str
    code: int | None
    check: str | None
    why: str


def written(vector: reading.Vector, folder: Path) -> list[str]:
    """Write the scenario as files in `folder`, and return the arguments that name them."""
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
    if vector.audits is not None:
        (folder / "audits").mkdir()
        for number, (certificate, results) in enumerate(vector.audits):
            (folder / "audits" / f"{number}.json").write_bytes(certificate)
            (folder / "audits" / f"{number}.results").write_bytes(results)
        words += ["--audits", str(folder / "audits")]
    return words


def name_of(path: Path) -> str:
    """Return a scenario's name in lists."""
    return path.relative_to(reading.FOLDER).as_posix()


def run(entrypoint: Sequence[str], path: Path, limit_s: float) -> Outcome:
    """Run the verifier on one scenario."""
    vector = reading.read(path)
    here = name_of(path)
    with tempfile.TemporaryDirectory() as folder:
        command = [*entrypoint, *written(vector, Path(folder))]
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s)
        except subprocess.TimeoutExpired:
            why = f"no answer within {limit_s:g} s"
            return Outcome(path=here, name=vector.name, code=None, check=None, why=why)
        except OSError as error:
            why = f"{entrypoint[0]} cannot be run: {error.strerror}"
            return Outcome(path=here, name=vector.name, code=None, check=None, why=why)
    first = done.stdout.decode("utf-8", "replace").partition("\n")[0].strip()[:80]
    check = first or None
    why = ""
    if done.returncode != vector.exit_code:
        wanted = CODES[vector.exit_code]
        why = f"expected {wanted}, found {CODES.get(done.returncode, f'exit {done.returncode}')}"
        if done.returncode not in CODES:
            last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            why += f": {last[:200]!a}" if last else ""
    elif check is not None and check != (vector.check or NO_CHECK):
        why = f"expected {vector.check or NO_CHECK}, found {check}"
    return Outcome(path=here, name=vector.name, code=done.returncode, check=check, why=why)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of `aicert-conformance`."""
    words = argparse.ArgumentParser(prog="aicert-conformance", description=__doc__)
    words.add_argument("entrypoint", help="the verifier's program, with words of its own if any")
    words.add_argument("--only", metavar="TEXT", help="scenarios whose path has this in it")
    words.add_argument(
        "--without", metavar="EVIDENCE", action="append", choices=reading.NEEDS, default=[],
        help=f"leave out scenarios of {', '.join(reading.NEEDS)}; may be given again",
    )  # fmt: skip
    words.add_argument("--xfail", metavar="FILE", help="paths, one a line, that may differ")
    words.add_argument("--report", metavar="FILE", help="write every outcome there, as JSON")
    words.add_argument(
        "--keep", metavar="FOLDER", help="call nothing: lay the scenarios out there, with each call"
    )
    jobs = "calls at once; if not given, as many as there are processors"
    words.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help=jobs)
    limit = "seconds that one call may take; 60 if not given"
    words.add_argument("--limit", type=float, default=60, metavar="S", help=limit)
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; return 0 if all agree or differ as listed, 1 if not, 2 for bad arguments."""
    words = parser()
    options = words.parse_args(arguments)
    paths = chosen(options.only or "", options.without)
    if not paths:
        words.error(f"no scenario's path has {options.only!a} in it")
    try:
        entrypoint = shlex.split(options.entrypoint)
        if not entrypoint or shutil.which(entrypoint[0]) is None:
            words.error(f"there is no program {options.entrypoint!a}")
        allowed = set() if options.xfail is None else expected_to_differ(Path(options.xfail))
        if options.keep is not None:
            return keep(entrypoint, paths, Path(options.keep))
        outcomes = run_all(entrypoint, paths, options.jobs, options.limit)
        code = summary(outcomes, allowed, options.xfail)
        if options.report is not None:
            report = {"corpus": corpus_digest(), "outcomes": [asdict(one) for one in outcomes]}
            text = json.dumps(report, indent=1) + "\n"
            Path(options.report).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        words.error(str(error))
    return code


def chosen(only: str, without: Sequence[str]) -> list[Path]:
    """Return the scenarios whose path contains `only` and that need no feature in `without`."""
    lacked = set(without)
    paths = [path for path in reading.paths() if only in name_of(path)]
    return [
        path
        for path in paths
        if not lacked or lacked.isdisjoint(reading.needs(reading.read(path).policy))
    ]


def expected_to_differ(path: Path) -> set[str]:
    """Return the scenarios of a list; `#` begins a comment. ValueError: a line is no scenario."""
    lines = path.read_text(encoding="utf-8").splitlines()
    named = {name for line in lines if (name := line.partition("#")[0].strip())}
    unknown = named - {name_of(one) for one in reading.paths()}
    if unknown:
        raise ValueError(f"{path} names what is no scenario of this corpus: {min(unknown)!a}")
    return named


def keep(entrypoint: Sequence[str], paths: Sequence[Path], folder: Path) -> int:
    """Leave the scenarios' files in `folder`, and print how the verifier would be called."""
    for path in paths:
        vector = reading.read(path)
        place = folder / path.relative_to(reading.FOLDER).with_suffix("")
        place.mkdir(parents=True)
        call = shlex.join([*entrypoint, *written(vector, place)])
        print(f"{call}    # {vector.exit_code}, {vector.check or NO_CHECK}")
    return 0


def run_all(
    entrypoint: Sequence[str], paths: Sequence[Path], jobs: int, limit_s: float
) -> list[Outcome]:
    """Return each scenario's outcome, in the order of the paths."""
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return list(pool.map(lambda path: run(entrypoint, path, limit_s), paths))


def summary(outcomes: Sequence[Outcome], allowed: set[str], xfail: str | None) -> int:
    """Print the differences and the totals."""
    for outcome in outcomes:
        if outcome.why and outcome.path not in allowed:
            print(f"DIFFERS  {outcome.path}: {outcome.why}")
    differ = {outcome.path for outcome in outcomes if outcome.why}
    for path in sorted(allowed & {outcome.path for outcome in outcomes} - differ):
        print(f"AGREES   {path}: take it out of {xfail}")
    named = sum(outcome.check is not None for outcome in outcomes)
    print(
        f"{len(outcomes) - len(differ)} of {len(outcomes)} agree, {len(differ & allowed)} of the "
        f"others were expected to differ; {named} named their check; corpus {corpus_digest()}"
    )
    return int(bool(differ - allowed))


def corpus_digest() -> str:
    """Return the digest of the corpus, from its index."""
    return str(json.loads((reading.FOLDER / "index.json").read_bytes())["digest"])


if __name__ == "__main__":
    sys.exit(main())
