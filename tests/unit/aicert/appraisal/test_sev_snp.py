import pytest

from aicert.appraisal.evidence import sev_snp
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.forger import Scene


def test_report_fields_stand_where_the_specification_says() -> None:
    report = sev_snp.parse(Scene("confidential").get("snp_signed"))
    assert (report.guest_svn, report.policy, report.vmpl) == (chip_forge.SVN, 0x3001F, 0)
    assert (report.id_key, report.tcb) == (chip_forge.ID_KEY, chip_forge.TCB)
    assert report.chip_id == chip_forge.CHIP_ID
    assert len(report.signed) == 0x2A0
    sev_snp.check_guest(report)


def test_what_stands_after_the_signature_is_not_read() -> None:
    data = Scene("confidential").get("snp_signed")
    assert sev_snp.parse(data[: 0x2A0 + 144].ljust(sev_snp.SIZE, b"\xff")) == sev_snp.parse(data)


@pytest.mark.parametrize("size", [0, 1183, 1185])
def test_a_report_has_one_size(size: int) -> None:
    with pytest.raises(EvidenceError, match="1184 bytes"):
        sev_snp.parse(bytes(size))
