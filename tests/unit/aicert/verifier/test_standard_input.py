"""`-` in place of a certificate reads file descriptor 0, up to a size limit."""

import os
from pathlib import Path

import pytest

from aicert.errors import EvidenceError
from aicert.formats import certificate
from aicert.verifier.verify import read_certificate_file


@pytest.mark.parametrize("size", [10, certificate.MAX_BYTES + 1])
def test_a_certificate_is_read_from_standard_input(tmp_path: Path, size: int) -> None:
    file = tmp_path / "certificate.json"
    with file.open("wb") as stream:
        stream.truncate(size)
    before = os.dup(0)
    try:
        with file.open("rb") as stream:
            os.dup2(stream.fileno(), 0)
        if size > certificate.MAX_BYTES:
            with pytest.raises(EvidenceError, match="larger than"):
                read_certificate_file("-")
        else:
            assert read_certificate_file("-") == bytes(size)
    finally:
        os.dup2(before, 0)
        os.close(before)
