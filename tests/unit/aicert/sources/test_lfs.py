"""Git LFS files: the real git, and a server that speaks the batch API of git-lfs."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.sources import remote
from aicert.sources.choice import Choice
from aicert.sources.remote import FILE
from aicert.sources.store import Store
from aicert.sources.transfer import Transfer
from tests.unit.servers import Forge, Reply, Request, ranged, served_forge, tls

ALL = Choice()
WEIGHTS = os.urandom(600_000)
MEDIA = "application/vnd.git-lfs+json"
HEADERS = ("Accept", "Content-Type")
LOGIN = "Basic " + base64.b64encode(b"me:pass").decode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pointer(data: bytes) -> str:
    """Return a pointer as `git lfs pointer` writes it."""
    head = "version https://git-lfs.github.com/spec/v1\n"
    return f"{head}oid sha256:{sha256(data)}\nsize {len(data)}\n"


class Lfs:
    """An LFS server (docs/api/batch.md and basic-transfers.md of git-lfs) beside a repository."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self.login: str | None = None
        self.batches: list[Request] = []
        self.answers: list[Reply] = []
        self.href: str | None = None

    def add(self, data: bytes) -> str:
        """Hold a file, and return the pointer to commit."""
        self.objects[sha256(data)] = data
        return pointer(data)

    def answer(self, request: Request) -> Reply:
        if request.path.startswith("/lfs/"):
            if request.headers.get("X-Ticket") != "granted":
                return Reply(status=403)
            return ranged(request, self.objects[request.path.removeprefix("/lfs/")])
        if request.path != "/repo.git/info/lfs/objects/batch" or request.method != "POST":
            return Reply(status=404)
        self.batches.append(request)
        if self.login is not None and request.headers.get("Authorization") != self.login:
            return Reply(status=401, headers={"LFS-Authenticate": 'Basic realm="LFS"'})
        if self.answers:
            return self.answers.pop()
        if any(not (request.headers[name] or "").startswith(MEDIA) for name in HEADERS):
            return Reply(status=406)
        asked = json.loads(request.body)
        if asked["operation"] != "download" or "basic" not in asked["transfers"]:
            return Reply(status=422)
        objects = [self._object(item) for item in asked["objects"]]
        body = json.dumps({"transfer": "basic", "objects": objects, "hash_algo": "sha256"})
        return Reply(body=body.encode(), headers={"Content-Type": MEDIA})

    def _object(self, item: dict[str, Any]) -> dict[str, Any]:
        data = self.objects.get(item["oid"])
        if data is None or len(data) != item["size"]:
            return {**item, "error": {"code": 404, "message": "Object does not exist\x1b[31m"}}
        href = self.href or f"{self.url}/lfs/{item['oid']}"
        download = {"href": href, "header": {"X-Ticket": "granted"}, "expires_in": 60}
        return {**item, "authenticated": True, "actions": {"download": download}}


