"""The runner's messages to the host: a reason always gets through, whatever its characters."""

import json
import os

import pytest

from aicert.formats.machine_io import MAX_EVENT
from enclave_runner.events import Events


@pytest.mark.parametrize("message", ["short", "x" * 9000, "\u00e9" * 9000, "\U0001f600" * 9000])
def test_an_error_always_fits_into_one_line(message: str) -> None:
    reader, writer = os.pipe()
    Events(writer).error(message, message, 3)
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        (line,) = lines.readlines()
    assert len(line) <= MAX_EVENT
    event = json.loads(line)
    assert event["exitCode"] == 3
    assert message.startswith(event["message"])
    assert event["message"]
