"""What the guard verifies and remembers, with real folders and signatures."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.guard import memory
from aicert.guard.judge import RefusedError, Subject, UnsignedError, find, judge
from aicert.guard.memory import Guard, key_of
from aicert.guard.policy import GuardPolicy, load_policy
from tests.unit.signing_keys import Pair, pair
from tests.vectors import reading

MakeGuard = Callable[..., Guard]


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def guard_with(tmp_path: Path, keys: Pair) -> MakeGuard:
    def make(
        text: str = '[[signer]]\nkey = "k.pub"\n', now: Callable[[], int] = time.time_ns
    ) -> Guard:
        place = tmp_path / "guard.toml"
        place.write_text(text)
        return Guard(load_policy(place), now=now)

    return make


@pytest.fixture
def model(tmp_path: Path, keys: Pair) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub/weights.bin").write_bytes(b"weights")
    assert main(["sign", str(folder), "--key", str(keys.key)]) == 0
    return folder


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Subject]:
    """Count the subjects that are judged, which is when files are read."""
    judged: list[Subject] = []

    def counting(subject: Subject, policy: GuardPolicy) -> None:
        judged.append(subject)
        judge(subject, policy)

    monkeypatch.setattr(memory, "judge", counting)
    return judged


def refused(guard: Guard, path: Path, *, is_rows: bool = False) -> str:
    with pytest.raises(RefusedError) as raised:
        guard.check(path, is_rows=is_rows)
    return raised.value.message


def test_a_model_is_verified_as_a_whole_wherever_the_load_begins(
    guard_with: MakeGuard, model: Path
) -> None:
    guard = guard_with()
    for path in (model, model / "sub", model / "config.json", model / "sub/weights.bin"):
        guard.check(path)
    (model / "sub/weights.bin").write_bytes(b"WEIGHTS")
    for path in (model, model / "sub", model / "config.json"):
        assert "changed   sub/weights.bin" in refused(guard, path)


def test_one_file_with_a_signature_of_its_own(
    guard_with: MakeGuard, tmp_path: Path, keys: Pair
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    assert main(["sign", str(file), "--key", str(keys.key)]) == 0
    guard = guard_with()
    guard.check(file, is_rows=True)
    guard.check(file, is_rows=True)
    (tmp_path / "rows.jsonl.sig").write_text("{}")
    assert "rows.jsonl" in refused(guard, file, is_rows=True)


def test_what_was_verified_is_not_read_again(
    guard_with: MakeGuard, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = counted(monkeypatch)
    guard = guard_with()
    for _ in range(3):
        guard.check(model)
    assert len(judged) == 1
    os.utime(model / "config.json")
    guard.check(model)
    assert len(judged) == 2


def test_files_from_the_future_are_verified_again_after_the_load(
    guard_with: MakeGuard, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ctime in the future cannot show a write within the same tick, so nothing is remembered."""
    judged = counted(monkeypatch)
    guard = guard_with(now=lambda: time.time_ns() - 3600 * 10**9)
    with guard.loading():
        guard.check(model)
    assert len(judged) == 2


def test_a_change_while_it_is_verified_is_refused(
    guard_with: MakeGuard, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def changing(subject: Subject, policy: GuardPolicy) -> None:
        judge(subject, policy)
        (model / "config.json").write_text("[]")

    monkeypatch.setattr(memory, "judge", changing)
    assert "was changed while it was verified or loaded: config.json" in refused(
        guard_with(), model
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda model: (model / "config.json").write_text("[]"),
        lambda model: (model / "config.json").unlink(),
        lambda model: (model / "added.json").write_text("{}"),
        lambda model: os.utime(model / "sub/weights.bin"),
        lambda model: (model / "sub/weights.bin").chmod(0o600),
        lambda model: (
            (model.rename(model.with_name("old"))),
            model.with_name("old").rename(model),
        ),
    ],
    ids=["written", "removed", "added", "touched", "mode", "moved and put back"],
)
def test_what_moves_while_it_loads_fails_the_load(
    guard_with: MakeGuard, model: Path, change: Callable[[Path], object]
) -> None:
    guard = guard_with()
    with pytest.raises(RefusedError, match="was changed while it was verified or loaded"):
        with guard.loading():
            guard.check(model)
            change(model)


