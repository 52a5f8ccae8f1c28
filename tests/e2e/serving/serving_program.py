"""Run a serving machine with a stub engine as a process of its own, for tests that kill it.

`python -m tests.e2e.serving.serving_program TCTI BUNDLE FOLDER`.
"""

import sys
from pathlib import Path

from enclave_runner.attester.tpm import Tpm
from enclave_runner.serving import load, tls
from enclave_runner.serving.__main__ import CourierWriter, lines
from enclave_runner.serving.lease_tpm import LeaseTpm
from enclave_runner.serving.machine import Machine, Place
from tests.e2e.serving import stub_engine


def main(tcti: str, bundle: Path, folder: Path) -> None:
    """Serve until the courier disconnects."""
    for name in ("memory", "copies"):
        (folder / name).mkdir()
    with stub_engine.running(folder) as stub, Tpm(tcti) as opened, LeaseTpm(opened) as tpm:
        place = Place(
            memory=folder / "memory", copies=folder / "copies", address=("127.0.0.1", 0),
            model_types=frozenset(("llama",)), start=stub.give,
        )  # fmt: skip
        writer = CourierWriter(sys.stdout.fileno())
        offered = load.read_bundle(bundle)
        machine = Machine(tpm, offered, place, tls.make_identity(), writer.send)
        machine.ready()
        for line in lines(sys.stdin.fileno()):
            machine.handle(line)
        machine.end("asked")
        writer.finish(600)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
