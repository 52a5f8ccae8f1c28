"""The `[leases.NAME]` tables, and machines that serve."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from rules.machines.machine import Serving
from rules.project import config
from tests.unit.rules.project.test_config import GOOD, load

LEASE = """
[machines.serving]
driver = "qemu"
image = "serve"
memory = "4 GiB"
port = 9000

[leases.bot]
model = "path:leases/bot"
machine = "serving"
broker = "https://custodian.example:8444"
broker-root = "custodian.pem"
"""
AZURE = 'driver = "azure"\nregion = "westeurope"\nsize = "Standard_D8s_v5"'
NETWORKS = f"{AZURE}\nclients = ['203.0.113.0/24']"
CLOUD = f"{NETWORKS}\ntime-limit = '12 h'"
OFFLINE = LEASE.partition("broker =")[0]


def test_a_lease_names_bundle_machine_and_broker(tmp_path: Path) -> None:
    lease = load(tmp_path, GOOD + LEASE).lease("bot")
    assert (lease.bundle, lease.broker) == ("leases/bot", "https://custodian.example:8444")
    assert (lease.broker_root, lease.licence) == ("custodian.pem", None)
    assert lease.machine.serving == Serving(listen="127.0.0.1", port=9000)


def test_a_machine_of_a_cloud_serves_named_networks_with_a_broker(tmp_path: Path) -> None:
    machine = load(tmp_path, GOOD + LEASE.replace('driver = "qemu"', CLOUD)).machine("serving")
    assert machine.serving == Serving(listen="127.0.0.1", port=9000)
    assert machine.options["clients"] == ("203.0.113.0/24",)
    with pytest.raises(ConfigError, match="broker is missing"):
        load(tmp_path, GOOD + OFFLINE.replace('driver = "qemu"', CLOUD))


def test_a_lease_of_a_run_lies_in_a_folder_of_its_own_name(tmp_path: Path) -> None:
    lease = load(tmp_path, GOOD + OFFLINE.replace("path:leases/bot", "run:tiny/model")).lease("bot")
    assert (lease.run, lease.output, lease.bundle) == ("tiny", "model", "leases/bot")
    assert lease.licence == "leases/bot.issued"


def test_every_machine_of_driver_local_serves_and_none_that_trains_in_an_image(
    tmp_path: Path,
) -> None:
    machines = load(tmp_path, GOOD + LEASE + '[machines.qemu]\ndriver = "qemu"\n').machines
    assert machines["here"].serving == Serving(listen="127.0.0.1", port=8443)
    assert machines["qemu"].serving is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('machine = "serving"', 'machine = "servin"', "did you mean 'serving'?"),
        ('image = "serve"', 'image = "train"', "machines.serving.port is for machines that serve"),
        ('image = "serve"\n', "", "port is for machines that serve"),
        ('image = "serve"', 'image = "server"', "is not one of train, serve, tools"),
        ('driver = "qemu"\nimage', 'driver = "local"\nimage', "is for measured machines"),
        ('driver = "qemu"', AZURE, "clients is missing"),
        ('driver = "qemu"', NETWORKS, "time-limit is missing"),
        ('driver = "qemu"', f"{AZURE}\nclients = ['1.2.3.4/24']", "should have networks like"),
        ('driver = "qemu"', f"{CLOUD}\nlisten = '0.0.0.0'", "listen is not for driver azure"),
        ('driver = "qemu"\nimage = "serve"', f"{CLOUD}\nimage = 'train'", "machines that serve"),
        ('driver = "qemu"', "driver = 'qemu'\nclients = ['1.2.3.4/32']", "is for driver azure"),
        (
            'image = "serve"',
            'image = "serve"\ngpu = true',
            "no serving image for a machine with a GPU",
        ),
        ("port = 9000", "port = 65536", "port must be at most 65535"),
        ("port = 9000", 'listen = "localhost"', "listen is not an IPv4 address"),
        ("https://", "http://", "should be like 'https://custodian.example:8444'"),
        ("https://", "https://me@", "should be like"),
        ("path:leases/bot", "hf:a/b@c", "bot.model"),
        ("path:leases/bot", "run:tony/model", "did you mean 'tiny'?"),
        ("path:leases/bot", "run:tiny/modell", "did you mean 'model'?"),
        ("path:leases/bot", "path:../bot", "bot.model"),
        ("broker-root =", 'licence = "l"\nbroker-root =', "licence is not allowed with a broker"),
        ("broker-root =", "broker-rot =", "did you mean 'broker-root'?"),
        ('broker = "https://custodian.example:8444"\n', "", "is not allowed without a broker"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in LEASE
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD + LEASE.replace(old, new))
    assert words in caught.value.message


def test_a_run_does_not_train_on_a_machine_that_serves(tmp_path: Path) -> None:
    text = GOOD.replace('machine = "here"', 'machine = "serving"') + LEASE
    with pytest.raises(ConfigError, match="has the serving image"):
        load(tmp_path, text)


def test_a_lease_that_is_not_there_is_named_with_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bot"):
        load(tmp_path, GOOD + LEASE).lease("bott")
    assert config.load(tmp_path).leases.keys() == {"bot"}


TOOLS = """
[machines.tools]
driver = "qemu"
image = "tools"
[machines.plain]
driver = "qemu"
"""


def test_a_trainer_with_packages_of_its_own_needs_a_machine_that_has_them(tmp_path: Path) -> None:
    machines = load(tmp_path, GOOD + TOOLS).machines
    assert [machines[name].tools for name in ("tools", "plain", "here")] == [True, False, False]
    for name in ("tools", "here"):
        config._require_tools("runs.tiny.trainer", "mergekit", machines[name])
    config._require_tools("runs.tiny.trainer", "axolotl", machines["plain"])
    with pytest.raises(ConfigError, match="packages the image of machine plain lacks") as caught:
        config._require_tools("runs.tiny.trainer", "mergekit", machines["plain"])
    assert caught.value.hint == 'write into [machines.plain]: image = "tools"'
    with pytest.raises(ConfigError, match="no tools image for a machine with a GPU"):
        load(tmp_path, GOOD + TOOLS.replace('"tools"', '"tools"\ngpu = true'))
