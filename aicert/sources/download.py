"""Download one file over HTTP: resume after an interruption, hash while writing, refuse wrong
bytes.

RFC 9110: ranges (14), If-Range (13.1.5), Retry-After (10.2.3). Servers may redirect, as the hub
redirects to a CDN for LFS and Xet files; httpx2 drops credentials when the origin changes. An
address that a server gave is never shown, since it may contain a signature. A file whose digest is
known can be resumed by any later process; one that is not pinned yet, only if what was written came
under the same strong ETag. Some servers apply a content coding (8.4) although none was asked for;
it is undone, since the file is the decoded content. But if the name says that the file itself is
compressed (`x.jsonl.gz`), or only the bytes as sent have the wanted digest, those bytes are the
file.
"""

import datetime
import email.utils
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2

from aicert.errors import LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.sources.batch import Batch, FetchRequest, OnBytes
from aicert.sources.store import Partial, room

# So many failures in a row without one new byte are more than a hiccup.
ATTEMPTS = 5
FIRST_WAIT_S = 0.5
# If a server asks for a longer wait, the user has to run the command again.
MAX_WAIT_S = 120.0
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
# Suffixes of files that are themselves compressed, which servers report as a content coding.
_COMPRESSED = (".gz", ".tgz", ".zst", ".br", ".bz2", ".xz")
_CODINGS = frozenset(("gzip", "x-gzip", "deflate"))
# For zlib: 32 detects gzip or zlib by the header; 15 is the largest window.
_GZIP_OR_ZLIB = 32 + 15
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")


class _Cut(Exception):  # noqa: N818 - an event, not an error: the next attempt goes on from here
    """The transfer ended early; `after` is how many seconds the server asks to wait, if it does."""

    def __init__(self, why: str, after: float | None = None, *, attempts: int = ATTEMPTS) -> None:
        super().__init__(why)
        self.why = why
        self.after = after
        self.attempts = attempts


