"""Connect the page's scripts to the verifier: files go in, a report comes out. Runs in the browser.

The report says what `aicert verify` says about the same files, in the same words. Some properties
of a folder cannot be seen in a browser; the report says that they were not checked. Nothing is kept
from one question to the next.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from aicert.appraisal.appraise import appraise, judge_audits
from aicert.appraisal.result import AttestationResult
from aicert.cli import table
from aicert.cli.verify import section
from aicert.cli.verify.conditions import Conditions
from aicert.cli.verify.evidence import find
from aicert.cli.verify.section import Section
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.exports import facts as exported
from aicert.exports.page import body, title
from aicert.formats import certificate as certificates
from aicert.formats.digest import Defect, FileFact, of_bytes
from aicert.formats.paths import check_path, check_paths
from aicert.formats.uncovered_names import FOLDERS
from aicert.text import error_lines
from aicert.verifier import verify
from aicert.verifier.evidence import Given, audits_of, read_evidence
from browser.page import hashing

UNSEEN = (
    "links, empty folders, special files and names that some systems do not allow (a:b, a~, with a "
    "backslash, not Unicode) in the model's folder, which a browser does not show as they are; "
    "aicert verify checks them"
)

# Reads a model's files, or returns what was read before.
Reader = Callable[[], dict[str, FileFact | Defect]]


class Model:
    """The files of a model's folder, measured one by one by `hashing.File`."""

    def __init__(self) -> None:
        self._awaited: set[str] = set()
        self._measured: dict[str, FileFact | Defect] = {}

    def begin(self, path: str) -> bool:
        """Return whether to read the file at `path`; if not, record what is wrong with it."""
        folder = next((folder for folder in FOLDERS if path.startswith(folder)), None)
        if folder is not None:
            self._measured[folder] = Defect("not read")
            return False
        try:
            check_path(path)
        except EvidenceError as error:
            self._measured[path] = Defect(error.message)
            return False
        if path in self._awaited:
            # A browser may show a backslash in a folder's name as a slash.
            self._measured[path] = Defect(f"more than one file is shown as {path!a}")
            return False
        self._awaited.add(path)
        return True

    def take(self, path: str, measured: str) -> None:
        """Store the result for a file that was begun, as returned by `hashing.File.end`."""
        self._measured.setdefault(path, hashing.measured(measured))

    def facts(self) -> dict[str, FileFact | Defect]:
        """Return the same facts as `verifier/model_directory.py`."""
        unread = {path: Defect("not read") for path in self._awaited - self._measured.keys()}
        measured = {**self._measured, **unread}
        if not measured:
            return {".": Defect("an empty directory cannot be certified: '.'")}
        files = [path for path, fact in measured.items() if isinstance(fact, FileFact)]
        try:
            check_paths(files)
        except EvidenceError as error:
            return {**measured, ".": Defect(error.message)}
        return measured


class _WantedError(Exception):
    """The answer depends on the model's files, which have not been read yet."""


def answer(question: str, model: Model | None) -> str:
    """Answer a question; both are JSON. Files are paths in the browser's own file system.

    The question has `certificate` (null: look for the model's in the evidence), `policy` (a name or
    a path), `root`, `lockfile`, `imageLock`, `collateral`, `gpuCollateral`, `nonce`, `at`,
    `lineage` (paths), `evidence` (a folder) and `expected` (the digest that a link named), each a
    text or null. The answer has `exitCode`, and
    either `error` or `certificate` (its digest), `title`, `report` (markup), `text`, `evidence`
    (lines of text, null if no folder was given), `result` (as with `--format json`) and `unseen`.
    """
    return _answer(json.loads(question), None if model is None else model.facts)


def answer_unread(question: str) -> str | None:
    """Answer a question if the answer is clear before the model is read; return None if it is not.

    Like `aicert verify`, this reads a model only for a run that was verified.
    """

    def facts() -> dict[str, FileFact | Defect]:
        raise _WantedError

    try:
        return _answer(json.loads(question), facts)
    except _WantedError:
        return None


