import pytest

from aicert import snp
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.forger import Scene


def test_report_fields_stand_where_the_specification_says() -> None:
    report = snp.parse(Scene("confidential").get("snp_signed"))
    assert (report.guest_svn, report.policy, report.vmpl) == (chip_forge.SVN, 0x3001F, 0)
    assert (report.id_key, report.tcb) == (chip_forge.ID_KEY, chip_forge.TCB)
    assert report.chip_id == chip_forge.CHIP_ID
    assert len(report.signed) == 0x2A0
    snp.check_guest(report)


@pytest.mark.parametrize("size", [0, 1183, 1185])
def test_a_report_has_one_size(size: int) -> None:
    with pytest.raises(EvidenceError, match="1184 bytes"):
        snp.parse(bytes(size))
