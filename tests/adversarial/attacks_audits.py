"""Attacks on audits that a policy demands (audit.*), and odd audits that are right.

The training of a scene reads the rows of `alpaca`. The audit beside it is a scene of its own, on
the same platform, which looks for listed domains and for patterns in the same rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from aicert.appraisal.evidence.accepted import AuditDemand
from aicert.appraisal.policy import Claim
from aicert.audits import results as forms
from aicert.audits.domain_table import Domain, DomainFact
from aicert.audits.patterns import NAMES
from aicert.audits.results import (
    BesideFact,
    CheckFact,
    Counts,
    DataFact,
    ListFact,
    Results,
    TreeFact,
)
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.formats.run_report import Value
from aicert.formats.run_report_facts import Loss
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_convert import TO_FILE, convert
from tests.adversarial.attacks_merge import combine, merge
from tests.adversarial.attacks_quantise import quantise, to_nearest
from tests.adversarial.attacks_results import audit, trainer
from tests.adversarial.attacks_run import ancestor, reported, value
from tests.adversarial.forger import FACTS, Scene, hex_of

Change = Callable[[Scene], object]
Given = tuple[Certificate, bytes]
PRESENT, LIST, RESULT = "audit.present", "audit.list", "audit.result"
LISTED = Digest("sha256", hex_of(b"opt-out list"))
OTHER = Digest("sha256", hex_of(b"another list"))
(ROWS,) = FACTS["records"]
OTHER_ROWS = replace(ROWS, digest=Digest("sha256", "b2" * 32))
TEXTS = frozenset(digest for _, digest in FACTS["texts"])
# Every count has a bound, so that no check is left open.
DOMAINS = AuditDemand(
    kind="domains/v1", column="url", list=LISTED, missing=0, unparsable=0, unusable=0,
    unread_bytes=12, texts=TEXTS,
)  # fmt: skip
PATTERNS = AuditDemand(
    kind="patterns/v1", at_most=3, missing=0, unparsable=0, unread_bytes=12, texts=TEXTS
)
NONE = Counts(matches=0, missing=0, unparsable=0)
OF_PATTERNS = replace(NONE, patterns=tuple((name, 0) for name in NAMES))


def counted(
    domains: Counts = NONE,
    *,
    column: str = "url",
    digest: Digest = LISTED,
    unusable: int = 0,
    matches: int = 2,
    rows: Any = ROWS,
) -> Results:
    """Return results that count listed domains and patterns."""
    listed = ListFact(name="opt-out", digest=digest, entries=3, unusable=unusable)
    return Results(
        unicode="14.0.0",
        checks=(
            CheckFact(name="opt-out", kind="domains/v1", column=column, list=listed),
            CheckFact(name="pii", kind="patterns/v1", column=None, list=None),
        ),
        data=(
            DataFact(
                name=rows.name,
                split=rows.split,
                bytes=rows.bytes,
                digest=rows.digest,
                unread_bytes=rows.unread_bytes,
                rows=TreeFact(count=rows.rows, root=bytes(32)),
                passages=None,
                text=None,
                checks=(domains, replace(OF_PATTERNS, matches=matches)),
            ),
        ),
    )


LARGE = Domain(host="a.org", rows=100, bytes=10)
SMALL = Domain(host="b.org", rows=ROWS.rows - 100, bytes=20)


def with_domains(*largest: Domain, count: int | None = None) -> Results:
    """Return results with a table of domains, by default one that is right."""
    results = counted()
    (fact,) = results.data
    shown = largest or (SMALL, LARGE)
    table = DomainFact(
        column="url", count=count or len(shown), missing=0, unparsable=0, largest=shown
    )
    return replace(results, data=(replace(fact, domains=table),))


def locked(name: str, digest: Digest) -> LockedInput:
    uri = f"path:mine/{name}"
    return LockedInput(name=name, source=uri, uri=uri, size=10, digest=digest)


def audit_scene(results: Results, *changes: Change, listed: Digest = LISTED) -> Scene:
    """Return the scene of an audit whose report and results agree on the rows."""
    scene = Scene("local", 2)
    rows = tuple(
        replace(
            ROWS, name=fact.name, split=fact.split, rows=fact.rows.count, bytes=fact.bytes,
            digest=fact.digest, unread_bytes=fact.unread_bytes,
        )
        for fact in results.data
    )  # fmt: skip
    audit(reported(records=rows))(scene)

    def edited(whole: Lockfile) -> Lockfile:
        kept = [one for one in whole.inputs if one.name != "model"]
        key = locked("record-key", Digest("sha256", hex_of(b"record key")))
        inputs = (*kept, locked("opt-out", listed), key)
        return replace(whole, run="look", inputs=inputs)

    scene.edit("lockfile", edited)
    scene.put("outputs", {"results": {"results.json": forms.emit(results)}})
    for change in changes:
        change(scene)
    return scene


def looked(
    results: Results | None = None,
    *changes: Change,
    listed: Digest = LISTED,
    data: bytes | None = None,
) -> Given:
    """Return the certificate of an audit and the results that are given with it."""
    what = counted() if results is None else results
    certificate = audit_scene(what, *changes, listed=listed).get("certificate")
    return certificate, forms.emit(what) if data is None else data


def weights(*names: str, base: str = "model") -> Change:
    """Name the inputs whose weights the trainer saw, and the one that is the base."""
    return both(
        value("weightInputs", Value("measured", ", ".join(names))),
        value("baseInput", Value("measured", base)),
    )


# A quantisation calls its model no base.
NO_BASE = value("baseInput", None)


def given(
    *audits: Callable[[], Given], demands: Sequence[AuditDemand] = (DOMAINS,), **more: Any
) -> Change:
    """Give the verifier these audits and a policy that demands some.

    The trainer saw the weights of the base alone.
    """

    def changed(scene: Scene) -> None:
        if scene.version > 1:
            weights("model")(scene)
        scene.edit("policy", lambda policy: replace(policy, audits=tuple(demands), **more))
        scene.audits = [one() for one in audits]

    return changed


def both(*changes: Change) -> Change:
    return lambda scene: [change(scene) for change in changes]


def an_adapter(scene: Scene) -> None:
    """Let the training continue from an adapter beside the base, which no certificate covers."""
    adapter = locked("before", Digest("dirHash", hex_of(b"adapter")))

    def edited(whole: Lockfile) -> Lockfile:
        data, config, model = whole.inputs
        return replace(whole, inputs=(data, adapter, config, model))

    scene.edit("lockfile", edited)
    weights("before", "model")(scene)


def counts(**numbers: Any) -> Change:
    """Give one audit whose results have these counts of listed domains."""
    return given(lambda: looked(counted(replace(NONE, **numbers))))


def with_texts(*, pii: int = 0, known: int = 0, digest: Digest = LISTED) -> Results:
    """Return results for which all text of the rows was checked, against a list too.

    Each text beside the rows was checked as well.
    """
    plain = counted(digest=digest)
    (fact,) = plain.data
    listed = ListFact(name="opt-out", digest=digest, entries=3, unusable=0)
    return replace(
        plain,
        checks=(*plain.checks, CheckFact(name="known", kind="exact/v1", column=None, list=listed)),
        data=(replace(fact, checks=(*fact.checks, NONE)),),
        texts=tuple(
            BesideFact(name=name, bytes=9, digest=text, matches=(pii, known))
            for name, text in FACTS["texts"]
        ),
    )


def before(results: Results | None = None, *changes: Change, listed: Digest = LISTED) -> Given:
    """Return a training after an audit, with the results of that audit."""
    data = forms.emit(with_texts() if results is None else results)
    scene = Scene("local", 2)

    def edited(whole: Lockfile) -> Lockfile:
        config = replace(whole.input("config"), name="look-config")
        data_input, own, model = whole.inputs
        inputs = (data_input, own, config, locked("look-opt-out", listed), model)
        return replace(whole, audits=("look",), inputs=inputs)

    scene.edit("lockfile", edited)
    reported(audits=(("look", of_bytes(data)),))(scene)
    for change in changes:
        change(scene)
    return scene.get("certificate"), data


def training() -> Given:
    """Return the training's own certificate as if it were an audit's."""
    return Scene("local", 2).get("certificate"), forms.emit(counted())


def about_rows(scene: Scene) -> object:
    """Make the audit's report name other rows than its results do."""
    return reported(records=(OTHER_ROWS,))(scene)


