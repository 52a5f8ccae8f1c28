"""A lease from grant to kill receipt in the booted image, with the real engine: minutes of imports
in an emulated machine, so it is run with `-m whole`.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import aicert.serving
from aicert.cli import main
from aicert.formats import tpm
from aicert.lease import orders, receipts
from rules.machines.ca import local_ca
from rules.project import config
from rules.serving import lease_state as kept
from tests.e2e.lease import broker_process
from tests.e2e.lease.test_broker import granted
from tests.e2e.lease.test_lease_story import pack
from tests.e2e.serving.test_connect import client
from tests.e2e.serving.test_serve import STREAMED, free_port
from tests.e2e.serving.test_serving_process import lay_out
from tests.machine.conftest import BUILD_S, Built
from tests.unit.aicert.cli.test_main import AT
from tests.unit.signing_keys import Printed

pytestmark = [pytest.mark.slow, pytest.mark.machine, pytest.mark.whole]
# The licence runs three of them ahead: a busy computer may miss two.
HEARTBEAT_S = 30
LEASE = """
[machines.desk]
driver = "qemu"
image = "serve"
memory = "2 GiB"
port = {port}

[leases.bot]
model = "path:story/bot"
machine = "desk"
broker = "https://127.0.0.1:{broker}"
broker-root = "story/tls.pem"
"""


def test_a_booted_machine_serves_until_it_is_revoked(
    built: Built, printed: Printed, record_property: Callable[[str, object], None]
) -> None:
    checkout, root = built.checkout, built.checkout.root
    task = "image_serve_update" if built.fresh else "image_serve"
    done = checkout.doit("run", task, limit=BUILD_S)
    assert done.returncode == 0, done.stderr
    folder = root / "story"
    folder.mkdir()
    ca = local_ca(root, "qemu")
    (folder / "platform.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    lay_out(folder)
    broker_process.write_tls(folder)
    agreed = pack(folder, "--heartbeat-seconds", str(HEARTBEAT_S))
    token = folder / "token.txt"
    token.write_text(granted(folder, printed) + "\n")
    place = root / kept.SERVING / "bot"
    accepted = ["--policy", "qemu", "--root", str(folder / "platform.pem")]
    accepted += ["--image-lock", str(root / "lockfiles/image-serve.lock.toml")]
    path = root / config.FILE
    before = path.read_text()
    with broker_process.running(folder, token.read_text().strip(), *accepted) as desk:
        path.write_text(before + LEASE.format(port=free_port(), broker=desk.port))
        began = time.monotonic()
        with checkout.start("serve", "bot", "--token", str(token)) as process:
            assert process.stderr is not None
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if "serving at https://" in line:
                    break
            url = "".join(lines[-1:]).partition("serving at ")[2].strip()
            assert url, lines
            record_property("seconds from the command to serving", time.monotonic() - began)
            with aicert.serving.connect(
                url, lease=agreed.lease, certificate=folder / "c.json", policy="local",
                root=folder / "root.pem", at=AT, machine_policy="qemu",
                machine_root=folder / "platform.pem",
                machine_image_lock=root / "lockfiles/image-serve.lock.toml",
            ) as endpoint:  # fmt: skip
                asked = json.loads(client(STREAMED % agreed.lease, endpoint.base_url))
                assert asked["tokens"] == 3
                words = ["lease", "revoke", str(folder / "bot"), "--ledger"]
                assert main.main([*words, str(folder / "ledger.db")]) == 0
                rest = process.stderr.read()
            assert (process.wait(), f"ended: {orders.REVOKE}" in rest) == (0, True), rest
        assert not (place / kept.UNSENT).exists()
        printed()
        words = ["receipts", str(place / kept.RECEIPTS), "--enrolment", str(place / kept.ENROLMENT)]
        assert main.main(["lease", *words, "--lease", str(folder / "bot"), *accepted]) == 0
        text = printed()[0]
        assert ", 3 out, 0 refused, of 1 request\n" in text
        assert f"\nended     by order {orders.REVOKE}: the epoch is " in text
        record_property("seconds from heartbeat to kill receipt", seconds_to_the_end(place))
        again = checkout.doit("serve", "bot")
        assert (again.returncode, "revoked" in again.stderr) == (2, True), again.stderr
    path.write_text(before)
    shutil.rmtree(folder)


def seconds_to_the_end(place: Path) -> float:
    """By the TPM's clock, from the receipt that the order answered to the end of serving."""
    clocks = [
        tpm.parse_counter(receipts.parse(line).attest, "a receipt").clock.clock
        for line in (place / kept.RECEIPTS).read_bytes().splitlines()
    ]
    return (clocks[-1] - clocks[-3]) / 1000
