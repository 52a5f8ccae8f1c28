"""Results are put in place whole or not at all, wherever `outputs/` and `.aicert` lie.

Disks, mounts and overlays are the kernel's own; where one has to be made, the test makes it in a
mount namespace of its own.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aicert.errors import ToolError
from rules.runs import placing
from rules.runs.placing import Place

REPOSITORY = Path(__file__).resolve().parents[4]
OLD = {"model.safetensors": b"old weights", "sub/config.json": b"old"}
NEW = {"model.safetensors": b"new weights", "more/a": b"a"}


def write_tree(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def finished(place: Place, files: dict[str, bytes] = NEW, mark: bytes = b"new") -> None:
    """Lay out a machine's results as they are when it has ended."""
    write_tree(place.finished / "outputs" / "model", files)
    write_tree(
        place.finished,
        {"certificate.json": mark, "training.log": mark, "signatures/model.sig": mark},
    )


def placed(root: Path, files: dict[str, bytes] = OLD, mark: bytes = b"old") -> Place:
    """Lay out a checkout with a result in place."""
    place = Place(root=root, run="tiny", outputs=("model",))
    write_tree(place.home / "model", files)
    write_tree(
        place.certificates, {"certificate.json": mark, "training.log": mark, "model.sig": mark}
    )
    return place


def state(place: Place) -> tuple[dict[str, bytes], dict[str, bytes]]:
    return read_tree(place.home), read_tree(place.certificates)


