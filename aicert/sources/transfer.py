"""What fetching shares: the store, connections, progress, several files at once, a stop.

Proxies and CA certificates come from the usual environment (HTTPS_PROXY, SSL_CERT_FILE),
credentials for `https:` from ~/.netrc. One file's way is in `aicert.sources.download`.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aicert.digest import FileFact
from aicert.errors import ToolError
from aicert.sources.store import Store

if TYPE_CHECKING:
    import httpx2

# Past some eight streams a server counts us as a crowd, and disks and links are busy already.
THREADS = 8
CONNECT_S, READ_S = 15.0, 60.0
MAX_REDIRECTS = 10

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file to fetch. `name` is for people; `sha256` and `size` where they are known."""

    url: str
    name: str
    headers: Mapping[str, str]
    sha256: str | None = None
    size: int | None = None


class Stopped(ToolError):  # noqa: N818 - nothing is wrong with the file
    """This file is not to blame: what it has is kept, and another one says what went wrong."""


def _ignore(count: int) -> None:
    """Nobody wants to know."""


class Transfer:
    """One piece of work with sources; a context manager that closes its connections."""

    def __init__(
        self,
        store: Store,
        *,
        on_bytes: OnBytes = _ignore,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.store = store
        self.on_bytes = on_bytes
        self._stop = threading.Event()
        self._pause = pause or self._stop.wait
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> "httpx2.Client":
        """The HTTP client of this work."""
        with self._lock:
            if self._client is None:
                self._client = new_client()
            return self._client

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than this work goes on."""
        self._pause(seconds)
        self.check_running()

    def check_running(self) -> None:
        """Raise if another file failed or somebody pressed Ctrl-C: partial files are kept."""
        if self._stop.is_set():
            raise Stopped("stopped, because the fetch of another file ended")

    def files(self, wanted: list[Wanted]) -> list[FileFact]:
        """Fetch several at once, the largest first. The first error stops the others."""
        self._stop.clear()
        order = sorted(range(len(wanted)), key=lambda i: -(wanted[i].size or 0))
        with ThreadPoolExecutor(THREADS, "fetch") as pool:
            jobs = {i: pool.submit(self._or_stop, wanted[i]) for i in order}
            try:
                wait(jobs.values())
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        errors = [error for job in jobs.values() if (error := job.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error
        return [jobs[i].result() for i in range(len(wanted))]

    def _or_stop(self, wanted: Wanted) -> FileFact:
        try:
            self.check_running()
            return self.file(wanted)
        except BaseException:
            self._stop.set()
            raise

    def file(self, wanted: Wanted) -> FileFact:
        """Fetch one file into the store. Raises LockError for other bytes than were locked."""
        from aicert.sources.download import Download

        key = wanted.sha256 or f"url-{hashlib.sha256(wanted.url.encode()).hexdigest()}"
        with self.store.partial(key) as partial:
            # Asked with the partial file held: another process may just have finished it.
            if wanted.sha256 is not None and self.store.has(wanted.sha256):
                partial.discard()
                return FileFact(self.store.file(wanted.sha256).stat().st_size, wanted.sha256)
            return Download(self, wanted, partial).run()


def new_client() -> "httpx2.Client":
    """A client that follows redirects and gives up on a server that says nothing."""
    import httpx2

    return httpx2.Client(
        timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
    )
