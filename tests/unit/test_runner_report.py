"""The number of weights in a report comes from the headers of what was made, hostile or not."""

from pathlib import Path

from aicert.tree import read_tree
from enclave_runner.report import _parameters
from tests.adversarial.attacks_disk import ATTACKS, GOOD, safetensors, tensor


def test_weights_of_all_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(GOOD)
    (tmp_path / "b.safetensors").write_bytes(safetensors({"x": tensor(0, 8, (2, 4), "I8")}))
    (tmp_path / "c.json").write_bytes(GOOD)
    assert _parameters(tmp_path, read_tree(tmp_path)) == 10


def test_files_that_no_loader_takes_have_none(tmp_path: Path) -> None:
    bad = [attack.weights for attack in ATTACKS if attack.weights is not GOOD]
    for number, data in enumerate(bad):
        (tmp_path / f"{number}.safetensors").write_bytes(data)
    assert len(bad) > 10
    assert _parameters(tmp_path, read_tree(tmp_path)) == 0