def in_place(mark: bytes, files: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    beside = {"certificate.json": mark, "training.log": mark, "model.sig": mark}
    return {f"model/{name}": data for name, data in files.items()}, beside


AS_OLD, AS_NEW = in_place(b"old", OLD), in_place(b"new", NEW)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder into which nothing from `tmp_path` can be renamed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        assert os.stat(name).st_dev != os.stat(tmp_path).st_dev
        yield Path(name)


@pytest.mark.parametrize("what", ["outputs", "outputs/tiny", ".aicert", "certificates"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_folder_on_another_disk(tmp_path: Path, other_disk: Path, what: str, keep: bool) -> None:
    place = placed(tmp_path)
    if (tmp_path / what).exists():
        shutil.move(tmp_path / what, other_disk / "it")
    else:
        (other_disk / "it").mkdir()
    (tmp_path / what).symlink_to(other_disk / "it")
    finished(place)
    placing.check(place, 1)
    kept = placing.next_kept(place) if keep else None
    placing.in_place(place, keep=kept)
    assert state(place) == AS_NEW
    assert (tmp_path / what).is_symlink()
    assert not place.finished.exists()
    if kept is not None:
        assert read_tree(kept / "outputs" / "model") == OLD
        assert (kept / "certificate.json").read_bytes() == b"old"


def test_what_a_clearing_up_left_is_in_nobodys_way(tmp_path: Path) -> None:
    place = placed(tmp_path)
    finished(place, OLD, b"old")
    (place.finished / "certificate.json").unlink()
    out = tmp_path / "out"
    write_tree(out, {"certificate.json": b"new", "outputs/model/more/a": b"a"})
    placing.finish(place, out)
    assert read_tree(place.finished) == {"certificate.json": b"new", "outputs/model/more/a": b"a"}


_ELSEWHERE = """
import sys; from pathlib import Path; from rules.runs import placing
place = placing.Place(root=Path(sys.argv[1]), run="tiny", outputs=("model",))
placing.check(place, 1); placing.in_place(place, keep=None)
"""


def in_mounts(script: str, root: Path) -> "subprocess.CompletedProcess[str]":
    """Run `script` (sh) among mounts of its own, then put the finished run of `root` in place."""
    python = f"{sys.executable} -c '{_ELSEWHERE}' {root}"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return subprocess.run(
        ["unshare", *user, "--mount", "sh", "-ec", f"{script}\n{python}"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


@pytest.mark.parametrize("what", ["outputs", "outputs/tiny", "certificates", ".aicert"])
def test_a_bind_mount(tmp_path: Path, what: str) -> None:
    place = placed(tmp_path / "p")
    finished(place)
    real = tmp_path / "real"
    (tmp_path / "p" / what).mkdir(exist_ok=True)
    shutil.move(tmp_path / "p" / what, real)
    (tmp_path / "p" / what).mkdir()
    ended = in_mounts(f"mount --bind {real} {tmp_path / 'p' / what}", tmp_path / "p")
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "p" / what).rmdir()
    shutil.move(real, tmp_path / "p" / what)
    assert state(place) == AS_NEW


def test_a_mount_in_the_place_of_the_output_is_refused_first(tmp_path: Path) -> None:
    place = placed(tmp_path)
    finished(place)
    model = place.home / "model"
    ended = in_mounts(f"mount --bind {model} {model}", tmp_path)
    assert "outputs/tiny/model is a mount point" in ended.stderr
    assert state(place) == AS_OLD


def test_a_lower_layer_of_an_overlay(tmp_path: Path) -> None:
    lower, upper = placed(tmp_path / "lower"), tmp_path / "upper"
    finished(lower)
    for name in ("upper", "work", "all"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={upper},workdir={tmp_path}/work"
    # An overlay's upper layer needs a disk with extended attributes that is not an overlay itself.
    script = f"mount -t overlay overlay -o {options} {tmp_path}/all"
    ended = in_mounts(script, tmp_path / "all")
    assert ended.returncode == 0, ended.stderr
    assert state(lower) == AS_OLD
    changed = read_tree(upper)
    for files in AS_NEW:
        for name, data in files.items():
            home = "outputs/tiny" if name.startswith("model/") else "certificates/tiny"
            assert changed[f"{home}/{name}"] == data


def test_a_folder_of_another_owner_is_refused_before_training(tmp_path: Path) -> None:
    place = placed(tmp_path)
    if os.geteuid() == 0:
        for folder in [tmp_path, *tmp_path.parents][:4]:
            folder.chmod(folder.stat().st_mode | 0o055)
    else:
        (place.home / "model").chmod(0o555)
    message = as_nobody(lambda: placing.check(place, 1))
    assert "this user may not write there" in message
    assert "sudo chown -R" in message
    assert state(place) == AS_OLD


def as_nobody(action: Callable[[], None]) -> str:
    """Return the error of `action` for a user other than root."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        text = "nothing"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            action()
        except ToolError as error:
            text = f"{error.message}\n{error.hint}"
        finally:
            os.write(write, text.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


def test_no_room_is_said_before_training(tmp_path: Path) -> None:
    place = placed(tmp_path)
    with pytest.raises(ToolError, match="no room for the result"):
        placing.check(place, 1 << 62)


def test_a_link_in_the_place_of_the_output_is_refused_first(tmp_path: Path) -> None:
    place = placed(tmp_path)
    shutil.move(place.home / "model", tmp_path / "elsewhere")
    (place.home / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match="outputs/tiny/model is a symbolic link"):
        placing.check(place, 1)


def test_a_file_in_the_place_of_a_folder_is_refused_first(tmp_path: Path) -> None:
    place = Place(root=tmp_path, run="tiny", outputs=("model",))
    (tmp_path / "outputs").write_text("mine")
    with pytest.raises(ToolError, match="outputs is a file"):
        placing.check(place, 1)


STEPS = ("rename", "link", "unlink", "mkdir", "replace", "rmdir")


class Cut(BaseException):
    """An interruption like a signal between two steps."""


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Cut()])
@pytest.mark.parametrize("had", [True, False])
def test_whatever_step_fails_the_old_stays_and_the_new_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, had: bool
) -> None:
    """Every system call fails once, one by one, until one placing succeeds."""
    for number in range(1, 200):
        root = tmp_path / str(number)
        place = placed(root) if had else Place(root=root, run="tiny", outputs=("model",))
        finished(place)
        before = state(place)
        with monkeypatch.context() as patch:
            steps = failing_at(patch, number, error)
            with contextlib.suppress(ToolError, Cut):
                placing.in_place(place, keep=None)
                if not steps:
                    assert number > 5
                    break
        if read_tree(place.certificates).get("certificate.json") == b"new":
            # The new result was in place; only the removal of leftovers failed.
            assert (state(place)[0] | AS_NEW[0]) == state(place)[0]
            placing.sweep(place)
        else:
            left = {n: d for n, d in state(place)[0].items() if not n.startswith(".placing/")}
            assert (left, state(place)[1]) == before, number
            assert read_tree(place.finished / "outputs" / "model") == NEW
            placing.in_place(place, keep=None)
        assert state(place) == AS_NEW
    else:
        raise AssertionError("no placing went through")


def failing_at(patch: pytest.MonkeyPatch, number: int, error: BaseException) -> list[str]:
    """Let only the process's `number`-th step fail; the list then holds its name."""
    failed: list[str] = []
    count = 0
    for name in STEPS:
        real = getattr(os, name)

        def step(*args: object, _real: object = real, _name: str = name, **more: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                failed.append(_name)
                raise error
            return _real(*args, **more)  # type: ignore[operator]  # one of os

        patch.setattr(os, name, step)
    return failed


def test_killed_at_any_step_the_next_placing_ends_it(tmp_path: Path) -> None:
    for number in range(1, 200):
        place = placed(tmp_path / str(number))
        finished(place)
        child = os.fork()
        if child == 0:
            with pytest.MonkeyPatch.context() as patch:
                kill_at(patch, number)
                placing.in_place(place, keep=None)
                os._exit(0)
        _, status = os.waitpid(child, 0)
        certificate = read_tree(place.certificates).get("certificate.json")
        files, _ = state(place)
        model = {name: data for name, data in files.items() if name.startswith("model/")}
        # A certificate never lies beside another run's files.
        assert certificate is None or model == {b"old": AS_OLD, b"new": AS_NEW}[certificate][0]
        if certificate == b"new":
            placing.sweep(place)
        else:
            placing.in_place(place, keep=None)
        assert state(place) == AS_NEW, number
        if not os.WIFSIGNALED(status):
            break
    else:
        raise AssertionError("no placing went through")


def kill_at(patch: pytest.MonkeyPatch, number: int) -> None:
    count = 0
    for name in STEPS:
        real = getattr(os, name)

        def step(*args: object, _real: object = real, **more: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return _real(*args, **more)  # type: ignore[operator]  # one of os

        patch.setattr(os, name, step)


def test_what_was_cut_off_is_undone_where_the_finished_run_is_not_wanted(tmp_path: Path) -> None:
    place = placed(tmp_path)
    finished(place)
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(placing, "_write_beside", lambda *_: os.kill(os.getpid(), 9))
            placing.in_place(place, keep=None)
            os._exit(0)
    os.waitpid(child, 0)
    assert "certificate.json" not in read_tree(place.certificates)
    placing.restore(place)
    assert state(place) == AS_OLD
    assert placing.put_aside(place) == tmp_path / ".aicert/kept/tiny"
    assert placing.put_aside(place) is None


def test_nothing_kept_is_replaced(tmp_path: Path) -> None:
    place = placed(tmp_path)
    for name in ("tiny", "tiny.2", "tiny.3"):
        assert placing.next_kept(place) == tmp_path / ".aicert/kept" / name
        finished(place)
        placing.in_place(place, keep=placing.next_kept(place))


def test_results_lie_beside_their_certificate_too(tmp_path: Path) -> None:
    place = Place(root=tmp_path, run="look", outputs=("results",), of_results=True)
    write_tree(place.finished, {"certificate.json": b"new", "outputs/results/results.json": b"{}"})
    placing.in_place(place, keep=None)
    assert (place.home / "results/results.json").read_bytes() == b"{}"
    assert read_tree(place.certificates) == {"certificate.json": b"new", "results.json": b"{}"}
    # A failed run has none, and no older ones stay beside its certificate.
    write_tree(place.finished, {"certificate.json": b"failed", "outputs/results/other": b"a"})
    placing.in_place(place, keep=None)
    assert read_tree(place.certificates) == {"certificate.json": b"failed"}


def test_a_file_of_a_model_is_not_taken_for_results(tmp_path: Path) -> None:
    place = Place(root=tmp_path, run="tiny", outputs=("model",))
    finished(place, {"results.json": b"{}", "model.safetensors": b"a"})
    placing.in_place(place, keep=None)
    assert "results.json" not in read_tree(place.certificates)


def test_results_of_audits_that_the_run_no_longer_names_are_removed(tmp_path: Path) -> None:
    place = Place(root=tmp_path, run="tiny", outputs=("model",), audits=("look",))
    write_tree(place.certificates, {"certificate.json": b"old", "audit-gone.json": b"{}"})
    finished(place)
    write_tree(place.finished, {"audit-look.json": b"{}"})
    kept = placing.next_kept(place)
    placing.in_place(place, keep=kept)
    assert {path.name for path in place.certificates.iterdir()} >= {"audit-look.json"}
    assert not (place.certificates / "audit-gone.json").exists()
    assert (kept / "audit-gone.json").read_bytes() == b"{}"
