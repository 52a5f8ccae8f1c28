"""Uploads and downloads with Azure's own client and Azurite: complete, interrupted and resumed."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aicert.errors import EvidenceError, ToolError
from rules.machines.azure import blobs
from rules.machines.azure import client as azure_client
from rules.machines.azure import vhd as azure_vhd

MIB = 1 << 20


class Wire:
    """A TCP relay to Azurite that passes on a limited number of bytes, then nothing."""

    def __init__(self, port: int, budget: int) -> None:
        self._to, self.left, self.carried = port, budget, 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            pairs = ((client, server, True), (server, client, False))
            for source, target, counted in pairs:
                threading.Thread(
                    target=self._carry, args=(source, target, counted), daemon=True
                ).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    if counted:
                        self.carried += len(data)
                        self.left -= len(data)
                    if self.left < 0:
                        break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wire(azurite: str) -> Iterator[Wire]:
    port = urlsplit(azurite).port
    assert port is not None
    relay = Wire(port, 1 << 40)
    yield relay
    relay.close()


@pytest.fixture
def store(azurite: str) -> Iterator[Any]:
    service = azure_client.service(azurite)
    for container in service.list_containers():
        service.delete_container(container.name)
    service.create_container(blobs.CONTAINER)
    yield service
    service.close()


def sparse(path: Path) -> azure_vhd.Vhd:
    """Write a disk of slightly more than 64 MiB, with data at both ends, holes, and written
    zeroes.
    """
    with path.open("wb") as file:
        file.truncate(64 * MIB + 77)
        os.pwrite(file.fileno(), os.urandom(20 * MIB), 0)
        os.pwrite(file.fileno(), bytes(8 * MIB), 30 * MIB)
        os.pwrite(file.fileno(), b"end", 64 * MIB + 74)
    return azure_vhd.of_file(path)


def expected(vhd: azure_vhd.Vhd) -> bytes:
    return vhd.path.read_bytes().ljust(vhd.disk, b"\0") + vhd.footer


def test_what_goes_up_comes_down(store: Any, azurite: str, tmp_path: Path) -> None:
    vhd = sparse(tmp_path / "disk")
    sent = blobs.upload(store, vhd, "image.vhd")
    # Neither the holes nor the written zeroes are sent.
    assert 20 * MIB < sent < 30 * MIB
    blob = store.get_blob_client("disks", "image.vhd")
    assert blob.download_blob().readall() == expected(vhd)
    address, _, signature = azurite.partition("?")
    blobs.download(f"{address}/disks/image.vhd?{signature}", tmp_path / "back", vhd.disk)
    assert (tmp_path / "back").read_bytes() == expected(vhd)
    # A second upload finds everything there.
    assert blobs.upload(store, vhd, "image.vhd") == 0


def test_another_disk_under_that_name_is_written_anew(store: Any, tmp_path: Path) -> None:
    blobs.upload(store, sparse(tmp_path / "one"), "image.vhd")
    vhd = sparse(tmp_path / "two")
    assert blobs.upload(store, vhd, "image.vhd") > 20 * MIB
    blob = store.get_blob_client("disks", "image.vhd")
    assert blob.download_blob().readall() == expected(vhd)


def test_cut_then_resumed(
    store: Any, wire: Wire, azurite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vhd = sparse(tmp_path / "disk")
    through = azurite.replace(f":{urlsplit(azurite).port}/", f":{wire.port}/")
    cut = azure_client.service(through, retry_total=0)
    # With two pieces of 4 MiB at a time, at least one of them is stored by the time the wire is cut
    # after 13 MiB. With more at a time, each might have arrived only in part.
    wire.left = 13 * MIB
    with monkeypatch.context() as patch:
        patch.setattr(blobs, "_PARALLEL", 2)
        with pytest.raises(ToolError, match=r"the upload of image\.vhd was interrupted"):
            blobs.upload(cut, vhd, "image.vhd")
    there = sum(
        end - begin for begin, end in blobs._ranges(store.get_blob_client("disks", "image.vhd"))
    )
    assert 0 < there < 20 * MIB
    wire.left, wire.carried = 1 << 40, 0
    blobs.upload(cut, vhd, "image.vhd")
    # The second attempt did not send what had arrived.
    assert wire.carried < 30 * MIB - there
    blob = store.get_blob_client("disks", "image.vhd")
    assert blob.download_blob().readall() == expected(vhd)
    cut.close()


def test_signature_that_is_refused(azurite: str, tmp_path: Path) -> None:
    service = azure_client.service(azurite.replace("sig=", "sig=A"))
    with pytest.raises(ToolError, match="HTTP 403"):
        blobs.upload(service, sparse(tmp_path / "disk"), "image.vhd")
    service.close()


def test_disk_larger_than_it_was_made(store: Any, azurite: str, tmp_path: Path) -> None:
    blobs.upload(store, sparse(tmp_path / "disk"), "output")
    address, _, signature = azurite.partition("?")
    with pytest.raises(EvidenceError, match="but was created with 1048576"):
        blobs.download(f"{address}/disks/output?{signature}", tmp_path / "back", MIB)
    with pytest.raises(ToolError, match=r"interrupted: .*\(HTTP 404\)"):
        blobs.download(f"{address}/disks/nothing?{signature}", tmp_path / "back", MIB)


def test_console_that_grows(store: Any) -> None:
    console = blobs.Console(store)
    assert console.more() == b""
    container = store.create_container("bootdiagnostics-x-1")
    container.upload_blob("x.1.screenshot.bmp", b"no text")
    assert console.more() == b""
    blob = container.get_blob_client("x.1.serialconsole.log")
    blob.create_append_blob()
    blob.append_block(b"one\n")
    assert console.more() == b"one\n"
    assert console.more() == b""
    blob.append_block(b"two\nth")
    blob.append_block(b"ree\n")
    assert console.more() == b"two\nthree\n"
