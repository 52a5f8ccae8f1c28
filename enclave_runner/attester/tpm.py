"""Talk to the TPM: registers, the platform's attestation key, the run key, and the quote.

`TPMS_ATTEST`, `TPMT_SIGNATURE` and `TPMT_PUBLIC` are returned as the TPM made them (TPM 2.0
Library, Part 2). The run key is a primary key of the NULL hierarchy from a fresh random template,
so that nobody can create it again under another system; it is never persistent, and it is flushed.
A quote is returned only together with the register values that it covers. If the TPM fails, dies or
stops answering, a ToolError follows within a bounded time.

The runner does not choose an attestation key. The platform's key is at 0x81000003, its certificate
in NV 0x01C101D0 and, in a confidential machine, the processor's report in NV 0x01400001 (as on
Azure); a guest takes what its platform gives it. The verifier checks all of this.
"""

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2B_PUBLIC,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMT_HA,
    TPMT_SIG_SCHEME,
    TPMU_HA,
    TSS2_Exception,
)

from aicert.errors import ToolError
from aicert.formats.machine_io import (
    AK_CERTIFICATE_NV,
    AK_HANDLE,
    PLATFORM_REPORT_NV,
    RUN_KEY_ATTRIBUTES,
)
from aicert.formats.measurement import QUOTED_PCRS

T = TypeVar("T")

