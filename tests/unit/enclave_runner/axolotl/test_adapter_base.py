"""An adapter's config names the base as the lockfile does, not where the trainer saw it."""

import json
from pathlib import Path

import pytest

from aicert.files.tree import read_tree
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput, Lockfile
from enclave_runner.axolotl.adapter_base import CONFIG, Base, base_of, rename
from enclave_runner.axolotl.report import of_base
from enclave_runner.inputs.references import Reference

WRITTEN = {"base_model_name_or_path": "/aicert/inputs/model", "r": 8, "revision": None, "a": 0.5}


def lockfile(uri: str) -> Lockfile:
    item = LockedInput(
        name="model", source=uri, uri=uri, size=1, digest=Digest("dirHash", "ab" * 32)
    )
    return Lockfile(run="tiny", trainer="axolotl", outputs=("adapter",), inputs=(item,))


def references(inside: str = "") -> list[Reference]:
    return [
        Reference(key="tokenizer_config", name="other", inside="", role="tokenizer"),
        Reference(key="base_model", name="model", inside=inside, role="model"),
    ]


@pytest.mark.parametrize(
    ("uri", "inside", "name", "revision"),
    [
        ("path:examples/tiny", "", "examples/tiny", None),
        ("path:examples", "tiny", "examples/tiny", None),
        ("hf:org/name@" + "c" * 40, "", "org/name", "c" * 40),
        # Sources that no adapter loader understands are left out.
        ("hf:org/name@" + "c" * 40, "sub", None, None),
        ("hf:datasets/org/name@" + "c" * 40, "", None, None),
        ("git+https://example.org/x@" + "c" * 40, "", None, None),
        ("https://example.org/x", "", None, None),
        ("run:base/model", "", None, None),
    ],
)
def test_the_base_is_named_as_it_is_locked(
    tmp_path: Path, uri: str, inside: str, name: str | None, revision: str | None
) -> None:
    base = base_of(references(inside), lockfile(uri))
    assert (base.reference, base.name, base.revision) == (
        "model/" * bool(inside) + (inside or "model"), name, revision,
    )  # fmt: skip
    (tmp_path / CONFIG).write_text(json.dumps(WRITTEN))
    changed = rename(tmp_path, read_tree(tmp_path), base)
    assert changed == read_tree(tmp_path)
    named = {"base_model_name_or_path": name, "revision": revision}
    wanted = {"a": 0.5, "r": 8, **{key: value for key, value in named.items() if value}}
    assert (tmp_path / CONFIG).read_text() == json.dumps(wanted, indent=2, sort_keys=True)


def test_every_adapter_is_named_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in (CONFIG, f"sub/{CONFIG}", "config.json", f"x-{CONFIG}"):
        (tmp_path / name).write_text(json.dumps(WRITTEN))
    before = read_tree(tmp_path)
    changed = rename(tmp_path, before, Base(reference="model", name="org/name", revision="1"))
    assert sorted(changed) == [CONFIG, f"sub/{CONFIG}"]
    assert before | changed == read_tree(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"a": 1, "a": 2}', b"[" * 99])
def test_what_no_loader_reads_is_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(data)
    assert rename(tmp_path, read_tree(tmp_path), Base(reference="model", name="x")) == {}
    assert (tmp_path / CONFIG).read_bytes() == data


def test_the_report_has_input_and_name() -> None:
    base = Base(reference="model", name="org/name", revision="main")
    values = {key: (value.origin, value.data) for key, value in of_base(base, [CONFIG]).items()}
    assert values == {
        "baseInput": ("measured", "model"), "adapterBase": ("derived", "org/name@main"),
    }  # fmt: skip
    assert list(of_base(base, [])) == ["baseInput"]
    assert of_base(Base(reference="model", name=None), [CONFIG])["adapterBase"].data == ""
