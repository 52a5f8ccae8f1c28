"""Between the page's scripts and the verifier: files in, a report out. Runs in the browser.

Promises: what `aicert verify` says of the same files is what stands in the report, in the same
words, but for what a browser does not show of a folder, which the report says was not checked.
Nothing is kept between two questions.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from aicert.appraisal.appraise import appraise
from aicert.appraisal.result import AttestationResult
from aicert.cli import table
from aicert.errors import AicertError, ConfigError, EvidenceError
from aicert.exports import facts as exported
from aicert.exports.page import body, title
from aicert.formats import certificate as certificates
from aicert.formats.digest import Defect, FileFact, of_bytes
from aicert.formats.paths import check_path, check_paths
from aicert.formats.safetensors import LENGTH, header_length, is_named, parse_header
from aicert.formats.uncovered_names import FOLDERS
from aicert.text import error_lines
from aicert.verifier import verify

UNSEEN = (
    "links, empty folders, special files and names that some systems do not allow (a:b, a~, with a "
    "backslash, not Unicode) in the model's folder, which a browser does not show as they are; "
    "aicert verify checks them"
)


class Model:
    """The files of a model's folder, measured block by block as the scripts read them."""

    def __init__(self) -> None:
        self._measured: dict[str, FileFact | Defect] = {}
        self._file: _File | None = None

    def begin(self, path: str, size: int) -> bool:
        """Whether the file at `path` is to be read; else what is wrong with it is noted."""
        folder = next((folder for folder in FOLDERS if path.startswith(folder)), None)
        if folder is not None:
            self._measured[folder] = Defect("not read")
            return False
        try:
            check_path(path)
        except EvidenceError as error:
            self._measured[path] = Defect(error.message)
            return False
        if path in self._measured:
            # A browser may show a backslash in a folder's name as a slash.
            self._measured[path] = Defect(f"more than one file is shown as {path!a}")
            return False
        self._file = _File(path, size)
        return True

    def block(self, data: bytes | memoryview) -> None:
        """The next bytes of the file that was begun."""
        if self._file is not None:
            self._file.block(data)

    def end(self) -> None:
        """The file was read to its end."""
        if self._file is None:
            return
        try:
            self._measured[self._file.path] = self._file.fact()
        except EvidenceError as error:
            self._measured[self._file.path] = Defect(error.message)
        self._file = None

    def facts(self) -> dict[str, FileFact | Defect]:
        """As `verifier/model_directory.py` has them."""
        if not self._measured:
            return {".": Defect("an empty directory cannot be certified: '.'")}
        files = [path for path, fact in self._measured.items() if isinstance(fact, FileFact)]
        try:
            check_paths(files)
        except EvidenceError as error:
            return {**self._measured, ".": Defect(error.message)}
        return self._measured


class _File:
    """One file: its hash so far, and the header of a file that is named safetensors."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self._size = size
        self._read = 0
        self._hash = hashlib.sha256()
        self._header = bytearray()
        # How many of the first bytes are kept: first the length, then the header that it gives.
        self._kept = LENGTH if is_named(path) else 0
        self._refusal: EvidenceError | None = None

    def block(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._read += len(data)
        try:
            self._keep(data)
        except EvidenceError as error:
            self._refusal, self._kept = error, 0

    def _keep(self, data: bytes | memoryview) -> None:
        start = 0
        while len(self._header) < self._kept and start < len(data):
            part = data[start : start + self._kept - len(self._header)]
            self._header += part
            start += len(part)
            if len(self._header) == LENGTH == self._kept:
                self._kept += header_length(bytes(self._header), self._size)

    def fact(self) -> FileFact:
        """What was read; EvidenceError where that is no file to be certified."""
        if self._read != self._size:
            raise EvidenceError(f"file changed while it was read: {self.path!a}")
        if self._refusal is not None:
            raise self._refusal
        if is_named(self.path):
            if len(self._header) < LENGTH:
                # Of a shorter file, this says what is wrong.
                header_length(bytes(self._header), self._size)
            parse_header(bytes(self._header[LENGTH:]), self._size - self._kept)
        return FileFact(self._size, self._hash.hexdigest())


def answer(question: str, model: Model | None) -> str:
    """JSON in and out. Files are paths in the browser's own file system.

    `certificate`, `policy` (a name or a path), `root`, `lockfile`, `imageLock`, `collateral`,
    `nonce`, `at`, `lineage` (paths), `expected` (the digest that a link named), each a text or
    null. The answer has `exitCode`, and `certificate` (its digest), `title`, `report` (markup),
    `text`, `result` (as `--format json` has it) and `unseen`, or `error`.
    """
    asked = json.loads(question)
    try:
        data, result = _appraised(asked, model)
    except AicertError as error:
        lines = error_lines(error.message, error.hint)
        return json.dumps({"exitCode": error.exit_code, "error": lines})
    facts = _facts(data)
    return json.dumps(
        {
            "exitCode": result.exit_code,
            "certificate": str(of_bytes(data)),
            "unseen": None if model is None else UNSEEN,
            "title": title(facts, result),
            "report": body(facts, result),
            "text": table.text(result),
            "result": table.to_json(result),
        }
    )


def _appraised(
    asked: Mapping[str, str | None], model: Model | None
) -> tuple[bytes, AttestationResult]:
    """The certificate's bytes, and what is said of them; in the order of `verify.check_files`, so
    that the same thing is found wrong first.
    """
    policy = verify.choose_policy(
        str(asked["policy"]), root=asked["root"], image=asked["imageLock"]
    )
    lockfile = verify.expected_lockfile(asked["lockfile"])
    nonce, at = verify.expected_nonce(asked["nonce"]), verify.time_of_appraisal(asked["at"])
    data = verify.read_certificate_file(str(asked["certificate"]))
    _check_expected(data, asked["expected"])
    certificate = certificates.parse(data)
    if asked["collateral"] is not None:
        certificate = verify.with_collateral(certificate, asked["collateral"])
    lineage = asked["lineage"]
    result = appraise(
        certificate,
        None if model is None else partial(model.facts),
        policy,
        at=at,
        lockfile=lockfile,
        nonce=nonce,
        ancestors=None if lineage is None else verify.read_lineage(list(lineage)),
    )
    return data, result if model is None else _with_unseen(result)


def _with_unseen(result: AttestationResult) -> AttestationResult:
    """The same verdicts, and what of the model's folder could not be seen."""
    checks = tuple(
        replace(check, detail=f"{check.detail}\nnot checked: {UNSEEN}")
        if check.id == "subject.files" and check.verdict == "ok"
        else check
        for check in result.checks
    )
    return replace(result, checks=checks, omits=(f"whether there are {UNSEEN}", *result.omits))


def _check_expected(data: bytes, expected: str | None) -> None:
    """ConfigError where the page was opened for another certificate."""
    if expected is not None and expected != str(of_bytes(data)):
        raise ConfigError(
            "this is not the certificate that the link named"
            f"\n  named  {expected[:80]!a}\n  found  {of_bytes(data)}",
            hint="take the certificate from where the link was, or open the page without it",
        )


def _facts(data: bytes) -> "exported.Facts | None":
    """What the certificate says, None where it cannot be read."""
    try:
        return exported.read(data)
    except AicertError:
        return None


def put(path: str, data: bytes | memoryview) -> None:
    """Write a file that was picked, and the folders above it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
