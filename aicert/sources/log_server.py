"""Reach logs and witnesses over HTTP: read a file of a log, and request a witness's cosignature.

Nothing is judged here, and no redirect is followed: the caller names a log and a witness, and
another server's answer is not theirs.
"""

from typing import Self
from urllib.parse import urlsplit

import httpx2

from aicert.errors import ConfigError, ToolError
from aicert.sources.deadline import Deadline
from aicert.sources.transfer import exchange_s, new_client, small_answer

# A note has at most 64 KiB (aicert.tlog.notes). The size that a witness saw is only a number.
MAX_ANSWER = 1 << 16


def check_url(url: str) -> str:
    """Return the URL without a slash at its end.

    Raises ConfigError for a URL with a user, a query or a fragment, and for other text than a URL
    of http or https.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise ConfigError(f"not a URL of http or https: {url[:80]!a}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"the URL of {parts.hostname[:80]!a} has a user, a query or a fragment",
            hint="logs and witnesses are public: give only the address",
        )
    return url.rstrip("/")


def add_checkpoint(url: str, body: bytes) -> tuple[int, bytes]:
    """Send a checkpoint to the witness at `url` (C2SP tlog-witness); return status and body.

    Raises ToolError.
    """
    where = f"{check_url(url)}/add-checkpoint"
    with new_client(follow_redirects=False) as client:
        return _answer(client, Deadline(), "POST", where, MAX_ANSWER, body)


class LogSite:
    """A log that a web server or an object store serves as files; a context manager."""

    def __init__(self, url: str) -> None:
        self._url = check_url(url)
        self._client = new_client(follow_redirects=False)
        self._deadline = Deadline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def read(self, place: str, limit: int) -> bytes | None:
        """Return a file of the log; None if the server does not have it. Raises ToolError."""
        where = f"{self._url}/{place}"
        status, data = _answer(self._client, self._deadline, "GET", where, limit)
        if status in (404, 410):
            return None
        if status != 200:
            raise ToolError(f"{where[:200]!a} answers {status}")
        return data


def _answer(
    client: httpx2.Client,
    deadline: Deadline,
    method: str,
    where: str,
    limit: int,
    body: bytes | None = None,
) -> tuple[int, bytes]:
    headers, extensions = {"Accept-Encoding": "identity"}, {"trace": deadline.trace}
    try:
        with (
            deadline.within(exchange_s(limit), f"{where[:200]!a}"),
            client.stream(
                method, where, content=body, headers=headers, extensions=extensions
            ) as answer,
        ):
            if answer.is_redirect:
                raise ToolError(f"{where[:200]!a} redirects elsewhere, which is not followed")
            data = small_answer(answer, limit)
            if data is None:
                raise ToolError(f"{where[:200]!a} answers with more than {limit} bytes")
            return answer.status_code, data
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ToolError(
            f"cannot reach {where[:200]!a}: {type(error).__name__}",
            hint="check the address and the network",
        ) from None
