"""Transfer encodings are undone; pointers and web pages are never taken for the file."""

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.errors import LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.sources import lfs, remote
from aicert.sources.batch import FetchRequest
from aicert.sources.choice import Choice
from aicert.sources.forms import WebSource
from aicert.sources.placeholders import refuse
from aicert.sources.remote import FILE
from aicert.sources.store import Store
from aicert.sources.transfer import Transfer
from aicert.sources.web import compare
from tests.unit.servers import Reply, Request, Site, site, tls

ROWS = b'{"a": 1}\n' * 5000 + os.urandom(200_000).hex().encode()
OID = "ab" * 32
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12\n"


@pytest.fixture
def transfer(tmp_path: Path) -> Iterator[Transfer]:
    with Transfer(Store(tmp_path / "store"), pause=lambda seconds: None) as running:
        yield running


class Web:
    """An https site that sends a list of replies, then repeats the last one."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.site: Site

    def answer(self, request: Request) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def lock(self, name: str, transfer: Transfer, *replies: Reply) -> FileFact:
        self.replies = list(replies)
        return remote.resolve(f"{self.site.url}/{name}", Choice(), transfer).files[FILE]


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    context, pem = tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    web = Web()
    with site(web.answer, context) as running:
        web.site = running
        yield web


def coded(data: bytes, coding: str = "gzip", cut: int | None = None) -> Reply:
    headers = {"Content-Encoding": coding, "ETag": '"one"', "Accept-Ranges": "bytes"}
    return Reply(body=data, headers=headers, cut=cut)


@pytest.mark.parametrize(
    ("sent", "coding"),
    [
        (gzip.compress(ROWS), "gzip"),
        (gzip.compress(ROWS), "X-GZIP"),
        (gzip.compress(ROWS[:70]) + gzip.compress(ROWS[70:]), "gzip"),
        (zlib.compress(ROWS), "deflate"),
        (ROWS, "identity"),
    ],
)
def test_what_is_locked_is_the_file_and_not_its_coding(
    web: Web, transfer: Transfer, sent: bytes, coding: str
) -> None:
    fact = web.lock("rows.jsonl", transfer, coded(sent, coding))
    assert fact.size == len(ROWS)
    assert transfer.store.file(fact.sha256).read_bytes() == ROWS
    assert web.site.requests[-1].headers["Accept-Encoding"] == "identity"
    # A fetch with the pinned digest gives the same file.
    transfer.store.remove(fact.sha256)
    remote.fetch(f"{web.site.url}/rows.jsonl", {FILE: fact.sha256}, transfer)
    assert transfer.store.file(fact.sha256).read_bytes() == ROWS


def test_a_coded_file_that_was_cut_is_taken_from_the_start(web: Web, transfer: Transfer) -> None:
    sent = gzip.compress(ROWS)
    fact = web.lock("rows.jsonl", transfer, coded(sent, cut=len(sent) // 2), coded(sent))
    assert transfer.store.file(fact.sha256).read_bytes() == ROWS
    assert web.site.requests[-1].headers["Range"] is None
    # A range of the encoded bytes cannot continue a decoded part.
    transfer.store.remove(fact.sha256)
    part = {"Content-Encoding": "gzip", "Content-Range": f"bytes 5-9/{len(sent)}"}
    begun = Reply(body=ROWS, headers={"ETag": '"one"'}, cut=5)
    fact = web.lock(
        "rows.jsonl", transfer, begun, Reply(status=206, body=b"x" * 5, headers=part), coded(sent)
    )
    assert transfer.store.file(fact.sha256).read_bytes() == ROWS


@pytest.mark.parametrize("sent", [gzip.compress(ROWS)[:-9], ROWS])
def test_a_coded_file_that_is_not_whole_or_not_coded_is_no_file(
    web: Web, transfer: Transfer, sent: bytes
) -> None:
    with pytest.raises(ToolError, match=r"the coded file ended early|not in the coding"):
        web.lock("rows.jsonl", transfer, coded(sent))


def test_a_coding_that_cannot_be_undone_is_refused(web: Web, transfer: Transfer) -> None:
    with pytest.raises(LockError, match="in an unknown encoding: 'br'"):
        web.lock("rows.jsonl", transfer, coded(ROWS, "br"))


def test_a_file_that_is_compressed_itself_stays_so(web: Web, transfer: Transfer) -> None:
    sent = gzip.compress(ROWS)
    fact = web.lock("rows.jsonl.gz", transfer, coded(sent))
    assert transfer.store.file(fact.sha256).read_bytes() == sent
    # Under another name, the locked digest decides.
    transfer.store.remove(fact.sha256)
    for size in (None, len(sent)):
        wanted = web_wanted(web, fact.sha256, size)
        assert transfer.files([wanted]) == [fact]
        transfer.store.remove(fact.sha256)


def web_wanted(web: Web, sha256: str, size: int | None) -> FetchRequest:
    url = f"{web.site.url}/rows"
    return FetchRequest(url=url, name="rows", headers={}, sha256=sha256, size=size)


def test_a_coded_file_is_compared_by_its_bytes(web: Web, transfer: Transfer) -> None:
    fact = web.lock("rows.jsonl", transfer, coded(gzip.compress(ROWS)))
    source = WebSource(url=f"{web.site.url}/rows.jsonl")
    assert compare(source, fact, transfer) == "its bytes"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<!DOCTYPE html><html><title>Sign in</title>", "an HTML page"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "an HTML page"),
        (POINTER.encode(), "a git LFS pointer"),
        (POINTER.replace("git-lfs", "hawser").replace("\n", "\r\n").encode(), "a git LFS pointer"),
    ],
)
def test_a_page_or_a_pointer_is_never_locked_as_the_file(
    web: Web, transfer: Transfer, body: bytes, words: str
) -> None:
    with pytest.raises(LockError, match=f"'rows.jsonl' is {words}") as caught:
        web.lock("rows.jsonl", transfer, Reply(body=body))
    assert caught.value.hint is not None
    assert list((transfer.store.root / "files").glob("*/*")) == []


def test_a_page_may_be_what_somebody_wants() -> None:
    for name in ("page.html", "README.md", "corpus.txt"):
        refuse(name, b"<!doctype html>")
    refuse("rows.jsonl", b'{"text": "<html>"}')
    refuse("empty.csv", b"")


@pytest.mark.parametrize(
    "text",
    [
        POINTER,
        POINTER.rstrip("\n"),
        POINTER.replace("\n", "\r\n"),
        POINTER.replace("https://git-lfs", "https://hawser"),
        POINTER.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
    ],
)
def test_every_form_of_a_pointer_that_git_lfs_reads_stands_for_its_file(text: str) -> None:
    assert lfs.pointed("a", text.encode()) == FileFact(12, OID)


def test_a_pointer_with_more_is_refused_and_text_is_none() -> None:
    with pytest.raises(LockError, match="more or less than a SHA-256 and a size"):
        lfs.pointed("a", POINTER.encode() + b"more 1\n")
    assert lfs.pointed("a", b"version 1\n") is None
