import pytest

from aicert.appraisal.checklist import Ledger, NotApplicableError, NotDecidedError, both
from aicert.errors import EvidenceError


def fine(given: int) -> tuple[str, int]:
    return "fine", given + 1


def bad(given: int) -> tuple[str, int]:
    raise EvidenceError("bad", hint="do")


def open_question(given: int) -> tuple[str, int]:
    raise NotDecidedError("who knows")


def beside_the_point(given: int) -> tuple[str, int]:
    raise NotApplicableError("not asked")


def test_a_check_gets_what_was_verified() -> None:
    ledger = Ledger()
    assert ledger.step("platform.chain", fine, 1) == 2
    assert ledger.is_ok("platform.chain")


def test_what_follows_names_the_first_cause() -> None:
    ledger = Ledger()
    assert ledger.step("platform.chain", bad, 1) is None
    assert ledger.step("quote.signature", fine, None, "platform.chain") is None
    ledger.step("quote.structure", fine, None, "quote.signature")
    ledger.step("inputs.lockfile", open_question, 1)
    ledger.step("inputs.pcr14", fine, 1, "inputs.lockfile")
    ledger.step("policy.age", beside_the_point, 1)
    details = {check: ledger._results[check].detail for check in ledger._results}
    assert details["quote.structure"] == "not checked: platform.chain failed"
    assert details["inputs.pcr14"] == "not checked: inputs.lockfile was not decided"
    assert ledger._results["platform.chain"].hint == "do"
    assert not ledger.is_ok("policy.age")


def test_mistakes_of_the_program_are_not_verdicts() -> None:
    ledger = Ledger()
    ledger.step("platform.chain", fine, 1)
    with pytest.raises(ValueError, match="decided twice"):
        ledger.step("platform.chain", fine, 1)
    with pytest.raises(ValueError, match="does not exist"):
        ledger.step("platform.nothing", fine, 1)
    with pytest.raises(ValueError, match="lacks what it needs"):
        ledger.step("platform.tier", fine, None, "platform.chain")
    with pytest.raises(ValueError, match=r"^check quote\.nonce is decided before one of \('quote"):
        ledger.step("quote.nonce", fine, 1, "quote.structure")
    with pytest.raises(KeyError):
        ledger.results()


def test_both() -> None:
    assert both(1, "a") == (1, "a")
    assert both(None, "a") is both(1, None) is None