def of_another_platform(scene: Scene) -> object:
    return scene.put("chain", Scene("qemu").get("chain"))


def fewer() -> Results:
    """Return an audit that counted one row less, with the right digest."""
    return counted(rows=replace(ROWS, rows=ROWS.rows - 1))


def row(name: str, check: str, change: Change, kind: str = "local") -> Attack:
    return Attack(name, check, change, kind, version=2)


def more_texts() -> Results:
    """Return results for one more audited file, which the report's digest of texts leaves out."""
    whole = with_texts()
    more = replace(whole.texts[0], name="~ 3 more", digest=OTHER)
    return replace(whole, texts=(*whole.texts, more))


UNNAMED = replace(PATTERNS, texts=frozenset())
KNOWN = AuditDemand(
    kind="exact/v1", list=LISTED, missing=0, unparsable=0, unusable=0, unread_bytes=12
)
BESIDE = reported(records=(ROWS, replace(OTHER_ROWS, split="test")))
ATTACKS = (
    row("no audit where one is demanded", PRESENT, given()),
    row("audit of other rows", PRESENT, given(lambda: looked(counted(rows=OTHER_ROWS)))),
    row("audit of fewer rows", PRESENT, given(lambda: looked(fewer()))),
    row("audit of one of two selections of rows", PRESENT, both(BESIDE, given(looked))),
    row("audit that failed", PRESENT, given(lambda: looked(None, reported(exit_code="1")))),
    row("audit of another platform", PRESENT, given(lambda: looked(None, of_another_platform))),
    row("training in the place of an audit", PRESENT, given(training)),
    row(
        "results that their certificate does not name",
        PRESENT,
        given(lambda: looked(counted(replace(NONE, matches=1)), data=forms.emit(counted()))),
    ),
    row("results about rows that the audit did not read", PRESENT, given(
        lambda: looked(None, about_rows))),
    row("results by a list that is no input", PRESENT, given(lambda: looked(listed=OTHER))),
    row("audit of another kind", PRESENT, given(
        looked, demands=[AuditDemand(kind="exact/v1", list=LISTED, texts=TEXTS)])),
    row("audit of another column", PRESENT, given(lambda: looked(counted(column="link")))),
    row("audit of all text where a column is named", PRESENT, given(
        looked, demands=[replace(PATTERNS, column="text")])),
    row("text beside the rows", PRESENT, given(
        looked, demands=[replace(DOMAINS, texts=frozenset())])),
    row("text beside the rows of which an audit read a column", PRESENT, given(
        lambda: looked(with_texts()), demands=[replace(DOMAINS, texts=frozenset())])),
    row("texts that only their list was audited of", PRESENT, both(
        reported(texts=(*FACTS["texts"], ("~ 3 more", OTHER))),
        given(lambda: looked(more_texts()), demands=[UNNAMED]))),
    row("another text than the audit read", PRESENT, both(
        reported(texts=(("chat template", OTHER),)),
        given(lambda: looked(with_texts()), demands=[UNNAMED]))),
    row("results that no training names", PRESENT, given(
        lambda: (before()[0], forms.emit(counted())))),
    row("results before a training, about other rows", PRESENT, given(
        lambda: before(None, about_rows))),
    row("results before a training, by a list that is no input", PRESENT, given(
        lambda: before(listed=OTHER))),
    row("results before a training that failed", PRESENT, given(
        lambda: before(None, reported(exit_code="1")))),
    row("results before a run that is no training", PRESENT, given(
        lambda: before(None, trainer("axolotl-merge")))),
    row("trained on data that are no rows", PRESENT, both(
        reported(records=(), loss=Loss(state="no-loss", reason="made")), given(looked))),
    row("merge of an adapter that no run of the lineage trained", PRESENT, both(
        merge(), given(looked))),
    row("merge into a base that an audited run trained", PRESENT, both(
        merge(ancestor(weights("model"), version=2)), given(looked))),
    row("quantisation of a model that no run of the lineage made", PRESENT, both(
        to_nearest(), given(looked), NO_BASE)),
    row("conversion of a model that no run of the lineage made", PRESENT, both(
        convert(), given(looked), NO_BASE)),
    row("quantisation of such a model, calibrated on rows that were audited", PRESENT, both(
        quantise(), given(looked), NO_BASE)),
    row("merge of models of which no run of the lineage made one", PRESENT, both(
        combine(), given(looked))),
    row("merge of models of which no run of the lineage made another", PRESENT, both(
        combine(ancestor(weights("model"), version=2)), given(looked),
        weights("alpaca", "model", base="model"))),
    row("merge of models of which one lies beside the base and no run made it", PRESENT, both(
        combine(ancestor(weights("model"), version=2)), given(looked),
        weights("alpaca", "model", base="alpaca/sub"),
        value("modelInput3", Value("measured", "alpaca/more")))),
    row("training of an adapter that no run of the lineage trained", PRESENT, both(
        given(looked), an_adapter)),
    row("training of an adapter, and no base", PRESENT, both(
        given(looked), value("baseInput", None))),
    row("results that are none", PRESENT, given(
        lambda: looked(None, lambda scene: scene.put(
            "outputs", {"results": {"results.json": b"{}"}}), data=b"{}"))),
    row("table of more domains than rows name", PRESENT, given(
        lambda: looked(with_domains(count=3)))),
    row("table of domains out of order", PRESENT, given(
        lambda: looked(with_domains(LARGE, SMALL)))),
    row("table of domains with a row too few", PRESENT, given(
        lambda: looked(with_domains(SMALL, replace(LARGE, rows=99))))),
    row("audit by another list", LIST, given(
        lambda: looked(counted(digest=OTHER), listed=OTHER))),
    row("audit by another list beside one of no list", LIST, given(
        lambda: looked(counted(digest=OTHER), listed=OTHER), demands=[PATTERNS, DOMAINS])),
    row("text audited by another list than its rows", LIST, given(
        lambda: looked(with_texts(digest=OTHER), listed=OTHER),
        lambda: looked(replace(with_texts(), texts=())), demands=[KNOWN])),
    row("text beside the rows that matches", RESULT, given(
        lambda: looked(with_texts(known=1)), demands=[UNNAMED, KNOWN])),
    row("one row that matches", RESULT, counts(matches=1)),
    row("more patterns than allowed", RESULT, given(
        lambda: looked(counted(matches=4)), demands=[PATTERNS])),
    row("column that does not exist", RESULT, counts(missing=ROWS.rows)),
    row("values that cannot be read", RESULT, counts(unparsable=1)),
    row("list of which nothing can match", RESULT, given(lambda: looked(counted(unusable=3)))),
    row("bytes that no row holds", RESULT, given(
        looked, demands=[replace(DOMAINS, unread_bytes=11)])),
    row("two audits that contradict each other", RESULT, given(
        looked, lambda: looked(counted(replace(NONE, matches=1))))),
    row("ancestor that nobody audited", "lineage.ancestors", both(
        ancestor(both(weights("model"), reported(records=(OTHER_ROWS,))), version=2),
        given(looked))),
)  # fmt: skip


