"""The trainer's plugin finds which row settings Axolotl's validation dropped from a config."""

from types import ModuleType

import pytest

from tests.unit.enclave_runner.axolotl.plugin_module import load


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return load("aicert_config")


def test_a_key_that_is_gone_is_named_with_its_place(plugin: ModuleType) -> None:
    written = {
        "datasets": [{"path": "a"}, {"path": "b", "roles": {"user": ["u"]}}],
        "test_datasets": [{"path": "c", "shards": 2}],
    }
    understood = {
        "datasets": [{"path": "a"}, {"path": "b"}],
        "test_datasets": [{"path": "c", "shards": None}],
    }
    assert list(plugin.lost_keys(written, understood)) == [
        "datasets[1].roles", "test_datasets[0].shards",
    ]  # fmt: skip


def test_what_said_nothing_or_was_read_otherwise_is_not_lost(plugin: ModuleType) -> None:
    entry: dict[str, object] = {
        "path": "a", "ds_type": "json", "message_field_role": "from", "shards": None, "roles": {},
    }  # fmt: skip
    written = {"datasets": [entry, "text"], "pretraining_dataset": "b"}
    understood = {"datasets": [{"path": "a"}, {}], "pretraining_dataset": [{"path": "b"}]}
    assert list(plugin.lost_keys(written, understood)) == []
    assert list(plugin.lost_keys({"datasets": [entry]}, {})) == []
