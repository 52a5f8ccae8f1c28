"""`hf:` and `hf:datasets/`: the Hugging Face hub, through its own client.

The tree's metadata has size and SHA-256 of large files (LFS, Xet), so a model can be locked without
fetching its weights. Small files have only a git blob id: they are fetched, checked against that id
and hashed. The client honours HF_ENDPOINT, HF_TOKEN and the token of `hf auth login`. A token is
sent only to the hub's own origin, which is that of HF_ENDPOINT if it is set.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, errors, hf_hub_url, set_client_factory
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers

from aicert.errors import LockError, ToolError
from aicert.formats.digest import FileFact, is_hex
from aicert.sources.batch import FetchRequest
from aicert.sources.choice import Choice, choose
from aicert.sources.download import ATTEMPTS, FIRST_WAIT_S, MAX_WAIT_S, retry_after
from aicert.sources.forms import HubSource, is_commit
from aicert.sources.remote import ResolvedSource
from aicert.sources.transfer import Transfer

# The hub requires LFS from 10 MB on; far above that the metadata is wrong, and reading would never
# end.
MAX_PLAIN = 64 << 20
_AGAIN = frozenset((429, 500, 502, 503, 504))

# Otherwise the client would tell the hub which packages are installed and what started it, and ask
# it for a list of such programs. Here it should ask for models and data, and for nothing else.
constants.HF_HUB_DISABLE_TELEMETRY = True

T = TypeVar("T")


def resolve(source: HubSource, choice: Choice, transfer: Transfer) -> ResolvedSource:
    """Return the commit that the revision names, and the chosen files at that commit."""
    with _client(transfer, source) as api:
        info = _patiently(
            transfer,
            lambda: api.repo_info(
                source.repository, repo_type=source.kind, revision=source.revision
            ),
        )
        commit = info.sha
        if not isinstance(commit, str) or not is_commit(commit):
            raise LockError("the hub names no commit for this revision")
        entries = _patiently(
            transfer,
            lambda: list(
                api.list_repo_tree(
                    source.repository, repo_type=source.kind, revision=commit, recursive=True
                )
            ),
        )
    files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    chosen = choose(files, choice, weights=source.kind == "model")
    facts = {path: _from_metadata(files[path]) for path in chosen}
    plain = [path for path, fact in facts.items() if fact is None]
    wanted = [_wanted(source, commit, path, size=_small(files[path])) for path in plain]
    for path, fact in zip(plain, transfer.files(wanted), strict=True):
        _check_blob(files[path], transfer, fact)
        facts[path] = fact
    return ResolvedSource(
        uri=source.at(commit), files={path: fact for path, fact in facts.items() if fact}
    )


def fetch(source: HubSource, wanted: Mapping[str, str], transfer: Transfer) -> None:
    """Fetch the files `{path: sha256}` at the pinned commit."""
    transfer.files(
        [_wanted(source, source.revision, path, sha256=sha256) for path, sha256 in wanted.items()]
    )


def _wanted(
    source: HubSource, commit: str, path: str, *, sha256: str | None = None, size: int | None = None
) -> FetchRequest:
    url = hf_hub_url(
        source.repository, path, repo_type=source.kind, revision=commit, endpoint=constants.ENDPOINT
    )
    headers = build_hf_headers(library_name="aicert")
    return FetchRequest(url=url, name=ascii(path), headers=headers, sha256=sha256, size=size)


def _from_metadata(entry: RepoFile) -> FileFact | None:
    if entry.lfs is None:
        return None
    if not is_hex(entry.lfs.sha256) or entry.lfs.size != entry.size or entry.size < 0:
        raise LockError(f"the hub's metadata of {entry.path!a} is not a size and a SHA-256")
    return FileFact(entry.size, entry.lfs.sha256)


def _small(entry: RepoFile) -> int:
    if not 0 <= entry.size <= MAX_PLAIN:
        raise LockError(f"{entry.path!a} has {entry.size} bytes, but no SHA-256 in the metadata")
    return int(entry.size)


def _check_blob(entry: RepoFile, transfer: Transfer, fact: FileFact) -> None:
    # git's id of a blob: SHA-1 over a header and the content (gitformat-pack, "blob").
    digest = hashlib.sha1(b"blob %d\0" % fact.size, usedforsecurity=False)
    with transfer.store.file(fact.sha256).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != entry.blob_id:
        transfer.store.remove(fact.sha256)
        raise LockError(
            f"the hub serves different bytes for {entry.path!a} than its metadata names"
            f"\n  wanted  git blob {entry.blob_id[:40]!s}\n  found   git blob {digest.hexdigest()}",
            hint="use another HF_ENDPOINT",
        )


@contextlib.contextmanager
def _client(transfer: Transfer, source: HubSource) -> Iterator[HfApi]:
    """Open the hub's client; raise its errors as ours."""
    # The client's own HTTP client has no time limit.
    set_client_factory(lambda: httpx2.Client(timeout=60.0, follow_redirects=True))
    host = httpx2.URL(constants.ENDPOINT).host
    try:
        yield HfApi(library_name="aicert")
    except errors.GatedRepoError:
        raise LockError(
            "the repository is gated, and your account has no access to it",
            hint="ask for access on its page, then `hf auth login`, or set HF_TOKEN",
        ) from None
    except errors.RepositoryNotFoundError:
        raise LockError(
            f"{host} has no such repository, or it is private",
            hint="check the name; for a private one `hf auth login`, or set HF_TOKEN",
        ) from None
    except errors.RevisionNotFoundError:
        raise LockError(
            f"there is no branch, tag or commit {source.revision!a}: misspelt or deleted",
            hint="choose one that exists, and change aicert.toml",
        ) from None
    except errors.OfflineModeIsEnabled:
        raise ToolError("the hub's client is offline", hint="unset HF_HUB_OFFLINE") from None
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            raise LockError(
                f"{host} has no such repository for this account: status {code}",
                hint="check the name; `hf auth login`, or set HF_TOKEN",
            ) from None
        raise ToolError(f"{host} answers with status {code}", hint="try again later") from None
    except (errors.HFValidationError, KeyError, TypeError, ValueError) as error:
        raise LockError(f"{host} does not answer like a hub: {type(error).__name__}") from None
    except (httpx2.HTTPError, OSError) as error:
        raise ToolError(
            f"cannot reach {host}: {type(error).__name__}", hint="check the network and HF_ENDPOINT"
        ) from None


def _patiently(transfer: Transfer, ask: Callable[[], T]) -> T:
    """Call `ask`, and again if the hub is busy or the connection was cut; wait as the hub asks."""
    for attempt in range(ATTEMPTS):
        wait: float | None = None
        try:
            return ask()
        except errors.HfHubHTTPError as error:
            wait = retry_after(error.response.headers.get("Retry-After"))
            busy = error.response.status_code in _AGAIN and (wait or 0) <= MAX_WAIT_S
            if not busy or attempt + 1 == ATTEMPTS:
                raise
        except httpx2.TransportError as error:
            # If nobody answers twice there is no network, and more patience would only hide that.
            if attempt + 1 == ATTEMPTS or (attempt and isinstance(error, httpx2.ConnectError)):
                raise
        transfer.wait(FIRST_WAIT_S * 2**attempt if wait is None else wait)
    raise ToolError("the hub did not answer")
