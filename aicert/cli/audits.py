"""`aicert audit`, `prove-record`, `prove-absence` and `verify-proof`: questions about data.

An audit that is run here reports on the files here and certifies nothing. A proof is about results
whose digest the caller knows from elsewhere: from the audit's certificate. Results and proofs are
for programs, so their lines are not wrapped for terminals.
"""

import argparse
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aicert.cli.records import canonical_blocks, chosen_files, learned
from aicert.cli.terminal import add_part, write
from aicert.errors import ConfigError, RejectedError
from aicert.files.bounded import read_bounded
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import CONFIG_INPUT, NAME
from aicert.records.grammar import MAX_LINE
from aicert.records.reader import Checker
from aicert.text import safe

if TYPE_CHECKING:
    from aicert.audits.config import AuditConfig
    from aicert.audits.results import Results, TreeFact
    from aicert.audits.run import GivenList
    from aicert.cli.terminal import Subparsers

_AUDIT = """\
Run an audit on the files here and print its results. Nothing is certified: it shows what an audit
run of these inputs would say. Every input that CONFIG does not name is data.

  aicert audit audit.toml --input alpaca=rows/ --input record-key=key --input opt-out=list.txt
"""
_RECORD = """\
Print a proof that row N of DATA was in the data of an audit. All rows are read. The key is the
audit's record key; the proof shows the row's salt and the hashes on its path.

  aicert prove-record rows/ --name alpaca --key record-key --results results.json --row 7

With --tree FILE the tree is kept in FILE. If it is there already, no rows are read.
"""
_ABSENCE = """\
Print a proof that no passage of 50 words of a text was in the data of an audit. All rows are read.
For each fingerprint of the text, the proof shows two fingerprints of DATA: if DATA is private, run
another audit instead.

  aicert prove-absence rows/ --name alpaca --results results.json --text story.txt

With --tree FILE the tree and the fingerprints are kept in FILE. If it is there already, no rows are
read. Keep it as private as DATA.
"""
_VERIFY = """\
Verify a proof about SUBJECT, a file with the row or the text, against the results of a certified
audit. Give the audit's certificate, which is judged first, or the digest of the results that such a
certificate names. Do not take either from the sender of the proof alone.

  aicert verify-proof proof.json row.json --results results.json --certificate certificate.json

A row that was in the data need not have changed what a model learned.
"""
_MADE = "exit codes: 0 done, 1 the data says no, 2 it cannot be read, 3 bad command line or config"
_JUDGED = "exit codes: 0 the proof holds, 1 it does not, 2 no verdict, 3 bad command line"
# The longest text or row that can be asked about: the longest row, with its line feed.
MAX_SUBJECT: Final = MAX_LINE + 1
DEFAULT_SPLIT: Final = "train"


def add_commands(commands: "Subparsers") -> None:
    """Add this module's commands to the parser of `aicert`."""
    audit = _command(
        commands, "audit", "run an audit on files here; nothing is certified", _AUDIT, _MADE
    )
    audit.add_argument("config", metavar="CONFIG", help="the audit's config")
    audit.add_argument("--input", metavar="NAME=PATH", action="append", default=[], help="an input")
    audit.set_defaults(run=_audit)

    record = _command(
        commands, "prove-record", "prove that a row was in audited data", _RECORD, _MADE
    )
    record.add_argument("--key", metavar="FILE", required=True, help="the audit's record key")
    record.add_argument("--row", metavar="N", type=int, required=True, help="counted from 1")
    record.set_defaults(run=_prove_record)
    absence = _command(
        commands, "prove-absence", "prove that audited data has no passage of a text", _ABSENCE,
        _MADE,
    )  # fmt: skip
    absence.add_argument("--text", metavar="FILE", required=True, help="the text, in UTF-8")
    absence.set_defaults(run=_prove_absence)
    for parser in (record, absence):
        parser.add_argument("data", metavar="DATA", help="the input's directory or file")
        parser.add_argument("--name", metavar="NAME", required=True, help="the input's name")
        parser.add_argument(
            "--split", metavar="SPLIT", default=DEFAULT_SPLIT, help="default: train"
        )
        parser.add_argument("--tree", metavar="FILE", type=Path, help="keep the tree in this file")

    verify = _command(
        commands, "verify-proof", "verify a proof about audited data", _VERIFY, _JUDGED
    )
    verify.add_argument("proof", metavar="PROOF", help="the proof")
    verify.add_argument("subject", metavar="SUBJECT", help="the file with the row or the text")
    named = verify.add_mutually_exclusive_group(required=True)
    named.add_argument(
        "--certificate", metavar="FILE", help="the audit's certificate, judged by --policy"
    )
    named.add_argument(
        "--results-digest", metavar="DIGEST", help="the digest that the certificate names"
    )
    verify.add_argument("--policy", metavar="POLICY", default="default", help="as `aicert verify`")
    verify.add_argument("--root", metavar="PEM", help="as `aicert verify`")
    verify.add_argument("--at", metavar="TIME", help="as `aicert verify`")
    verify.set_defaults(run=_verify_proof)
    for parser in (record, absence, verify):
        parser.add_argument("--results", metavar="FILE", required=True, help="the audit's results")


