"""Parse the text forms of sources (docs/spec/lockfile.md, "Sources"), strictly and without I/O.

A scheme is one entry of `SCHEMES`. No form has room for a secret: a user, a password, and a query
parameter that may be a secret are refused, since everybody can read the sources in lockfiles and
certificates.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from aicert.errors import ConfigError
from aicert.formats.lockfile import NAME, RUN_SCHEME

_SHOWN = 120
# The hub's rule for names (letters, digits, - _ ., up to 96), after an organisation's name.
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# What both git (git-check-ref-format) and the hub accept as a branch, a tag or a commit.
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECRETS = re.compile(
    r"(?:^|[-_])(?:token|sig|signature|credential|password|passwd|secret|apikey|key|auth)(?:$|[-_])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSource:
    """`path:PATH`: a file or directory of the repository."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """`run:OTHER/OUTPUT`: an output of another run."""

    run: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """`hf:ORG/NAME@REVISION` or `hf:datasets/ORG/NAME@REVISION`."""

    kind: Literal["model", "dataset"]
    repository: str
    revision: str

    def at(self, commit: str) -> str:
        """Return the uri of this source at one commit."""
        prefix = "datasets/" if self.kind == "dataset" else ""
        return f"hf:{prefix}{self.repository}@{commit}"

    @property
    def place(self) -> str:
        """The source without its revision."""
        return self.at("")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """`git+https://HOST/PATH@REVISION[#SUBDIR]`; `subdir` is empty for the whole repository."""

    url: str
    revision: str
    subdir: str

    def at(self, commit: str) -> str:
        """Return the uri of this source at one commit."""
        return f"git+{self.url}@{commit}" + (f"#{self.subdir}" if self.subdir else "")

    @property
    def place(self) -> str:
        """The source without its revision."""
        return self.at("")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSource:
    """`https://…`: one file, pinned by its digest when it is first locked."""

    url: str

    @property
    def place(self) -> str:
        """The source itself, since it has no revisions."""
        return self.url


Remote = HubSource | GitSource | WebSource
Source = PathSource | RunSource | Remote


def parse(text: str) -> Source:
    """Parse a source. Raises ConfigError, which shows the expected form."""
    for scheme, form in SCHEMES.items():
        if text.startswith(scheme):
            if not (text.isascii() and text.isprintable()) or set(text) & set('"\\ '):
                raise _bad(text, "is not printable ASCII without spaces, quotes and backslashes")
            return form(text)
    if ":" not in text:
        raise _bad(text, f"has no scheme, did you mean {f'path:{text[:_SHOWN]}'!a}?")
    raise ConfigError(
        f"source {text[:_SHOWN]!a} has an unknown scheme",
        hint=f"schemes: {', '.join(SCHEMES)}",
    )


def is_commit(text: str) -> bool:
    """Return whether a revision is a full commit: 40 (SHA-1) or 64 (SHA-256) lowercase hex digits.

    Names of branches and abbreviated commits are not.
    """
    return _COMMIT.fullmatch(text) is not None


def _bad(text: str, what: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"source {text[:_SHOWN]!a} {what}", hint=hint)


def _path(text: str) -> PathSource:
    path = text.removeprefix("path:")
    if not path or path != os.path.normpath(path) or path in (".", ".."):
        raise _bad(text, "is not a plain relative path")
    if path.startswith(("/", "../")):
        raise _bad(
            text,
            "is outside the repository",
            "copy it into the repository: a lockfile cannot name what reviewers cannot see",
        )
    return PathSource(path=path)


def _run(text: str) -> RunSource:
    run, slash, output = text.removeprefix(RUN_SCHEME).partition("/")
    if not slash or not NAME.fullmatch(run) or not NAME.fullmatch(output):
        raise _bad(text, "is not of the form run:RUN/OUTPUT", "for example run:tiny-alpaca/model")
    return RunSource(run=run, output=output)


def _hub(text: str) -> HubSource:
    rest = text.removeprefix("hf:")
    kind: Literal["model", "dataset"] = "dataset" if rest.startswith("datasets/") else "model"
    repository, at, revision = rest.removeprefix("datasets/").partition("@")
    form = "hf:datasets/ORG/NAME@REVISION" if kind == "dataset" else "hf:ORG/NAME@REVISION"
    if not _REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository:
        raise _bad(text, f"is not of the form {form}")
    return HubSource(kind=kind, repository=repository, revision=_revision(text, at, revision))


def _git(text: str) -> GitSource:
    whole, sharp, subdir = text.removeprefix("git+").partition("#")
    parts = _url(text, whole)
    path, at, revision = parts.path.rpartition("@")
    if not at:
        path = parts.path
    if parts.query or not path.strip("/"):
        raise _bad(text, "is not of the form git+https://HOST/PATH@REVISION[#SUBDIR]")
    if sharp and (
        subdir != os.path.normpath(subdir) or subdir.startswith(("/", ".")) or ":" in subdir
    ):
        raise _bad(text, "has a subdirectory that is not a plain relative path")
    url = f"https://{parts.netloc}{path}"
    return GitSource(url=url, revision=_revision(text, at, revision), subdir=subdir)


def _web(text: str) -> WebSource:
    parts = _url(text, text)
    if parts.fragment or "#" in text:
        raise _bad(text, "has a fragment, which no server ever sees")
    if not parts.path.rpartition("/")[2]:
        raise _bad(text, "names no file")
    for key, _ in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRETS.search(unquote(key)):
            raise _bad(
                text.partition("?")[0],
                f"has a query parameter {key[:40]!a}, which looks like a secret",
                "a source stands in lockfiles for everybody: put credentials into ~/.netrc",
            )
    return WebSource(url=text)


def _url(text: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad(text, "is not a URL") from None
    if "@" in parts.netloc:
        # Do not show the text: what stands before the @ is a user's name or worse.
        raise ConfigError(
            f"a source at {(parts.hostname or '')[:_SHOWN]!a} has a login in its address",
            hint="credentials belong in git's credential helper or ~/.netrc, not in files here",
        )
    if not parts.hostname or port == 0:
        raise _bad(text, "names no host")
    return parts


def _revision(text: str, at: str, revision: str) -> str:
    if not at or not revision:
        raise _bad(text, "has no revision", f"{text.partition('#')[0]}@main, or a tag or a commit")
    if not _REVISION.fullmatch(revision) or ".." in revision or revision.endswith(("/", ".")):
        raise _bad(text, "has a revision that is not a branch, tag or commit")
    return revision


SCHEMES: Mapping[str, Callable[[str], Source]] = {
    "path:": _path,
    RUN_SCHEME: _run,
    "hf:": _hub,
    "git+https://": _git,
    "https://": _web,
}
