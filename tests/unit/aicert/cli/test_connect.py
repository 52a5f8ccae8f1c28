"""The output of `aicert connect` for a machine that booted an image."""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.cli import connect, main
from aicert.lease.checks import CHECKS
from aicert.serving.endpoint import Endpoint
from tests.e2e.serving import stub_engine
from tests.unit.aicert.leasing.test_serving import CERTIFIED, leased
from tests.unit.aicert.serving.machines import Machine, wanted
from tests.unit.signing_keys import Printed
from tests.vectors.leases import IMAGE, LEASE

OPTIONS = argparse.Namespace(url="https://\x1b[2Jh", certificate="c.json", receipts=None)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with tempfile.TemporaryDirectory(prefix="aicert-") as name:
        with stub_engine.running(Path(name)) as stub, Machine(stub) as machine:
            with Endpoint(wanted(machine.port)) as endpoint:
                yield endpoint


def test_every_check_of_a_serving_machine_has_its_line(endpoint: Endpoint) -> None:
    assert list(connect.MEANINGS) == [check for check in CHECKS if check.startswith("serve.")]
    text = connect._text(OPTIONS, endpoint, CERTIFIED)
    for check in connect.MEANINGS:
        assert f"\n  ok      {check:<20} " in text
    assert f"\n  ok      serve.image          serve, {IMAGE.digest}\n" in text
    assert "PCRs 0 to 3 and 7 are of a firmware that the policy accepts" in text
    assert "\nPASSED    (measured-vm: the operator could have forged this)\nTrusts    " in text
    assert "\nOmits     " in text
    assert f"\nlease     {LEASE}, terms {leased().digest}\n" in text
    assert text.endswith(f"\n  export OPENAI_BASE_URL={endpoint.base_url} OPENAI_API_KEY=none\n")
    # Output that a user pastes contains no terminal escape.
    assert "\x1b" not in text
    assert "{" not in text


def test_receipts_have_their_line(endpoint: Endpoint) -> None:
    options = argparse.Namespace(**vars(OPTIONS) | {"receipts": "answers"})
    text = connect._text(options, endpoint, CERTIFIED)
    assert "\nreceipts  of each answer, signed by this boot's key, to answers\n" in text


def test_a_program_reads_the_same(endpoint: Endpoint) -> None:
    document = json.loads(connect._json(endpoint))
    assert document["baseUrl"] == endpoint.base_url
    assert (document["tier"], document["image"]) == ("measured-vm", str(IMAGE.digest))
    assert (document["model"], document["boots"]) == (str(leased().model), 3)


def test_its_help_says_how_it_ends(printed: Printed) -> None:
    with pytest.raises(SystemExit):
        main.main(["connect", "--help"])
    assert "0 ended by Ctrl-C, 1 the evidence says no" in " ".join(printed()[0].split())