_NV_BUFFER_MAX: Final = 0x12C  # TPM_PT_NV_BUFFER_MAX (Part 2, 6.13)
# The slowest command here makes a primary key: well under a second, or some seconds in hardware.
_ANSWER_S: Final = 60.0
_QUOTE_TRIES: Final = 5
_READ_TRIES: Final = 64
_RANDOM_STEP: Final = 32
_SHA256_NAME: Final = b"\x00\x0b"
_HINT: Final = "run the command again; a local platform starts from a fresh TPM each time"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """A P-256 key that exists in this TPM until it is flushed or the machine stops."""

    public: bytes
    """TPMT_PUBLIC."""
    name: bytes
    """The Name: SHA-256's algorithm identifier and the digest of `public`, 34 bytes."""
    _tpm: "Tpm" = field(repr=False)
    _handle: Any = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest of 32 bytes with ECDSA; return the TPMT_SIGNATURE."""
        return self._tpm.ask(
            "sign with the run key",
            lambda esapi: bytes(
                esapi.sign(self._handle, digest, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)).marshal()
            ),
        )

    def certify(self, qualifying: bytes) -> tuple[bytes, bytes]:
        """Have the attestation key certify that this key is in its TPM.

        Returns TPMS_ATTEST and TPMT_SIGNATURE. `qualifying`: the extraData.
        """
        ak = self._tpm.attestation_key()

        def certify(esapi: Any) -> tuple[bytes, bytes]:
            scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
            attest, signature = esapi.certify(self._handle, ak, qualifying, scheme)
            return bytes(attest), bytes(signature.marshal())

        return self._tpm.ask("certify the run key", certify)

    def flush(self) -> None:
        """Remove the key from the TPM. A second call does nothing."""
        self._tpm.flush(self._handle)


class Tpm:
    """A connection to a TPM, as a context manager. It flushes every object that it made."""

    def __init__(self, tcti: str, *, answer_s: float = _ANSWER_S) -> None:
        """Prepare a connection.

        `tcti`: the TPM as tpm2-tools name it, such as `swtpm:path=tpm.sock` or
        `device:/dev/tpmrm0`. `answer_s`: the most seconds that a command may take.
        """
        self._tcti = tcti
        self._answer_s = answer_s
        self._esapi: Any = None
        self._ak: Any = None
        self._loaded: list[Any] = []

    def __enter__(self) -> Self:
        # Stop the TSS from printing errors to standard error; our exceptions have them.
        os.environ.setdefault("TSS2_LOG", "all+none")
        self._esapi = self._bounded("answer", lambda: ESAPI(self._tcti))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for handle in tuple(self._loaded):
                self.flush(handle)
        except ToolError:
            # The first error makes the better message; a dead TPM holds no key.
            if error is None:
                raise
        finally:
            esapi, self._esapi = self._esapi, None
            if esapi is not None:
                esapi.close()

    def ask(self, what: str, command: Callable[[Any], T]) -> T:
        """Run `command` on the connection. Errors say that the TPM cannot `what`."""
        esapi = self._esapi
        if esapi is None:
            raise ToolError(f"the TPM cannot {what}: the connection to it is closed", hint=_HINT)
        return self._bounded(what, lambda: command(esapi))

    def _bounded(self, what: str, command: Callable[[], T]) -> T:
        # The TSS waits for ever for an answer and cannot be interrupted; a thread can be abandoned.
        answer: Future[T] = Future()

        def work() -> None:
            try:
                answer.set_result(command())
            except BaseException as error:  # noqa: BLE001  # it is raised again where the caller waits
                answer.set_exception(error)

        threading.Thread(target=work, name="tpm", daemon=True).start()
        try:
            return answer.result(self._answer_s)
        except TimeoutError as error:
            # The abandoned thread still uses the connection, so the connection must not be closed.
            self._esapi = None
            raise ToolError(
                f"the TPM cannot {what}: no answer in {self._answer_s:.0f} s", hint=_HINT
            ) from error
        except TSS2_Exception as error:
            raise ToolError(f"the TPM cannot {what}: {error}", hint=_HINT) from error

    def read_pcrs(self, indices: Iterable[int]) -> dict[int, bytes]:
        """Read the values of these registers in the SHA-256 bank."""
        wanted = sorted(set(indices))
        values: dict[int, bytes] = {}
        # A TPM returns at most eight registers at a time and says which (Part 3, TPM2_PCR_Read).
        for _ in range(_READ_TRIES):
            missing = [index for index in wanted if index not in values]
            if not missing:
                return values
            values.update(self._read_some(missing))
        raise ToolError(
            f"the TPM cannot read its registers: it returned none of {missing}", hint=_HINT
        )

    def _read_some(self, indices: list[int]) -> dict[int, bytes]:
        def read(esapi: Any) -> dict[int, bytes]:
            _, selection, digests = esapi.pcr_read(_selection(indices[:8]))
            if selection.count != 1 or selection[0].hash != TPM2_ALG.SHA256:
                return {}
            bits = int.from_bytes(bytes(selection[0].pcrSelect), "little")
            read_back = [index for index in range(24) if bits >> index & 1]
            read = [bytes(digests[place]) for place in range(digests.count)]
            return dict(zip(read_back, read, strict=True))

        return self.ask("read its registers", read)

    def random(self, count: int) -> bytes:
        """Return `count` random bytes that the TPM draws now (Part 3, TPM2_GetRandom)."""
        drawn = b""
        # A TPM returns at most as many bytes as a digest has, and may return fewer.
        for _ in range(_READ_TRIES):
            drawn += self._draw(min(count - len(drawn), _RANDOM_STEP))
            if len(drawn) >= count:
                return drawn[:count]
        raise ToolError(f"the TPM returned {len(drawn)} of {count} random bytes", hint=_HINT)

    def _draw(self, count: int) -> bytes:
        return self.ask("draw random bytes", lambda esapi: bytes(esapi.get_random(count)))

    def extend(self, pcr: int, event: bytes) -> None:
        """Extend a register of the SHA-256 bank with SHA-256(event)."""
        digest = TPMU_HA(sha256=hashlib.sha256(event).digest())
        digests = TPML_DIGEST_VALUES([TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=digest)])
        self.ask(f"extend PCR {pcr}", lambda esapi: esapi.pcr_extend(ESYS_TR(pcr), digests))

    def ak_chain(self) -> tuple[bytes, ...]:
        """Return the attestation key's certificate chain (DER): only the certificate in NV.

        Azure puts no intermediate there; verifiers pin those that cannot be fetched (ADR 10).
        """
        what = f"read the attestation key's certificate (NV {AK_CERTIFICATE_NV:#010x})"
        return (cut_padding(self._read_nv(AK_CERTIFICATE_NV, what)),)

    def platform_report(self) -> bytes | None:
        """Read the report that a confidential machine's platform put into NV 0x01400001.

        None if there is no such index, which means that the machine is not confidential.
        """

        def first(esapi: Any) -> list[int]:
            _, capability = esapi.get_capability(TPM2_CAP.HANDLES, PLATFORM_REPORT_NV, 1)
            handles = capability.data.handles
            return [int(handles[place]) for place in range(handles.count)]

        # The TPM answers with the first handle that is not below the requested one.
        if PLATFORM_REPORT_NV not in self.ask("list its NV indices", first):
            return None
        what = f"read the platform's report (NV {PLATFORM_REPORT_NV:#010x})"
        return self._read_nv(PLATFORM_REPORT_NV, what)

    def _read_nv(self, handle: int, what: str) -> bytes:
        def read(esapi: Any) -> bytes:
            index = esapi.tr_from_tpmpublic(handle)
            size = int(esapi.nv_read_public(index)[0].nvPublic.dataSize)
            _, data = esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, _NV_BUFFER_MAX, 1)
            step = int(data.data.tpmProperties[0].value)
            content = b""
            while len(content) < size:
                part = min(step, size - len(content))
                content += bytes(esapi.nv_read(index, part, len(content), ESYS_TR.OWNER))
            return content

        return self.ask(what, read)

    def attestation_key(self) -> Any:
        """Return the TSS's handle for the platform's attestation key."""
        if self._ak is None:
            self._ak = self.ask(
                f"find the platform's attestation key ({AK_HANDLE:#x})",
                lambda esapi: esapi.tr_from_tpmpublic(AK_HANDLE),
            )
        return self._ak

    def make_run_key(self) -> RunKey:
        """Make a fresh run key. ToolError if its Name from the TPM is not that of its public area.

        The Name is the digest of the public area.
        """
        template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256", objectAttributes=RUN_KEY_ATTRIBUTES)
        # A primary key is a function of the hierarchy's seed and the template, so random bytes in
        # the template make a new key.
        template.publicArea.unique.ecc.x = secrets.token_bytes(32)

        def create(esapi: Any) -> tuple[Any, bytes, bytes]:
            handle, public, *_ = esapi.create_primary(None, template, primary_handle=ESYS_TR.NULL)
            self._loaded.append(handle)
            name = bytes(esapi.tr_get_name(handle))
            return handle, bytes(public.publicArea.marshal()), name

        handle, public, name = self.ask("make the run key", create)
        expected = _SHA256_NAME + hashlib.sha256(public).digest()
        if name != expected:
            raise ToolError(
                "the TPM's Name for its run key is wrong\n"
                f"expected  {expected.hex()}\nfound     {name.hex()}"
            )
        return RunKey(public=public, name=name, _tpm=self, _handle=handle)

    def flush(self, handle: Any) -> None:
        """Remove an object that this connection loaded. A second call does nothing."""
        if handle in self._loaded:
            self._loaded.remove(handle)
            self.ask("flush the run key", lambda esapi: esapi.flush_context(handle))

    def quote(self, qualifying: bytes) -> tuple[bytes, bytes, dict[int, bytes]]:
        """Quote PCRs 0-15 of the SHA-256 bank, in one selection, with `qualifying` as extraData.

        Returns TPMS_ATTEST, TPMT_SIGNATURE and the values that the quote covers: if a register
        changed in between, the quote is made again.
        """
        ak = self.attestation_key()

        def quote(esapi: Any) -> tuple[bytes, bytes]:
            attest, signature = esapi.quote(ak, _selection(QUOTED_PCRS), qualifying)
            return bytes(attest), bytes(signature.marshal())

        for _ in range(_QUOTE_TRIES):
            attest, signature = self.ask("quote its registers", quote)
            values = self.read_pcrs(QUOTED_PCRS)
            digest = hashlib.sha256(b"".join(values[index] for index in QUOTED_PCRS)).digest()
            # TPMS_QUOTE_INFO ends in pcrDigest, a TPM2B_DIGEST (Part 2, 10.12.4).
            if attest.endswith(len(digest).to_bytes(2, "big") + digest):
                return attest, signature, values
        raise ToolError(
            f"the registers changed during each of {_QUOTE_TRIES} quotes: "
            "something else is extending them",
            hint=_HINT,
        )


def cut_padding(content: bytes) -> bytes:
    """Return the DER SEQUENCE at the start of `content`, since platforms pad what NV holds.

    Raises ToolError if there is none, or if it is longer than `content`.
    """
    if len(content) >= 2 and content[0] == 0x30:
        octets = content[1] - 0x80 if content[1] > 0x80 else 0
        size = int.from_bytes(content[2 : 2 + octets], "big") if octets else content[1]
        end = 2 + octets + size
        if octets <= 2 and content[1] != 0x80 and end <= len(content):
            return content[:end]
    raise ToolError(
        "the platform's NV holds no X.509 certificate for its attestation key\n"
        f"expected  a DER sequence\nfound     {content[:8].hex() or 'nothing'}"
    )


def _selection(indices: Iterable[int]) -> Any:
    return TPML_PCR_SELECTION.parse("sha256:" + ",".join(str(index) for index in indices))