def _answer(asked: Mapping[str, str | None], facts: Reader | None) -> str:
    try:
        data, result, shown = _appraised(asked, facts)
    except AicertError as error:
        lines = error_lines(error.message, error.hint)
        return json.dumps({"exitCode": error.exit_code, "error": lines})
    claims = _facts(data)
    evidence_text = None if shown is None else "\n".join(shown.lines()).lstrip("\n")
    evidence = {} if shown is None else {"evidence": shown.to_json()}
    return json.dumps(
        {
            "exitCode": result.exit_code,
            "certificate": str(of_bytes(data)),
            "evidence": evidence_text,
            "unseen": None if facts is None else UNSEEN,
            "title": title(claims, result),
            "report": body(claims, result),
            "text": table.text(result, has_evidence=shown is not None)
            + ("" if evidence_text is None else f"\n{evidence_text}\n"),
            "result": table.to_json(result) | evidence,
        }
    )


def _appraised(
    asked: Mapping[str, str | None], facts: Reader | None
) -> tuple[bytes, AttestationResult, Section | None]:
    """Return the certificate's bytes, the result, and what the folder of evidence shows.

    The order of steps is that of `verify.check_files`, so that the same error is reported first.
    """
    folder = asked["evidence"]
    given, refused = ([], []) if folder is None else read_evidence(folder)
    policy = verify.choose_policy(
        str(asked["policy"]), root=asked["root"], image=asked["imageLock"]
    )
    lockfile = verify.expected_lockfile(asked["lockfile"])
    nonce, at = verify.expected_nonce(asked["nonce"]), verify.time_of_appraisal(asked["at"])
    data = verify.read_certificate_file(asked["certificate"] or _of_model(folder, given, facts))
    _check_expected(data, asked["expected"])
    certificate = certificates.parse(data)
    if asked["collateral"] is not None:
        certificate = verify.with_collateral(certificate, asked["collateral"])
    if asked["gpuCollateral"] is not None:
        certificate = verify.with_gpu_collateral(certificate, asked["gpuCollateral"])
    lineage = asked["lineage"]
    # All certificates in the folder are judged as this one is, each once.
    conditions = Conditions(
        policy=policy,
        named=str(asked["policy"]),
        at=at,
        audits=judge_audits(audits_of(given), policy, at),
        lockfile=lockfile,
        lineage=None if lineage is None else list(lineage),
    )
    result = appraise(
        certificate,
        facts,
        policy,
        at=at,
        lockfile=lockfile,
        nonce=nonce,
        ancestors=None if lineage is None else verify.read_lineage(list(lineage)),
        audits=None if folder is None else conditions.audits,
    )
    shown = None
    if folder is not None:
        shown = section.gather(certificate, result, given, refused, conditions)
    return data, result if facts is None else _with_unseen(result), shown


def _of_model(folder: str | None, given: Sequence[Given], facts: Reader | None) -> str:
    """Return the file in the evidence whose certificate names the model's files."""
    if folder is None or facts is None:
        raise ConfigError("no certificate was chosen", hint="choose one, or evidence and a model")
    certificate = find(folder, given, facts())
    name = next(one.name for one in given if one.certificate is certificate)
    return os.path.join(folder, name, "certificate.json")


def _with_unseen(result: AttestationResult) -> AttestationResult:
    """Add a note on what a browser cannot see of the model's folder; verdicts stay the same."""
    checks = tuple(
        replace(check, detail=f"{check.detail}\nnot checked: {UNSEEN}")
        if check.id == "subject.files" and check.verdict == "ok"
        else check
        for check in result.checks
    )
    return replace(result, checks=checks, omits=(f"whether there are {UNSEEN}", *result.omits))


def _check_expected(data: bytes, expected: str | None) -> None:
    """Raise ConfigError if the page was opened for a different certificate."""
    if expected is not None and expected != str(of_bytes(data)):
        raise ConfigError(
            "this is not the certificate that the link named"
            f"\n  named  {expected[:80]!a}\n  found  {of_bytes(data)}",
            hint="get the certificate from where the link was, or open the page without it",
        )


def _facts(data: bytes) -> "exported.Facts | None":
    """Return what the certificate says; None if it cannot be read."""
    try:
        return exported.read(data)
    except AicertError:
        return None


def put(path: str, data: bytes | memoryview) -> None:
    """Write a file that the user chose, and create the folders above it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