def unasked(scene: Scene) -> None:
    """Demand an audit in the policy and give none."""
    given()(scene)
    scene.audits = None


def itself(scene: Scene) -> None:
    """Appraise the audit itself under the policy that demands it."""
    other = audit_scene(counted())
    given()(scene)
    scene.put("certificate", other.get("certificate"))
    scene.put("model", other.get("model"))


def lineage_unasked(scene: Scene) -> None:
    ancestor(weights("model"), version=2)(scene)
    given(looked)(scene)
    scene.ancestors = None


# A merge whose adapter is the output of the other run.
OF_ANCESTOR = merge(
    ancestor(weights("model"), version=2),
    value("adapterInput", Value("measured", "model/adapter")),
    value("baseInput", Value("measured", "alpaca")),
)
FLOPS = Claim(name="totalFlops", at_least=1)
# Odd but right: name, change, version, verdict, and the first check that is left open.
RIGHT: tuple[tuple[str, Change, int, str, str | None], ...] = (
    ("audit that a policy demands, judged itself", itself, 2, "passed", None),
    ("audited", given(looked), 2, "passed", None),
    ("audited, with a table of domains", given(
        lambda: looked(with_domains())), 2, "passed", None),
    ("audited, its texts too", given(
        lambda: looked(with_texts(pii=1)), demands=[UNNAMED, KNOWN]), 2, "passed", None),
    ("audited before it was trained", given(before, demands=[UNNAMED, KNOWN, DOMAINS]), 2,
     "passed", None),
    ("audited for patterns alone", given(looked, demands=[PATTERNS]), 2, "passed", None),
    ("audited twice, once by another list", given(
        lambda: looked(counted(digest=OTHER), listed=OTHER), looked, demands=[DOMAINS, PATTERNS]
    ), 2, "passed", None),
    ("audited, beside audits that do not count", given(
        training, looked, lambda: looked(None, reported(exit_code="1"))), 2, "passed", None),
    ("audited, with claims that no audit makes", given(looked, claims=(FLOPS,)), 2, "passed",
     None),
    ("audited, and its ancestor too", both(
        ancestor(weights("model"), version=2), given(looked)), 2, "passed", None),
    ("merge of an adapter whose training was audited", both(
        OF_ANCESTOR, given(looked), weights("alpaca", "model", base="alpaca")), 2, "passed", None),
    ("quantisation of a model whose training was audited", both(
        to_nearest(ancestor(weights("model"), version=2)), given(looked), NO_BASE),
     2, "passed", None),
    ("quantisation of such a model, calibrated on rows that were audited too", both(
        quantise(ancestor(weights("model"), version=2)), given(looked), NO_BASE),
     2, "passed", None),
    ("conversion of a model whose training was audited", both(
        convert(ancestor(weights("model"), version=2), TO_FILE), given(looked), NO_BASE),
     2, "passed", None),
    ("merge of models of which one is the base and the other's training was audited", both(
        combine(ancestor(weights("model"), version=2)), given(looked),
        weights("alpaca", "model", base="alpaca/sub")), 2, "passed", None),
    ("audited, for which no bound is given", given(
        lambda: looked(counted(replace(NONE, missing=1))),
        demands=[replace(DOMAINS, missing=None)],
    ), 2, "none", RESULT),
    ("audited of nothing, for which no bound is needed", given(
        looked, demands=[replace(DOMAINS, missing=None, unparsable=None, unusable=None)]
    ), 2, "passed", None),
    ("audits that nobody gave", unasked, 2, "none", PRESENT),
    ("audited, and its lineage not asked", lineage_unasked, 2, "none", PRESENT),
    ("audited, by a machine that does not say where weights were", both(
        given(looked), value("weightInputs", None)), 2, "none", PRESENT),
    ("audited, trained on no weights", both(
        given(looked), weights()), 2, "passed", None),
    ("audited, of version 1", given(looked), 1, "none", PRESENT),
)  # fmt: skip
