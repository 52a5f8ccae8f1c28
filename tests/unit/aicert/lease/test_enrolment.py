import pytest

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.lease import enrolment
from tests.adversarial.enrolment_forge import Scene
from tests.vectors.leases import agreed

GIVEN = Scene().signed()
TEXT = enrolment.emit(GIVEN)


def test_an_enrolment_is_read_back() -> None:
    assert enrolment.parse(TEXT) == GIVEN
    assert [len(name) for name in enrolment.names(GIVEN)] == [34, 34]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"version":1', b'"version":2', "version is not 1"),
        (b'"version":1', b'"version": 1', "not in canonical form"),
        (b'"version":1', b'"note":1,"version":1', "unknown key 'note'"),
        (b'"kind":"aicert enrolment"', b'"kind":"other"', "kind is not"),
        (b'"0":"', b'"16":"', "pcrs.0 is missing"),
        (b'"terms":"sha256:', b'"terms":"dirHash:', "not in canonical form"),
        (b'"meter":{', b'"meter":{"note":1,', "unknown key 'note'"),
        (b'"storageKey":{', b'"storageKey":{"note":1,', "unknown key 'note'"),
        (b'"akChain":["', b'"akChain":[1,"', "expected a string"),
        (b'"akChain":["', b'"akChain":["","","","","', "more than 4 items"),
    ],
)
def test_anything_but_the_one_form_is_refused(old: bytes, new: bytes, message: str) -> None:
    assert old in TEXT
    with pytest.raises(EvidenceError, match=message):
        enrolment.parse(TEXT.replace(old, new, 1))


def test_what_is_bound_has_one_length() -> None:
    with pytest.raises(EvidenceError, match="binds a nonce of 32 bytes"):
        enrolment.quote_extra_data(b"", agreed().digest, bytes(34), bytes(34))
    with pytest.raises(EvidenceError, match="Names of 34"):
        enrolment.quote_extra_data(bytes(32), Digest("sha256", "0" * 64), bytes(33), bytes(34))
