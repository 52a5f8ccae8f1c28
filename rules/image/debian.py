"""Get Debian packages by digest, from a local store or from the mirrors that apt uses here.

apt's ordinary client does every download, with state of its own: nothing is installed here, and
this machine's package lists stay as they are. Signed indices vouch for new packages, digests for
locked ones.
"""

import datetime
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ToolError
from aicert.formats.digest import Digest
from aicert.formats.image_lock import Package
from rules.host import progress
from rules.host.work import remove

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
_PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb")


class GoneError(ToolError):
    """Raised if no source has the bytes in the image lock any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A locked package that a source does not have, with the source's message."""

    package: Package
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Files by digest: `<folder>/<sha256>/<file name>`."""

    folder: Path

    def add(self, path: Path) -> Digest:
        """Move a file into the store, and return its digest."""
        with path.open("rb") as file:
            digest = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
        if self.find(digest) is None:
            place = self.folder / digest.hex
            place.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place / path.name)
        return digest

    def find(self, digest: Digest) -> Path | None:
        """Return the file with that digest, or None. It is hashed again: a store is no evidence."""
        for path in (self.folder / digest.hex).glob("*"):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest.hex:
                    return path
            path.unlink()
        return None

    def get(self, package: Package) -> Path:
        """Return the file of a package that was added earlier. Raises ToolError."""
        path = self.find(package.digest)
        if path is None:
            raise ToolError(
                f"the store no longer has {package.name} {package.version}, or its bytes changed",
                hint="./doit image",
            )
        return path


class Apt:
    """apt with its own lists and cache, for one release and its updates.

    Without other deb822 sources it uses Debian's, from this machine's mirrors. `move`: the command
    that updates the lock if a package is no longer available. `name`: the source's name in errors.
    `patience`: how many seconds a server may be silent.
    """

    def __init__(
        self,
        folder: Path,
        release: str,
        *,
        given: str = "",
        move: str = "./doit image_update",
        name: str = "the mirror",
        patience: int | None = None,
    ) -> None:
        for program in _PROGRAMS:
            if shutil.which(program) is None:
                raise ToolError(
                    f"{program} is missing: images are built from Debian packages",
                    hint="build the image on Debian",
                )
        self.folder = folder
        self.release = release
        for place in ("lists/partial", "cache/archives/partial"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        self.move, self.name, self.patience = move, name, patience
        self.sources = given or sources(release)
        (folder / "debian.sources").write_text(self.sources, encoding="ascii")

    def _options(self) -> list[str]:
        options: dict[str, object] = {
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::SourceList": self.folder / "debian.sources",
            "Dir::Etc::SourceParts": "-",
            "APT::Sandbox::User": "root",
        }
        if self.patience is not None:
            options |= {f"Acquire::{kind}::Timeout": self.patience for kind in ("http", "https")}
            options |= {"Acquire::Retries": 1}
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Fetch the indices. Raises ToolError if a server does not answer."""
        # By default apt only warns about old or missing indices, and then reports packages as
        # missing.
        strict = ["-o", "APT::Update::Error-Mode=any"]
        run(["apt-get", *self._options(), *strict, "--quiet", "update"])

    def download(self, names: Iterable[str]) -> list[Path]:
        """Fetch packages, each `name` or `name=version`."""
        place = self.folder / "download"
        remove(place)
        place.mkdir()
        run(["apt-get", *self._options(), "--quiet", "download", *names], directory=place)
        return sorted(place.glob("*.deb"))

    def depends(self, name: str) -> list[str]:
        """Return the names of a package's dependencies."""
        text = run(["apt-cache", *self._options(), "depends", "--important", name])
        return re.findall(r"^ +Depends: ([a-z0-9][a-z0-9+.-]+)$", text, re.MULTILINE)


def sources(release: str) -> str:
    """Write deb822 sources of a release, its updates and security, for this machine's mirrors."""
    own = platform.freedesktop_os_release()
    name = own.get("VERSION_CODENAME", "")
    plain, security = _mirrors(name)
    if not plain or not security:
        # apt reports suites only if it has their indices, and small systems delete them.
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
    """Return the mirrors from which this machine's apt gets a release and its security updates."""
    text = run(["apt-get", *options, "indextargets", "--format", _FORMAT])
    suites = [line.split() for line in text.splitlines()]
    plain = [words[0] for words in suites if words[1:] == [name, "main"]]
    return plain, [words[0] for words in suites if words[1:] == [f"{name}-security", "main"]]


