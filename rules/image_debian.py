"""Debian packages by digest: from a local store, else from the mirrors that this machine's apt
uses.

apt's ordinary client does every download, with state of its own: nothing is installed here, and the
machine's lists stay as they are. Signed indices vouch for what is new; digests for what is locked.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aicert.digest import Digest
from aicert.errors import ToolError
from aicert.image_lock import Package
from rules import progress
from rules.work import remove

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
_PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb")


class GoneError(ToolError):
    """Bytes that the image lock names and no source has any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Files by digest: `<folder>/<sha256>/<file name>`."""

    folder: Path

    def add(self, path: Path) -> Digest:
        """Move a file in; its digest."""
        with path.open("rb") as file:
            digest = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
        if self.find(digest) is None:
            place = self.folder / digest.hex
            place.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place / path.name)
        return digest

    def find(self, digest: Digest) -> Path | None:
        """The file of that digest, read again: a store is no evidence."""
        for path in (self.folder / digest.hex).glob("*"):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest.hex:
                    return path
            path.unlink()
        return None

    def get(self, package: Package) -> Path:
        """The file of a package that was put here before. Raises ToolError."""
        path = self.find(package.digest)
        if path is None:
            raise ToolError(
                f"the store lost {package.name} {package.version}, or it has other bytes now",
                hint="./doit image",
            )
        return path


class Apt:
    """apt with its own lists and cache, for one release and its updates.

    Debian's, from this machine's mirrors, where no other deb822 sources are given. `move`: the
    command that moves the lock, where a package is to be had no more.
    """

    def __init__(
        self, folder: Path, release: str, *, given: str = "", move: str = "./doit image_update"
    ) -> None:
        for name in _PROGRAMS:
            if shutil.which(name) is None:
                raise ToolError(
                    f"{name} is missing: images are built from Debian packages",
                    hint="build the image on Debian",
                )
        self.folder = folder
        self.release = release
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.move = move
        self.sources = given or sources(release)
        (folder / "debian.sources").write_text(self.sources, encoding="ascii")

    def _options(self) -> list[str]:
        options = {
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::SourceList": self.folder / "debian.sources",
            "Dir::Etc::SourceParts": "-",
            "APT::Sandbox::User": "root",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Fetch the indices."""
        run(["apt-get", *self._options(), "--quiet", "update"])

    def download(self, names: Iterable[str]) -> list[Path]:
        """Fetch packages, each `name` or `name=version`."""
        place = self.folder / "download"
        remove(place)
        place.mkdir()
        run(["apt-get", *self._options(), "--quiet", "download", *names], directory=place)
        return sorted(place.glob("*.deb"))

    def depends(self, name: str) -> list[str]:
        """What a package depends on, by name."""
        text = run(["apt-cache", *self._options(), "depends", "--important", name])
        return re.findall(r"^ +Depends: ([a-z0-9][a-z0-9+.-]+)$", text, re.MULTILINE)


def sources(release: str) -> str:
    """deb822 sources of a release, its updates and security, on this machine's own mirrors."""
    own = platform.freedesktop_os_release()
    name = own.get("VERSION_CODENAME", "")
    plain, security = _mirrors(name)
    if not plain or not security:
        # apt tells of suites whose indices it holds. Small systems throw them away.
        with tempfile.TemporaryDirectory() as lists:
            (Path(lists) / "partial").mkdir()
            state = ["-o", f"Dir::State::Lists={lists}", "-o", "APT::Sandbox::User=root"]
            run(["apt-get", *state, "--quiet", "update"])
            plain, security = _mirrors(name, state)
    if own.get("ID") != "debian" or not plain or not security:
        raise ToolError(
            "apt on this machine has no Debian mirror with a security suite in its configuration",
            hint="build the image on Debian, with the sources that its installer writes",
        )
    stanzas = (
        (plain[0], f"{release} {release}-updates"),
        (security[0], f"{release}-security"),
    )
    return "\n".join(
        f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n"
        for uri, suites in stanzas
    )


def _mirrors(name: str, options: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """Where this machine's apt has a release, and its security updates."""
    text = run(["apt-get", *options, "indextargets", "--format", _FORMAT])
    found = [line.split() for line in text.splitlines()]
    plain = [words[0] for words in found if words[1:] == [name, "main"]]
    return plain, [words[0] for words in found if words[1:] == [f"{name}-security", "main"]]


def describe(path: Path) -> tuple[str, str]:
    """Name and version of a package file."""
    name, version = run(
        ["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(path)]
    ).split()
    return name, version


def add(store: Store, part: str, paths: Iterable[Path]) -> list[Package]:
    """Move package files into the store; what a lock says of them."""
    packages = []
    for path in paths:
        name, version = describe(path)
        packages.append(Package(part=part, name=name, version=version, digest=store.add(path)))
    return packages


def fetch(store: Store, apt: Apt, packages: Sequence[Package]) -> None:
    """See that exactly these bytes are in the store; GoneError names what is to be had no more."""
    missing = [package for package in packages if store.find(package.digest) is None]
    if not missing:
        return
    progress.say(f"fetching {len(missing)} packages of {apt.release}")
    apt.update()
    try:
        # In one go: apt keeps its connection, and reads its lists once.
        for path in apt.download(f"{each.name}={each.version}" for each in missing):
            store.add(path)
    except ToolError:
        # The loop below says which.
        pass
    for package in missing:
        if store.find(package.digest) is not None:
            continue
        try:
            (path,) = apt.download([f"{package.name}={package.version}"])
        except ToolError as error:
            raise GoneError(
                f"the mirror no longer has {package.name} {package.version} ({apt.release}), which "
                f"the image lock names\n{error.message}",
                hint=apt.move,
            ) from None
        digest = store.add(path)
        if digest != package.digest:
            raise GoneError(
                f"the mirror has other bytes for {package.name} {package.version}"
                f"\n  locked  {package.digest}\n  found   {digest}",
                hint=apt.move,
            )


def repository(store: Store, packages: Sequence[Package], release: str, target: Path) -> None:
    """A repository of exactly these packages, for apt by `file:`, which then knows no others."""
    remove(target)
    place = target / "dists" / release / "main" / "binary-amd64"
    place.mkdir(parents=True)
    (target / "pool").mkdir()
    index: list[str] = []
    for package in packages:
        path = store.get(package)
        # mkosi takes the package's name from the file's.
        name = f"pool/{package.name}_{package.digest.hex}.deb"
        os.link(path, target / name)
        control = run(["dpkg-deb", "--field", str(path)]).rstrip()
        index.append(
            f"{control}\nFilename: {name}\n"
            f"Size: {path.stat().st_size}\nSHA256: {package.digest.hex}\n"
        )
    data = "\n".join(index).encode()
    (place / "Packages").write_bytes(data)
    entry = f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
    (target / "dists" / release / "Release").write_text(
        f"Suite: {release}\nCodename: {release}\nArchitectures: amd64\nComponents: main\n"
        f"SHA256:\n{entry}",
        encoding="ascii",
    )


def run(words: Sequence[str], *, directory: Path = Path("/")) -> str:
    """Run to the end; standard output. Raises ToolError with what the program said."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        cwd=directory, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise ToolError(f"{words[0]} failed with exit code {done.returncode}\n{said}")
    return done.stdout
