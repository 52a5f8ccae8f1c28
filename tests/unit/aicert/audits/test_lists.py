"""Lists: their forms, and which of their entries are usable."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.audits import lists
from aicert.errors import EvidenceError
from tests.unit.aicert.audits.texts import text

SALT = "5a" * 32
DIGESTS = sorted(hashlib.sha256(b"%d" % i).hexdigest() for i in range(3))


def test_domains_are_folded_and_what_is_none_is_counted() -> None:
    read = lists.domains("# ours\nExample.org # why\n\nbücher.example\r\nno domain\n-\n".encode())
    assert read.domains == {"example.org", "xn--bcher-kva.example"}
    assert (read.entries, read.unusable) == (4, 2)
    assert lists.domains(b"").entries == 0


def test_digests_are_read_in_one_form() -> None:
    data = f"salt {SALT}\n{DIGESTS[0]}\n{DIGESTS[1]}\n".encode()
    read = lists.exact(data)
    assert read.salt.hex() == SALT
    assert (read.entries, read.unusable) == (2, 0)
    assert {digest.hex() for digest in read.digests} == set(DIGESTS[:2])
    assert lists.exact(f"salt {SALT}\n".encode()).entries == 0
    expected = hashlib.sha256(b"aicert exact v1\0" + bytes.fromhex(SALT) + b"value").digest()
    assert lists.exact_digest(read.salt, b"value") == expected


def test_the_specifications_program_makes_a_list() -> None:
    page = Path(__file__).resolve().parents[4] / "docs/spec/audit.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    rows = [b'{"a":1}', b'{"a":"two"}', b'{"a":1}', b" "]
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"\n".join(rows), capture_output=True, check=True
    )
    read = lists.exact(done.stdout)
    assert read.digests == {lists.exact_digest(read.salt, row) for row in rows}
    assert read.entries == 3


@pytest.mark.parametrize(
    "data",
    [
        "",
        "\n",
        SALT + "\n",
        f"salt {SALT}",
        f"salt {SALT[2:]}\n",
        f"salt {SALT.upper()}\n",
        f"salt {SALT}\n{DIGESTS[1]}\n{DIGESTS[0]}\n",
        f"salt {SALT}\n{DIGESTS[0]}\n{DIGESTS[0]}\n",
        f"salt {SALT}\n{DIGESTS[0]}",
        f"salt {SALT}\n\n",
        f"salt {SALT}\nsha256:{DIGESTS[0]}\n",
        f"salt {SALT}\r\n{DIGESTS[0]}\r\n",
    ],
)
def test_another_form_is_refused(data: str) -> None:
    with pytest.raises(EvidenceError, match="list of digests"):
        lists.exact(data.encode())


def test_texts_too_short_for_a_passage_are_counted() -> None:
    read = lists.texts([text(1, 50), text(2, 49), text(3, 12), ""])
    assert (read.entries, read.unusable) == (4, 3)
    assert len(read.fingerprints) == 2


def test_lists_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EvidenceError, match="not UTF-8"):
        lists.domains(b"\xff\n")
    monkeypatch.setattr(lists, "MAX_ENTRIES", 2)
    with pytest.raises(EvidenceError, match="more than 2 entries"):
        lists.domains(b"a.org\n" * 3)
    with pytest.raises(EvidenceError, match="more than 2 entries"):
        lists.texts(["a", "b", "c"])
    monkeypatch.setattr(lists, "MAX_BYTES", 5)
    with pytest.raises(EvidenceError, match="larger than 5 bytes"):
        lists.domains(b"a.org\n")
