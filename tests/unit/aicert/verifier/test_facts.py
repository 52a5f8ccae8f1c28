"""Facts as people see them, also for a run that has few."""

from aicert.formats.run_report_facts import Facts, Loss
from aicert.verifier.facts import fact_items
from tests.adversarial.forger import FACTS


def test_facts_without_a_loss_show_none() -> None:
    lines = fact_items(Facts(**{**FACTS, "loss": None}))
    assert [word for word, _ in lines] == ["rows", "text", "removed"]
    assert fact_items(None) == []


def test_a_loss_without_numbers_says_why() -> None:
    unmeasured = Loss(state="no-loss", reason="this kind of training has none")
    shown = dict(fact_items(Facts(loss=unmeasured)))
    assert shown == {"loss": "not measured: this kind of training has none"}
