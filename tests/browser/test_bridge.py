"""The page gives the same answers as `aicert verify`: about models, certificates and bad input."""

import json
import os
import re
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.files.tree import read_tree
from aicert.formats.digest import Defect, FileFact
from aicert.verifier.verify import read_model
from browser.page import bridge, hashing
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene
from tests.vectors import reading
from tests.vectors.generate import policy_files

BLOCK = 7


def picked(folder: Path) -> bridge.Model:
    """Return a folder's files as a browser provides them, in blocks."""
    model = bridge.Model()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            if model.begin(name):
                model.take(name, measured(name, path.read_bytes()))
    return model


def measured(name: str, data: bytes, size: int | None = None) -> str:
    """Return what a worker reports for a file that had `size` bytes when it was chosen."""
    file = hashing.File(name, len(data) if size is None else size)
    for start in range(0, len(data), BLOCK):
        file.block(memoryview(data[start : start + BLOCK]))
    return file.end()


def header(text: bytes, tensors: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + tensors


FILES: dict[str, bytes] = {
    "config.json": b"{}",
    "sub/deep/tokenizer.json": b"x" * 100,
    "empty": b"",
    ".git/HEAD": b"ref",
    ".git/objects/aa": b"1",
    ".cache/huggingface/x": b"1",
    "README.md": b"# model",
    "good.safetensors": header(b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', b"abc"),
    "none.safetensors": header(b"{}"),
    "short.safetensors": b"abc",
    "nothing.safetensors": b"",
    "long.safetensors": header(b"x" * 20)[:12],
    "odd.safetensors": header(b'{"a":1}'),
    "rest.safetensors": header(b"{}", b"left"),
    "UPPER.SAFETENSORS": header(b"no json"),
    "a\nb": b"1",
    "caf\u00e9": b"1",
    "bad\\name": b"1",
    "x" * 200: b"1",
}


MODEL = {name: FILES[name] for name in ("config.json", "good.safetensors")}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_a_picked_folder_is_measured_as_one_on_disk(tmp_path: Path) -> None:
    folder = written(tmp_path, FILES)
    facts = picked(folder).facts()
    assert facts == read_model(folder)
    assert len([fact for fact in facts.values() if isinstance(fact, Defect)]) > 8
    assert len([fact for fact in facts.values() if isinstance(fact, FileFact)]) > 5


def test_names_that_only_differ_in_case_are_no_model(tmp_path: Path) -> None:
    folder = written(tmp_path, {"a": b"1", "A": b"2"})
    assert picked(folder).facts() == read_model(folder)
    assert "." in picked(folder).facts()


@pytest.mark.parametrize("late", [True, False])
def test_two_files_of_one_path_are_no_model(late: bool) -> None:
    """The files are `a/b`, and a file that some systems call `a` and a backslash."""
    model = bridge.Model()
    assert model.begin("a/b")
    if not late:
        model.take("a/b", measured("a/b", b"good"))
    assert not model.begin("a/b")
    if late:
        model.take("a/b", measured("a/b", b"good"))
    assert model.facts() == {"a/b": Defect("more than one file is shown as 'a/b'")}


def test_a_file_that_nobody_measured_is_no_file_of_a_model() -> None:
    model = bridge.Model()
    assert model.begin("a")
    assert model.begin("b")
    model.take("b", measured("b", b""))
    assert model.facts()["a"] == Defect("not read")


def test_a_file_that_changed_while_it_was_read() -> None:
    model = bridge.Model()
    assert model.begin("config.json")
    model.take("config.json", measured("config.json", b"1234", 5))
    (defect,) = model.facts().values()
    assert isinstance(defect, Defect)
    assert "changed while it was read" in defect.reason


def shown(folder: Path, scene: Scene) -> dict[str, str | None]:
    """Write the files of a scene, and return the page's question about them."""
    (folder / "certificate.json").write_bytes(scene.get("file"))
    for name, text in policy_files(scene.get("policy")).items():
        (folder / name).write_text(text)
    return {
        **dict.fromkeys((*OPTIONS, "expected")),
        "certificate": str(folder / "certificate.json"),
        "policy": str(folder / "policy.toml"),
        "at": scene.at.isoformat(),
    }


def model_of(folder: Path, scene: Scene) -> Path:
    return written(folder / "model", next(iter(scene.get("outputs").values())))


@pytest.mark.parametrize("kind", ["local", "cloud", "confidential"])
@pytest.mark.parametrize("with_model", [True, False])
def test_the_same_result_as_the_command_line(
    kind: str, with_model: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(kind, 2).put("outputs", {"model": MODEL})
    asked = shown(tmp_path, scene)
    folder = model_of(tmp_path, scene)
    answer = json.loads(bridge.answer(json.dumps(asked), picked(folder) if with_model else None))
    # In a verified run, only the model decides the answer.
    assert bridge.answer_unread(json.dumps(asked)) is None
    words = ["verify", str(asked["certificate"]), *([str(folder)] if with_model else [])]
    words += ["--policy", str(asked["policy"]), "--at", str(asked["at"]), "--format", "json"]
    assert main(words) == answer["exitCode"] == (0 if with_model else 2)
    printed = json.loads(capsys.readouterr().out)
    result = answer["result"]
    if with_model:
        # One check's detail names what a browser does not show, and so does the first omission.
        assert bridge.UNSEEN in result["omits"].pop(0)
        (check,) = [check for check in result["checks"] if check["id"] == "subject.files"]
        check["detail"], _, unseen = check["detail"].rpartition("\n")
        assert unseen == f"not checked: {bridge.UNSEEN}"
        assert answer["unseen"] == bridge.UNSEEN
    assert result == printed
    assert ("PASSED" if with_model else "NO VERDICT") in answer["report"]


BAD: dict[str, dict[str, str]] = {
    "no certificate": {"certificate": ""},
    "no json": {"certificate": "{"},
    "unknown policy": {"policy": "defualt"},
    "no root": {"policy": "local"},
    "a nonce that is none": {"nonce": "xyz"},
    "a time without a zone": {"at": "2026-01-01"},
    "a lockfile digest that is none": {"lockfile": "sha256:zz"},
    "a root that is none": {"policy": "local", "root": "no pem"},
    "an image lock that is none": {"policy": "qemu", "imageLock": "x = 1"},
    "a lineage that is none": {"lineage": "[]"},
    "collateral that nothing needs": {"collateral": "{}"},
    "collateral of no GPU": {"gpuCollateral": "{}"},
    "audits that are none": {"evidence": "/nowhere"},
    "two things at once": {"certificate": "{", "nonce": "xyz", "policy": "local"},
}
OPTIONS = {
    "policy": "--policy", "root": "--root", "nonce": "--nonce", "at": "--at",
    "lockfile": "--lockfile", "imageLock": "--image-lock", "lineage": "--lineage",
    "collateral": "--collateral", "gpuCollateral": "--gpu-collateral",
    "evidence": "--evidence",
}  # fmt: skip


@pytest.mark.parametrize("change", [{"policy": "default"}, {"nonce": "xyz"}])
def test_a_model_is_not_read_for_what_fails_without_it(
    change: dict[str, str], tmp_path: Path
) -> None:
    scene = Scene("local", 2).put("outputs", {"model": MODEL})
    question = json.dumps({**shown(tmp_path, scene), **change})
    unread = bridge.answer_unread(question)
    assert unread is not None
    assert json.loads(unread)["exitCode"] in (1, 3)
    # The same answer as for the whole folder.
    assert unread == bridge.answer(question, picked(model_of(tmp_path, scene)))


FILES_OF = ("certificate", "root", "imageLock", "collateral", "gpuCollateral", "lineage")
# Arguments that `aicert verify` takes and the page does not, as docs/browser.md explains.
NOT_HERE = {"certificate-only", "base", "format", "help", "re-executed"}


def test_the_page_takes_what_the_command_line_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    options = set(re.findall(r"^ +--([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert options >= NOT_HERE - {"help"}
    assert options - NOT_HERE == {option.removeprefix("--") for option in OPTIONS.values()}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_the_words_of_the_command_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = dict(shown(tmp_path, Scene()))
    for key, text in BAD[name].items():
        value = text
        if key in FILES_OF:
            (tmp_path / key).write_text(text)
            value = str(tmp_path / key)
        asked[key] = [value] if key == "lineage" else value
    answer = json.loads(bridge.answer(json.dumps(asked), None))
    words = ["verify", str(asked["certificate"])]
    for key, option in OPTIONS.items():
        if asked[key] is not None:
            given = asked[key]
            words += [option, str(given[0] if isinstance(given, list) else given)]
    assert main(words) == answer["exitCode"]
    assert capsys.readouterr().err == answer["error"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("honest/audited", "audit"),
        ("forged/audit-of-fewer-rows", "audit"),
        ("honest/evaluated", "evaluation"),
        ("forged/evaluation-of-another-model", "evaluation"),
    ],
)
def test_evidence_counts_and_is_shown_as_on_the_command_line(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = reading.read(reading.FOLDER / f"{name}.json")
    (tmp_path / "certificate.json").write_bytes(vector.certificate)
    policy = reading.write_policy(vector, tmp_path)
    for number, (certificate, results) in enumerate(vector.audits or ()):
        files = {"certificate.json": certificate, "results.json": results}
        written(tmp_path / f"evidence/{number}", files)
    written(tmp_path / "evidence/none", {"certificate.json": b"{"})
    asked = {
        **dict.fromkeys((*OPTIONS, "expected")),
        "certificate": str(tmp_path / "certificate.json"),
        "policy": str(policy),
        "at": vector.at.isoformat(),
        "evidence": str(tmp_path / "evidence"),
    }
    answer = json.loads(bridge.answer(json.dumps(asked), None))
    words = [word for key, option in OPTIONS.items() if asked[key] for word in (option, asked[key])]
    code = main(["verify", str(asked["certificate"]), *map(str, words), "--format", "json"])
    printed = json.loads(capsys.readouterr().out)
    assert code == answer["exitCode"] == (2 if name.startswith("honest") else 1)
    assert answer["result"] == printed
    verdicts = {check["id"]: check["verdict"] for check in answer["result"]["checks"]}
    assert verdicts[f"{kind}.present"] == ("ok" if name.startswith("honest") else "failed")
    main(["verify", str(asked["certificate"]), *map(str, words)])
    text = capsys.readouterr().out
    assert text.endswith(f"\n{answer['evidence']}\n")
    assert "none does not count: " in answer["evidence"]
    assert answer["text"] == text


def test_a_certificate_that_is_only_in_the_evidence(tmp_path: Path) -> None:
    scene = Scene()
    asked = shown(tmp_path, scene)
    written(tmp_path / "evidence/mine", {"certificate.json": scene.get("file")})
    written(tmp_path / "evidence/other", {"certificate.json": Scene("local", 2).get("file")})
    model = bridge.Model()
    for path, fact in read_tree(model_of(tmp_path, scene)).items():
        assert model.begin(path)
        model.take(path, json.dumps({"size": fact.size, "sha256": fact.sha256}))
    whole = {**asked, "certificate": None, "evidence": str(tmp_path / "evidence")}
    assert bridge.answer_unread(json.dumps(whole)) is None
    answer = json.loads(bridge.answer(json.dumps(whole), model))
    assert answer["exitCode"] == 0
    assert answer["certificate"] == f"sha256:{ca_forge.hash_of(scene.get('file'))}"
    for question, given, words in (
        (whole, None, "no certificate was chosen"),
        ({**whole, "evidence": None}, model, "no certificate was chosen"),
        (whole, bridge.Model(), "none of the 2 certificates"),
    ):
        answer = json.loads(bridge.answer(json.dumps(question), given))
        assert words in answer["error"]


def test_a_link_names_the_certificate_that_it_is_for(tmp_path: Path) -> None:
    scene = Scene()
    asked = shown(tmp_path, scene)
    digest = ca_forge.hash_of(scene.get("file"))
    good = json.loads(bridge.answer(json.dumps({**asked, "expected": f"sha256:{digest}"}), None))
    assert "report" in good
    other = json.loads(bridge.answer(json.dumps({**asked, "expected": "sha256:00"}), None))
    assert other["exitCode"] == 3
    assert "not the certificate that the link named" in other["error"]
    assert digest in other["error"]


def test_no_file_of_a_model_is_an_empty_folder(tmp_path: Path) -> None:
    asked = shown(tmp_path, Scene())
    (tmp_path / "model").mkdir()
    assert bridge.Model().facts() == read_model(tmp_path / "model")
    answer = json.loads(bridge.answer(json.dumps(asked), bridge.Model()))
    assert answer["exitCode"] == 1
    assert "an empty directory cannot be certified" in answer["text"]


def test_files_are_put_where_they_are_asked_for(tmp_path: Path) -> None:
    bridge.put(str(tmp_path / "in/root/x.pem"), memoryview(b"data"))
    assert (tmp_path / "in/root/x.pem").read_bytes() == b"data"
    assert os.listdir(tmp_path / "in") == ["root"]
