"""A file that a key names is not one that loaders find in a model's folder by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.axolotl.config import refer
from enclave_runner.inputs.model_files import prepare
from enclave_runner.inputs.model_json import ModelFileRefused
from tests.unit.enclave_runner.inputs.test_model_files import MODEL, TYPES, Content, write


@pytest.mark.parametrize(
    ("folder", "file"),
    [("", "adapter_config.json"), ("", "sub/adapter_config.json"), ("sub", "sub/x.jinja")],
)
def test_a_file_that_a_key_names_is_not_shown_where_loaders_look(
    tmp_path: Path, folder: str, file: str
) -> None:
    prefix = f"{folder}/" if folder else ""
    content: Content = {f"{prefix}{name}": data for name, data in MODEL.items()}
    content |= {f"{prefix}chat_template.jinja": "{{ a }}", file: "{}", "apart/x.jinja": "{{ b }}"}
    item = write(tmp_path, content)
    model = refer(key="base_model", name="m", inside=folder)

    def shown(inside: str) -> set[str]:
        named = refer(key="chat_template_jinja", name="m", inside=inside)
        seen = prepare([named, model], [item], frozenset(), tmp_path / "copies", model_types=TYPES)
        return set(seen.shown)

    with pytest.raises(ModelFileRefused, match=f"m/{file} lies in a folder that a model is loaded"):
        shown(file)
    # A file that a loader sees anyway was already checked for that loader.
    template = f"{prefix}chat_template.jinja"
    assert f"m/{template}" in shown(template)
    if folder:
        assert "m/apart/x.jinja" in shown("apart/x.jinja")
