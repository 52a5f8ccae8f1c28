"""`https:`: one file, whose digest is pinned when it is first locked.

A server does not tell the SHA-256 beforehand, so locking fetches the file into the store, where it
is needed anyway. A later check without fetching compares the size, and the digest if the server
gives one (`Repr-Digest`, RFC 9530); a small file is fetched and hashed.
"""

import base64
import binascii
import contextlib
import netrc
import os
import re
from collections.abc import Mapping

import httpx2

from aicert.errors import LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.sources.batch import FetchRequest
from aicert.sources.choice import Choice, refuse_pickles
from aicert.sources.forms import WebSource
from aicert.sources.remote import FILE, ResolvedSource
from aicert.sources.transfer import Transfer

# The largest file that is fetched just to compare it.
SMALL = 4 << 20
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


def resolve(source: WebSource, choice: Choice, transfer: Transfer) -> ResolvedSource:
    """Fetch the file and hash it."""
    if not choice.is_everything:
        raise LockError(
            "`only` and `except` choose files in a directory, but this is a single file"
        )
    if not choice.allow_pickle:
        refuse_pickles([_name(source)])
    (fact,) = transfer.files([_wanted(source)])
    return ResolvedSource(uri=source.url, files={FILE: fact})


def fetch(source: WebSource, wanted: Mapping[str, str], transfer: Transfer) -> None:
    """Fetch the pinned file into the store."""
    for sha256 in wanted.values():
        transfer.files([_wanted(source, sha256=sha256)])


def compare(source: WebSource, locked: FileFact, transfer: Transfer) -> str:
    """Compare the server's file with the locked facts, and return what was compared.

    Raises if they differ.
    """
    headers = {
        **netrc_login(source.url),
        "Want-Repr-Digest": "sha-256=10",
        "Accept-Encoding": "identity",
    }
    try:
        response = transfer.client.head(source.url, headers=headers)
    except httpx2.HTTPError as error:
        raise ToolError(
            f"cannot reach {httpx2.URL(source.url).host}: {type(error).__name__}",
            hint="check the network",
        ) from None
    if any(hop.url.scheme != "https" for hop in (*response.history, response)):
        raise LockError(f"{httpx2.URL(source.url).host} redirects it to an address without https")
    if response.status_code in (404, 410):
        raise LockError(f"the file is gone: status {response.status_code}")
    coded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
    # If a content coding was applied, both headers refer to the bytes as sent (RFC 9110, 8.6; RFC
    # 9530, 3).
    size = "" if coded else response.headers.get("Content-Length", "")
    if response.status_code == 200 and size.isdigit() and int(size) != locked.size:
        raise LockError(f"a different size\n  locked  {locked.size} bytes\n  found   {size} bytes")
    digest = None if coded else _repr_digest(response)
    if digest is not None and digest != locked.sha256:
        raise LockError(
            f"different bytes\n  locked  sha256:{locked.sha256}\n  found   sha256:{digest}"
        )
    if digest is not None:
        return "size, and the digest that the server gives"
    if locked.size <= SMALL:
        (fact,) = transfer.files([_wanted(source, size=locked.size)])
        if fact != locked:
            raise LockError(
                f"different bytes\n  locked  sha256:{locked.sha256}\n  found   sha256:{fact.sha256}"
            )
        return "its bytes"
    if response.status_code != 200 or not size.isdigit():
        raise ToolError(f"the server does not state the size: status {response.status_code}")
    return "size only: the server gives no digest, and the bytes were not compared"


def _repr_digest(response: httpx2.Response) -> str | None:
    match = _DIGEST.search(response.headers.get("Repr-Digest", ""))
    if response.status_code != 200 or match is None:
        return None
    with contextlib.suppress(binascii.Error):
        return base64.b64decode(match[1], validate=True).hex()
    return None


def _wanted(
    source: WebSource, *, sha256: str | None = None, size: int | None = None
) -> FetchRequest:
    name, headers = ascii(_name(source)), netrc_login(source.url)
    return FetchRequest(url=source.url, name=name, headers=headers, sha256=sha256, size=size)


def _name(source: WebSource) -> str:
    return source.url.partition("?")[0].rpartition("/")[2]


def netrc_login(url: str) -> dict[str, str]:
    """Return a Basic authentication header from ~/.netrc (or $NETRC) for exactly this host, if any.

    The `default` entry is ignored: somebody else's lockfile or certificate may name any host.
    """
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        login = {**netrc.netrc(path).hosts, "default": None}.get(httpx2.URL(url).host)
    except (OSError, netrc.NetrcParseError):
        return {}
    if login is None:
        return {}
    pair = f"{login[0]}:{login[2]}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
