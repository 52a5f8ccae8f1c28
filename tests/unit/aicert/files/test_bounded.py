import os
import tracemalloc
from pathlib import Path

import pytest

from aicert.errors import EvidenceError
from aicert.files.bounded import read_bounded


def test_a_file_of_the_greatest_size(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1234")
    assert read_bounded(path, 4, "it") == b"1234"
    with pytest.raises(EvidenceError) as error:
        read_bounded(path, 3, "it", hint="cut it")
    assert error.value.message == f"it {str(path)!a} is larger than 3 bytes"
    assert error.value.hint == "cut it"


def test_no_more_is_read_than_there_may_be(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    os.truncate(path, 64 << 20)
    tracemalloc.start()
    with pytest.raises(EvidenceError, match="larger than 4 bytes"):
        read_bounded(path, 4, "it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError) as error:
        read_bounded(tmp_path, 4, "it", hint="name a file")
    assert error.value.message == f"cannot read it {str(tmp_path)!a}: Is a directory"
    assert error.value.hint == "name a file"
    with pytest.raises(EvidenceError) as error:
        read_bounded("a\0b", 4, "it")
    assert error.value.message == r"cannot read it 'a\x00b': embedded null byte"
