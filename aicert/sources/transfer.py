"""What all fetching shares: the store, connections, progress, parallel downloads, cancellation.

Proxies and CA certificates come from the usual environment variables (HTTPS_PROXY, SSL_CERT_FILE),
credentials for `https:` from ~/.netrc. The download of one file is in `aicert.sources.download`.

Ctrl-C and errors are reported at once, without waiting for a thread that a silent server holds up.
Such a thread is a daemon, and what it has fetched is kept.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aicert.errors import ToolError
from aicert.formats.digest import FileFact
from aicert.sources.batch import Batch, FetchRequest, OnBytes
from aicert.sources.store import Store

if TYPE_CHECKING:
    import httpx2

# With more than about eight streams, servers throttle; disks and links are busy already.
THREADS = 8
CONNECT_S, READ_S = 15.0, 60.0
# The slowest acceptable rate for an answer that is read whole, in bytes per second.
SLOWEST = 16 << 10
MAX_REDIRECTS = 10


def _ignore(count: int) -> None:
    """Report no progress."""


class Transfer:
    """A context for work with sources, which closes its connections at the end."""

    def __init__(
        self,
        store: Store,
        *,
        on_bytes: OnBytes = _ignore,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.store = store
        self.on_bytes = on_bytes
        self._pause = pause
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        # The number of threads at work, plus 1 while the `with` block runs.
        self._users = 0

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._leave()

    def _enter(self) -> None:
        with self._lock:
            self._users += 1

    def _leave(self) -> None:
        """Leave the context; the last thread to leave closes the connections."""
        with self._lock:
            self._users -= 1
            if self._users or self._client is None:
                return
            client, self._client = self._client, None
        client.close()

    @property
    def client(self) -> "httpx2.Client":
        """The HTTP client, created when it is first used."""
        with self._lock:
            if self._client is None:
                self._client = new_client()
            return self._client

    def wait(self, seconds: float) -> None:
        """Wait before asking a server again."""
        (self._pause or time.sleep)(seconds)

    def files(self, wanted: list[FetchRequest]) -> list[FileFact]:
        """Fetch several files in parallel, the largest first. The first error stops the others."""
        batch = Batch(self._pause)
        todo = deque(sorted(range(len(wanted)), key=lambda i: -(wanted[i].size or 0)))
        done: SimpleQueue[tuple[int, FileFact | BaseException]] = SimpleQueue()

        def work() -> None:
            try:
                while not batch.stop.is_set():
                    # popleft is atomic.
                    index = todo.popleft()
                    done.put((index, self._outcome(wanted[index], batch)))
            except IndexError:
                # Another thread has taken the last one.
                return
            finally:
                self._leave()

        for _ in range(min(THREADS, len(wanted))):
            self._enter()
            threading.Thread(target=work, name="fetch", daemon=True).start()
        facts: dict[int, FileFact] = {}
        try:
            while len(facts) < len(wanted):
                index, outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                facts[index] = outcome
        finally:
            batch.stop.set()
        return [facts[index] for index in range(len(wanted))]

    def _outcome(self, wanted: FetchRequest, batch: Batch) -> FileFact | BaseException:
        try:
            return self._file(wanted, batch)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for this thread
            return error

    def _file(self, wanted: FetchRequest, batch: Batch) -> FileFact:
        """Fetch one file into the store. Raises LockError if its bytes are not the locked ones."""
        # This imports the HTTP library, which takes a tenth of a second.
        from aicert.sources.download import Download

        key = wanted.sha256 or f"url-{hashlib.sha256(wanted.url.encode()).hexdigest()}"
        with self.store.partial(key) as partial:
            # Look only now that the partial file is locked: another process may just have finished
            # it.
            if wanted.sha256 is not None and self.store.has(wanted.sha256):
                partial.discard()
                return FileFact(self.store.file(wanted.sha256).stat().st_size, wanted.sha256)
            return Download(
                wanted,
                partial,
                batch,
                root=self.store.root,
                client=lambda: self.client,
                on_bytes=self.on_bytes,
            ).run()


def exchange_s(limit: int) -> float:
    """Return how many seconds a whole exchange may take whose answer has `limit` bytes at most."""
    return CONNECT_S + READ_S + limit / SLOWEST


def small_answer(
    answer: "httpx2.Response", limit: int, *, clock: Callable[[], float] = time.monotonic
) -> bytes | None:
    """Return the body as sent, without decoding; None if it is larger than `limit`.

    Raises ToolError if it arrives so slowly that the server seems to stall deliberately: each
    single byte would come in time.
    """
    until = clock() + READ_S + limit / SLOWEST
    data = bytearray()
    for piece in answer.iter_raw():
        data += piece
        if len(data) > limit:
            return None
        if clock() > until:
            raise ToolError(
                f"{str(answer.url)[:200]!a} answers too slowly", hint="ask it again later"
            )
    return bytes(data)


def new_client(*, follow_redirects: bool = True) -> "httpx2.Client":
    """Create an HTTP client that gives up on a silent server."""
    import httpx2

    return httpx2.Client(
        timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
        follow_redirects=follow_redirects,
        max_redirects=MAX_REDIRECTS,
    )
