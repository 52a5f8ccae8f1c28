"""`aicert export`, `aicert card` and `aicert report`: a certificate in other formats.

The first two repeat what a certificate claims, verify nothing, and say so; `report`, and `export`
with a model, appraise like `aicert verify`, with the same options and exit codes.
"""

import argparse
import importlib
import json
import os
import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.terminal import EXITS, add_format, complain, help_formatter
from aicert.cli.verify.commands import add_policy_options, appraised, show_result
from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError
from aicert.frozen import dataclass
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.appraisal.result import AttestationResult
    from aicert.cli.terminal import Subparsers
    from aicert.exports.evaluated import NamedResult
    from aicert.exports.facts import Facts
    from aicert.exports.verified import Verified
    from aicert.verifier.evidence import Audit, Evaluation

# A model card is text that somebody wrote.
MAX_CARD = 1 << 22
# The versions in aicert.exports.cyclonedx, which a help text must not load.
_VERSIONS = ("1.7", "1.6")
# Options of `add_policy_options` and of evidence, which have no meaning if nothing is judged.
_JUDGING = (
    "evidence", "eval_dataset", "root", "lockfile", "image_lock", "nonce", "at", "collateral",
    "gpu_collateral", "lineage",
)  # fmt: skip
_EXPORT = """\
Write the files that other tools read: provenance.intoto.jsonl (in-toto, cosign), scai.intoto.json,
bom.cdx.json (CycloneDX), bom.spdx.json (SPDX 3.0), run-key.pem, and for a measured machine
bom.image.cdx.json, the packages of its image.

  aicert export certificate.json .
  aicert export certificate.json . --spec-version 1.6    # CycloneDX 1.6, not 1.7

Nothing is verified: these files repeat what the certificate claims. With --model and --evidence,
`aicert export` judges the certificate as `aicert verify` does, with the same options. If it passes,
there are also training-content.md and .json (the public summary that Article 53(1)(d) of the EU's
AI Act asks for, filled in where it is measured), NAME.croissant.json for each input with rows, and
evaluations in bom.cdx.json. If it does not pass, nothing is written. Results on whole tasks of the
image are also written for the Hugging Face hub, to .eval_results/, if you say which data set there
has the task's rows.

  aicert export certificate.json exports/ --model model/ --evidence evidence/
"""
_CARD = """\
Write or renew a marked block in a model card: what was certified, and how to check it.

  aicert card certificate.json model/README.md

Only the text between the marks changes. Nothing is verified without --model. With --model and
--evidence, the certificate is judged as `aicert verify` does. If it passes, results on whole tasks
of the image are written to `model-index`. If it does not pass, nothing is written.

  aicert card certificate.json model/README.md --model model/ --evidence evidence/
"""
_REPORT = """\
Judge a certificate as `aicert verify` does, and write the result as one self-contained page.

  aicert report certificate.json model/ -o page.html --policy local --root .aicert/ca/local.pem
"""


def add_commands(commands: "Subparsers") -> None:
    """Add this module's commands to the parser of `aicert`."""
    export = commands.add_parser(
        "export", help="write a certificate in other formats", description=_EXPORT,
        epilog=EXITS, formatter_class=help_formatter,
    )  # fmt: skip
    export.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    export.add_argument("folder", metavar="DIR", help="where to write")
    export.add_argument("--spec-version", choices=_VERSIONS, default=_VERSIONS[0],
        help="version of CycloneDX; %(default)s if not given")  # fmt: skip
    _add_judging(export)
    add_format(export)
    export.set_defaults(run=_export)
    card = commands.add_parser(
        "card", help="write a block about a certificate into a model card", description=_CARD,
        epilog=EXITS, formatter_class=help_formatter,
    )  # fmt: skip
    card.add_argument(
        "certificate", metavar="CERT", help="the certificate file; - is standard input"
    )
    card.add_argument("card", metavar="README", help="the model card; it is created if missing")
    card.add_argument("--output", metavar="NAME", help="the output, if there are several")
    card.add_argument("--page", metavar="URL", help="link to this copy of verify.html")
    _add_judging(card)
    add_format(card)
    card.set_defaults(run=_card)
    report = commands.add_parser(
        "report", help="appraise, and write the result as a page", description=_REPORT,
        epilog=EXITS, formatter_class=help_formatter,
    )  # fmt: skip
    add = report.add_argument
    add("certificate", metavar="CERT", help="the certificate file; - is standard input")
    add("model", metavar="MODEL_DIR", nargs="?", help="the model's directory")
    add("-o", "--out", metavar="FILE", required=True, help="the page to write")
    add_policy_options(report)
    add_format(report)
    report.set_defaults(run=_report)


