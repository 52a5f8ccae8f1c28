import pytest

from aicert.appraisal.evidence import snp_report
from aicert.errors import EvidenceError
from tests.adversarial import chip_forge
from tests.adversarial.forger import Scene


def test_report_fields_stand_where_the_specification_says() -> None:
    report = snp_report.parse(Scene("confidential").get("snp_signed"))
    assert (report.guest_svn, report.policy, report.vmpl) == (chip_forge.SVN, 0x3001F, 0)
    assert (report.id_key, report.tcb) == (chip_forge.ID_KEY, chip_forge.TCB)
    assert report.chip_id == chip_forge.CHIP_ID
    assert len(report.signed) == 0x2A0
    snp_report.check_guest(report)


def test_what_stands_after_the_signature_is_not_read() -> None:
    data = Scene("confidential").get("snp_signed")
    assert snp_report.parse(
        data[: 0x2A0 + 144].ljust(snp_report.SIZE, b"\xff")
    ) == snp_report.parse(data)


@pytest.mark.parametrize("size", [0, 1183, 1185])
def test_a_report_has_one_size(size: int) -> None:
    with pytest.raises(EvidenceError, match="1184 bytes"):
        snp_report.parse(bytes(size))
