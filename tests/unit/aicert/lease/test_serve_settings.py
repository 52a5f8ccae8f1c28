"""What a host hands to a machine that serves."""

import json
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.formats.digest import of_bytes
from aicert.frozen import replace
from aicert.lease import serve_settings
from aicert.lease.serve_settings import Settings

SETTINGS = Settings(
    address="10.0.2.15", prefix=24, port=8443, image=of_bytes(b"lock"), memory=1 << 30, threads=2
)


AWAY = replace(SETTINGS, courier=of_bytes(b"key"), gateway="10.0.2.2")


@pytest.mark.parametrize("settings", [SETTINGS, AWAY])
def test_settings_are_read_as_they_were_written(settings: Settings) -> None:
    assert serve_settings.parse(serve_settings.emit(settings)) == settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("address", "fe80::1"), ("address", "custodian.example"), ("prefix", 31), ("prefix", 0),
        ("port", 0), ("port", 1 << 16), ("image", "none"), ("memory", 0), ("threads", 1025),
        ("threads", "2"), ("route", "10.0.2.2"), ("courier", "key"), ("gateway", "10.0.3.1"),
        ("gateway", "router"),
    ],
)  # fmt: skip
def test_settings_that_are_none_are_refused(key: str, value: Any) -> None:
    document = json.loads(serve_settings.emit(SETTINGS)) | {key: value}
    with pytest.raises(EvidenceError):
        serve_settings.parse(json.dumps(document).encode())