@pytest.fixture
def lfs() -> Lfs:
    return Lfs()


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lfs: Lfs) -> Iterator[Forge]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    context, pem = tls(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with served_forge(tmp_path, context, lfs.answer) as running:
        lfs.url = running.site.url
        yield running


@pytest.fixture
def transfer(tmp_path: Path) -> Iterator[Transfer]:
    with Transfer(Store(tmp_path / "store"), pause=lambda seconds: None) as running:
        yield running


def test_a_pointer_locks_its_file_without_its_bytes(
    forge: Forge, lfs: Lfs, transfer: Transfer
) -> None:
    forge.commit(a_txt="a", big_safetensors=lfs.add(WEIGHTS))
    resolved = remote.resolve(f"{forge.source}@main", ALL, transfer)
    assert resolved.files["big.safetensors"] == FileFact(len(WEIGHTS), sha256(WEIGHTS))
    assert resolved.files["a.txt"] == FileFact(1, sha256(b"a"))
    assert lfs.batches == []
    assert not transfer.store.has(sha256(pointer(WEIGHTS).encode()))

    wanted = {path: fact.sha256 for path, fact in resolved.files.items()}
    remote.fetch(resolved.uri, wanted, transfer)
    assert transfer.store.file(sha256(WEIGHTS)).read_bytes() == WEIGHTS
    assert len(lfs.batches) == 1
    remote.fetch(resolved.uri, wanted, transfer)
    assert len(lfs.batches) == 1, "what is here is not asked for"
    one = remote.resolve(f"{forge.source}@main#big.safetensors", ALL, transfer)
    assert one.files[FILE] == resolved.files["big.safetensors"]


def test_many_files_are_asked_for_in_parts(forge: Forge, lfs: Lfs, transfer: Transfer) -> None:
    forge.commit(**{f"f{i}_txt": lfs.add(f"file {i}".encode()) for i in range(120)})
    resolved = remote.resolve(f"{forge.source}@main", ALL, transfer)
    remote.fetch(resolved.uri, {p: fact.sha256 for p, fact in resolved.files.items()}, transfer)
    assert [len(json.loads(b.body)["objects"]) for b in lfs.batches] == [100, 20]
    assert all(transfer.store.has(fact.sha256) for fact in resolved.files.values())


@pytest.mark.parametrize("way", ["helper", "netrc", "none"])
def test_a_login_is_the_one_that_git_has(
    forge: Forge, lfs: Lfs, transfer: Transfer, tmp_path: Path, way: str
) -> None:
    lfs.login = LOGIN
    if way == "helper":
        helper = '"!echo username=me; echo password=pass; :"'
        (tmp_path / ".gitconfig").write_text(f"[credential]\n helper = {helper}\n")
    if way == "netrc":
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pass\n")
        (tmp_path / "netrc").chmod(0o600)
    forge.commit(big_bin2=lfs.add(WEIGHTS))
    resolved = remote.resolve(f"{forge.source}@main", ALL, transfer)
    wanted = {path: fact.sha256 for path, fact in resolved.files.items()}
    if way == "none":
        with pytest.raises(LockError, match="needs a login"):
            remote.fetch(resolved.uri, wanted, transfer)
        return
    remote.fetch(resolved.uri, wanted, transfer)
    assert [b.headers.get("Authorization") for b in lfs.batches] == [None, LOGIN]
    (download,) = [r for r in forge.site.requests if r.path.startswith("/lfs/")]
    assert download.headers.get("Authorization") is None, "only what the server asked for"


def fetch_one(forge: Forge, transfer: Transfer) -> None:
    resolved = remote.resolve(f"{forge.source}@main", ALL, transfer)
    remote.fetch(resolved.uri, {p: fact.sha256 for p, fact in resolved.files.items()}, transfer)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(status=404), LockError, "serves no LFS files for this repository: status 404"),
        (Reply(status=503), ToolError, "answers with status 503"),
        (Reply(body=b"<html>"), LockError, "does not answer like an LFS server"),
        (Reply(body=b'{"objects": [{}]}'), LockError, "does not answer like an LFS server"),
        (Reply(body=b'{"objects": 3}'), LockError, "does not answer like an LFS server"),
    ],
)
def test_servers_that_do_not_serve(
    forge: Forge, lfs: Lfs, transfer: Transfer, reply: Reply, kind: type[AicertError], words: str
) -> None:
    forge.commit(big_bin2=lfs.add(WEIGHTS))
    lfs.answers = [reply]
    with pytest.raises(kind, match=words):
        fetch_one(forge, transfer)


def test_a_file_that_is_gone_or_other(forge: Forge, lfs: Lfs, transfer: Transfer) -> None:
    forge.commit(big_bin2=lfs.add(WEIGHTS))
    lfs.href = f"http://127.0.0.1:9/{sha256(WEIGHTS)}"
    with pytest.raises(LockError, match=r"no https address for 'big\.bin2'"):
        fetch_one(forge, transfer)
    lfs.href = None
    lfs.objects[sha256(WEIGHTS)] = WEIGHTS[::-1]
    with pytest.raises(LockError, match=r"127\.0\.0\.1 serves different bytes for 'big\.bin2'"):
        fetch_one(forge, transfer)
    lfs.objects.clear()
    with pytest.raises(LockError, match=r"did not return 'big\.bin2': .*does not exist") as caught:
        fetch_one(forge, transfer)
    assert "\x1b" not in caught.value.message


def test_pointers_of_another_form_are_refused(forge: Forge, transfer: Transfer) -> None:
    for text in ("oid sha256:00\n", f"ext-0-x sha256:{'0' * 64}\noid sha256:{'0' * 64}\nsize 1\n"):
        forge.commit(big_bin2="version https://git-lfs.github.com/spec/v1\n" + text)
        with pytest.raises(LockError, match=r"'big\.bin2' is a git LFS pointer with more or less"):
            remote.resolve(f"{forge.source}@main", ALL, transfer)
