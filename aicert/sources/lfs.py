"""git LFS: files of which a commit has only a pointer (git-lfs: docs/spec.md, docs/api/batch.md).

A pointer has the SHA-256 and the size of its file: the file is locked, and locking needs none of
its bytes. They are fetched from the repository's own LFS server with the `basic` transfer and the
credentials that git has for it. Not supported: `.lfsconfig` (another server), other transfers, and
pointers with extensions, which are refused by name.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from aicert.errors import LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.formats.lfs import is_pointer
from aicert.sources.batch import FetchRequest
from aicert.sources.transfer import Transfer

Login = Callable[[], Mapping[str, str]]

_MEDIA = "application/vnd.git-lfs+json"
# Pointers are read as git-lfs reads them (lfs/pointer.go): also with its older names, with
# converted line ends, and without the last line end.
_POINTER = re.compile(
    rb"version (?:https://(?:git-lfs|hawser)\.github\.com/spec/v1|http://git-media\.io/v/2)\r?\n"
    rb"oid sha256:([0-9a-f]{64})\r?\nsize (\d{1,18})(?:\r?\n)?"
)
# A pointer has less than 1024 bytes (docs/spec.md). Servers may refuse requests for more objects
# than this.
MAX_POINTER, MAX_OBJECTS = 1024, 100


def pointed(path: str, data: bytes) -> FileFact | None:
    """Return the file that a pointer stands for; None if `data` is no pointer. Raises LockError."""
    if not is_pointer(data):
        return None
    match = _POINTER.fullmatch(data)
    if match is None:
        raise LockError(
            f"{path!a} is a git LFS pointer with more or less than a SHA-256 and a size",
            hint="leave it out with `except`, or lock the file itself from an https: source",
        )
    return FileFact(int(match[2]), match[1].decode())


def fetch(url: str, files: Mapping[str, FileFact], transfer: Transfer, login: Login) -> None:
    """Fetch the files `{path: file}` of the repository at `url` into the store.

    `login` returns headers with git's credentials; it is called if the server asks for a login.
    Raises LockError or ToolError.
    """
    paths = sorted(files)
    for start in range(0, len(paths), MAX_OBJECTS):
        part = {path: files[path] for path in paths[start : start + MAX_OBJECTS]}
        # Ask for addresses just before they are used: they may be valid for minutes only.
        transfer.files(_locate(url, part, transfer, login))


def _locate(
    url: str, files: Mapping[str, FileFact], transfer: Transfer, login: Login
) -> list[FetchRequest]:
    body = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": fact.sha256, "size": fact.size} for fact in files.values()],
        "hash_algo": "sha256",
    }
    host = httpx2.URL(url).host
    headers: Mapping[str, str] = {}
    response = _post(url, body, transfer, headers)
    if response.status_code in (401, 403):
        headers = login()
        response = _post(url, body, transfer, headers) if headers else response
    code = response.status_code
    if code in (401, 403):
        raise LockError(
            f"the LFS server of {host} needs a login",
            hint="set up git's credential helper for it, or ~/.netrc",
        )
    if code in (404, 410, 422):
        raise LockError(f"{host} serves no LFS files for this repository: status {code}")
    if code != 200:
        raise ToolError(
            f"the LFS server of {host} answers with status {code}", hint="try again later"
        )
    try:
        answers = {answer["oid"]: answer for answer in response.json()["objects"]}
        return [_wanted(path, fact, answers[fact.sha256]) for path, fact in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError, httpx2.InvalidURL):
        raise LockError(f"{host} does not answer like an LFS server") from None


def _post(
    url: str, body: object, transfer: Transfer, headers: Mapping[str, str]
) -> httpx2.Response:
    # docs/api/server-discovery.md
    base = url.rstrip("/").removesuffix(".git")
    own = {"Accept": _MEDIA, "Content-Type": _MEDIA, **headers}
    try:
        return transfer.client.post(
            f"{base}.git/info/lfs/objects/batch", content=json.dumps(body), headers=own
        )
    except httpx2.HTTPError as error:
        raise ToolError(
            f"cannot reach the LFS server: {type(error).__name__}", hint="check the network"
        ) from None


def _wanted(path: str, fact: FileFact, answer: Any) -> FetchRequest:
    if "error" in answer:
        reason = str(answer["error"].get("message", ""))[:200]
        raise LockError(f"the LFS server did not return {path!a}: {reason!a}")
    action = answer["actions"]["download"]
    href = httpx2.URL(action["href"])
    given = {str(name): str(value) for name, value in (action.get("header") or {}).items()}
    if href.scheme != "https" or not all(map(str.isascii, (*given, *given.values()))):
        raise LockError(f"the LFS server gives no https address for {path!a}")
    return FetchRequest(
        url=str(href), name=ascii(path), headers=given, sha256=fact.sha256, size=fact.size
    )