def describe(path: Path) -> tuple[str, str]:
    """Return name and version of a package file."""
    name, version = run(
        ["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(path)]
    ).split()
    return name, version


def add(store: Store, part: str, paths: Iterable[Path]) -> list[Package]:
    """Move package files into the store, and return their lock entries."""
    packages = []
    for path in paths:
        name, version = describe(path)
        packages.append(Package(part=part, name=name, version=version, digest=store.add(path)))
    return packages


def fetch(store: Store, apt: Apt, packages: Sequence[Package]) -> None:
    """Make sure that exactly these bytes are in the store.

    Raises GoneError for a package that is unavailable.
    """
    for missing in obtain(store, apt, packages):
        raise GoneError(missing.reason, hint=apt.move)


def absent(store: Store, packages: Iterable[Package]) -> list[Package]:
    """Return the packages that are not in the store."""
    return [package for package in packages if store.find(package.digest) is None]


def obtain(store: Store, apt: Apt, packages: Sequence[Package]) -> list[Missing]:
    """Fetch packages that the store lacks; return those that the source lacks or has changed."""
    wanted = absent(store, packages)
    if not wanted:
        return []
    progress.say(f"fetching {len(wanted)} packages of {apt.release} from {apt.name}")
    apt.update()
    # Download all at once, so that apt keeps its connection and reads its lists once. If that
    # fails, the loop below finds out which packages are missing.
    with suppress(ToolError):
        for path in apt.download(f"{each.name}={each.version}" for each in wanted):
            store.add(path)
    results = (_obtain_one(store, apt, package) for package in absent(store, wanted))
    return [missing for missing in results if missing is not None]


def _obtain_one(store: Store, apt: Apt, package: Package) -> Missing | None:
    try:
        (path,) = apt.download([f"{package.name}={package.version}"])
    except ToolError as error:
        return Missing(
            package=package,
            reason=f"{apt.name} no longer has {package.name} {package.version} ({apt.release}), "
            f"which the image lock names\n{error.message}",
        )
    digest = store.add(path)
    if digest == package.digest:
        return None
    return Missing(
        package=package,
        reason=f"{apt.name} has different bytes for {package.name} {package.version}"
        f"\n  locked  {package.digest}\n  found   {digest}",
    )


def newest(store: Store, apt: Apt, packages: Sequence[Package]) -> list[Package]:
    """Fetch the mirror's current versions of `packages`."""
    progress.say(f"fetching what {apt.name} has today of {len(packages)} packages")
    apt.update()
    by_name = {package.name: package.part for package in packages}
    packages_today: list[Package] = []
    for path in apt.download(sorted(by_name)):
        name, version = describe(path)
        digest = store.add(path)
        packages_today.append(
            Package(part=by_name[name], name=name, version=version, digest=digest)
        )
    return packages_today


def made_on(path: Path) -> str:
    """Return the day of a package's last change: its changelog sets its times (deb(5), ar(5))."""
    with path.open("rb") as file:
        header = file.read(36)
    try:
        when = datetime.datetime.fromtimestamp(int(header[24:36]), datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return "an unknown day"
    return when.date().isoformat()


def repository(store: Store, packages: Sequence[Package], release: str, target: Path) -> None:
    """Make a `file:` repository with exactly these packages, so that apt knows no others."""
    remove(target)
    place = target / "dists" / release / "main" / "binary-amd64"
    place.mkdir(parents=True)
    (target / "pool").mkdir()
    index: list[str] = []
    for package in packages:
        path = store.get(package)
        # mkosi takes the package's name from the file name.
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
    """Run a program and return its standard output. Raises ToolError with its message."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        cwd=directory, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()[-2000:]
        raise ToolError(f"{words[0]} failed with exit code {done.returncode}\n{output}")
    return done.stdout
