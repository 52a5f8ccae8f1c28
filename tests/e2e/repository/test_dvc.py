"""Inputs and outputs that git does not hold, moved by the real DVC through real remotes.

The checkouts are git repositories. The run's certificate is forged from a small tree, because DVC
does not look at it and moving files needs no training.
"""

import dataclasses
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.formats import listing as listings
from aicert.formats import lockfile
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput
from rules.dvc import environment
from rules.host.work import reading
from tests.adversarial.forger import FILES
from tests.e2e.repository.dvc_clone import TOML, Clone, lay_out

# DVC takes half a second to start, and a test starts it ten times.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return the project, locked and committed, before DVC tracks anything."""
    environment.program()
    root = tmp_path_factory.mktemp("untracked") / "origin"
    lay_out(root)
    clone = Clone(root=root)
    clone.done("git", "init", "--quiet", "--initial-branch=main")
    # Everybody except root has this setting without asking for it.
    (root / ".dvc" / "config.local").write_text("[cache]\n    type = hardlink,copy\n")
    locked = clone.doit("lock")
    assert locked.returncode == 0, locked.stderr
    clone.commit("locked")
    return clone


@pytest.fixture(scope="module")
def tracked(untracked: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `origin`, tracked and pushed, and `remote`, which has everything."""
    folder = tmp_path_factory.mktemp("tracked")
    clone = Clone(root=folder / "origin")
    shutil.copytree(untracked.root, clone.root, symlinks=True)
    (folder / "remote").mkdir()
    assert clone.doit("dvc", "remote", "add", "-d", "team", "../remote").returncode == 0
    pushed = clone.doit("dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    clone.commit("tracked")
    return folder


@pytest.fixture
def remote(tracked: Path, tmp_path: Path) -> Path:
    """Return a copy of the remote whose files may be tampered with."""
    return Path(shutil.copytree(tracked / "remote", tmp_path / "remote"))


@pytest.fixture
def origin(tracked: Path) -> Clone:
    """Return the tracked project. Tests only read it."""
    return Clone(root=tracked / "origin")


def teammate(origin: Clone, tmp_path: Path) -> Clone:
    clone = Clone(root=tmp_path / "teammate")
    origin.done("git", "clone", "--quiet", ".", str(clone.root))
    (clone.root / ".venv").symlink_to(Path(sys.prefix).resolve())
    return clone


def tamper(remote: Path, text: bytes) -> Path:
    """Change one object on the remote, keeping its size."""
    for path in remote.rglob("*"):
        if path.is_file() and text in path.read_bytes():
            data = path.read_bytes()
            path.chmod(0o644)
            path.write_bytes(data.replace(text, text[::-1]))
            return path
    raise AssertionError("the remote has no such object")


def test_what_git_does_not_hold_is_tracked_beside_lockfile_and_certificate(
    origin: Clone, remote: Path
) -> None:
    dvc_files = origin.root.rglob("*.dvc")
    tracked = sorted(str(p.relative_to(origin.root)) for p in dvc_files if p.is_file())
    # Each path has one file: the run `again` shares its input with `tiny`, which comes later by
    # name.
    assert tracked == ["certificates/tiny/model.dvc", "lockfiles/again/same.dvc"]
    lockfile = (origin.root / "lockfiles/again.lock.toml").read_text()
    digest = lockfile.partition('name = "same"')[2].partition('digest = "')[2].partition('"')[0]
    assert digest in (origin.root / "lockfiles/again/same.dvc").read_text()
    assert "up to date" in origin.dvc("status").stdout
    assert origin.done("git", "status", "--porcelain") == ""
    config = origin.dvc("config", "--list").stdout
    assert "core.analytics=false" in config
    assert "core.check_update=false" in config
    assert "remote.team.verify=true" in config


def test_nothing_is_stored_twice(origin: Clone, remote: Path) -> None:
    files = [*origin.root.glob("data/**/*.jsonl"), *origin.root.glob("outputs/**/*.json")]
    assert len(files) > 5
    for file in files:
        # A file is either one inode with two names, or a copy-on-write clone.
        linked = file.stat().st_nlink == 2
        assert linked or "reflink" in origin.dvc("doctor").stdout.partition("Cache types:")[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="others cannot write to a read-only file")
def test_what_root_writes_is_not_written_to_dvcs_copy(untracked: Clone, tmp_path: Path) -> None:
    clone = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, clone.root, symlinks=True)
    (clone.root / ".dvc" / "config.local").unlink()
    assert clone.doit("dvc", "remote", "add", "-d", "team", "../remote").returncode == 0
    assert clone.doit("dvc", "push").returncode == 0
    clone.done("sh", "-c", "echo more >> data/readme.txt")
    cached = [p.read_bytes() for p in (clone.root / ".dvc/cache").rglob("*") if p.is_file()]
    assert b"rows\n" in cached
    assert b"rows\nmore\n" not in cached
    assert clone.doit("dvc", "checkout", "--force").returncode == 0
    assert (clone.root / "data/readme.txt").read_text() == "rows\n"


def test_tracking_again_starts_no_dvc(origin: Clone, remote: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in origin.root.rglob("*.dvc") if p.is_file()}
    ended = origin.run(
        sys.executable, "-c",
        "from pathlib import Path; from rules.project import config; r = Path.cwd();"
        "from rules.dvc import tracking;"
        "p = config.load(r); print([tracking.is_tracked(r, p, x) for x in p.runs.values()])",
        AICERT_DVC="/nonexistent", PYTHONPATH=str(origin.root),
    )  # fmt: skip
    assert ended.stdout == "[True, True]\n", ended.stderr
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_teammate_pulls_with_dvc_itself_and_the_lockfile_is_current(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    assert not (clone.root / "data").exists()
    pulled = clone.dvc("pull")
    assert pulled.returncode == 0, pulled.stderr
    assert clone.doit("lock", "--check").returncode == 0
    for name, data in FILES.items():
        assert (clone.root / "outputs/tiny/model" / name).read_bytes() == data
    status = clone.doit("dvc", "status")
    assert status.returncode == 0
    assert "up to date" in status.stdout


@pytest.mark.parametrize("verify", ["true", "false"])
@pytest.mark.parametrize("text", [b'{"row": 3}', b"weights after training"])
def test_a_tampered_object_is_refused_and_removed(
    origin: Clone, remote: Path, tmp_path: Path, text: bytes, verify: str
) -> None:
    clone = teammate(origin, tmp_path)
    assert clone.dvc("remote", "modify", "team", "verify", verify).returncode == 0
    right = tamper(remote, text)
    pulled = clone.doit("dvc", "pull")
    assert pulled.returncode == 2, pulled.stderr
    if verify == "false":
        assert "DVC fetched bytes that do not match dirHash:" in pulled.stderr
        name = "sub/3.jsonl" if b"row" in text else "model.safetensors"
        assert name in pulled.stderr
    files = [p for p in (clone.root / "data", clone.root / "outputs") for p in p.rglob("*")]
    cached = list((clone.root / ".dvc/cache").rglob("*"))
    for file in (*files, *cached):
        assert not file.is_file() or text[::-1] not in file.read_bytes(), file
    # Once the remote has the right bytes again, the same command repairs everything.
    data = right.read_bytes()
    right.write_bytes(data.replace(text[::-1], text))
    again = clone.doit("dvc", "pull")
    assert again.returncode == 0, again.stderr
    assert clone.doit("lock", "--check").returncode == 0


@pytest.mark.parametrize(
    "words", [("fetch",), ("pull",), ("checkout",), ("pull", "--force", "--remote", "nobody")]
)
def test_what_a_user_wrote_is_named_and_never_removed(
    origin: Clone, remote: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    clone = teammate(origin, tmp_path)
    assert clone.doit("dvc", "pull").returncode == 0
    data, model = clone.root / "data", clone.root / "outputs/tiny/model"
    for edited, text in ((data / "readme.txt", "edited\n"), (model / "config.json", "{}")):
        # An editor writes a new file like this; DVC's own copy keeps the old bytes.
        edited.unlink()
        edited.write_text(text)
    (data / "sub" / "mine.jsonl").write_text('{"row": 99}\n')
    objects = {p: p.read_bytes() for p in (clone.root / ".dvc/cache").rglob("*") if p.is_file()}
    done = clone.doit("dvc", *words)
    assert (data / "readme.txt").read_text() == "edited\n"
    assert (data / "sub" / "mine.jsonl").read_text() == '{"row": 99}\n'
    assert (model / "config.json").read_text() == "{}"
    for path, content in objects.items():
        assert path.read_bytes() == content
    assert "readme.txt" in done.stderr
    assert "DVC did not write it: left alone" in done.stderr
    assert "removed" not in done.stderr
    assert done.returncode == (0 if words == ("fetch",) else 2), done.stderr


def test_what_was_fetched_wrong_leaves_dvcs_cache_alone_but_for_itself(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    assert clone.dvc("remote", "modify", "team", "verify", "false").returncode == 0
    tamper(remote, b'{"row": 3}')
    refused = clone.doit("dvc", "fetch")
    assert refused.returncode == 2
    assert "sub/3.jsonl" in refused.stderr
    cached = [p for p in (clone.root / ".dvc/cache/files").rglob("*") if p.is_file()]
    wanted = [p for p in remote.rglob("*") if p.is_file()]
    assert len(cached) == len(wanted) - 1
    for path in cached:
        name = f"{path.parent.name}{path.name}".removesuffix(".dir")
        assert hashlib.md5(path.read_bytes()).hexdigest() == name  # noqa: S324  # DVC's name


def test_what_dvc_itself_accepts_certify_refuses(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    assert clone.dvc("remote", "modify", "team", "verify", "false").returncode == 0
    tamper(remote, b'{"row": 3}')
    assert clone.dvc("pull").returncode == 0
    assert "up to date" in clone.dvc("status").stdout
    refused = clone.doit("certify", "tiny")
    assert refused.returncode == 2
    assert "lockfile of run tiny is stale: input data" in refused.stderr


def test_bytes_of_an_older_lockfile_are_stale_not_tampered(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    assert clone.doit("dvc", "pull").returncode == 0
    new = clone.root / "data" / "readme.txt"
    new.unlink()
    new.write_text("more rows\n")
    assert clone.doit("lock").returncode == 0
    checked = clone.doit("dvc", "checkout", "--force")
    assert checked.returncode == 0, checked.stderr
    assert (clone.root / "data" / "readme.txt").read_text() == "rows\n"


def test_nothing_is_linked_elsewhere_while_a_run_reads_it(untracked: Clone, tmp_path: Path) -> None:
    clone = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, clone.root, symlinks=True)
    before = (clone.root / "data" / "readme.txt").stat()
    with reading(clone.root):
        assert clone.doit("dvc", "remote", "add", "-d", "team", "../remote").returncode == 0
        pushed = clone.doit("dvc", "push")
    assert "not tracked yet: a run is still reading its inputs" in pushed.stderr
    assert not list(clone.root.glob("lockfiles/*/*.dvc"))
    after = (clone.root / "data" / "readme.txt").stat()
    assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)
    # Bytes that differ from the locked ones are not handed to DVC either.
    (clone.root / "data" / "readme.txt").write_text("edited\n")
    assert clone.doit("dvc", "push").returncode == 0
    assert not list(clone.root.glob("lockfiles/*/*.dvc"))


def test_what_a_clone_made_itself_is_pushed_and_one_run_tracks_a_path(
    origin: Clone, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    # The inputs are generated in the clone, like those of the shipped example, and not pulled.
    shutil.copytree(origin.root / "data", clone.root / "data")
    toml = TOML.replace("runs.again", "runs.above")
    (clone.root / "aicert.toml").write_text(toml)
    assert clone.doit("lock").returncode == 0
    assert clone.doit("dvc", "remote", "add", "mine", str(tmp_path / "mine")).returncode == 0
    pushed = clone.doit("dvc", "push", "--remote", "mine", "lockfiles/above/same.dvc")
    assert pushed.returncode == 0, pushed.stderr
    assert "moved  lockfiles/again/same.dvc to lockfiles/above/same.dvc" in pushed.stderr
    assert [str(p.relative_to(clone.root)) for p in clone.root.glob("lockfiles/*/*.dvc")] == [
        "lockfiles/above/same.dvc"
    ]
    objects = [p for p in (tmp_path / "mine").rglob("*") if p.is_file()]
    assert len(objects) == 7  # six files and their listing
    shutil.rmtree(clone.root / ".dvc" / "cache")
    again = clone.doit("dvc", "push", "--remote", "mine", "lockfiles/above/same.dvc")
    assert "tracked  lockfiles/above/same.dvc" in again.stderr


@pytest.mark.parametrize("dropped", [True, False])
def test_what_was_changed_in_place_and_made_again_is_pushed_whole(
    untracked: Clone, tmp_path: Path, dropped: bool
) -> None:
    origin = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, origin.root, symlinks=True)
    assert origin.doit("dvc", "remote", "add", "-d", "team", "../remote").returncode == 0
    assert origin.doit("dvc", "push", "-r", "team").returncode == 0
    origin.commit("tracked")
    shutil.rmtree(tmp_path / "remote")
    # DVC's copy is a link to this file. DVC either drops it as corrupt, or trusts it because it is
    # read-only.
    model = origin.root / "outputs" / "tiny" / "model"
    mode = (model / "model.safetensors").stat().st_mode
    (model / "model.safetensors").chmod(0o644)
    (model / "model.safetensors").write_bytes(FILES["model.safetensors"][::-1])
    (model / "model.safetensors").chmod(mode)
    if dropped:
        for copy in (origin.root / ".dvc" / "cache").rglob("*"):
            if copy.is_file() and copy.samefile(model / "model.safetensors"):
                copy.unlink()
    lost = origin.doit("dvc", "push")
    assert lost.returncode == 2, lost.stderr
    assert "certificates/tiny/model.dvc" in lost.stderr or "outputs/tiny/model" in lost.stderr
    # certify puts another execution's files in place like this.
    shutil.rmtree(model)
    model.mkdir()
    for name, data in FILES.items():
        (model / name).write_bytes(data)
    pushed = origin.doit("dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    assert "tracked  certificates/tiny/model.dvc" in pushed.stderr
    clone = teammate(origin, tmp_path)
    pulled = clone.doit("dvc", "pull")
    assert pulled.returncode == 0, pulled.stderr
    for name, data in FILES.items():
        assert (clone.root / "outputs/tiny/model" / name).read_bytes() == data


def test_a_push_of_what_is_nowhere_is_no_success(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    shutil.rmtree(remote)
    pushed = clone.doit("dvc", "push")
    assert pushed.returncode == 2, pushed.stderr
    assert "neither DVC's cache nor the remote has everything that is tracked" in pushed.stderr
    assert "outputs/tiny/model" in pushed.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a folder away")
def test_git_that_refuses_another_owners_checkout_is_heard(
    untracked: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, clone.root, symlinks=True)
    assert clone.doit("dvc", "remote", "add", "-d", "team", "../remote").returncode == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # Root trusts itself, and the owner that SUDO_UID names, if it is set.
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (clone.root, clone.root / ".git"):
        os.chown(path, 65534, 65534)
    pushed = clone.doit("dvc", "push")
    assert pushed.returncode == 2, pushed.stderr
    assert "dubious ownership" in pushed.stderr
    assert f"hint: git config --global --add safe.directory {clone.root}" in pushed.stderr
    assert not list(clone.root.glob("lockfiles/*/*.dvc"))


def test_a_push_without_a_remote_says_how_to_add_one(untracked: Clone, tmp_path: Path) -> None:
    clone = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, clone.root, symlinks=True)
    pushed = clone.doit("dvc", "push")
    assert pushed.returncode == 2
    assert "hint: ./doit dvc remote add -d team s3://" in pushed.stderr


def test_an_unpacked_archive_has_no_dvc(untracked: Clone, tmp_path: Path) -> None:
    clone = Clone(root=tmp_path / "archive")
    shutil.copytree(untracked.root, clone.root, symlinks=True, ignore=lambda *_: [".git"])
    refused = clone.doit("dvc", "pull")
    assert refused.returncode == 3
    assert "git repository" in refused.stderr


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run moto's server with an empty bucket; yield its URL."""
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def test_an_s3_remote_serves_and_a_tampered_one_is_refused(
    untracked: Clone, s3: str, tmp_path: Path
) -> None:
    import boto3

    origin = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, origin.root, symlinks=True)
    bucket = boto3.client("s3", endpoint_url=s3)
    bucket.create_bucket(Bucket="team")
    assert origin.doit("dvc", "remote", "add", "-d", "team", "s3://team/models").returncode == 0
    assert origin.doit("dvc", "remote", "modify", "team", "endpointurl", s3).returncode == 0
    pushed = origin.doit("dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    origin.commit("tracked")
    clone = teammate(origin, tmp_path)
    pulled = clone.doit("dvc", "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert clone.doit("lock", "--check").returncode == 0

    clone.forget_bytes()
    assert clone.dvc("remote", "modify", "team", "verify", "false").returncode == 0
    for item in bucket.list_objects_v2(Bucket="team")["Contents"]:
        data = bucket.get_object(Bucket="team", Key=item["Key"])["Body"].read()
        if b'{"row": 4}' in data:
            changed = data.replace(b'{"row": 4}', b'{"row": 7}')
            bucket.put_object(Bucket="team", Key=item["Key"], Body=changed)
    refused = clone.doit("dvc", "pull")
    assert refused.returncode == 2
    assert "sub/4.jsonl" in refused.stderr
    assert not (clone.root / "data/sub/4.jsonl").exists()


def test_what_was_fetched_is_tracked_where_it_was_fetched_to(
    untracked: Clone, tmp_path: Path
) -> None:
    clone = Clone(root=tmp_path / "origin")
    shutil.copytree(untracked.root, clone.root, symlinks=True)
    source = f"git+https://example.org/rows@{'ab' * 20}"
    toml = TOML.replace('same = "path:data"', f'same = "path:data"\nrows = "{source}"')
    (clone.root / "aicert.toml").write_text(toml)
    files = {"a.jsonl": b"{}\n", "b/c.jsonl": b'{"a": 1}\n'}
    listing = listings.listing(
        {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    )
    locked = lockfile.parse((clone.root / "lockfiles/again.lock.toml").read_bytes())
    rows = LockedInput(
        name="rows",
        source=source,
        uri=source,
        size=12,
        digest=Digest("dirHash", hashlib.sha256(listing).hexdigest()),
    )
    inputs = tuple(sorted((*locked.inputs, rows), key=lambda item: item.name))
    data = lockfile.emit(dataclasses.replace(locked, inputs=inputs))
    (clone.root / "lockfiles/again.lock.toml").write_bytes(data)
    (clone.root / "lockfiles/again/rows.sha256").write_bytes(listing)
    # `./doit fetch` lays files out like this; a store that AICERT_CACHE shares is not in the
    # checkout.
    tree = clone.root / ".aicert" / "store" / "trees" / rows.digest.hex
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (clone.root / ".aicert" / "envs").symlink_to(environment.location().parent)
    remote = tmp_path / "remote"
    remote.mkdir()
    own = {"AICERT_CACHE": str(clone.root / ".aicert")}
    for arguments in (("remote", "add", "-d", "team", str(remote)), ("push",)):
        done = clone.run(clone.root / "doit", "dvc", *arguments, **own)
        assert done.returncode == 0, done.stderr
    assert str(rows.digest) in (clone.root / "lockfiles/again/rows.dvc").read_text()
    shutil.rmtree(tree)
    shutil.rmtree(clone.root / ".dvc" / "cache")
    pulled = clone.run(clone.root / "doit", "dvc", "pull", **own)
    assert pulled.returncode == 0, pulled.stderr
    assert (tree / "b" / "c.jsonl").read_bytes() == files["b/c.jsonl"]
    current = clone.run(
        sys.executable, "-c",
        "from pathlib import Path; from rules.project import config, fetch, lock; r = Path.cwd();"
        "print(fetch.fetch_inputs(r, lock.current(r, config.load(r).run('again'))))",
        PYTHONPATH=str(clone.root), **own,
    )  # fmt: skip
    # Nothing had to be fetched from the source, which does not exist.
    assert current.stdout == "[]\n", current.stderr


def without(root: Path, run: str) -> None:
    """Remove a run from aicert.toml."""
    toml = (root / "aicert.toml").read_text()
    before, _, rest = toml.partition(f"[runs.{run}]")
    after = rest.partition("\n\n")[2]
    (root / "aicert.toml").write_text(before + after)


def test_a_pull_never_fails_for_a_run_that_is_gone(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    without(clone.root, "tiny")
    for path in [path for path in remote.rglob("*") if path.is_file()]:
        # The model consists of all objects except the data and DVC's listing of the data.
        if not any(text in path.read_bytes() for text in (b'{"row": ', b"rows\n", b"sub/0.jsonl")):
            path.unlink()
    assert clone.dvc("pull").returncode != 0
    pulled = clone.doit("dvc", "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert "certificates/tiny/model.dvc; ./doit prune removes them" in pulled.stderr
    assert (clone.root / "data" / "readme.txt").is_file()
    assert "left over from runs that no longer exist: tiny" in clone.doit("lock").stderr
    assert clone.doit("prune", "--yes").returncode == 0
    assert not (clone.root / "certificates" / "tiny").exists()
    assert clone.dvc("pull").returncode == 0
    assert clone.doit("dvc", "pull").returncode == 0


def test_an_input_that_a_run_shared_goes_to_the_one_that_stays(
    origin: Clone, remote: Path, tmp_path: Path
) -> None:
    clone = teammate(origin, tmp_path)
    without(clone.root, "again")
    # The bytes are only on the remote.
    pruned = clone.doit("prune", "--yes")
    assert pruned.returncode == 0, pruned.stderr
    assert "moved  lockfiles/again/same.dvc to lockfiles/tiny/data.dvc" in pruned.stdout
    assert not list((clone.root / "lockfiles").glob("again*"))
    pulled = clone.dvc("pull")
    assert pulled.returncode == 0, pulled.stderr
    assert (clone.root / "data" / "readme.txt").is_file()
    assert clone.doit("lock", "--check").returncode == 0
