"""The relying party's tool, run as a command."""

import gc
import io
import json
import os
import runpy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from aicert.appraisal.result import CHECKS
from aicert.cli import main, progress
from aicert.errors import EvidenceError
from aicert.files.bounded import read_bounded
from aicert.formats.digest import FileFact
from aicert.verifier import model_directory as model
from aicert.verifier import verify as api
from tests.adversarial import ca_forge
from tests.adversarial.attacks_disk import GOOD, WEIGHTS
from tests.adversarial.forger import NONCE, Scene

AT = "2026-11-01T00:00:00Z"
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay_out(Scene(), tmp_path)


def lay_out(scene: Scene, folder: Path) -> Path:
    """Write a scene's files: certificate, root, lockfile, and a model with readable weights."""
    scene.edit(
        "outputs",
        lambda outputs: {
            name: files | ({WEIGHTS: GOOD} if WEIGHTS in files else {})
            for name, files in outputs.items()
        },
    )
    (folder / "c.json").write_bytes(scene.get("file"))
    (folder / "root.pem").write_bytes(ca_forge.pem(scene.get("root")))
    (folder / "l.toml").write_bytes(scene.get("lockfile_bytes"))
    model = folder / "model"
    model.mkdir()
    for path, data in scene.get("outputs").get("model", {}).items():
        (model / path).write_bytes(data)
    return folder


def verify(folder: Path, *more: str, model: bool = True) -> int:
    words = ["verify", str(folder / "c.json"), *([str(folder / "model")] if model else [])]
    root = ["--policy", "local", "--root", str(folder / "root.pem"), "--at", AT]
    return main.main([*words, *root, *more])


def test_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lockfile, nonce = str(folder / "l.toml"), NONCE.hex()
    assert verify(folder, "--lockfile", lockfile, "--nonce", nonce) == 0
    out, err = capsys.readouterr()
    assert "\nPASSED    (software: the operator could have forged this)\nTrusts    " in out
    assert "\nOmits     " in out
    assert "\x1b" not in out
    assert err == ""


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder, "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["tier"]) == ("passed", "software")
    assert [check["id"] for check in document["checks"]] == list(CHECKS)
    assert set(document["checks"][0]) == {"id", "verdict", "detail"}
    assert list(document["subject"]) == ["model"]
    assert document["lockfile"].startswith("sha256:")


def test_changed_model_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model" / "config.json").write_text("{}")
    assert verify(folder) == 1
    out = capsys.readouterr().out
    assert "FAILED    1 of 42 checks" in out
    assert "error: subject.files: the model directory is not output model" in out


def test_default_policy_refuses_software_naming_the_tier(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["verify", str(folder / "c.json"), str(folder / "model")]) == 1
    out = capsys.readouterr().out
    assert "(simulated:local, tier software)" in out
    assert out.endswith("\nhint: --policy local --root PEM\n")