def test_the_same_bytes_swapped_in_and_back_are_noticed(guard_with: MakeGuard, model: Path) -> None:
    guard, config = guard_with(), model / "config.json"
    before = config.stat()
    with pytest.raises(RefusedError, match="was changed"):
        with guard.loading():
            guard.check(model)
            config.write_text("[]")
            config.write_text("{}")
            os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_refusal_that_a_library_caught_fails_the_load(guard_with: MakeGuard, model: Path) -> None:
    (model / "config.json").write_text("[]")
    guard = guard_with()
    with pytest.raises(RefusedError, match=r"config\.json"):
        with guard.loading(), contextlib.suppress(RefusedError):
            guard.check(model)
    with pytest.raises(RefusedError, match=r"config\.json"):
        with guard.loading():
            try:
                guard.check(model)
            except RefusedError:
                raise OSError("no such model") from None
    with pytest.raises(OSError, match="another"):
        with guard.loading():
            raise OSError("another")


def test_a_refusal_in_another_thread_fails_only_its_own_load(
    guard_with: MakeGuard, model: Path, tmp_path: Path
) -> None:
    guard = guard_with()
    messages: list[str] = []

    def other() -> None:
        messages.append(refused(guard, tmp_path / "nobody"))

    (tmp_path / "nobody").mkdir()
    with guard.loading():
        guard.check(model)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "has no signature or certificate" in messages[0]


def test_links_and_folders_that_cannot_be_read(guard_with: MakeGuard, model: Path) -> None:
    (model / "dangling").symlink_to("nowhere")
    assert len(key_of(str(model))["dangling"]) == 6
    (model / "dangling").unlink()
    (model / "linked").symlink_to("config.json")
    assert len(key_of(str(model))["linked"]) == 12
    assert "linked" in refused(guard_with(), model)
    with pytest.raises(RefusedError, match="No such file"):
        key_of(str(model / "absent"))


def test_what_the_hubs_client_keeps_there_may_change(guard_with: MakeGuard, model: Path) -> None:
    guard = guard_with()
    inner = model / ".cache/huggingface"
    inner.mkdir(parents=True)
    with guard.loading():
        guard.check(model)
        (inner / "lock").touch()
    assert "nothing is loaded from" in refused(guard, inner)


@pytest.mark.parametrize("name", ["README.md", "certificate.json", "bom.cdx.json", "LICENSE"])
def test_in_a_data_set_every_file_is_signed(guard_with: MakeGuard, model: Path, name: str) -> None:
    guard = guard_with()
    guard.check(model, is_rows=True)
    (model / name).write_text("{}")
    assert name in refused(guard, model, is_rows=True)


def test_unsigned_is_as_the_policy_says(
    guard_with: MakeGuard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "nobody"
    folder.mkdir()
    signer = '[[signer]]\nkey = "k.pub"\n'
    with pytest.raises(UnsignedError):
        guard_with().check(folder)
    assert capsys.readouterr().err == ""
    for unsigned, word in (("warn", "warning"), ("allow", "allowed by the policy")):
        guard = guard_with(f'unsigned = "{unsigned}"\n{signer}')
        with guard.loading():
            guard.check(folder)
            guard.check(folder)
        shown = capsys.readouterr().err
        assert shown.count(word) == 1
        guard.refuse_unverifiable("hf://a/b")
        assert "hf://a/b" in capsys.readouterr().err
    with pytest.raises(UnsignedError, match="bytes from elsewhere"):
        guard_with().refuse_unverifiable("hf://a/b")


def test_of_several_signers_one_suffices(
    guard_with: MakeGuard, model: Path, tmp_path: Path
) -> None:
    pair(tmp_path, "other")
    both = '[[signer]]\nkey = "other.pub"\n[[signer]]\nkey = "k.pub"\n'
    guard_with(both).check(model)
    (model / "config.json").write_text("[]")
    assert "files.match" in refused(guard_with(both), model)
    assert "signer.trusted" in refused(guard_with('[[signer]]\nkey = "other.pub"\n'), model)
    (model / "model.sig").write_text("no signature")
    assert str(model) in refused(guard_with(both), model)


def test_a_certificate_counts_for_a_model_and_not_for_rows(
    guard_with: MakeGuard, tmp_path: Path
) -> None:
    scenario = reading.read(next(iter(sorted((reading.FOLDER / "honest").glob("*.json")))))
    policy = reading.write_policy(scenario, tmp_path)
    folder = tmp_path / "certified"
    folder.mkdir()
    (folder / "certificate.json").write_bytes(scenario.certificate)
    guard = guard_with(f'[certificate]\npolicy = "{policy}"\n')
    assert "subject.files" in refused(guard, folder)
    assert "has no signature or certificate" in refused(guard, folder, is_rows=True)
    # The folder's own certificate, not one further down.
    assert find(folder, is_rows=False).root == str(folder)
