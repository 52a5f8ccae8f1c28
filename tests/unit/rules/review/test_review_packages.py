"""What a review reports about packages: the training environment's locks and the image's."""

from pathlib import Path

import pytest

from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from rules.image.changed_packages import changed_packages
from rules.review import packages as review_packages
from rules.review.packages import TRAINING, training_section
from rules.review.revisions import Checkout, Revision
from tests.unit.review_project import checks_of, commit, make, reviewed_text

REPOSITORY = Path(__file__).resolve().parents[4]
PINS = """\
numpy==2.0.0 \\
    --hash=sha256:{}
    # via torch
torch==2.13.0 \\
    --hash=sha256:{} \\
    --hash=sha256:{}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path / "project", monkeypatch)


def test_packages_of_the_training_environment_are_told(root: Path) -> None:
    folder = root / "enclave_runner"
    folder.mkdir()
    pins = PINS.format(*(c * 64 for c in "abc"))
    (folder / "requirements.lock").write_text(pins)
    base = Revision(root, commit(root, "environment"))
    new = (
        pins.replace("2.0.0", "2.1.0").replace("c" * 64, "d" * 64)
        + "evil==1 --hash=sha256:"
        + "e" * 64
    )
    (folder / "requirements.lock").write_text(new)
    warnings: list[str] = []
    section = training_section(base, Checkout(root), warnings)
    assert section is not None
    assert [(row.label, row.old, row.new) for row in section.rows] == [
        ("evil", None, "1"),
        ("numpy", "2.0.0", "2.1.0"),
        ("torch", "2.13.0", "2.13.0"),
    ]
    assert warnings == [
        "training environment: torch 2.13.0 has different files under the same version"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "torch @ https://evil.example/torch.whl --hash=sha256:" + "e" * 64,
        "--extra-index-url https://evil.example/simple",
        f"torch==2.13.0 ; python_version > '3' --hash=sha256:{'e' * 64}",
        f"-r more.txt # torch==1 --hash=sha256:{'e' * 64}",
    ],
)
def test_a_line_that_is_no_pin_is_told(root: Path, line: str) -> None:
    folder = root / "enclave_runner"
    folder.mkdir()
    pins = PINS.format(*(c * 64 for c in "abc"))
    (folder / "requirements.lock").write_text(pins)
    base = Revision(root, commit(root, "environment"))
    (folder / "requirements.lock").write_text(pins + line + "\n")
    warnings: list[str] = []
    assert training_section(base, Checkout(root), warnings) is not None
    assert warnings == [f"{TRAINING[0]} has a line that does not lock a package: {line}"]


def test_a_second_pin_does_not_hide_the_first(root: Path) -> None:
    """The other lock repeats the old pins, while the installed one differs."""
    (root / "enclave_runner").mkdir()
    pins = PINS.format(*(c * 64 for c in "abc"))
    (root / TRAINING[0]).write_text(pins)
    base = Revision(root, commit(root, "environment"))
    (root / TRAINING[0]).write_text(pins.replace("2.0.0", "6.6.6").replace("c" * 64, "d" * 64))
    (root / TRAINING[1]).write_text(pins)
    section = training_section(base, Checkout(root), [])
    assert section is not None
    assert [(row.label, row.old, row.new) for row in section.rows] == [
        ("numpy", "2.0.0", "6.6.6"),
        ("numpy (again)", None, "2.0.0"),
        ("torch", "2.13.0", "2.13.0"),
        ("torch (again)", None, "2.13.0"),
    ]


def test_the_image_with_gpus_is_told_by_itself(root: Path) -> None:
    path = root / review_packages.IMAGES[1]
    path.write_bytes((REPOSITORY / review_packages.IMAGE).read_bytes())
    text = reviewed_text(root)
    assert "GPU image: new" in text
    # The file belongs to no run.
    assert "aicert.toml has no such run" not in text
    judged = checks_of(root)
    assert "image_gpu_reproduce" in judged[review_packages.IMAGES[1]].detail
    assert "failed" not in {check.verdict for check in judged.values()}


def test_a_change_of_the_committed_locks_of_image_and_training_is_told(root: Path) -> None:
    image, training = (root / name for name in (review_packages.IMAGE, TRAINING[0]))
    training.parent.mkdir()
    for path in (image, training):
        path.write_bytes((REPOSITORY / path.relative_to(root)).read_bytes())
    commit(root, "as released")
    text = image.read_text()
    locked = image_lock.parse(image.read_bytes())
    tool, installed, same = (
        next(p for p in locked.packages if p.part == part and p.name.startswith(name))
        for part, name in (("tools", "a"), ("machine", "a"), ("machine", "z"))
    )
    for old, new in (
        (f'"{tool.version}"\ndigest = "{tool.digest}"', f'"9"\ndigest = "{tool.digest}"'),
        (f'version = "{installed.version}"\ndigest = "{installed.digest}"',
         f'version = "0:9.9"\ndigest = "sha256:{"a" * 64}"'),
        (str(same.digest), f"sha256:{'b' * 64}"),
        (locked.pcrs[11].hex(), "c" * 64),
        (str(locked.verity["training"]), f"sha256:{'d' * 64}"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    image.write_text(text)
    pins = training.read_text()
    version = pins.partition("\nsafetensors==")[2].partition(" ")[0]
    training.write_text(pins.replace(f"\nsafetensors=={version} ", "\nsafetensors==99.0 "))
    text = reviewed_text(root)
    assert f"machine: {installed.name}" in text
    assert f"{installed.version} -> 0:9.9" in text
    assert text.index(f"machine: {installed.name}") < text.index(f"tools: {tool.name}")
    assert f"+ {'c' * 64}" in text
    assert "dm-verity root of training" in text
    warning = (
        f"image: machine: {same.name} {same.version} has different files under the same version"
    )
    assert f"warning: {warning}" in text
    judged = checks_of(root)[review_packages.IMAGE]
    assert judged.verdict == "-"
    assert "rebuild it before it is merged" in judged.detail
    image.write_text(text + "\n")
    assert "is not in canonical form" in checks_of(root)[review_packages.IMAGE].detail
    assert "training environment: changed" in text
    assert f"safetensors  {version} -> 99.0" in text


def test_an_update_of_many_tools_is_a_few_lines() -> None:
    def lock(tools: str, kernel: str) -> bytes:
        packages = [
            image_lock.Package(
                part=part, name=name, version=version, digest=of_bytes(f"{name}{version}".encode())
            )
            for part, name, version in (
                ("kernel", f"linux-image-{kernel}", kernel),
                *(("tools", f"tool-{letter}", tools) for letter in "abcdef"),
            )
        ]
        return image_lock.emit(
            name="m", disk=of_bytes(b"d"), pcrs={i: bytes(32) for i in (4, 11, 12, 13)}, verity={},
            packages=tuple(packages),
        )  # fmt: skip

    assert changed_packages(lock("1", "6.12.117"), lock("2", "6.12.118")) == [
        "kernel: linux-image-6.12.117  6.12.117 -> none",
        "kernel: linux-image-6.12.118  none -> 6.12.118",
        "tools: 6 packages  tool-a, tool-b, tool-c, tool-d, tool-e, tool-f",
    ]
    assert changed_packages(None, lock("1", "6")) == []
