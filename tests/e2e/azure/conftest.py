"""Azurite, and a simulated Azure."""

import base64
import datetime
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rules.machines.azure import client
from rules.machines.azure.run import Order
from tests.oracles import environment
from tests.vectors import reading

REPOSITORY = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
REHEARSAL = HERE / "rehearsal"
ACCOUNT = "aicertrehearsal"
# A project with one run on a machine of this cloud.
PROJECT = """
[runs.tiny]
config = "path:tiny.yml"
machine = "cloud"
outputs = ["model"]
[runs.tiny.inputs]
[machines.cloud]
driver = "azure"
region = "westeurope"
size = "Standard_D8s_v5"
scratch = "900 MiB"
time-limit = "2 min"
"""


@dataclass(frozen=True, kw_only=True)
class World:
    """A simulated cloud; `home` is where the driver keeps its state."""

    folder: Path
    home: Path
    store: str

    def left(self) -> list[str]:
        """Return what would be billed now, and the folders of runs that are not finished."""
        runs = [path.name for path in self.home.glob("aicert*")]
        return sorted(os.listdir(self.folder / "left")) + runs

    def fails(self, step: str, words: str) -> None:
        (self.folder / "fail.json").write_text(json.dumps({step: words}))

    def plays(self, what: str) -> None:
        (self.folder / "play").write_text(what)

    def order(self, **changes: object) -> Order:
        facts: dict[str, object] = {
            "run": "tiny", "region": "westeurope", "size": "Standard_D8s_v5", "hourly_price": None,
            "budget": 0, "output_gib": 1, "limit_s": 120.0, "module": REHEARSAL, "look_s": 0.02,
        }  # fmt: skip
        return Order(**(facts | changes))  # type: ignore[arg-type]  # facts of a test


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Run Azurite's blob service with an account of its own; yield its URL with a signature."""
    if shutil.which("node") is None:
        raise AssertionError("node is missing: apt-get install nodejs npm")
    program = environment.node_modules() / "azurite/dist/src/blob/main.js"
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    # The client asks for a newer version of the protocol than this Azurite supports by name.
    words = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    words += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        ["node", program, *words],
        env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = ""
        for line in process.stdout or ():
            printed += line
            if "successfully listens on " in line:
                break
        else:
            raise AssertionError(f"Azurite did not start:\n{printed}")
        url = line.split("listens on ")[1].strip()
        yield f"{url}/{ACCOUNT}?{_signature(key)}"
    finally:
        process.kill()
        process.communicate()


def _signature(key: str) -> str:
    blobs = client.library()
    now = datetime.datetime.now(datetime.UTC)
    signature: str = blobs.generate_account_sas(
        account_name=ACCOUNT,
        account_key=key,
        resource_types=blobs.ResourceTypes(service=True, container=True, object=True),
        permission=blobs.AccountSasPermissions(
            read=True, write=True, list=True, create=True, delete=True
        ),
        expiry=now + datetime.timedelta(hours=2),
    )
    return signature


@pytest.fixture
def world(azurite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    if shutil.which("terraform") is None:
        raise AssertionError(
            "terraform is missing: https://developer.hashicorp.com/terraform/install"
        )
    folder = tmp_path / "world"
    (folder / "left").mkdir(parents=True)
    (folder / "fail.json").write_text("{}")
    (folder / "store").write_text(azurite)
    (folder / "play").write_text("good")
    vector = reading.read(reading.FOLDER / "honest/cloud-run.json")
    (folder / "certificate.json").write_bytes(vector.certificate)
    address, _, signature = azurite.partition("?")
    # `exec` replaces the shell by the cloud, because terraform kills the shell when it is
    # interrupted.
    monkeypatch.setenv("TF_VAR_cloud", f"exec {sys.executable} {HERE / 'cloud.py'}")
    monkeypatch.setenv("TF_VAR_world", str(folder))
    monkeypatch.setenv("TF_VAR_store", azurite)
    monkeypatch.setenv("TF_VAR_output_disk", f"{address}/disks/output?{signature}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return World(folder=folder, home=tmp_path / "home", store=azurite)
