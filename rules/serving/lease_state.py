"""What this computer stores for a served lease: the TPM's state, the machine's blob and token, and
its receipts.

    .aicert/serving/NAME/tpm/           the software TPM's state, including the meter
                         enrolment.json the machine's enrolment
                         blob           what its TPM opens with a licence
                         token          from the broker's grant, readable only by its owner
                         receipts.jsonl every receipt, one per line
                         unsent.jsonl   those that the broker has not confirmed

An enrolled machine is its TPM: after `tpm/` is deleted, a new token is needed. A cloud's machine is
removed after each call, so what belongs to it moves to `earlier/NUMBER/` at the next one; so does
what belongs to a token when a new one is given. The TPM stays.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.files.bounded import read_bounded
from aicert.formats.digest import is_hex
from aicert.lease import blob, enrolment, receipts
from rules.host.file_lock import free
from rules.host.work import remove, write_whole

SERVING = Path(".aicert") / "serving"
ENROLMENT, BLOB, TOKEN = "enrolment.json", "blob", "token"
RECEIPTS, UNSENT = "receipts.jsonl", "unsent.jsonl"
EARLIER = "earlier"
_TOKEN_DIGITS = 64
_MAX_FILE = 1 << 28


class LeaseFolder:
    """The folder of one lease. Use `opened`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tpm = folder / "tpm"
        self.work = folder / "work"

    @property
    def enrolment(self) -> bytes | None:
        """The enrolment of the machine."""
        return self._read(ENROLMENT, enrolment.MAX_BYTES)

    @property
    def blob(self) -> bytes | None:
        """The blob for that enrolment."""
        return self._read(BLOB, blob.MAX_BYTES)

    def enrolled(self, shown: bytes, wrapped: bytes | None) -> None:
        """Store an enrolment, and the blob that answers it, if there is one."""
        write_whole(self.folder / ENROLMENT, shown)
        if wrapped is not None:
            write_whole(self.folder / BLOB, wrapped)

    def has_another_token(self, given: Path | None) -> bool:
        """Whether the machine here is enrolled with another token than that in this file."""
        kept = self.folder / TOKEN
        if given is None or self.enrolment is None or not kept.exists():
            return False
        return self._token_in(given) != self._token_in(kept)

    def token(self, given: Path | None) -> str:
        """Return the grant's token, from a file if one is given, otherwise the stored one. Raises
        ConfigError if there is none.
        """
        kept = self.folder / TOKEN
        hint = (
            f"./doit serve {self.folder.name} --token FILE, with what `aicert lease grant` printed "
            "in FILE"
        )
        if given is not None:
            text = self._token_in(given)
            remove(kept)
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            return text
        if not kept.exists():
            raise ConfigError("there is no token for the broker yet", hint=hint)
        return self._token_in(kept)

    def _token_in(self, path: Path) -> str:
        return _token(read_bounded(path, 4096, "token"), str(path))

    def keep_receipt(self, receipt: bytes, *, is_for_a_broker: bool) -> None:
        """Store a receipt; if a broker must confirm it, also mark it as unconfirmed."""
        for name in (RECEIPTS, UNSENT) if is_for_a_broker else (RECEIPTS,):
            with (self.folder / name).open("ab") as file:
                file.write(receipt + b"\n")
                file.flush()
                os.fsync(file.fileno())

    @property
    def unsent(self) -> list[bytes]:
        """Return the receipts to hand in, in order."""
        data = self._read(UNSENT, _MAX_FILE) or b""
        lines = [line for line in data.split(b"\n") if line]
        return [line for line in lines if len(line) <= receipts.MAX_RECEIPT]

    def sent_one(self) -> None:
        """Mark the first unconfirmed receipt as confirmed."""
        left = self.unsent[1:]
        if left:
            write_whole(self.folder / UNSENT, b"".join(line + b"\n" for line in left))
        else:
            (self.folder / UNSENT).unlink(missing_ok=True)

    @property
    def receipts(self) -> list[bytes]:
        """Return every receipt of this machine, in order."""
        data = self._read(RECEIPTS, _MAX_FILE) or b""
        return [line for line in data.split(b"\n") if line]

    def forget(self) -> None:
        """Delete what a machine with another lease or another TPM left behind."""
        for name in (ENROLMENT, BLOB, RECEIPTS, UNSENT):
            (self.folder / name).unlink(missing_ok=True)

    def put_away(self) -> None:
        """Move what belongs to a machine that is gone to a folder of its own."""
        earlier = self.folder / EARLIER
        earlier.mkdir(exist_ok=True)
        number = 1 + max((int(path.name) for path in earlier.iterdir()), default=0)
        place = earlier / str(number)
        place.mkdir()
        for name in (ENROLMENT, BLOB, TOKEN, RECEIPTS, UNSENT):
            if (self.folder / name).exists():
                (self.folder / name).rename(place / name)

    def _read(self, name: str, most: int) -> bytes | None:
        path = self.folder / name
        return read_bounded(path, most, name) if path.exists() else None


@contextmanager
def opened(root: Path, name: str) -> Iterator[LeaseFolder]:
    """Open the folder of lease `name`, and hold it alone. Files that a killed process left in
    `work` are removed.
    """
    folder = root / SERVING / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with free(folder / "lock") as is_free:
        if not is_free:
            raise ToolError(
                f"another process here already serves lease {name}",
                hint=f"fuser -v {SERVING / name / 'lock'}    # which; Ctrl-C there ends it",
            )
        kept = LeaseFolder(folder)
        remove(kept.work)
        kept.work.mkdir()
        try:
            yield kept
        finally:
            remove(kept.work)


def _token(data: bytes, path: str) -> str:
    text = data.decode("ascii", "replace").strip()
    if not is_hex(text, _TOKEN_DIGITS):
        raise EvidenceError(f"{path!a} contains no token", hint="a token has 64 hexadecimal digits")
    return text