def _command(
    commands: "Subparsers", name: str, summary: str, description: str, codes: str
) -> argparse.ArgumentParser:
    parser = add_part(commands, name, summary, description, codes)
    parser.set_defaults(format="text")
    return parser


def _audit(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    from aicert.audits import config as configs
    from aicert.audits import results as forms
    from aicert.audits.run import Audit
    from aicert.audits.trees import KEY_BYTES

    config = configs.parse(read_bounded(options.config, configs.MAX_BYTES, "the audit's config"))
    inputs = _inputs(options.input)
    for name in sorted(config.named - {CONFIG_INPUT}):
        if name not in inputs:
            raise ConfigError(f"the config names input {name}", hint=f"--input {name}=PATH")
    key = read_bounded(inputs[config.key], KEY_BYTES, "the record key")
    audit = Audit(config, key, _lists(config, inputs))
    for name in sorted(inputs.keys() - config.named):
        for split, files in chosen_files(inputs[name]).items():
            reading = audit.reading(name, split)
            selection = learned(inputs[name], files)
            checker = Checker(selection.schema)
            for block in canonical_blocks(selection):
                checker.feed(block)
                reading.feed(block)
            checker.fact()
            reading.fact(sum(source.unread_bytes for source in selection.sources))
    for name in config.texts:
        for place, path in _files(name, inputs[name]):
            if not audit.look_at_text(place, path.read_bytes(), is_json=False):
                raise ConfigError(f"{place!a} is not UTF-8, so it is no text")
    write(forms.emit(audit.results()).decode())
    return 0


def _files(name: str, path: Path) -> list[tuple[str, Path]]:
    """Return the files of an input of texts, each with the name that results give it."""
    from aicert.files.tree import read_tree

    if not path.is_dir():
        return [(name, path)]
    return [(f"{name}/{inside}", path / inside) for inside in read_tree(path)]


def _inputs(words: list[str]) -> dict[str, Path]:
    inputs: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not NAME.fullmatch(name) or name in {*inputs, CONFIG_INPUT}:
            raise ConfigError(f"--input {word[:80]!a}: expected NAME=PATH, each name once")
        inputs[name] = Path(path)
    return inputs


def _lists(config: "AuditConfig", inputs: dict[str, Path]) -> dict[str, "GivenList"]:
    from aicert.audits import config as configs
    from aicert.audits import lists as readers
    from aicert.audits.run import GivenList

    given: dict[str, GivenList] = {}
    for check in config.checks:
        if check.list is None or check.list in given:
            continue
        path = inputs[check.list]
        entries: readers.AnyList
        if check.kind == configs.PASSAGES:
            entries = readers.texts(_texts(path))
        else:
            data = read_bounded(path, readers.MAX_BYTES, "list")
            entries = (readers.domains if check.kind == configs.DOMAINS else readers.exact)(data)
        given[check.list] = GivenList(digest=_digest(path), entries=entries)
    return given


def _digest(path: Path) -> Digest:
    """Return the digest that a lockfile would have for this input."""
    from aicert.files.tree import read_file, read_tree
    from aicert.formats.listing import dir_digest

    if path.is_dir():
        return dir_digest(read_tree(path))
    return Digest("sha256", read_file(path).sha256)


def _texts(path: Path) -> Iterator[str]:
    """Yield the text of each row of a path, in all splits."""
    import json

    from aicert.audits.run import text_of

    for files in chosen_files(path).values():
        for row in _rows(path, files):
            yield text_of(json.loads(row))


def _rows(path: Path, files: list[str]) -> Iterator[bytes]:
    """Yield the canonical rows, which the strict reader has checked, without line feeds."""
    selection = learned(path, files)
    checker = Checker(selection.schema)
    rest = b""
    for block in canonical_blocks(selection):
        checker.feed(block)
        *rows, rest = (rest + block).split(b"\n")
        yield from rows
    checker.fact()


def _split(options: argparse.Namespace) -> tuple[Path, list[str]]:
    path = Path(options.data)
    files = chosen_files(path).get(options.split)
    if files is None:
        raise ConfigError(f"no split is called {options.split[:80]!a}")
    return path, files


def _results(options: argparse.Namespace) -> "Results":
    from aicert.audits import results as forms

    return forms.parse(read_bounded(options.results, forms.MAX_BYTES, forms.WHAT))


def _prove_record(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    from aicert.audits import proofs
    from aicert.audits.trees import KEY_BYTES, Salts, row_leaf

    results = _results(options)
    expected = results.of(options.name, options.split).rows
    if not 0 < options.row <= expected.count:
        raise ConfigError(f"--row {options.row}: the audit read {expected.count} rows")
    key = read_bounded(options.key, KEY_BYTES, "the record key")
    salts = Salts(key, options.name, options.split)
    index, rows = options.row - 1, _rows(*_split(options))
    if options.tree is None:
        salt, path = proofs.prove_record(rows, index, salts, expected)
    else:
        from aicert.cli import kept_tree

        leaves = (row_leaf(salts.salt(number), row) for number, row in enumerate(rows))
        with kept_tree.opened(options.tree, expected, leaves) as tree:
            salt, path = salts.salt(index), tree.path_of(index)
    proof = proofs.RecordProof(
        name=options.name, split=options.split, row=options.row, salt=salt, path=path
    )
    write(proofs.emit(proof).decode())
    return 0


def _prove_absence(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    from aicert.audits import proofs
    from aicert.audits.trees import passage_leaf

    results = _results(options)
    expected = _passages(results, options)
    text = _text(options.text)
    wanted = proofs.passages_of(text)

    def proven(gaps: "tuple[proofs.Gap, ...]") -> proofs.AbsenceProof:
        return proofs.AbsenceProof(name=options.name, split=options.split, gaps=gaps)

    if options.tree is None:
        proof = proven(proofs.prove_absence(_fingerprints(options), wanted, expected))
    else:
        from aicert.cli import kept_tree

        keys = array("Q", () if options.tree.exists() else _fingerprints(options))
        with kept_tree.opened(options.tree, expected, map(passage_leaf, keys), keys) as tree:
            proof = proven(proofs.gaps_among(tree, wanted, tree.path_of))
            try:
                proofs.check_absence(proof, text, results)
            except RejectedError:
                raise tree.wrong() from None
    write(proofs.emit(proof).decode())
    return 0


def _fingerprints(options: argparse.Namespace) -> Iterable[int]:
    """Return the fingerprints of the rows here, sorted, each once."""
    import json

    from aicert.audits.fingerprints import Fingerprints, of_words
    from aicert.audits.folding import words
    from aicert.audits.run import text_of

    fingerprints = Fingerprints()
    for row in _rows(*_split(options)):
        fingerprints.add(of_words(words(text_of(json.loads(row)))))
    return fingerprints.sorted()


def _passages(results: "Results", options: argparse.Namespace) -> "TreeFact":
    tree = results.of(options.name, options.split).passages
    if tree is None:
        raise ConfigError(
            "the audit built no tree of passages", hint="[passages] with words = 50 in its config"
        )
    return tree


def _text(path: str) -> str:
    data = read_bounded(path, MAX_SUBJECT, "text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path!a} is not UTF-8") from None


def _verify_proof(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    from aicert.audits import proofs
    from aicert.audits import results as forms

    data = read_bounded(options.results, forms.MAX_BYTES, forms.WHAT)
    digest = of_bytes(data)
    if options.certificate is not None:
        results, certified = _certified(options, data)
    elif str(digest) != options.results_digest:
        raise RejectedError(
            "these are not the results that the certificate names\n"
            f"expected  {options.results_digest}\nfound     {digest}",
            digest,
        )
    else:
        results, certified = forms.parse(data), []
    proof = proofs.parse(read_bounded(options.proof, proofs.MAX_BYTES, proofs.WHAT))
    where = f"input {proof.name}, split {safe(proof.split)}"
    rows = results.of(proof.name, proof.split)
    if isinstance(proof, proofs.RecordProof):
        row = read_bounded(options.subject, MAX_SUBJECT, "row").removesuffix(b"\n")
        proofs.check_record(proof, row, results)
        line = f"holds     these bytes were in {where}, as row {proof.row} of {rows.rows.count}"
    else:
        proofs.check_absence(proof, _text(options.subject), results)
        line = f"holds     no passage of 50 words of this text was in {where}"
    lines = [line, f"rows      {rows.digest}", f"results   {digest}", *certified]
    say("".join(f"{each}\n" for each in lines))
    return 0


def _certified(options: argparse.Namespace, data: bytes) -> tuple["Results", list[str]]:
    """Return the results if a passing certificate names them, and a description of that
    certificate.
    """
    from aicert.appraisal.evidence.audits import check_joined
    from aicert.audits import results as forms
    from aicert.cli.verify import audit_certificate
    from aicert.verifier.verify import read_certificate

    certificate = read_certificate(options.certificate)
    verdict = audit_certificate.judge(
        certificate, data, policy=options.policy, root=options.root, at=options.at
    )
    results = forms.parse(data)
    check_joined(results, certificate, verdict)
    run = f"run {safe(verdict.run or '')}, tier {verdict.tier}"
    return results, [f"certified {run}, policy {safe(verdict.policy)}, judged at {verdict.at}"]
