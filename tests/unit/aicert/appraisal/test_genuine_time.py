"""A time stamp by an independent authority, from software that we did not write."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aicert.appraisal.evidence.accepted import TimeAuthority
from aicert.appraisal.evidence.trusted_time import verify
from aicert.errors import UndecidedError
from aicert.sources.time_authority import token_of
from tests.adversarial.time_forge import Token
from tests.second import time as second_time

# The key `origin` names its source.
GIVEN = json.loads(Path(__file__).with_name("sigstore_time_stamp.json").read_bytes())
SIGNER, MIDDLE, ROOT = map(base64.b64decode, GIVEN["certificates"])
TOKEN = token_of(base64.b64decode(GIVEN["response"]))
DIGEST = hashlib.sha512(b"hello").hexdigest()


def test_it_is_verified_with_the_ca_that_it_does_not_carry() -> None:
    authority = TimeAuthority(name="sigstore", root=ROOT, intermediates=(MIDDLE,))
    stamped, by = verify(TOKEN, [Token().authority(), authority])
    assert by == authority
    assert stamped.imprint == ("sha512", DIGEST)
    assert stamped.time == datetime(2024, 10, 31, 13, 31, 44, tzinfo=UTC)
    assert stamped.accuracy == timedelta(seconds=1)
    policy = [{"certificate": ROOT, "intermediates": [MIDDLE]}]
    theirs = second_time.judge(TOKEN, policy)
    assert theirs == ("sha512", bytes.fromhex(DIGEST), stamped.time, stamped.accuracy)


def test_without_that_ca_it_cannot_be_judged() -> None:
    assert SIGNER in TOKEN
    with pytest.raises(UndecidedError, match=r"no authority of this policy \(sigstore\)"):
        verify(TOKEN, [TimeAuthority(name="sigstore", root=ROOT)])
