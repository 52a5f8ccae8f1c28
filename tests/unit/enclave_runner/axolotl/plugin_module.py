"""Modules of the plugin, which the trainer's process imports by their bare names."""

import importlib.util
from pathlib import Path
from types import ModuleType

PLUGIN = Path(__file__).resolve().parents[4] / "enclave_runner/axolotl/plugin"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PLUGIN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
