"""`git+https:` with the real git, and `https:`, both against TLS servers on 127.0.0.1."""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.digest import Digest, FileFact
from aicert.formats.lockfile import LockedInput
from aicert.sources import remote
from aicert.sources import web as web_source
from aicert.sources.choice import Choice
from aicert.sources.compare import Asker
from aicert.sources.forms import WebSource
from aicert.sources.remote import FILE
from aicert.sources.store import Store
from aicert.sources.transfer import Transfer
from aicert.sources.web import compare, netrc_login
from tests.unit.servers import Forge, Reply, Request, Site, ranged, served_forge, site, tls

ALL = Choice()
DATA = os.urandom(2_000_000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def transfer(tmp_path: Path) -> Iterator[Transfer]:
    with Transfer(Store(tmp_path / "store"), pause=lambda seconds: None) as running:
        yield running


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    monkeypatch.setenv("HOME", str(tmp_path))
    context, pem = tls(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(pem))
    with served_forge(tmp_path, context) as running:
        yield running


def test_a_branch_becomes_a_commit_with_hashed_files(forge: Forge, transfer: Transfer) -> None:
    commit = forge.commit(a_txt="a", data__b_txt="b", empty_txt="")
    resolved = remote.resolve(f"{forge.source}@main", ALL, transfer)
    assert resolved.uri == f"{forge.source}@{commit}"
    expected = {"a.txt": "a", "data/b.txt": "b", "empty.txt": ""}
    assert {p: f.sha256 for p, f in resolved.files.items()} == {
        path: sha256(text.encode()) for path, text in expected.items()
    }
    # The downloaded files are kept: none has to be fetched again.
    assert transfer.store.file(sha256(b"b")).read_bytes() == b"b"
    assert [p.name for p in transfer.store.root.iterdir() if p.name.startswith(".git")] == []


def test_progress_moves_while_git_fetches_and_counts_the_files_in_the_end(
    forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (forge.folder / "rows.bin2").write_bytes(DATA * 3)
    commit = forge.commit(**{f"f{i}_txt": str(i) for i in range(120)})
    monkeypatch.setattr("aicert.sources.git.LOOK_EVERY_S", 0.001)
    moved: list[int] = []
    with Transfer(Store(tmp_path / "store"), on_bytes=moved.append) as transfer:
        resolved = remote.resolve(f"{forge.source}@{commit}", ALL, transfer)
    assert sum(moved) == resolved.size
    assert min(moved) < -100_000, "what was in the pack is not counted twice"


def test_subdirectories_single_files_and_patterns(forge: Forge, transfer: Transfer) -> None:
    forge.commit(a_txt="a", data__b_txt="b", data__c_md="c")
    below = remote.resolve(f"{forge.source}@main#data", ALL, transfer)
    assert set(below.files) == {"b.txt", "c.md"}
    assert below.uri.endswith("#data")
    one = remote.resolve(f"{forge.source}@main#data/b.txt", ALL, transfer)
    assert one.is_file
    assert one.files[FILE].sha256 == sha256(b"b")
    some = remote.resolve(f"{forge.source}@main", Choice(except_=("data/*",)), transfer)
    assert set(some.files) == {"a.txt"}
    with pytest.raises(LockError, match="only: no file matches"):
        remote.resolve(f"{forge.source}@main", Choice(only=("*.csv",)), transfer)
    with pytest.raises(LockError, match="this is a single file"):
        remote.resolve(f"{forge.source}@main#a.txt", Choice(only=("*",)), transfer)
    with pytest.raises(LockError, match="the commit has no 'nowhere'"):
        remote.resolve(f"{forge.source}@main#nowhere", ALL, transfer)


def test_a_branch_that_moved_does_not_move_what_is_pinned(forge: Forge, transfer: Transfer) -> None:
    old = forge.commit(a_txt="old")
    pinned = remote.resolve(f"{forge.source}@main", ALL, transfer)
    new = forge.commit(a_txt="new")
    transfer.store.remove(sha256(b"old"))
    remote.fetch(pinned.uri, {"a.txt": sha256(b"old")}, transfer)
    assert transfer.store.has(sha256(b"old"))
    assert remote.resolve(f"{forge.source}@main", ALL, transfer).uri.endswith(new)
    assert remote.resolve(f"{forge.source}@{old}", ALL, transfer).uri == pinned.uri


def test_tags_and_names_that_mean_two_things(forge: Forge, transfer: Transfer) -> None:
    commit = forge.commit(a_txt="a")
    forge.git("tag", "-a", "v1", "-m", "annotated")
    assert remote.resolve(f"{forge.source}@v1", ALL, transfer).uri.endswith(commit)
    forge.commit(a_txt="b")
    forge.git("branch", "v1")
    with pytest.raises(LockError, match="is ambiguous, it names: "):
        remote.resolve(f"{forge.source}@v1", ALL, transfer)
    assert remote.resolve(f"{forge.source}@refs/tags/v1", ALL, transfer).uri.endswith(commit)


def test_what_is_not_there(forge: Forge, transfer: Transfer) -> None:
    forge.commit(a_txt="a")
    cases = {
        f"{forge.source}@gone": "no branch or tag 'gone'",
        f"{forge.source}@{'b' * 40}": "the commit does not exist",
        f"{forge.source}@abc123": "no branch or tag",
        f"{forge.source.replace('repo.git', 'absent.git')}@main": "there is no such repository",
    }
    for source, words in cases.items():
        with pytest.raises(LockError, match=words):
            remote.resolve(source, ALL, transfer)
    with pytest.raises(ToolError, match=r"git: .*connect"):
        remote.resolve("git+https://127.0.0.1:9/repo.git@main", ALL, transfer)


def test_links_submodules_and_pickles(forge: Forge, transfer: Transfer) -> None:
    (forge.folder / "link").symlink_to("/etc/hostname")
    commit = forge.commit(a_txt="a")
    with pytest.raises(LockError, match="'link' is a symbolic link"):
        remote.resolve(f"{forge.source}@main", ALL, transfer)
    assert remote.resolve(f"{forge.source}@main", Choice(except_=("link",)), transfer).files
    forge.git("rm", "-q", "link")
    forge.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    forge.git("commit", "-qm", "module")
    with pytest.raises(LockError, match="'module' is a submodule"):
        remote.resolve(f"{forge.source}@main", ALL, transfer)
    forge.git("rm", "-q", "--cached", "module")
    forge.commit(w_pkl="p")
    with pytest.raises(LockError, match=r"'w\.pkl' is a pickle"):
        remote.resolve(f"{forge.source}@main", ALL, transfer)
    assert remote.resolve(f"{forge.source}@main", Choice(allow_pickle=True), transfer).files


def test_a_commit_with_other_bytes_than_were_locked(forge: Forge, transfer: Transfer) -> None:
    commit = forge.commit(a_txt="a")
    with pytest.raises(LockError, match=r"different bytes for 'a\.txt'"):
        remote.fetch(f"{forge.source}@{commit}", {"a.txt": "0" * 64}, transfer)
    with pytest.raises(LockError, match="not in the locked commit"):
        remote.fetch(f"{forge.source}@{commit}", {"b.txt": "0" * 64}, transfer)


class Web:
    """An https site that answers by path, with faults first."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.files = {"/data.jsonl": DATA}
        self.headers = {"ETag": '"one"'}
        self.site: Site

    def answer(self, request: Request) -> Reply:
        if self.replies.get(request.path):
            return self.replies[request.path].pop(0)
        if request.path not in self.files:
            return Reply(status=404)
        return ranged(request, self.files[request.path], self.headers)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    context, pem = tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    web = Web()
    with site(web.answer, context) as running:
        web.site = running
        yield web


def test_a_file_is_pinned_when_it_is_locked(web: Web, transfer: Transfer) -> None:
    url = f"{web.site.url}/data.jsonl"
    resolved = remote.resolve(url, ALL, transfer)
    assert (resolved.uri, resolved.is_file, resolved.size) == (url, True, len(DATA))
    assert transfer.store.file(sha256(DATA)).read_bytes() == DATA
    asked = len(web.site.requests)
    remote.fetch(url, {FILE: sha256(DATA)}, transfer)
    assert len(web.site.requests) == asked


def test_an_unpinned_file_is_resumed_only_while_it_is_the_same(
    web: Web, transfer: Transfer
) -> None:
    url = f"{web.site.url}/data.jsonl"
    cut = Reply(body=DATA, cut=1_000_000, headers=web.headers)
    web.replies["/data.jsonl"] = [cut]
    assert remote.resolve(url, ALL, transfer).files[FILE].sha256 == sha256(DATA)
    assert web.site.requests[1].headers["If-Range"] == '"one"'
    transfer.store.remove(sha256(DATA))
    web.replies["/data.jsonl"] = [cut, *[Reply(status=503)] * 5]
    with pytest.raises(ToolError, match="1000000 bytes are kept"):
        remote.resolve(url, ALL, transfer)
    web.files["/data.jsonl"] = changed = DATA[::-1]
    web.headers = {"ETag": '"two"'}
    assert remote.resolve(url, ALL, transfer).files[FILE].sha256 == sha256(changed)


def test_changed_bytes_and_odd_answers(web: Web, transfer: Transfer) -> None:
    url = f"{web.site.url}/data.jsonl"
    web.files["/data.jsonl"] = DATA[:-1] + b"x"
    with pytest.raises(LockError, match=r"127\.0\.0\.1 serves different bytes for 'data\.jsonl'"):
        remote.fetch(url, {FILE: sha256(DATA)}, transfer)
    cases = {
        "/absent": (Reply(status=404), "status 404"),
        "/login": (Reply(status=403), "status 403"),
        "/loop": (
            Reply(status=302, headers={"Location": "/loop"}),
            "redirects 'loop' too many times",
        ),
        "/plain": (
            Reply(status=302, headers={"Location": "http://127.0.0.1:9/x?sig=s3cret"}),
            "cannot fetch|unprotected",
        ),
    }
    for path, (reply, words) in cases.items():
        web.replies[path] = [reply] * 20
        with pytest.raises(AicertError, match=words) as caught:
            remote.resolve(f"{web.site.url}{path}", ALL, transfer)
        assert "s3cret" not in caught.value.message


def test_a_redirect_to_http_is_refused(web: Web, transfer: Transfer) -> None:
    with site(lambda request: Reply(body=b"x")) as plain:
        web.replies["/f"] = [Reply(status=302, headers={"Location": f"{plain.url}/f"})]
        with pytest.raises(LockError, match="to an address without https"):
            remote.resolve(f"{web.site.url}/f", ALL, transfer)


def test_credentials_come_from_netrc(web: Web, transfer: Transfer, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pass\n")
    (tmp_path / "netrc").chmod(0o600)
    remote.resolve(f"{web.site.url}/data.jsonl", ALL, transfer)
    expected = "Basic " + base64.b64encode(b"me:pass").decode()
    assert web.site.requests[-1].headers["Authorization"] == expected


def test_what_netrc_has_for_any_host_is_sent_to_none(
    web: Web, transfer: Transfer, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login me password pass\n")
    (tmp_path / "netrc").chmod(0o600)
    fact = remote.resolve(f"{web.site.url}/data.jsonl", ALL, transfer).files[FILE]
    compare(WebSource(url=f"{web.site.url}/data.jsonl"), fact, transfer)
    assert not any("Authorization" in request.headers for request in web.site.requests)
    assert netrc_login("https://default/x") == {}


def test_a_comparison_does_not_believe_an_unprotected_address(web: Web, transfer: Transfer) -> None:
    """An attacker on the network path could repeat the locked digest."""
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    reply = Reply(headers={"Repr-Digest": f"sha-256=:{digest}:"}, body=DATA)
    with site(lambda request: reply) as plain:
        web.replies["/f"] = [Reply(status=302, headers={"Location": f"{plain.url}/f"})]
        with pytest.raises(LockError, match="to an address without https"):
            compare(WebSource(url=f"{web.site.url}/f"), FileFact(len(DATA), sha256(DATA)), transfer)


def test_a_certificate_that_nobody_vouches_for(
    web: Web, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ToolError, match="cannot fetch"):
        remote.resolve(f"{web.site.url}/data.jsonl", ALL, transfer)


def test_comparing_without_fetching(web: Web, transfer: Transfer) -> None:
    source = WebSource(url=f"{web.site.url}/data.jsonl")
    fact = remote.resolve(source.url, ALL, transfer).files[FILE]
    assert compare(source, fact, transfer) == "its bytes"
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    web.headers = {"Repr-Digest": f"sha-256=:{digest}:"}
    sent = web.site.sent
    assert compare(source, fact, transfer) == "size, and the digest that the server gives"
    assert web.site.sent - sent < 1000
    web.files["/data.jsonl"] = DATA[:-1] + b"x"
    web.headers = {}
    with pytest.raises(LockError, match="different bytes"):
        compare(source, fact, transfer)
    web.files["/data.jsonl"] = DATA[:-1]
    with pytest.raises(LockError, match="a different size"):
        compare(source, fact, transfer)
    del web.files["/data.jsonl"]
    with pytest.raises(LockError, match="the file is gone"):
        compare(source, fact, transfer)


def test_what_a_comparison_cannot_tell(
    web: Web, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = WebSource(url=f"{web.site.url}/data.jsonl")
    whole = FileFact(len(DATA), sha256(DATA))
    # A malformed digest does not count; then the bytes do.
    web.headers = {"Repr-Digest": "sha-256=:====:"}
    assert compare(source, whole, transfer) == "its bytes"
    digest = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    web.headers = {"Repr-Digest": f"sha-256=:{digest}:"}
    with pytest.raises(LockError, match="different bytes"):
        compare(source, whole, transfer)
    web.headers = {}
    monkeypatch.setattr(web_source, "SMALL", 0)
    assert compare(source, whole, transfer).startswith("size only:")
    web.replies["/data.jsonl"] = [Reply(status=503)]
    with pytest.raises(ToolError, match="the server does not state the size: status 503"):
        compare(source, whole, transfer)


def test_a_server_that_is_not_there_is_no_verdict(web: Web, transfer: Transfer) -> None:
    url = f"{web.site.url}/data.jsonl".replace("localhost", "127.0.0.1").rpartition(":")[0]
    source = WebSource(url=f"{url}:1/data.jsonl")
    with pytest.raises(ToolError, match="cannot reach"):
        compare(source, FileFact(1, sha256(b"x")), transfer)


def test_inputs_of_a_web_server_are_compared_with_it(web: Web, transfer: Transfer) -> None:
    url = f"{web.site.url}/data.jsonl"

    def asked(digest: str, size: int = len(DATA)) -> tuple[str, str]:
        item = LockedInput(name="rows", source=url, uri=url, digest=Digest.parse(digest), size=size)
        answer = Asker(transfer=transfer, pinned=True).compare(item)
        return answer.verdict, answer.detail

    right = f"sha256:{sha256(DATA)}"
    assert asked(right) == ("ok", f"{url}: its bytes")
    verdict, detail = asked(right, 1)
    assert (verdict, detail.partition("\n")[0]) == ("failed", f"{url}: a different size")
    assert asked(right.replace("sha256", "dirHash"))[0] == "failed"
    web.replies["/data.jsonl"] = [Reply(status=503)] * 9
    assert asked(right)[0] == "not-checked"
