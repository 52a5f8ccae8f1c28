"""What a verifier of a signature chooses to ignore.

It must be asked for, the verdict repeats it, and it is never the default.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.cli.main import main
from tests.unit.signing_keys import Pair, pair

Run = Callable[..., tuple[int, str, str]]
HUB = ".cache/huggingface/download"


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "keys")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def model(tmp_path: Path, keys: Pair, run: Run) -> Path:
    """Return a signed model of three files."""
    root = tmp_path / "model"
    (root / "eval").mkdir(parents=True)
    for path in ("README.md", "eval/scores", "weights"):
        (root / path).write_text(path)
    assert run("sign", root, "--key", keys.key)[0] == 0
    return root


@pytest.mark.parametrize("parts", [False, True])
def test_a_path_that_the_verifier_ignores(
    model: Path, keys: Pair, run: Run, *, parts: bool
) -> None:
    check = ("verify-signature", model, "--key", keys.pub)
    (model / "README.md").write_text("changed")
    (model / "eval" / "more").write_text("unsigned")
    assert run(*check)[0] == 1
    assert run(*check, "--ignore", "README.md")[0] == 1
    more = ("--ignore", "eval/") if parts else ("--ignore", "eval/scores", "--ignore", "eval/more")
    code, out, _ = run(*check, "--ignore", "README.md", *more)
    assert code == 0
    assert "PASSED    signed by the signer you named, 1 of 3 files\n" in out
    assert "Ignores   README.md, as asked\n" in out
    assert "Ignores   eval" in out
    assert "and no other" not in out
    code, out, _ = run(*check, "--ignore", "README.md", *more, "--format", "json")
    document = json.loads(out)
    assert (code, document["filesVerified"], document["filesSigned"]) == (0, 1, 3)
    assert document["ignored"] == [
        "README.md",
        *(["eval"] if parts else ["eval/more", "eval/scores"]),
    ]
    assert (document["ignoreUnsigned"], document["unsigned"]) == (False, [])
    (model / "weights").write_text("changed")
    assert run(*check, "--ignore", "README.md", *more, "--ignore-unsigned")[0] == 1
    (model / "weights").unlink()
    assert run(*check, "--ignore", "README.md", *more, "--ignore-unsigned")[0] == 1


def test_a_name_that_only_begins_alike_is_not_ignored(model: Path, keys: Pair, run: Run) -> None:
    (model / "weights").write_text("changed")
    assert run("verify-signature", model, "--key", keys.pub, "--ignore", "weight")[0] == 1


def test_files_that_nobody_signed(model: Path, keys: Pair, run: Run) -> None:
    check = ("verify-signature", model, "--key", keys.pub, "--ignore-unsigned")
    code, out, _ = run(*check)
    assert (code, "Ignores   0 unsigned files, as asked\n" in out) == (0, True)
    (model / "z").write_text("unsigned")
    (model / "eval" / "more").write_text("unsigned")
    code, out, _ = run(*check)
    assert code == 0
    assert "Ignores   2 unsigned files, as asked\nIgnores     eval/more\n" in out
    assert json.loads(run(*check, "--format", "json")[1])["unsigned"] == ["eval/more", "z"]


def test_ignoring_takes_plain_paths_and_leaves_something(model: Path, keys: Pair, run: Run) -> None:
    check = ("verify-signature", model, "--key", keys.pub, "--ignore")
    for path in ("../x", "/x", "", ".", "a//b"):
        assert run(*check, path)[0] == 3, path
    assert run(*check, "README.md", "--ignore", "eval", "--ignore", "weights")[0] == 3
    assert run(*check, "README.md", "--only", "weights")[0] == 3
    code, out, _ = run(*check, "nowhere")
    assert code == 0
    assert "note    --ignore names nowhere, but nothing is there\n" in out


def test_what_a_hub_and_this_program_put_beside_a_model(model: Path, keys: Pair, run: Run) -> None:
    """Sign, upload, download, verify: the hub's client leaves its own files in the folder."""
    check = ("verify-signature", model, "--key", keys.pub)
    (model / HUB).mkdir(parents=True)
    (model / HUB / "weights.metadata").write_text("etag")
    (model / "certificate.json").write_text("{}")
    (model / "LICENSE").write_text("free")
    code, out, _ = run(*check)
    assert code == 0
    for name in (".cache/huggingface", "certificate.json", "LICENSE"):
        assert f"note    present, not signed: {name}\n" in out
    assert "3 files, " in out
    assert run("sign", model, "--key", keys.key)[1].startswith("left out  .cache/huggingface\n")


@pytest.mark.parametrize("name", ["README.md", "config.json", "LICENSE/model.py", ".cache/other"])
def test_what_could_decide_what_is_loaded_is_never_unsigned(
    tmp_path: Path, keys: Pair, run: Run, name: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "train.jsonl").write_text("{}")
    run("sign", root, "--key", keys.key)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("data_files: elsewhere")
    code, out, _ = run("verify-signature", root, "--key", keys.pub)
    assert code == 1
    assert f"unsigned  {name}" in out


def test_a_signed_name_of_the_closed_list_is_verified(tmp_path: Path, keys: Pair, run: Run) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "LICENSE").write_text("free")
    run("sign", root, "--key", keys.key)
    (root / "LICENSE").write_text("not free")
    assert run("verify-signature", root, "--key", keys.pub)[0] == 1
    (root / "LICENSE").unlink()
    assert run("verify-signature", root, "--key", keys.pub)[0] == 1