def _add_judging(command: argparse.ArgumentParser) -> None:
    """Add the options with which a command judges the certificate before it writes."""
    command.add_argument("--model", metavar="MODEL_DIR", help="the model's directory")
    command.add_argument("--evidence", metavar="EVIDENCE",
        help="a directory with audits and evaluations: RUN/certificate.json, RUN/results.json",
    )  # fmt: skip
    command.add_argument("--eval-dataset", metavar="TASK=ORG/NAME[@COMMIT]", action="append",
        default=[], help="the data set on the hub that has the rows of a task of the image",
    )  # fmt: skip
    add_policy_options(command)


def _facts(path: str) -> "Facts":
    from aicert.exports import facts
    from aicert.verifier import verify

    return facts.read(verify.read_certificate_file(path))


def _export(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.files.atomic import write_atomically

    folder = _folder(options.folder)
    if options.model is not None and _is_inside(options.folder, options.model):
        raise ConfigError(
            f"{options.folder[:200]!a} is in the model's directory, which holds certified files "
            "only",
            hint="name another directory",
        )
    judged = _judged_if_asked(options)
    if judged is not None and judged.result.verdict != "passed":
        return _not_passed(judged, options)
    contents = _contents(options, judged)
    places = [folder / name for name in contents]
    for place, data in zip(places, contents.values(), strict=True):
        place.parent.mkdir(exist_ok=True)
        write_atomically(place, data)
        if options.format == "text":
            write(f"written  {safe(os.fspath(place))}\n")
    if options.format == "json":
        paths = [os.fspath(place) for place in places]
        _write_json({"written": paths, "verified": judged is not None}, write)
    if judged is None:
        complain("nothing was verified; `aicert verify` does that\n")
        return 0
    _say_what_passed(judged)
    for task in _without_data_set(judged, contents):
        complain(
            f"note     {task} has no file for the hub without --eval-dataset {task}=ORG/NAME\n"
        )
    return 0


def _without_data_set(judged: "_Judged", contents: Collection[str]) -> list[str]:
    """Return the tasks with a name of which the model's results have no file for the hub."""
    from aicert.exports import evaluated

    verified = _verified(judged)
    outputs = verified.facts.statement.outputs
    results = [one for output in outputs for one in evaluated.named_results(verified, output)]
    names = dict.fromkeys(one.known.name for one in results)
    return [name for name in names if f"{evaluated.FOLDER}/{name}.yaml" not in contents]


def _say_what_passed(judged: "_Judged") -> None:
    for name, reason in judged.refused:
        complain(f"note     {safe(name)} does not count: {safe(reason.partition(chr(10))[0])}\n")
    complain(f"the certificate passed, tier {judged.result.tier}\n")


def _not_passed(judged: "_Judged", options: argparse.Namespace) -> int:
    complain("nothing was written, because the certificate does not pass\n")
    return show_result(judged.result, options.format)


def _folder(name: str) -> Path:
    folder = Path(name)
    if not name:
        # To pathlib, an empty name is the current directory, but here probably a variable was not
        # set.
        raise ConfigError("DIR is empty", hint="name the directory; . is the current one")
    if not folder.is_dir():
        make = f"mkdir -p {shlex.quote(name[:200])}"
        taken = os.path.lexists(folder)
        raise ConfigError(
            f"not a directory: {name[:200]!a}",
            hint="name a directory to write into" if taken else make,
        )
    return folder


def _needs_model(options: argparse.Namespace) -> str | None:
    """Return an option that is only for judging and was given, if any."""
    given = [f"--{name.replace('_', '-')}" for name in _JUDGING if getattr(options, name)]
    return next(iter(given), "--policy" if options.policy != "default" else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """The result for the certificate with the bytes `data`, and its evidence.

    `refused` says, for each piece of evidence that does not count, why not.
    """

    data: bytes
    result: "AttestationResult"
    audits: "tuple[Audit, ...]"
    evaluations: "tuple[Evaluation, ...]"
    refused: tuple[tuple[str, str], ...]


def _judged_if_asked(options: argparse.Namespace) -> _Judged | None:
    """Judge the certificate if there is a model. ConfigError for options that only judge."""
    if options.model is not None:
        return _judged(options)
    if given := _needs_model(options):
        raise ConfigError(f"{given} needs --model: only then is the certificate judged")
    return None


def _judged(options: argparse.Namespace) -> _Judged:
    """Judge the certificate with its model, and the evidence, under the same options."""
    from aicert.cli.verify import evaluations, evidence
    from aicert.cli.verify.conditions import conditions_of
    from aicert.formats import certificate
    from aicert.verifier import verify
    from aicert.verifier.evidence import read_evidence

    data = verify.read_certificate_file(options.certificate)
    parsed = certificate.parse(data)
    if options.evidence is None:
        result = appraised(options, parsed)
        return _Judged(data=data, result=result, audits=(), evaluations=(), refused=())
    given, refused = read_evidence(options.evidence)
    conditions = conditions_of(options, given)
    result = appraised(options, parsed, conditions)
    known, evaluated = (
        evidence.gather(given, refused, conditions),
        evaluations.gather(given, conditions),
    )
    return _Judged(
        data=data,
        result=result,
        audits=known.audits,
        evaluations=evaluated.counted,
        refused=(*known.refused, *evaluated.refused),
    )


def _is_inside(path: str, folder: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _contents(options: argparse.Namespace, judged: _Judged | None) -> dict[str, bytes]:
    """Return the contents to write, by file name. Raises EvidenceError."""
    from aicert.exports import evaluated
    from aicert.exports.files import exports, verified_exports

    if judged is None:
        return exports(_facts(options.certificate), options.spec_version)
    places = evaluated.data_sets(options.eval_dataset)
    return verified_exports(_verified(judged), options.spec_version, places)


def _verified(judged: _Judged) -> "Verified":
    from aicert.cli.verify.evidence import runs_of, was_lineage_asked
    from aicert.exports import facts, verified

    return verified.Verified(
        facts=facts.read(judged.data),
        result=judged.result,
        runs=tuple(runs_of(judged.result)),
        is_lineage_known=was_lineage_asked(judged.result),
        audits=judged.audits,
        evaluations=judged.evaluations,
    )


def _card(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    try:
        update = importlib.import_module("aicert.exports.card").update
    except ModuleNotFoundError as error:
        raise ToolError(
            f"model cards need the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[cards]'",
        ) from None
    from aicert.exports import evaluated
    from aicert.exports.provenance import CERTIFICATE
    from aicert.files.atomic import check_place, write_atomically

    judged = _judged_if_asked(options)
    if judged is not None and judged.result.verdict != "passed":
        return _not_passed(judged, options)
    verified = None if judged is None else _verified(judged)
    facts = _facts(options.certificate) if verified is None else verified.facts
    path = Path(options.card)
    before = _read_card(path)
    output = options.output or _only_output(facts)
    results = [] if verified is None else _results(verified, output)
    places = evaluated.data_sets(options.eval_dataset)
    after, notes = update(before, facts, output, options.page, results=results, places=places)
    beside = path.with_name(CERTIFICATE)
    if not os.path.lexists(beside):
        source = "CERT" if options.certificate == "-" else options.certificate
        copy = shlex.join(("cp", source, os.fspath(beside)))
        notes.append(f"the card names {CERTIFICATE}, which is not beside it: {copy}")
    if after != before:
        check_place(path)
        write_atomically(path, after.encode())
    if options.format == "json":
        written = [] if after == before else [os.fspath(path)]
        _write_json({"written": written, "notes": notes, "verified": judged is not None}, write)
        return 0
    for note in notes:
        write(f"note     {safe(note)}\n")
    if after == before:
        write("nothing to do: the card already says so\n")
    else:
        write(f"written  {safe(os.fspath(path))}\n")
    if judged is not None:
        _say_what_passed(judged)
    return 0


def _read_card(path: Path) -> str:
    """Return the card's text, which is empty if there is none."""
    from aicert.files.atomic import require_replaceable
    from aicert.files.bounded import read_bounded

    if require_replaceable(path) is None:
        return ""
    try:
        return read_bounded(path, MAX_CARD, "model card").decode("utf-8")
    except UnicodeDecodeError:
        raise EvidenceError(f"the card {os.fspath(path)!a} is not UTF-8") from None


def _only_output(facts: "Facts") -> str:
    outputs = sorted(facts.statement.outputs)
    if len(outputs) != 1:
        raise ConfigError(f"say which output: {', '.join(outputs)}", hint="--output NAME")
    return outputs[0]


def _results(verified: "Verified", output: str) -> "list[NamedResult]":
    from aicert.exports.evaluated import named_results

    if output not in verified.facts.statement.outputs:
        return []  # `update` refuses such an output
    return named_results(verified, output)


def _write_json(document: dict[str, object], write: Callable[[str], None]) -> None:
    """Write one JSON document and a line feed."""
    write(json.dumps(document) + "\n")


def _report(options: argparse.Namespace, write: Callable[[str], None]) -> int:
    from aicert.exports import facts
    from aicert.exports.page import page
    from aicert.files.atomic import check_place, write_atomically
    from aicert.formats import certificate
    from aicert.verifier import verify

    out = Path(options.out)
    check_place(out)
    if os.path.realpath(out) == os.path.realpath(options.certificate):
        raise ConfigError("the page would replace the certificate", hint="-o page.html")
    if options.model and _is_inside(options.out, options.model):
        raise ConfigError(
            f"{options.out[:200]!a} is in the model's directory, which holds certified files only",
            hint="put the page elsewhere",
        )
    data = verify.read_certificate_file(options.certificate)
    parsed = certificate.parse(data)
    result = appraised(options, parsed)
    try:
        facts_read = facts.read(data)
    except AicertError:
        # A check must have failed, so the page has only the verdict and the checks.
        facts_read = None
    write_atomically(out, page(certificate.core_digest(parsed), facts_read, result).encode())
    code = show_result(result, options.format)
    # With JSON, stdout has exactly one document.
    say = write if options.format == "text" else complain
    say(f"\nwritten  {safe(options.out)}\n")
    return code
