"""The nonce and the name that runner and verifier compute, with their values written out."""

import hashlib

from aicert.formats import gpu

ONE = gpu.DeviceReport(report=b"report", chain=(b"leaf", b"root"))
OTHER = gpu.DeviceReport(report=b"other", chain=(b"leaf",))


def test_the_nonce_is_of_the_run_and_of_its_key() -> None:
    wanted = hashlib.sha256(b"aicert gpu v1\0" + bytes(32) + b"\0\x0bname").digest()
    assert gpu.nonce(bytes(32), b"\0\x0bname") == wanted
    assert wanted.hex() == "2098c263ae012add62627478ea2af7de28b560510fa0ae85c005a4336315004a"


def test_the_name_is_of_each_report_and_certificate_in_order() -> None:
    parts = (b"report", b"leaf", b"root", b"other", b"leaf")
    joined = b"".join(hashlib.sha256(part).digest() for part in parts)
    assert gpu.digest((ONE, OTHER)).hex == hashlib.sha256(joined).hexdigest()
    assert gpu.digest((ONE, OTHER)) != gpu.digest((OTHER, ONE))
    assert gpu.digest((ONE,)) != gpu.digest((ONE, ONE))
