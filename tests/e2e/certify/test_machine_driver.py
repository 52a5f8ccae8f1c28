"""A machine driver is one module and one row: with these two, it certifies a run."""

import tomlkit

from tests.e2e.conftest import StandIn

MODULE = '''
"""A machine that leaves a mark, and is `local` but for that."""

from pathlib import Path

from rules.machines import local
from rules.machines.machine import Job


def execute(job: Job) -> Path:
    (job.root / "mark").write_text(f"{job.run} {job.machine.options['mark']}")
    return local.execute(job)
'''
ROW = """
    Driver(
        name="marking",
        module="rules.machines.marking",
        policy="local",
        in_image=False,
        keys={"mark": lambda table, key: table.text(key)},
    ),
"""
TABLE = "_TABLE = ("


def test_a_driver_in_one_module_and_one_row_certifies(stand_in: StandIn) -> None:
    checkout = stand_in("weights()\n")
    machines, toml = checkout.root / "rules/machines", checkout.root / "aicert.toml"
    (machines / "marking.py").write_text(MODULE)
    contract = (machines / "machine.py").read_text()
    assert contract.count(TABLE) == 1
    (machines / "machine.py").write_text(contract.replace(TABLE, TABLE + ROW))
    settings = tomlkit.parse(toml.read_text())
    settings["machines"]["local"] |= {"driver": "marking", "mark": "here"}
    toml.write_text(tomlkit.dumps(settings))

    done = checkout.doit("certify", "tiny-alpaca")
    assert done.returncode == 0, done.stderr
    assert (checkout.root / "mark").read_text() == "tiny-alpaca here"
    assert checkout.doit("why", "tiny-alpaca").returncode == 0
    assert checkout.doit("verify", "tiny-alpaca", "--policy", "local").returncode == 0
    # Whatever the driver is, a simulated platform's evidence passes under no other policy.
    assert checkout.doit("verify", "tiny-alpaca").returncode == 1

    settings["machines"]["local"]["driver"] = "local"
    toml.write_text(tomlkit.dumps(settings))
    refused = checkout.doit("certify", "tiny-alpaca")
    assert refused.returncode == 3
    assert "machines.local.mark" in refused.stderr
    assert "driver marking" in refused.stderr