def test_where_that_policy_was_given_the_hint_names_only_the_root(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ca_forge.root("other CA", ca_forge.ec_key("other"), driver="local")
    (folder / "root.pem").write_bytes(ca_forge.pem(other))
    assert verify(folder) == 1
    out = capsys.readouterr().out
    assert "error: platform.chain: " in out
    assert out.endswith("\nhint: --root PEM  # the CA of the checkout that made it\n")


def test_default_policy_with_that_root_refuses_at_the_tier(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(folder / "c.json"), "--root", str(folder / "root.pem"), "--at", AT]
    assert main.main(words) == 1
    assert "FAILED  platform.tier        tier software, but policy default requires vtpm" in (
        capsys.readouterr().out
    )


def test_without_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(folder, model=False) == 2
    assert "NO VERDICT  certificate consistent, no model checked" in capsys.readouterr().out
    assert verify(folder, "--certificate-only", model=False) == 0
    assert "certificate consistent, no model checked" in capsys.readouterr().out


def test_certificate_only_does_not_hide_what_is_open(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text('extends = "local"\nmax-age-days = 5\n')
    words = ["verify", str(folder / "c.json"), "--policy", str(policy), "--at", AT]
    words += ["--root", str(folder / "root.pem"), "--certificate-only"]
    assert main.main(words) == 2
    assert "checks could not be made" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["verify"],
        ["verify", "c", "--format", "xml"],
        ["verify", "c", "--no-such"],
        ["prove", "c"],
    ],
)
def test_wrong_command_lines_are_3(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == 3
    assert "error: " in capsys.readouterr().err


def test_a_slip_in_a_commands_options_shows_that_commands_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["verify", "c", "--polcy", "local"])
    assert caught.value.code == 3
    err = capsys.readouterr().err
    assert err.startswith("usage: aicert verify ")
    assert err.endswith(
        "error: unrecognized arguments: --polcy local\nhint: aicert verify --help\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--certificate-only"], "contradict"),
        (["--nonce", "ab"], "64 hexadecimal"),
        (["--at", "yesterday"], "not a time"),
        (["--at", "0001-01-01T00:00:00+14:00"], "not a time"),
        (["--at", "9999-12-31T23:59:59-14:00"], "not a time"),
        (["--at", "2026-01-01T00:00:00"], "not a time"),
        (["--lockfile", "sha256:ab"], "not a lockfile digest"),
        (["--lockfile", "/nowhere"], "cannot read lockfile"),
        (["--image-lock", "/nowhere"], "cannot read image lock"),
        (["--policy", "best"], "no policy 'best'"),
        (["--policy", "qemu"], "policy qemu requires"),
        (["--root", "/nowhere"], "cannot read root"),
    ],
)
def test_wrong_arguments_are_3(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert verify(folder, *words) == 3
    assert message in capsys.readouterr().err


def test_a_model_deeper_than_python_recurses_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = os.open(folder / "model", os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=here)
        here, above = os.open("a", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    code = verify(folder)
    # Python's removal of temporary folders recurses too deeply for this one.
    subprocess.run(["rm", "-r", str(folder / "model/a")], check=True)
    assert code == 1
    assert "deeper than 64" in capsys.readouterr().out


@pytest.mark.parametrize("days", [1, 99_999_999_999])
def test_ages_that_no_calendar_has(folder: Path, days: int) -> None:
    (folder / "p.toml").write_text(f'extends = "local"\nmax-age-days = {days}\n')
    assert verify(folder, "--policy", str(folder / "p.toml"), "--nonce", NONCE.hex()) == 0


def test_a_defect_of_the_program_is_no_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("odd \x1b[31m")

    monkeypatch.setattr(api, "appraise", broken)
    assert verify(folder) == 2
    assert r"a defect of this program: LookupError: odd \x1b[31m" in capsys.readouterr().err


def test_a_disk_without_room_is_no_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert verify(folder) == 2
    assert "cannot write the result: No space left" in capsys.readouterr().err


def test_an_empty_name_of_the_model_is_3(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "model")
    root = str(folder / "root.pem")
    words = ["verify", str(folder / "c.json"), "", "--policy", "local", "--root", root]
    assert main.main(words) == 3
    assert "MODEL_DIR is empty" in capsys.readouterr().err


def test_a_model_is_not_read_for_a_certificate_that_nobody_signed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noted(path: Path, _: object) -> dict[str, FileFact]:
        read.append(path)
        return {}

    monkeypatch.setattr(model, "read_model", noted)
    assert verify(folder) == 1
    assert read == [folder / "model"]
    forged = Scene().edit("quote_signature", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    (folder / "c.json").write_bytes(forged.get("file"))
    assert verify(folder) == 1
    assert len(read) == 1


def test_a_simulated_policy_without_root_is_3(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["verify", str(folder / "c.json"), "--policy", "local"]) == 3
    assert capsys.readouterr().err.endswith(
        "hint: --root PEM: the maker's checkout has it at .aicert/ca/local.pem\n"
    )


def test_a_model_in_the_certificates_place_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["verify", str(folder / "model"), str(folder / "c.json")]) == 2
    assert capsys.readouterr().err.endswith(
        "Is a directory\nhint: name the certificate's file first, then MODEL_DIR\n"
    )


def test_missing_and_malformed_evidence_is_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "c.json").write_text("{}")
    assert verify(folder, "--format", "json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "none"
    assert err.startswith("error: certificate.kind")
    (folder / "c.json").unlink()
    assert verify(folder) == 2
    (folder / "c.json").write_bytes(Scene().get("file"))
    (folder / "model").rename(folder / "moved")
    assert verify(folder) == 2


def test_files_are_read_in_bounded_size(folder: Path) -> None:
    with pytest.raises(EvidenceError, match="larger than 3 bytes"):
        read_bounded(folder / "c.json", 3, "certificate")
    with pytest.raises(EvidenceError, match="null byte"):
        read_bounded("a\0b", 3, "certificate")


def test_broken_pipe_keeps_the_exit_code(folder: Path) -> None:
    words = [sys.executable, "-m", "aicert", "verify", str(folder / "c.json"), "--at", AT]
    words += ["--policy", "local", "--root", str(folder / "root.pem"), "--certificate-only"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_is_no_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "check_files", interrupted)
    assert verify(folder) == 130
    assert capsys.readouterr().err == "\ninterrupted: no verdict\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_of_a_large_model(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    monkeypatch.setattr(progress, "BAR_AFTER", -1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert verify(folder) == 0
    out, err = capsys.readouterr()
    assert "PASSED" in out
    assert ("reading the model, 0.0 GiB" in err) != terminal


def test_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The inputs of this scene are files in the builder's repository: there is no other source.
    assert main.main(["sources", str(folder / "c.json")]) == 0
    out, _ = capsys.readouterr()
    assert "0 agree, 0 differ, 0 not asked" in out
    assert main.main(["sources", str(folder / "c.json"), "--format", "json"]) == 0
    inputs = json.loads(capsys.readouterr().out)["inputs"]
    assert {item["verdict"] for item in inputs} == {"not-applicable"}


def test_the_module_is_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["aicert", "show", str(folder / "c.json")])
    try:
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("aicert", run_name="__main__")
    finally:
        # The command leaves the garbage collector of its process frozen.
        gc.unfreeze()
        gc.enable()
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("a certificate's claims")


def test_a_reader_that_went_away_takes_nothing_from_the_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert verify(folder) == 0
        # Later output is lost without an error.
        gone.write("more")
        gone.flush()


def test_streams_that_cannot_be_set_up_are_used_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert verify(folder) == 0
    assert "PASSED" in out.getvalue()


def test_a_file_that_goes_while_sizes_are_summed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError

    monkeypatch.setattr(os, "scandir", lambda _: nullcontext([Gone()]))
    assert progress._tree_size(str(folder)) == 0
    monkeypatch.undo()
    whole = progress._tree_size(str(folder / "model"))
    assert whole == sum(path.stat().st_size for path in (folder / "model").iterdir())
    monkeypatch.setattr(progress, "MAX_COUNTED", 1)
    assert 0 < progress._tree_size(str(folder / "model")) < whole


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "model/a"), "Permission denied: 'model/a'"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_an_error_of_the_system_is_no_verdict_and_no_defect(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    words: str,
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "appraise", refused)
    assert verify(folder) == 2
    text = capsys.readouterr().err
    assert words in text
    assert "defect" not in text


def test_garbage_is_collected_after_a_call_again_and_not_where_the_command_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["show", str(tmp_path / "none.json")]
    monkeypatch.setattr(sys, "argv", ["aicert", *words])
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    assert main.main(words) == 2
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, frozen)
    try:
        assert main.main() == 2
        assert not gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.enable()


def test_what_a_library_warns_of_does_not_reach_the_user(tmp_path: Path) -> None:
    """A module that the command loads warns, as libraries do of odd or old files."""
    code = (
        "import runpy, sys, warnings\n"
        "class Warns:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'aicert.verifier.verify':\n"
        "            warnings.warn('an odd certificate', UserWarning)\n"
        "sys.meta_path.insert(0, Warns())\n"
        "sys.argv = ['aicert', 'verify', 'absent.json']\n"
        "runpy.run_module('aicert', run_name='__main__')\n"
    )
    for flags, shown in (((), False), (("-W", "always"), True)):
        words = [sys.executable, *flags, "-c", code]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, env=env)
        assert (done.returncode, b"an odd certificate" in done.stderr) == (2, shown), done.stderr
