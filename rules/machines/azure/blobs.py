"""Upload disks to blob storage and download them, several requests at a time; also the console.

An interrupted upload continues: a page that exists was written completely from the same bytes,
because the blob carries their digest. Holes are not sent. Downloads are hostile: their size is
bounded here, and whoever reads them checks the content.
"""

import bisect
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aicert.errors import EvidenceError, ToolError
from rules.host import progress
from rules.host.progress import amount
from rules.machines.azure import client as azure_client
from rules.machines.azure.vhd import CHUNK, FOOTER, Vhd

CONTAINER = "disks"
_PARALLEL = 8
_PASSES = 4
_DIGEST = "aicert_sha256"
_CONSOLE = "bootdiagnostics-"
_CONSOLE_END = ".serialconsole.log"
MAX_CONSOLE = 16 << 20
_CONSOLE_STEP = 1 << 20


def upload(service: Any, vhd: Vhd, name: str) -> int:
    """Upload the VHD to `disks/NAME`. Returns the bytes sent. Raises ToolError if interrupted."""
    blob = service.get_blob_client(CONTAINER, name)
    failure = azure_client.failures()
    sent = 0
    with progress.task(f"uploading {name}", unit="B") as bar:
        for number in range(_PASSES):
            try:
                done = _begun(blob, vhd)
                left = [piece for piece in vhd.chunks() if not _covered(piece, done)]
                bar.update(total=sent + sum(size for _, size in left), done=sent)
                sent += _send(blob, vhd, left, bar)
                return sent
            except failure as error:
                if number + 1 == _PASSES or not _passing(error):
                    raise ToolError(
                        f"the upload of {name} was interrupted: {_words(error)}",
                        hint="./doit certify starts over",
                    ) from None
    return sent


def _begun(blob: Any, vhd: Vhd) -> list[tuple[int, int]]:
    """Prepare the blob. Returns [begin, end) of the pages that an earlier attempt wrote."""
    missing = azure_client.library("azure.core.exceptions").ResourceNotFoundError
    try:
        properties = blob.get_blob_properties()
        if properties.size == vhd.size and properties.metadata.get(_DIGEST) == vhd.digest:
            return _ranges(blob)
    except missing:
        pass
    blob.create_page_blob(vhd.size, metadata={_DIGEST: vhd.digest})
    return []


def _ranges(blob: Any) -> list[tuple[int, int]]:
    return [(page.start, page.end + 1) for page in blob.list_page_ranges() if not page.cleared]


def _covered(piece: tuple[int, int], done: list[tuple[int, int]]) -> bool:
    """Whether all of the piece is in one of the ranges, which are sorted and disjoint."""
    begin, size = piece
    at = bisect.bisect_right(done, begin, key=lambda item: item[0]) - 1
    return at >= 0 and begin + size <= done[at][1]


def _send(blob: Any, vhd: Vhd, left: list[tuple[int, int]], bar: progress.Bar) -> int:
    with vhd.path.open("rb") as file:

        def put(piece: tuple[int, int]) -> int:
            data = vhd.read(file, *piece)
            if not any(data):
                return 0
            # The service compares the MD5, so a corrupted transfer is an error and not a bad disk.
            blob.upload_page(data, offset=piece[0], length=piece[1], validate_content=True)
            bar.advance(piece[1])
            return len(data)

        return sum(_each(put, left))


def _each(work: Callable[[tuple[int, int]], int], pieces: list[tuple[int, int]]) -> Iterator[int]:
    """Work on several at a time. The first failure, or Ctrl-C, cancels those that have
    not begun.
    """
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        yield from pool.map(work, pieces)
    finally:
        pool.shutdown(cancel_futures=True)


def download(url: str, target: Path, most: int) -> None:
    """Download the written parts of the disk at `url` into a sparse file of at most `most` bytes.

    Raises EvidenceError if the disk is larger, and ToolError if the download is interrupted.
    """
    blob = azure_client.blob(url)
    try:
        size = blob.get_blob_properties().size
        if size > most + FOOTER:
            raise EvidenceError(f"the output disk has {size} bytes, but was created with {most}")
        pieces = [
            (at, min(CHUNK, end - at))
            for begin, end in _ranges(blob)
            for at in range(begin, min(end, size), CHUNK)
        ]
        total = sum(piece[1] for piece in pieces)
        with target.open("wb") as file, progress.task("downloading", total=total, unit="B") as bar:
            file.truncate(size)

            def get(piece: tuple[int, int]) -> int:
                data = blob.download_blob(offset=piece[0], length=piece[1]).readall()
                os.pwrite(file.fileno(), data, piece[0])
                bar.advance(len(data))
                return len(data)

            if sum(_each(get, pieces)) != total:
                raise ToolError("the download of the output disk was interrupted")
    except azure_client.failures() as error:
        raise ToolError(
            f"the download of the output disk was interrupted: {_words(error)}"
        ) from None


class Console:
    """The machine's serial console, which boot diagnostics stores in the storage account."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._blob: Any = None
        self._seen = 0

    def more(self) -> bytes:
        """Return the output since the last call; empty if there is none, or none yet."""
        if self._blob is None:
            self._blob = self._find()
        if self._blob is None or self._seen >= MAX_CONSOLE:
            return b""
        try:
            if self._blob.get_blob_properties().size <= self._seen:
                return b""
            stream = self._blob.download_blob(offset=self._seen, length=_CONSOLE_STEP)
            # Space that nothing was written to yet reads as zeroes.
            data: bytes = stream.readall().partition(b"\0")[0]
        except azure_client.failures() as error:
            if _passing(error):
                return b""  # retried soon; the time limit covers a console that never answers
            raise ToolError(f"the machine's console cannot be read: {_words(error)}") from None
        self._seen += len(data)
        return data

    def _find(self) -> Any:
        try:
            for container in self._service.list_containers(name_starts_with=_CONSOLE):
                client = self._service.get_container_client(container.name)
                for item in client.list_blobs():
                    if item.name.endswith(_CONSOLE_END):
                        return client.get_blob_client(item.name)
        except azure_client.failures() as error:
            if not _passing(error):
                raise ToolError(f"the machine's console cannot be read: {_words(error)}") from None
        return None


def _passing(error: Exception) -> bool:
    """Whether a retry may help: there was no answer, or one that blames the service."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 429) or status >= 500


def _words(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    code = getattr(error, "error_code", None)
    if status is not None:
        return f"{code or getattr(error, 'reason', '')} (HTTP {status})"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def show_size(vhd: Vhd) -> str:
    """Return what an upload will send, as in `4.1 GiB, 2.2 GiB of it written`."""
    written = sum(size for _, size in vhd.chunks())
    return f"{amount(vhd.size, 'B')}, {amount(written, 'B')} of it written"
