from pathlib import Path

import pytest

from aicert.errors import ConfigError, ToolError
from aicert.leasing import client_receipts
from aicert.serving import receipt_file
from tests.unit.aicert.lease.test_answer_receipts import TOKEN


def test_receipts_are_added_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    receipt_file.keep_in(path)(TOKEN)
    receipt_file.keep_in(path)(TOKEN)
    assert client_receipts.parse_lines(path.read_bytes()) == [TOKEN, TOKEN]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write receipts to"):
        receipt_file.keep_in(tmp_path)
    path = tmp_path / "answers"
    keep = receipt_file.keep_in(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ToolError, match="cannot write a receipt"):
        keep(TOKEN)
