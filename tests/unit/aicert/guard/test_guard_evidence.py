"""A guard whose policy demands audits, with the folder that holds them."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.guard.judge import RefusedError, find, judge
from aicert.guard.policy import load_policy
from tests.unit.aicert.cli.verify import test_demanded_audits as demanded

GUARD = '[certificate]\npolicy = "ours.toml"\nroot = "root.pem"\n'
folder = demanded.folder


@pytest.fixture
def model(folder: Path) -> Path:
    """Put the certificate among the model's files, where a guard looks for it."""
    (folder / "c.json").rename(folder / "model" / "certificate.json")
    return folder / "model"


def guarded(model: Path, more: str) -> None:
    place = model.parent / "guard.toml"
    place.write_text(GUARD + more)
    judge(find(model, is_rows=False), load_policy(place))


def test_audits_that_a_policy_demands_are_looked_for_in_the_folder(model: Path) -> None:
    guarded(model, 'evidence = "evidence"\n')
    demanded.put(model.parent, "more", demanded.looked(1))
    with pytest.raises(RefusedError, match=r"audit\.result: passages/v1: matches 1"):
        guarded(model, 'evidence = "evidence"\n')


def test_without_a_folder_there_is_no_verdict(model: Path) -> None:
    with pytest.raises(RefusedError, match=r"no verdict: .*audit\.present"):
        guarded(model, "")
    with pytest.raises(ConfigError, match="there is no folder"):
        guarded(model, 'evidence = "absent"\n')
