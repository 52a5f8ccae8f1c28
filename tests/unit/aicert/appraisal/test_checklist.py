import pytest

from aicert.appraisal.checklist import Checklist, NotApplicableError, both
from aicert.errors import EvidenceError, UndecidedError


def fine(given: int) -> tuple[str, int]:
    return "fine", given + 1


def bad(given: int) -> tuple[str, int]:
    raise EvidenceError("bad", hint="do")


def open_question(given: int) -> tuple[str, int]:
    raise UndecidedError("who knows")


def beside_the_point(given: int) -> tuple[str, int]:
    raise NotApplicableError("not asked")


def test_a_check_gets_what_was_verified() -> None:
    checklist = Checklist()
    assert checklist.step("platform.chain", fine, 1) == 2
    assert checklist.is_ok("platform.chain")


def test_what_follows_names_the_first_cause() -> None:
    checklist = Checklist()
    assert checklist.step("platform.chain", bad, 1) is None
    assert checklist.step("quote.signature", fine, None, "platform.chain") is None
    checklist.step("quote.structure", fine, None, "quote.signature")
    checklist.step("inputs.lockfile", open_question, 1)
    checklist.step("inputs.pcr14", fine, 1, "inputs.lockfile")
    checklist.step("policy.age", beside_the_point, 1)
    details = {check: checklist._results[check].detail for check in checklist._results}
    assert details["quote.structure"] == "not checked: platform.chain failed"
    assert details["inputs.pcr14"] == "not checked: inputs.lockfile was not decided"
    assert checklist._results["platform.chain"].hint == "do"
    assert not checklist.is_ok("policy.age")


def test_mistakes_of_the_program_are_not_verdicts() -> None:
    checklist = Checklist()
    checklist.step("platform.chain", fine, 1)
    with pytest.raises(ValueError, match="decided twice"):
        checklist.step("platform.chain", fine, 1)
    with pytest.raises(ValueError, match="does not exist"):
        checklist.step("platform.nothing", fine, 1)
    with pytest.raises(ValueError, match="lacks what it needs"):
        checklist.step("platform.tier", fine, None, "platform.chain")
    with pytest.raises(ValueError, match=r"^check quote\.nonce is decided before one of \('quote"):
        checklist.step("quote.nonce", fine, 1, "quote.structure")
    with pytest.raises(KeyError):
        checklist.results()


def test_both() -> None:
    assert both(1, "a") == (1, "a")
    assert both(None, "a") is both(1, None) is None
