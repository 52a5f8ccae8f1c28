"""What to fetch: one file, or a batch of files that are fetched together."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aicert.errors import ToolError

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """One file to fetch. `name` is for people; `sha256` and `size` are None if not known."""

    url: str
    name: str
    headers: Mapping[str, str]
    sha256: str | None = None
    size: int | None = None


class Stopped(ToolError):  # noqa: N818 - nothing is wrong with the file
    """The fetch of this file was stopped because another one failed, and that one reports the
    error.

    The bytes fetched so far are kept.
    """


class Batch:
    """Files that are fetched together: the first error, or Ctrl-C, stops all of them."""

    def __init__(self, pause: Callable[[float], object] | None) -> None:
        self.stop = threading.Event()
        self._pause = pause or self.stop.wait

    def check_running(self) -> None:
        """Raise Stopped if the batch has ended; partial files are kept."""
        if self.stop.is_set():
            raise Stopped("stopped, because the fetch of another file ended")

    def wait(self, seconds: float) -> None:
        """Wait; raise Stopped if the batch has ended by then."""
        self._pause(seconds)
        self.check_running()
