"""Each lock is installed from an index that also offers newer versions of every member.

The index is made here. For each member it has a wheel of the locked version that requires what the
real one requires (tests/locks), a source archive where the real one has only that, and a newer
version that must not be taken. The locks are the real ones with the digests of these files. No
network is used.
"""

import os
import sys
from pathlib import Path

import pytest

from rules.host import installer
from tests.locks import index
from tests.locks.requirements_of import read

LOCKS = {str(path.relative_to(index.ROOT)): path for path in index.every_lock()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the index `simple`, and next to it every lock with the digests of the index's files."""
    folder = tmp_path_factory.mktemp("shop")
    simple = folder / "simple"
    requires = {
        (name, member.version): member.requires
        for _, members in read().values()
        for name, member in members.items()
    }
    digests: dict[tuple[str, str], str] = {}
    for lock, path in LOCKS.items():
        lines = []
        for name, version in index.locked(path).items():
            place = index.project(simple, name)
            key = (name, version)
            if key not in digests and name in installer.SDISTS:
                digests[key] = index.sdist(place, name, version)
            elif key not in digests:
                digests[key] = index.wheel(place, name, version, requires.get(key, ()))
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{digests[key]}\n")
            index.wheel(place, name, index.NEWER)
        (folder / lock.replace("/", "-")).write_text("".join(lines))
    index.list_files(simple)
    return folder


@pytest.fixture
def only_our_index(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", (shop / "simple").as_uri())


def installed(target: Path) -> dict[str, str]:
    versions = {}
    for info in target.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        versions[name.replace("_", "-").lower()] = version
    return versions


@pytest.mark.parametrize("lock", LOCKS)
def test_exactly_what_is_locked_is_installed(
    shop: Path, only_our_index: None, tmp_path: Path, lock: str
) -> None:
    installer.install(Path(sys.executable), shop / lock.replace("/", "-"), target=tmp_path / "t")
    wanted = {name.replace(".", "-"): v for name, v in index.locked(LOCKS[lock]).items()}
    assert installed(tmp_path / "t") == wanted


def test_the_cause_is_shown_when_a_build_fails(
    shop: Path, only_our_index: None, tmp_path: Path
) -> None:
    (name,) = sorted(installer.SDISTS)[:1]
    noise = "print('noise ' * 3 + chr(10)) or None"
    code = f"for _ in range(200): {noise}\nraise SystemExit('no bdist_wheel on a rainy day')"
    folder = index.project(tmp_path / "simple", name)
    digest = index.sdist(folder, name, "1.0", code)
    index.list_files(tmp_path / "simple")
    lock = tmp_path / "a.lock"
    lock.write_text(f"{name}==1.0 \\\n    --hash=sha256:{digest}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
        with pytest.raises(installer.InstallError) as caught:
            installer.install(Path(sys.executable), lock, target=tmp_path / "t")
    lines = caught.value.message.splitlines()
    assert "could not install" in lines[0]
    assert "no bdist_wheel on a rainy day" in caught.value.message
    assert any(line.strip().startswith("×") for line in lines)
    assert len(lines) < 70, "bounded"


def test_a_source_that_is_not_named_is_not_built(
    shop: Path, only_our_index: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = index.project(tmp_path / "simple", "unnamed")
    ran = tmp_path / "ran"
    digest = index.sdist(folder, "unnamed", "1.0", f"open({str(ran)!r}, 'w')")
    index.list_files(tmp_path / "simple")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    lock = tmp_path / "a.lock"
    lock.write_text(f"unnamed==1.0 \\\n    --hash=sha256:{digest}\n")
    with pytest.raises(installer.InstallError, match="No matching distribution"):
        installer.install(Path(sys.executable), lock, target=tmp_path / "t")
    assert not ran.exists()


@pytest.mark.parametrize(
    "text",
    ["torch>=1 --hash=sha256:00\n", "-e .\n", "torch==1.0\n", "https://example.org/a.whl\n"],
)
def test_a_lock_that_leaves_a_choice_is_refused(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(text)
    with pytest.raises(installer.InstallError, match=r"not a requirement|no hash"):
        installer.install(Path(sys.executable), lock, target=tmp_path / "t")
