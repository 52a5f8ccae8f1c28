"""The worst hostile inputs, in the booted machine: its runner refuses them and trains nothing."""

from pathlib import Path

import pytest

from aicert.errors import AicertError
from rules.host import training_env
from rules.machines.qemu import machine
from tests.adversarial.inputs.table import Row, table
from tests.adversarial.inputs.test_hostile_inputs import TOML, lay_out
from tests.e2e.conftest import REPOSITORY
from tests.machine.conftest import Built, job_of

pytestmark = [pytest.mark.slow, pytest.mark.machine]

# Code by way of a row, text by way of a link in an archive, text by way of a tokenizer.
WORST = {
    ("parquet", "an image by the library's metadata"),
    ("tar", "a tar with a link, as one file"),
    ("tokenizer", "a vocabulary elsewhere"),
}
ROWS = [row for row in table() if (row.loader, row.name) in WORST]
MEASURED = TOML.replace('driver = "local"', 'driver = "qemu"')


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.loader}: {row.name}")
def test_it_is_refused_in_the_machine(row: Row, built: Built, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    lay_out(row, root, training_env.ensure(REPOSITORY))
    (root / "aicert.toml").write_text(MEASURED)
    job = job_of(root, tmp_path, "hostile", memory=2 << 30, time_limit=60)
    with pytest.raises(AicertError) as caught:
        machine.execute_in(job, built.image)
    for words in row.words:
        assert words in caught.value.message
    assert not list(tmp_path.rglob("certificate.json"))


def test_the_worst_are_in_the_table() -> None:
    assert len(ROWS) == len(WORST)
