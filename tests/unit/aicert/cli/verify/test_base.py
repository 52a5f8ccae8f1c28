"""`aicert verify --base`: whether a folder is the model that was trained on."""

from dataclasses import replace
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.cli.verify.base import check_copy
from aicert.errors import EvidenceError
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import RunReport, Value
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene, hex_of

FILES = {"config.json": b"{}", "sub/weights.bin": b"weights", "notes.md": b"x"}
AT = "2026-08-21T09:14:07Z"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def scene(
    *names: str, base: str | None = "model", digest: Digest | None = None, **patterns: tuple[str]
) -> Scene:
    """Return a run on a base model of the files `names`, locked with `patterns`."""
    locked_digest = digest or dir_digest({name: hex_of(FILES[name]) for name in names})

    def locked(lockfile: Lockfile) -> Lockfile:
        *others, model = lockfile.inputs
        changed = replace(
            model,
            digest=locked_digest,
            only=patterns.get("only", ()),
            except_=patterns.get("except_", ()),
        )
        return replace(lockfile, inputs=(*others, changed))

    def reported(report: RunReport) -> RunReport:
        if base is None:
            return report
        return replace(report, values={**report.values, "baseInput": Value("measured", base)})

    return Scene("local", 2).edit("lockfile", locked).edit("report", reported)


@pytest.mark.parametrize(
    "forged",
    [
        scene(*FILES),
        scene(*FILES, base="model/sub"),
        scene("config.json", "sub/weights.bin", except_=("*.md",)),
        scene("config.json", only=("*.json",)),
    ],
)
def test_the_same_files_are_the_base(copy: Path, forged: Scene) -> None:
    is_same, message = check_copy(forged.get("certificate"), str(copy))
    assert is_same
    assert f"{copy} is input model, dirHash:" in message


def test_other_files_are_not(copy: Path) -> None:
    is_same, message = check_copy(scene("config.json").get("certificate"), str(copy))
    assert not is_same
    assert message.count("dirHash:") == 2
    (copy / "link").symlink_to("config.json")
    assert not check_copy(scene(*FILES).get("certificate"), str(copy))[0]


@pytest.mark.parametrize(
    "forged", [scene(*FILES, base=None), scene(*FILES, base="none"), scene(digest=of_bytes(b""))]
)
def test_a_certificate_that_names_no_base_says_nothing(copy: Path, forged: Scene) -> None:
    with pytest.raises(EvidenceError, match="does not say which input is the base model"):
        check_copy(forged.get("certificate"), str(copy))


@pytest.mark.parametrize(("names", "code"), [(tuple(FILES), 0), (("config.json",), 1)])
def test_the_program_says_no_by_its_exit_code(
    tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str], names: tuple[str], code: int
) -> None:
    forged = scene(*names)
    (tmp_path / "c.json").write_bytes(forged.get("file"))
    (tmp_path / "root.pem").write_bytes(ca_forge.pem(forged.get("root")))
    words = ["verify", str(tmp_path / "c.json"), "--policy", "local", "--at", AT]
    words += ["--root", str(tmp_path / "root.pem"), "--certificate-only", "--base", str(copy)]
    assert main(words) == code
    assert ("is not input model" in capsys.readouterr().err) == bool(code)
