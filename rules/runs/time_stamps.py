"""Time stamps of a certified run, if aicert.toml names a time authority or a log.

One time stamp is requested before the run, and the nonce is made from it: it shows that the machine
answered later. Another is requested when the run has finished. A finished run is worth more than
its time stamp, so a failure is a warning, and `aicert timestamp` can add one later.
"""

from dataclasses import dataclass
from pathlib import Path

from aicert.appraisal.evidence.trusted_time import (
    NO_CHALLENGE,
    encode_not_before,
    nonce_after,
)
from aicert.cli.timestamp import asked, stamped_certificate
from aicert.crypto.x509 import stamp
from aicert.errors import AicertError, ToolError
from aicert.files.atomic import write_atomically
from aicert.files.bounded import read_bounded
from aicert.formats.certificate import MAX_BYTES, NOT_BEFORE, emit, parse
from aicert.formats.lockfile import identity
from aicert.frozen import replace
from aicert.tlog.proofs import encode_checkpoint
from rules.host import progress
from rules.host.reporter import show_error
from rules.project.config import Run
from rules.runs import logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The nonce for the machine to answer, and how it was made, for `timestamps`."""

    nonce: bytes
    entry: str


def before(run: Run, lockfile: bytes, challenge: bytes | None) -> Answer | None:
    """Return a nonce that nobody could have known before; None if there is nothing to make it from.
    `challenge` is the relying party's. The authority sees only the lockfile's digest. A certificate
    has one such nonce: without an authority, it comes from the log's checkpoint.
    """
    known = challenge or NO_CHALLENGE
    if run.time_authority is None:
        checkpoint = logs.before(run)
        if checkpoint is None:
            return None
        entry = f"{NOT_BEFORE}{known.hex()}:{encode_checkpoint(checkpoint)}"
        return Answer(nonce=nonce_after(known, checkpoint), entry=entry)
    try:
        token, stamped = asked(run.time_authority, bytes.fromhex(identity(lockfile).hex))
    except AicertError as error:
        raise ToolError(
            f"run {run.name} was not started: {error.message}",
            hint="try again, or remove [time-authority] from aicert.toml",
        ) from None
    progress.say(f"{run.name}: begins after {stamp(stamped.time)}, by {run.time_authority}")
    return Answer(nonce=nonce_after(known, token), entry=encode_not_before(known, token))


def add_answer(certificate: Path, answer: Answer | None) -> None:
    """Record in the certificate how its nonce was made."""
    if answer is None:
        return
    parsed = parse(read_bounded(certificate, MAX_BYTES, "certificate"))
    evidence = replace(parsed.evidence, timestamps=(*parsed.evidence.timestamps, answer.entry))
    write_atomically(certificate, emit(replace(parsed, evidence=evidence)))


def add_token(run: Run, certificate: Path, placed: Path) -> None:
    """Add a time stamp to the certificate of a finished run. Failures are only reported."""
    if run.time_authority is None:
        return
    try:
        parsed = parse(read_bounded(certificate, MAX_BYTES, "certificate"))
        stamped, token = stamped_certificate(parsed, run.time_authority)
        write_atomically(certificate, emit(stamped))
    except AicertError as error:
        hint = f"aicert timestamp {placed} --tsa {run.time_authority}"
        message = f"run {run.name} has no time stamp: {error.message}"
        show_error(ToolError(message, hint=hint), word="warning")
    else:
        progress.say(f"{run.name}: stamped {stamp(token.time)}, by {run.time_authority}")