class Download:
    """Fetches one file into a partial file whose lock the caller holds."""

    def __init__(
        self,
        wanted: FetchRequest,
        partial: Partial,
        batch: Batch,
        *,
        root: Path,
        client: Callable[[], httpx2.Client],
        on_bytes: OnBytes,
    ) -> None:
        self._root = root
        self._client = client
        self._on_bytes = on_bytes
        self._wanted = wanted
        self._partial = partial
        self._batch = batch
        self._etag: str | None = None
        self._host = httpx2.URL(wanted.url).host
        # Undo content codings until that turns out to be wrong for this file.
        self._decodes = not wanted.url.partition("?")[0].lower().endswith(_COMPRESSED)
        self._is_decoded = False
        # Whether this process received all the bytes: only then can the server be blamed for them.
        self._trusted = True

    def run(self) -> FileFact:
        """Fetch until the file is complete and has the wanted digest; else raise LockError."""
        with room(self._root):
            self._take_up()
            self._until_whole()
            if self._is_right():
                return self._partial.keep()
            if self._is_decoded:
                # The file itself is compressed, and was served with its compression as the coding.
                self._take_as_sent()
                self._until_whole()
                if self._is_right():
                    return self._partial.keep()
            if not self._trusted:
                # The wrong bytes may be those that an earlier attempt left.
                self._restart()
                self._until_whole()
                if self._is_right():
                    return self._partial.keep()
            self._partial.discard()
        raise self._wrong(f"{self._partial.size} bytes  sha256:{self._partial.sha256}")

    def _is_right(self) -> bool:
        return self._wanted.sha256 is None or self._partial.sha256 == self._wanted.sha256

    def _wrong(self, received: str) -> LockError:
        size = "" if self._wanted.size is None else f"{self._wanted.size} bytes  "
        digest = "" if self._wanted.sha256 is None else f"sha256:{self._wanted.sha256}"
        return LockError(
            f"{self._host} serves different bytes for {self._wanted.name}"
            f"\n  wanted  {size}{digest}\n  found   {received}",
            hint="use another server; if the file was changed on purpose, ./doit update",
        )

    def _take_up(self) -> None:
        if self._wanted.sha256 is None:
            self._etag = self._read_etag()
            if self._etag is None:
                self._restart()
                return
        self._partial.resume(self._on_bytes)
        self._trusted = self._partial.size == 0

    def _restart(self) -> None:
        self._on_bytes(-self._partial.size)
        self._partial.restart()
        self._trusted = True

    def _take_as_sent(self) -> None:
        self._decodes = self._is_decoded = False
        self._restart()

    def _until_whole(self) -> None:
        failures, most = 0, self._partial.size
        while True:
            try:
                self._attempt()
                self._etag_file.unlink(missing_ok=True)
                return
            except _Cut as cut:
                self._partial.file.flush()
                failures = 0 if self._partial.size > most else failures + 1
                most = max(most, self._partial.size)
                if failures >= cut.attempts:
                    raise self._given_up(cut.why) from None
                after = FIRST_WAIT_S * 2**failures if cut.after is None else cut.after
            self._batch.wait(after)

    def _given_up(self, why: str) -> ToolError:
        message = f"cannot fetch {self._wanted.name} from {self._host}: {why}"
        if not self._partial.size:
            return ToolError(message, hint="check the network, then run it again")
        return ToolError(
            f"{message}\n{self._partial.size} bytes are kept",
            hint="check the network and run it again: it continues from there",
        )

    def _attempt(self) -> None:
        if self._partial.size and self._wanted.sha256 == self._partial.sha256:
            return
        if self._is_decoded:
            # A range would count bytes as sent, not decoded ones.
            self._restart()
        client = self._client()
        headers = {**self._wanted.headers, "Accept-Encoding": "identity"}
        if self._partial.size:
            headers["Range"] = f"bytes={self._partial.size}-"
            if self._etag is not None:
                headers["If-Range"] = self._etag
        try:
            with client.stream("GET", self._wanted.url, headers=headers) as response:
                self._check_status(response)
                self._receive(response)
        except httpx2.TooManyRedirects:
            raise LockError(f"{self._host} redirects {self._wanted.name} too many times") from None
        except httpx2.ConnectError as error:
            # If nobody answers there is no network, and long patience would only hide that.
            raise _Cut(f"{type(error).__name__} ({_plain(error)})", attempts=2) from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            # Show only the kind of error: its text may contain an address with a signature.
            raise _Cut(f"{type(error).__name__} ({_plain(error)})") from None

    def _check_status(self, response: httpx2.Response) -> None:
        hops = [*response.history, response]
        if self._wanted.url.startswith("https:") and any(h.url.scheme != "https" for h in hops):
            raise LockError(
                f"{self._host} redirects {self._wanted.name} to an address without https"
            )
        code = response.status_code
        if code in _AGAIN:
            wait = retry_after(response.headers.get("Retry-After"))
            if wait is not None and wait > MAX_WAIT_S:
                raise ToolError(
                    f"{response.url.host} asks to wait {wait:.0f} seconds",
                    hint="run it again then: what was fetched is kept",
                )
            raise _Cut(f"status {code}", wait)
        if code == 416 and self._partial.size:
            self._restart()
            raise _Cut("nothing after what was fetched before")
        if code not in (200, 206):
            raise LockError(
                f"{response.url.host} refuses {self._wanted.name}: status {code}", hint=_hint(code)
            )
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        self._is_decoded = coding not in ("", "identity") and self._decodes
        if self._is_decoded and coding not in _CODINGS:
            raise LockError(
                f"{response.url.host} sends {self._wanted.name} in an unknown encoding: "
                f"{coding[:40]!a}",
                hint="use another server, or an address that serves the file unencoded",
            )
        if code == 206 and self._is_decoded:
            self._restart()
            self._is_decoded = False
            raise _Cut("a part of the coded file")
        if code == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self._partial.size:
                self._restart()
                raise _Cut("a different part from the requested one")
            return
        declared = response.headers.get("Content-Length", "")
        if self._is_decoded:
            declared = ""
        if self._wanted.size is not None and declared not in ("", str(self._wanted.size)):
            raise self._wrong(f"{declared[:20]} bytes")
        if self._partial.size:
            # The server supports no ranges, or the file has changed.
            self._restart()

    def _receive(self, response: httpx2.Response) -> None:
        if self._wanted.sha256 is None and response.status_code == 200 and not self._is_decoded:
            self._keep_etag(response.headers.get("ETag"))
        blocks = response.iter_raw()
        for block in _decoded(blocks) if self._is_decoded else blocks:
            self._batch.check_running()
            self._partial.write(block)
            self._on_bytes(len(block))
            if self._wanted.size is not None and self._partial.size > self._wanted.size:
                if self._is_decoded:
                    self._take_as_sent()
                    raise _Cut("a file that is larger without its coding", 0.0)
                raise self._wrong(f"more than {self._wanted.size} bytes")
        if self._wanted.size is not None and self._partial.size < self._wanted.size:
            raise _Cut("the connection was closed early")

    @property
    def _etag_file(self) -> Path:
        return self._partial.path.with_name(self._partial.path.name + ".etag")

    def _read_etag(self) -> str | None:
        try:
            return self._etag_file.read_text("ascii") or None
        except (OSError, UnicodeDecodeError):
            return None

    def _keep_etag(self, etag: str | None) -> None:
        # A weak ETag does not promise the same bytes.
        self._etag = etag if etag and etag.isascii() and etag.startswith('"') else None
        if self._etag is None:
            self._etag_file.unlink(missing_ok=True)
        else:
            self._etag_file.write_text(self._etag, "ascii")


def _decoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what the gzip or deflate blocks decode to (RFC 9110, 8.4.1).

    A stream that ends early counts as an interrupted transfer.
    """
    decoder = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    try:
        for block in blocks:
            rest = block
            while rest:
                if decoder.eof:
                    # Gzip members may follow one another (RFC 1952, 2.2).
                    decoder = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
                if data := decoder.decompress(rest):
                    yield data
                rest = decoder.unused_data
    except zlib.error:
        raise _Cut("bytes that are not in the coding that the server names") from None
    if not decoder.eof:
        raise _Cut("the coded file ended early")


def retry_after(text: str | None) -> float | None:
    """Return the seconds that a server asks to wait, from either form of Retry-After, or None."""
    if not text:
        return None
    if text.strip().isdigit() and len(text) < 12:
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
        return max(0.0, (until - datetime.datetime.now(datetime.UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _plain(error: Exception) -> str:
    text = str(error)
    return "no details" if not text or "://" in text else text[:200]


def _hint(code: int) -> str:
    if code in (401, 403):
        return "sign in where this file needs it: `hf auth login` or HF_TOKEN, ~/.netrc for https:"
    return "look at the source in a browser; if it moved, change it in aicert.toml"
