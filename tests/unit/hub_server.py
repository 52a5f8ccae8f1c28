"""A server that answers `huggingface_hub` as the Hugging Face hub does, with faults on demand.

Written from the hub's API documentation and from what the client reads: repository info, the tree
in pages (RFC 8288 `Link`), commits, `resolve/` with LFS and Xet-stored files redirected to another
origin by signed addresses, X-Error-Code, Retry-After.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote

from tests.unit.servers import Reply, Request, Site, ranged, site

COMMIT = "a" * 40
SIGNATURE = "X-Amz-Signature=s3cr3t-signature"
PAGE = 100


@dataclass(kw_only=True)
class File:
    """One file of a repository. With `simulated`, only its metadata exists."""

    data: bytes = b""
    lfs: bool = False
    xet: bool = False
    simulated: tuple[int, str] | None = None

    def entry(self, path: str) -> dict[str, object]:
        size, sha256 = self.simulated or (len(self.data), hashlib.sha256(self.data).hexdigest())
        header = f"blob {len(self.data)}\0".encode()
        entry: dict[str, object] = {
            "type": "file",
            "oid": hashlib.sha1(header + self.data, usedforsecurity=False).hexdigest(),
            "size": size,
            "path": path,
        }
        if self.lfs or self.xet:
            entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 135}
        if self.xet:
            entry["xetHash"] = hashlib.sha256(b"xet" + sha256.encode()).hexdigest()
        return entry


@dataclass(kw_only=True)
class Repository:
    """A repository: revisions by name, and the files at each commit."""

    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False


class Hub:
    """The hub and, as another origin, its CDN; `faults[path]` are answers to give first."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: defaultdict[str, list[Reply]] = defaultdict(list)
        self.api_faults: list[Reply] = []
        self.token: str | None = None
        self.front: Site
        self.cdn: Site
        self._by_digest: dict[str, tuple[str, File]] = {}

    @property
    def sent(self) -> int:
        """The number of bytes that left both servers."""
        return self.front.sent + self.cdn.sent

    def add(self, name: str, files: dict[str, File], commit: str = COMMIT) -> Repository:
        """Put files at a commit, which `main` then names; `name` may begin with `datasets/`."""
        repository = self.repositories.setdefault(name, Repository())
        repository.commits[commit] = files
        repository.revisions["main"] = commit
        return repository

    def answer(self, request: Request) -> Reply:
        path = unquote(request.path)
        if path.startswith("/api/"):
            if self.api_faults:
                return self.api_faults.pop(0)
            if request.method == "POST":
                return self._write(request, path)
            return self._api(request, path)
        return self._resolve(request, path)

    def _write(self, request: Request, path: str) -> Reply:
        """Answer a client that uploads: no file goes through LFS."""
        if path == "/api/validate-yaml":
            answer: dict[str, object] = {}
        elif path == "/api/repos/create":
            asked = json.loads(request.body)
            name = f"{asked['organization']}/{asked['name']}"
            self.add(name, {})
            answer = {"url": f"{self.front.url}/{name}", "id": name}
        elif "/preupload/" in path:
            answer = {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(request.body)["files"]
                ]
            }
        else:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            added = [json.loads(line) for line in request.body.splitlines()]
            files = {
                one["value"]["path"]: File(data=base64.b64decode(one["value"]["content"]))
                for one in added
                if one["key"] == "file"
            }
            commit = f"{len(self.repositories[name].commits):040x}"
            latest = self.repositories[name].revisions["main"]
            self.add(name, self.repositories[name].commits[latest] | files, commit)
            answer = {"commitUrl": f"{self.front.url}/{name}/commit/{commit}", "commitOid": commit}
        return Reply(body=json.dumps(answer).encode(), headers=JSON)

    def _api(self, request: Request, path: str) -> Reply:
        # For a repository alone, the default revision.
        words = [*path.removeprefix("/api/").split("/", 4), "revision", "main"]
        kind, organisation, name, verb, rest = words[:5]
        key = f"{organisation}/{name}" if kind == "models" else f"datasets/{organisation}/{name}"
        refused = self._refused(key, request)
        if refused is not None:
            return refused
        repository = self.repositories[key]
        revision, _, folder = rest.partition("/")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return Reply(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        if verb == "revision":
            body: object = {"id": key.removeprefix("datasets/"), "sha": commit, "siblings": []}
            return Reply(body=json.dumps(body).encode(), headers=JSON)
        files = {
            path: file
            for path, file in repository.commits[commit].items()
            if path.startswith(f"{folder}/" if folder else "")
        }
        if folder and not files:
            return Reply(status=404, headers={"X-Error-Code": "EntryNotFound"})
        entries: list[dict[str, object]] = [file.entry(path) for path, file in files.items()]
        folders = {path.rpartition("/")[0] for path in files} - {""}
        entries += [{"type": "directory", "oid": "0" * 40, "path": p} for p in sorted(folders)]
        start = int(parse_qs(request.query).get("cursor", ["0"])[0])
        headers = dict(JSON)
        if start + PAGE < len(entries):
            more = f"{self.front.url}{request.path}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{more}>; rel="next"'
        return Reply(body=json.dumps(entries[start : start + PAGE]).encode(), headers=headers)

    def _refused(self, key: str, request: Request) -> Reply | None:
        repository = self.repositories.get(key)
        known = self.token and request.headers.get("Authorization") == f"Bearer {self.token}"
        if repository is None or (repository.private and not known):
            # The hub does not tell strangers whether a repository exists.
            code = {"X-Error-Code": "RepoNotFound"} if known else {}
            return Reply(status=404 if known else 401, headers=code)
        if repository.gated and not known:
            return Reply(status=403, headers={"X-Error-Code": "GatedRepo"})
        return None

    def _resolve(self, request: Request, path: str) -> Reply:
        key, _, rest = path.lstrip("/").partition("/resolve/")
        refused = self._refused(key, request)
        if refused is not None:
            return refused
        revision, _, name = rest.partition("/")
        repository = self.repositories[key]
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return Reply(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        at_commit = {"X-Repo-Commit": commit}
        file = repository.commits[commit].get(name)
        if file is None:
            return Reply(status=404, headers={"X-Error-Code": "EntryNotFound", **at_commit})
        if not file.lfs and not file.xet:
            if self.faults[name]:
                return self.faults[name].pop(0)
            etag = {"ETag": f'"{file.entry(name)["oid"]}"'}
            return ranged(request, file.data, {**at_commit, **etag})
        sha256 = hashlib.sha256(file.data).hexdigest()
        self._by_digest[sha256] = (name, file)
        headers = {
            "Location": f"{self.cdn.url}/{sha256}?{SIGNATURE}",
            "X-Linked-Size": str(len(file.data)),
            "X-Linked-ETag": f'"{sha256}"',
            **at_commit,
        }
        if file.xet:
            headers["X-Xet-Hash"] = "0" * 64
        return Reply(status=302, headers=headers)

    def serve(self, request: Request) -> Reply:
        """Answer as the CDN, which must never receive the hub's credentials."""
        if request.headers.get("Authorization"):
            return Reply(status=400, body=b"two authentications")
        name, file = self._by_digest[request.path.strip("/")]
        if self.faults[name]:
            fault = self.faults[name].pop(0)
            if fault.cut is not None and fault.status == 200:
                return replace(ranged(request, file.data), cut=fault.cut, hold=fault.hold)
            return fault
        return ranged(request, file.data)


JSON = {"Content-Type": "application/json"}


@contextmanager
def running() -> Iterator[Hub]:
    """Run a hub without repositories."""
    hub = Hub()
    with site(hub.answer) as front, site(hub.serve) as cdn:
        hub.front, hub.cdn = front, cdn
        yield hub
