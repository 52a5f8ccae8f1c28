"""The log of a certified run, if aicert.toml names a log and the run has `log = true`.

Before the run, the witnesses cosign the log as it is, and the nonce is made from that: it shows
that the machine answered later. After the run, its certificate is logged, the witnesses are asked
again, and the proof is added to the certificate. If that fails, the run is kept, and a warning says
which command to run later. If the log itself is wrong, as when a witness has seen another one, the
run is kept too, but certify ends with 1 (docs/adr/0042-sigstore-bundles.md).
"""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aicert.cli.log.witness import poster, witness_key
from aicert.cli.timestamp import with_stamp
from aicert.crypto.x509 import stamp
from aicert.errors import AicertError, ToolError
from aicert.files.atomic import write_atomically
from aicert.files.bounded import read_bounded
from aicert.formats import certificate as certificates
from aicert.formats import run_report
from aicert.formats import statement as statements
from aicert.formats.certificate import MAX_BYTES, Certificate
from aicert.log import check, keys, witness_client, writer
from aicert.log.errors import BrokenLogError
from aicert.log.tiles import CHECKPOINT
from aicert.tlog import proofs
from aicert.tlog.entry import entry_of
from aicert.tlog.notes import ED25519, MAX_NOTE, VerifierKey
from rules.host import progress
from rules.host.reporter import show_error
from rules.project.config import Log, Run, Witness


class _Cosigned(NamedTuple):
    name: str
    time: int


def before(run: Run) -> bytes | None:
    """Return the log's checkpoint, just cosigned by all of its witnesses; None if the run has no
    log, or the log has no witness to ask.
    """
    if run.log is None or not run.log.witnesses:
        return None
    try:
        key = _public(run.log)
        cosigned = [_ask(run.log, key, witness) for witness in run.log.witnesses]
        checkpoint = read_bounded(run.log.folder / CHECKPOINT, MAX_NOTE, CHECKPOINT)
    except BrokenLogError as error:
        # Asking again would not help.
        message = f"run {run.name} was not started: {error.message}"
        raise BrokenLogError(message, hint=error.hint) from None
    except AicertError as error:
        raise ToolError(
            f"run {run.name} was not started: {error.message}",
            hint=f"try again, or remove log = true from [runs.{run.name}]",
        ) from None
    first = min(cosigned, key=lambda one: one.time)
    progress.say(f"{run.name}: begins after {_time(first)}, by {_names(cosigned)}")
    return checkpoint


def add_proof(run: Run, certificate: Path, placed: Path) -> None:
    """Log the certificate of a finished run and add the proof to it. A run that ended with an error
    is not logged, because a log is for ever.

    Failures are only reported, except that BrokenLogError is raised, at the end, if the log is
    wrong, or a witness says so.
    """
    if run.log is None:
        return
    log = run.log
    try:
        parsed = certificates.parse(read_bounded(certificate, MAX_BYTES, "certificate"))
        if not _has_finished(parsed):
            progress.say(f"{run.name}: not logged, because it ended with an error")
            return
        entry = entry_of(parsed)
        key = _public(log)
        writer.append(log.folder, log.key, [entry])
        cosigned, missing = _ask_all(log, key)
        index, proof = check.prove(log.folder, key, entry)
        stamped = with_stamp(parsed, proofs.encode(proof))
        write_atomically(certificate, certificates.emit(stamped))
    except BrokenLogError as error:
        message = f"run {run.name} is not in the log: {error.message}"
        raise BrokenLogError(message, hint=error.hint) from None
    except AicertError as error:
        message = f"run {run.name} is not in the log: {error.message}"
        show_error(ToolError(message, hint=_by_hand(log, placed)), word="warning")
        return
    by = f", cosigned by {_names(cosigned)}" if cosigned else ""
    progress.say(f"{run.name}: logged, entry {index} of {key.name}{by}")
    for witness, reason in missing:
        if not isinstance(reason, BrokenLogError):
            message = f"run {run.name} lacks a cosignature: {reason.message}"
            show_error(ToolError(message, hint=_ask_by_hand(log, witness, placed)), word="warning")
    broken = [reason for _, reason in missing if isinstance(reason, BrokenLogError)]
    if broken:
        raise BrokenLogError(
            "\n".join(
                [f"run {run.name} is logged, but the log is not in order"]
                + [reason.message for reason in broken]
            ),
            hint=next((reason.hint for reason in broken if reason.hint), None),
        )


def _ask_all(
    log: Log, key: VerifierKey
) -> tuple[list[_Cosigned], list[tuple[Witness, AicertError]]]:
    """Ask every witness of the log. Return those who cosigned, and those who did not, with the
    errors.
    """
    cosigned, missing = [], []
    for witness in log.witnesses:
        try:
            cosigned.append(_ask(log, key, witness))
        except AicertError as error:
            missing.append((witness, error))
    return cosigned, missing


def _ask(log: Log, key: VerifierKey, witness: Witness) -> _Cosigned:
    by = witness_key(witness.key, "log.witnesses.key")
    asked = witness_client.ask(log.folder, key, by, poster(witness.url))
    return _Cosigned(by.name, asked.time)


def _public(log: Log) -> VerifierKey:
    """Return the log's public key from its own file, because anybody may have written what is in
    the folder.
    """
    return keys.read(log.key, ED25519).public


def _has_finished(certificate: Certificate) -> bool:
    statement = statements.parse(certificate.envelope.payload)
    return run_report.parse(statement.report).exit_code == "0"


def _by_hand(log: Log, placed: Path) -> str:
    append = ["aicert", "log", "append", str(log.folder), str(placed), "--key", str(log.key)]
    return f"{shlex.join(append)} && {_prove_by_hand(log, placed)}"


def _ask_by_hand(log: Log, witness: Witness, placed: Path) -> str:
    words = ["aicert", "log", "ask", str(log.folder), witness.url, "--witness-key", witness.key]
    return f"{shlex.join(words)} && {_prove_by_hand(log, placed)}"


def _prove_by_hand(log: Log, placed: Path) -> str:
    return shlex.join(["aicert", "log", "prove", str(log.folder), str(placed), "--into"])


def _time(one: _Cosigned) -> str:
    return stamp(datetime.fromtimestamp(one.time, UTC))


def _names(cosigned: list[_Cosigned]) -> str:
    return ", ".join(one.name for one in cosigned)
