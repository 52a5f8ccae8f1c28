"""The courier's client for the custodian's broker: HTTP over TLS 1.3, one request per connection.

The machine checks what the broker answers; here answers are only bounded, and their few JSON
objects are parsed strictly. If the broker cannot be reached, that is a SilentError, and a retry may
help. If it refuses, that is a RefusedHereError, and a retry does not help.
"""

import http.client
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Final

from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError
from aicert.formats import strict_json
from aicert.formats.dsse import b64decode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease import blob, orders
from aicert.sources.deadline import Deadline
from aicert.text import safe

_SECONDS: Final = 30.0
# For a whole exchange: who sends a byte now and then would otherwise hold the courier up for ever.
_EXCHANGE_S: Final = 90.0
_MAX_ANSWER: Final = 2 * max(blob.MAX_BYTES, orders.MAX_BYTES) + 4096
_MAX_REASON: Final = 1024
_TOO_EARLY: Final = 409
_NO_TOKEN: Final = 401
_MAX_WAIT_S: Final = 86_400
_ROOT_HINT: Final = 'broker-root = "FILE.pem" in [leases.NAME] of aicert.toml'
_ADDRESS_HINT: Final = (
    "check `broker` in [leases.NAME] of aicert.toml, and ask the custodian whether "
    "`aicert lease broker` runs"
)
# What the borrower can do about a check that refused, by its id.
_HINTS: Final = {
    "enrol.chain": "send the custodian .aicert/ca/DRIVER.pem, for `aicert lease broker --root`",
    "enrol.image": (
        "send the custodian lockfiles/image-serve.lock.toml, for `aicert lease broker --image-lock`"
    ),
    "ledger.state": "ask the custodian for a new lease (aicert lease pack)",
}


class SilentError(ToolError):
    """The broker cannot be reached, or cannot answer now."""


class WaitError(SilentError):
    """The broker asks us to wait. `seconds`: how long."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class RefusedHereError(EvidenceError):
    """The broker refused, with its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptChallenge:
    """What the broker asks for: a receipt that answers this nonce and continues where its receipts
    stopped.
    """

    nonce: bytes
    seq: int
    head: bytes


class Desk:
    """The broker at an address, used with this token. `root`: a PEM file of certificates to trust
    in addition to the system's.
    """

    def __init__(self, address: str, token: str, root: Path | None = None) -> None:
        parts = urllib.parse.urlsplit(address)
        self.address = address
        self._host, self._port = str(parts.hostname), parts.port or 443
        self._token = token
        try:
            self._context = ssl.create_default_context()
            if root is not None:
                self._context.load_verify_locations(cafile=root)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cannot read the broker's root {str(root)!a}: {error}", hint=_ROOT_HINT
            ) from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3

    def challenge(self) -> bytes:
        """Ask for the nonce that an enrolment has to answer."""
        fields = self._fields("/v1/challenge", b"")
        nonce = bytes.fromhex(fields.hex("nonce"))
        fields.done()
        return nonce

    def enrol(self, enrolment: bytes) -> bytes:
        """Hand in an enrolment. Returns the blob for that machine."""
        fields = self._fields("/v1/enrol", enrolment)
        wrapped = b64decode(fields, "blob", max_bytes=blob.MAX_BYTES)
        fields.done()
        return wrapped

    def nonce(self, boot: str) -> ReceiptChallenge:
        """Return the nonce for that boot's next receipt. Raises WaitError while another boot may
        still serve.
        """
        fields = self._fields("/v1/nonce", json.dumps({"boot": boot}).encode("ascii"))
        asked = ReceiptChallenge(
            nonce=bytes.fromhex(fields.hex("nonce")),
            seq=fields.integer("seq"),
            head=bytes.fromhex(fields.hex("head")),
        )
        fields.done()
        return asked

    def receipt(self, receipt: bytes) -> bytes:
        """Hand in a receipt. Returns the order that answers it; empty if there is none."""
        return self._post("/v1/receipt", receipt)

    def end(self) -> None:
        """Ask that the next order end the boot."""
        self._post("/v1/end", b"")

    def _fields(self, path: str, body: bytes) -> Fields:
        what = "the broker's answer"
        data = self._post(path, body)
        return Fields(strict_json.loads(data, what=what, max_bytes=_MAX_ANSWER), what)

    def _post(self, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=_SECONDS
        )
        deadline = Deadline()
        try:
            with deadline.within(_EXCHANGE_S, f"broker {self.address}"):
                connection.connect()
                deadline.watch(connection.sock)
                connection.request("POST", path, body, {"Authorization": f"Bearer {self._token}"})
                answer = connection.getresponse()
                data = answer.read(_MAX_ANSWER + 1)
        except ToolError as error:
            raise SilentError(error.message, hint=_ADDRESS_HINT) from None
        except ssl.SSLCertVerificationError as error:
            raise RefusedHereError(
                f"the broker's certificate is not accepted: {error.verify_message}",
                hint=_ROOT_HINT,
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise SilentError(
                f"broker {self.address} does not answer: {error}", hint=_ADDRESS_HINT
            ) from None
        finally:
            connection.close()
        if len(data) > _MAX_ANSWER:
            raise EvidenceError(
                f"what answers at {self.address} is no broker: its answer is too large",
                hint=_ADDRESS_HINT,
            )
        if answer.status in (200, 204):
            return data
        raise _problem(answer, data)


def _problem(answer: http.client.HTTPResponse, data: bytes) -> AicertError:
    words, hint = f"the broker answered {answer.status}", None
    try:
        fields = Fields(strict_json.loads(data, what="an error", max_bytes=_MAX_ANSWER), "an error")
        words = f"the broker says: {safe(fields.text('error'), _MAX_REASON)}"
        hint = _HINTS.get(fields.text("check")) if fields.has("check") else None
    except EvidenceError:
        # The answer is not from the broker's application.
        pass
    wait = answer.getheader("retry-after", "")
    if answer.status == _TOO_EARLY and wait.isascii() and wait.isdigit():
        return WaitError(words, min(int(wait), _MAX_WAIT_S))
    if answer.status >= 500 or answer.status == 408:
        return SilentError(words)
    if answer.status == _NO_TOKEN:
        hint = "ask the custodian for a token (aicert lease grant)"
    return RefusedHereError(words, hint=hint)
