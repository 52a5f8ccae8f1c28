"""What is fetched: one file, and the files that are fetched together."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aicert.errors import ToolError

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
    """This file's fetch was stopped because of another, which reports the error. Its bytes are
    kept.
    """


class Batch:
    """Files that are fetched together: the first error, or Ctrl-C, ends all of them."""

    def __init__(self, pause: Callable[[float], object] | None) -> None:
        self.stop = threading.Event()
        self._pause = pause or self.stop.wait

    def check_running(self) -> None:
        """Raise if the others have ended: partial files are kept."""
        if self.stop.is_set():
            raise Stopped("stopped, because the fetch of another file ended")

    def wait(self, seconds: float) -> None:
        """Wait, but not after this batch has ended."""
        self._pause(seconds)
        self.check_running()
