"""`aicert verify --evidence`: second runs with equal bytes are shown with what they prove."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.cli import main
from aicert.formats.certificate import core_digest
from tests.adversarial.attacks_disk import GOOD
from tests.adversarial.forger import AT, Scene
from tests.adversarial.reproducing import (
    again,
    another_image,
    another_key,
    another_owner,
    policy_of,
)
from tests.unit.aicert.cli.test_main import lay_out
from tests.vectors.generate import policy_files

BY = "  {} with equal bytes by second-0: run tiny"
NO_MORE = "so the training is deterministic, and no more"
Change = Callable[[Scene], object]


def with_weights(scene: Scene) -> None:
    """Give the second run the weights that `lay_out` gives the first one."""
    scene.edit("outputs", lambda outputs: {"model": outputs["model"] | {"model.safetensors": GOOD}})


def one_byte_more(scene: Scene) -> None:
    scene.edit("outputs", lambda outputs: {"model": outputs["model"] | {"config.json": b"{ }"}})


def laid_out(folder: Path, kind: str, seconds: Sequence[Sequence[Change]]) -> list[Scene]:
    """Lay out a first run, second runs in `evidence`, and a policy that accepts all of them."""
    first = Scene(kind, 2)
    scenes = [first]
    lay_out(first, folder)
    # The model's own certificate and that of another run do not count as second runs.
    other = again(kind)
    other.edit("lockfile", lambda locked: replace(locked, run="other"))
    for name, scene in (("first", first), ("other", other)):
        (folder / "evidence" / name).mkdir(parents=True)
        (folder / "evidence" / name / "certificate.json").write_bytes(scene.get("file"))
    for number, changes in enumerate(seconds):
        scene = again(kind, with_weights, *changes)
        (folder / "evidence" / f"second-{number}").mkdir(parents=True)
        (folder / "evidence" / f"second-{number}" / "certificate.json").write_bytes(
            scene.get("file")
        )
        scenes.append(scene)
    for name, text in policy_files(policy_of(*scenes)).items():
        (folder / name).write_text(text)
    return scenes


def verify(folder: Path, *more: str) -> int:
    words = ["verify", str(folder / "c.json"), str(folder / "model"), "--at", AT.isoformat()]
    words += ["--policy", str(folder / "policy.toml"), "--evidence", str(folder / "evidence")]
    return main.main([*words, *more])


def shown(capsys: pytest.CaptureFixture[str], scenes: Sequence[Scene]) -> list[str]:
    """Return the output lines about second runs, with words in place of certificate digests."""
    out = capsys.readouterr().out
    for number, scene in enumerate(scenes):
        out = out.replace(str(core_digest(scene.get("certificate"))), f"CERTIFICATE {number}")
    lines = out.partition("\nevidence\n")[2].splitlines()
    others = ("alpaca", "beside its rows", "not evaluated")
    return [line for line in lines if not any(word in line for word in others)]


def test_another_execution_is_shown_with_who_vouches_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = laid_out(tmp_path, "qemu", [(another_owner, another_image)])
    assert verify(tmp_path, "--re-executed") == 0
    assert shown(capsys, scenes) == [
        f"{BY.format('re-executed')}, tier measured-vm, root another platform CA, image machine-2",
        "          certificate CERTIFICATE 1",
    ]
    assert verify(tmp_path, "--format", "json", "--re-executed") == 0
    known = json.loads(capsys.readouterr().out)["evidence"]
    assert known["reproductions"] == [
        {
            "name": "second-0",
            "run": "tiny",
            "grade": "re-executed",
            "lacks": [],
            "tier": "measured-vm",
            "roots": ["qemu platform CA", "another platform CA"],
            "mayBeOneOperator": False,
            "image": "machine-2",
            "certificate": str(core_digest(scenes[1].get("certificate"))),
        }
    ]
    assert known["notReproduced"] == []


def test_a_clouds_machines_do_not_say_who_ran_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = laid_out(tmp_path, "cloud", [(another_key, another_image)])
    assert verify(tmp_path, "--re-executed") == 0
    assert shown(capsys, scenes)[-1] == (
        "          who ran it is not shown: nothing says who rented a cloud's machine"
    )


def test_what_one_party_could_have_made_is_no_other_execution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = laid_out(tmp_path, "local", [(another_owner,), (one_byte_more,)])
    assert verify(tmp_path) == 0
    assert shown(capsys, scenes) == [
        f"{BY.format('repeated')}, tier software, root another platform CA",
        "          certificate CERTIFICATE 1",
        f"          {NO_MORE}: not both machines measured the image that they ran",
        "  -       second-1 does not count as a second run: its outputs are not the same bytes",
    ]
    assert verify(tmp_path, "--re-executed") == 2
    assert capsys.readouterr().err == (
        "no verdict: nothing shows that another machine gave these bytes, too\n"
    )


def test_a_failure_stays_one_whoever_ran_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laid_out(tmp_path, "qemu", [(another_owner, another_image)])
    (tmp_path / "model" / "config.json").write_bytes(b"{}")
    assert verify(tmp_path, "--re-executed") == 1
    assert (
        "second-0 does not count as a second run: the certificate does not pass: subject.files: "
        in (capsys.readouterr().out)
    )


def test_a_second_run_is_asked_for_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laid_out(tmp_path, "qemu", [])
    words = ["verify", str(tmp_path / "c.json"), str(tmp_path / "model"), "--re-executed"]
    assert main.main([*words, "--policy", str(tmp_path / "policy.toml")]) == 3
    assert "--re-executed needs --evidence" in capsys.readouterr().err
