"""Chains of certificates: each ancestor is found by its output, and every one must pass."""

import json
from dataclasses import replace

import pytest

from aicert.appraisal.checks.lineage import MAX_ANCESTORS
from aicert.cli import table
from aicert.formats.certificate import Certificate, emit, parse
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput, Lockfile
from tests.adversarial.attacks_time import timestamps
from tests.adversarial.forger import Scene, hex_of


def weights(run: str) -> dict[str, bytes]:
    return {"config.json": b"{}", "model.safetensors": run.encode()}


def made_by(run: str) -> Digest:
    return dir_digest({path: hex_of(data) for path, data in weights(run).items()})


def scene(run: str, *parents: str, digest: Digest | None = None, kind: str = "local") -> Scene:
    """Return the scene of `run`, whose inputs are outputs of `parents`."""

    def locked(lock: Lockfile) -> Lockfile:
        taken = [
            LockedInput(
                name=f"from-{parent}",
                source=f"run:{parent}/model",
                uri=f"run:{parent}/model",
                size=3,
                digest=digest or made_by(parent),
            )
            for parent in parents
        ]
        inputs = sorted((*lock.inputs, *taken), key=lambda item: item.name)
        return replace(lock, run=run, inputs=tuple(inputs))

    forged = Scene(kind).edit("lockfile", locked)
    return forged.edit("outputs", lambda _: {"model": weights(run)})


def certificate(run: str, *parents: str) -> Certificate:
    forged: Certificate = scene(run, *parents).get("certificate")
    return forged


CHAIN = (certificate("z"), certificate("y", "z"), certificate("x", "y"))


def order(*indices: int) -> tuple[Certificate, ...]:
    return tuple(CHAIN[index] for index in indices)


@pytest.mark.parametrize("given", [order(0, 1, 2), order(2, 1, 0), order(1, 2, 0), order(2, 0, 1)])
def test_the_order_of_the_certificates_does_not_matter(given: tuple[Certificate, ...]) -> None:
    asked = scene("w", "x")
    asked.ancestors = given
    result = asked.appraise()
    assert result.verdict == "passed", table.text(result)
    shown = table.text(result)
    lines = shown.partition("lineage\n")[2].splitlines()[:3]
    assert [line.split("=")[1].split()[0] for line in lines] == [
        "run:x/model", "run:y/model", "run:z/model",
    ]  # fmt: skip
    assert [len(line) - len(line.lstrip("ok ")) for line in lines] == [10, 13, 16]
    as_json = json.loads(table.json_text(result))["lineage"]
    assert as_json[0]["lineage"][0]["lineage"][0]["source"] == "run:z/model"


def test_a_lineage_of_a_lower_tier_is_told() -> None:
    """A policy may accept several platforms: a pass is as strong as the weakest it rests on."""
    asked, middle, first = (
        scene(*runs, kind=kind) for kind, runs in (("cloud", "xyz"), ("qemu", "yz"), ("local", "z"))
    )
    policies = [one.get("policy") for one in (asked, middle, first)]
    merged = replace(
        policies[0],
        tier="software",
        roots=tuple(root for policy in policies for root in policy.roots),
        accepted=frozenset().union(*(policy.accepted for policy in policies)),
    )
    asked.put("policy", merged).ancestors = [one.get("certificate") for one in (middle, first)]
    result = asked.appraise()
    assert (result.verdict, result.tier, result.lineage_tier) == ("passed", "vtpm", "software")
    text, as_json = table.text(result), json.loads(table.json_text(result))
    assert "PASSED    (vtpm, its lineage software: the operator could have forged this)" in text
    assert [line.split("(")[-1] for line in text.split("lineage\n")[1].splitlines()[:3]] == [
        "measured-vm)", "software)", "software)",
    ]  # fmt: skip
    assert as_json["lineageTier"] == "software"
    assert [one["tier"] for one in as_json["lineage"]] == ["measured-vm", "software"]
    lineage_trusts = [item for item in result.trusts if item.startswith("for its lineage: ")]
    assert lineage_trusts == [
        (
            "for its lineage: whoever ran the machine: they own the TPM, since it "
            "chains to root qemu platform CA"
        ),
        (
            "for its lineage: whoever ran the machine: they own the TPM, since it "
            "chains to root local platform CA"
        ),
        "for its lineage: the software on that machine, which was not measured",
    ]
    # An ancestor of the same tier adds nothing to the output.
    asked = scene("w", "x")
    asked.ancestors = CHAIN
    result = asked.appraise()
    assert "PASSED    (software: the operator could have forged this)" in table.text(result)
    assert not [item for item in result.trusts if "lineage" in item]


def test_certificates_that_nothing_leads_to_are_not_judged() -> None:
    asked = scene("w", "x")
    failed = Scene().edit("report", lambda report: replace(report, exit_code="1"))
    asked.ancestors = (*CHAIN, failed.get("certificate"), certificate("other"))
    result = asked.appraise()
    assert result.verdict == "passed"
    unused = "the lineage certificates that this run does not build on (2): tiny, other"
    assert result.omits[-1] == unused
    assert unused in table.text(result)


def test_certificates_that_are_all_built_on_are_not_mentioned() -> None:
    asked = scene("w", "x")
    # As with `--lineage certificates/`: the certificate under appraisal is among its ancestors.
    asked.ancestors = (*CHAIN, parse(emit(asked.get("certificate"))))
    assert "build on" not in table.text(asked.appraise())


def test_a_time_stamp_that_is_added_later_breaks_no_lineage() -> None:
    asked = scene("w", "x")
    later = [timestamps(one, "rfc3161:AAAA") for one in (*CHAIN, asked.get("certificate"))]
    asked.ancestors = later
    result = asked.appraise()
    assert result.check("lineage.ancestors").verdict == "ok"
    assert "build on" not in table.text(result)


def test_a_run_that_builds_on_nothing_says_what_it_was_given_in_vain() -> None:
    asked = scene("w")
    unreadable = Scene().put("payload", b"{}").get("certificate")
    asked.ancestors = (*CHAIN, *CHAIN, unreadable)
    unused = asked.appraise().omits[-1]
    assert unused.endswith("build on (7): z, z, y, y, x, …")
    asked.ancestors = (*CHAIN, *order(0, 1))
    assert asked.appraise().omits[-1].endswith("build on (5): z, z, y, y, x")
    unnamed = Scene().edit_json(
        lambda d: d["predicate"]["buildDefinition"]["externalParameters"].update(run="all verified")
    )
    asked.ancestors = (unreadable, unnamed.get("certificate"))
    assert (
        asked.appraise().omits[-1].endswith("(2): one that cannot be read, one that cannot be read")
    )
    asked.ancestors = (unreadable,)
    assert asked.appraise().omits[-1].endswith("build on (1): one that cannot be read")


def test_of_two_certificates_of_one_run_the_one_of_this_output_counts() -> None:
    asked = scene("w", "x")
    retrained: Certificate = (
        scene("x", "y").put("outputs", {"model": weights("x2")}).get("certificate")
    )
    for given in ((retrained, *CHAIN), (*CHAIN, retrained)):
        asked.ancestors = given
        assert asked.appraise().verdict == "passed"


def test_two_certificates_of_a_run_that_gave_something_else_fail() -> None:
    asked = scene("w", "x")
    others = [scene("x", "y").put("outputs", {"model": weights(n)}) for n in ("x2", "x3")]
    asked.ancestors = (*(other.get("certificate") for other in others), *order(0, 1))
    result = asked.appraise()
    assert [check.id for check in result.failed] == ["lineage.ancestors"]
    assert result.ancestors[0].reason == "that run's certificate has a different output"


@pytest.mark.parametrize("output", ["other", "model/model", "", "/model"])
def test_another_output_of_a_certified_run_is_not_the_one_that_was_taken(output: str) -> None:
    def renamed(lock: Lockfile) -> Lockfile:
        taken = {"from-x": f"run:x/{output}"}
        inputs = (replace(one, source=taken.get(one.name, one.source)) for one in lock.inputs)
        return replace(lock, inputs=tuple(inputs))

    asked = scene("w", "x").edit("lockfile", renamed)
    asked.ancestors = CHAIN
    (ancestor,) = asked.appraise().ancestors
    assert ancestor.reason == "that run's certificate has a different output"


def test_two_ways_back_are_both_walked_and_shown_once() -> None:
    asked = scene("w", "a", "b")
    asked.ancestors = (certificate("a", "x"), certificate("b", "x"), *CHAIN)
    result = asked.appraise()
    assert result.verdict == "passed"
    assert table.text(result).count("run:z/model") == 1
    assert "(its lineage is above)" in table.text(result)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_ancestor_fails_the_whole(missing: int) -> None:
    asked = scene("w", "x")
    asked.ancestors = tuple(c for i, c in enumerate(CHAIN) if i != missing)
    result = asked.appraise()
    assert result.check("lineage.ancestors").verdict == "failed"
    assert "you gave no certificate for that run" in table.text(result)


def test_a_failed_ancestor_far_back_fails_the_whole_and_is_shown() -> None:
    asked = scene("w", "x")
    failed = scene("z").edit("report", lambda report: replace(report, exit_code="1"))
    asked.ancestors = (failed.get("certificate"), *CHAIN[1:])
    result = asked.appraise()
    assert result.verdict == "failed"
    assert "outputs.exit" in table.text(result)
    assert [line.split()[0] for line in table.text(result).partition("lineage\n")[2].splitlines()
            if " = run:" in line] == ["FAILED"] * 3  # fmt: skip


def test_no_run_is_its_own_ancestor() -> None:
    asked = scene("w", "a")
    asked.ancestors = (certificate("a", "b"), certificate("b", "a"))
    result = asked.appraise()
    assert result.check("lineage.ancestors").verdict == "failed"
    (a,) = result.ancestors
    assert a.result is not None
    (b,) = a.result.ancestors
    assert b.result is not None
    assert [one.reason for one in b.result.ancestors] == ["the run would be its own ancestor"]


def test_a_run_may_build_on_an_earlier_run_of_its_name() -> None:
    asked = scene("w", "a")
    asked.ancestors = (certificate("a", "b"), certificate("a"), certificate("b", "a"))
    assert asked.appraise().verdict == "passed"


def test_a_run_may_build_on_what_a_run_of_its_own_name_made() -> None:
    again = scene("a", "a").put("outputs", {"model": weights("a, again")}).get("certificate")
    for given in ((again, certificate("a")), (certificate("a"), again)):
        asked = scene("w", "a", digest=made_by("a, again"))
        asked.ancestors = given
        assert asked.appraise().verdict == "passed"


def test_of_several_certificates_that_do_not_fit_a_failed_one_is_shown() -> None:
    other = scene("x").put("outputs", {"model": weights("x2")}).get("certificate")
    failed = scene("x").edit("report", lambda report: replace(report, exit_code="1"))
    reason = "that run's certificate: outputs.exit: the run failed: it ended with 1"
    for given in ((other, failed.get("certificate")), (failed.get("certificate"), other)):
        asked = scene("w", "x")
        asked.ancestors = given
        (ancestor,) = asked.appraise().ancestors
        assert (ancestor.reason, ancestor.digest) == (reason, str(made_by("x")))


def test_a_lineage_may_be_as_long_as_its_limit() -> None:
    length = MAX_ANCESTORS
    asked = scene("w", f"r{length - 1}")
    asked.ancestors = [certificate("r0")] + [
        certificate(f"r{i}", f"r{i - 1}") for i in range(1, length)
    ]
    assert asked.appraise().verdict == "passed"


def test_a_lineage_without_end_is_bounded() -> None:
    length = MAX_ANCESTORS
    asked = scene("w", f"r{length}")
    asked.ancestors = [certificate("r0")] + [
        certificate(f"r{i}", f"r{i - 1}") for i in range(1, length + 1)
    ]
    result = asked.appraise()
    assert result.verdict == "failed"
    assert f"more than {MAX_ANCESTORS} certificates" in table.text(result)


def test_hostile_text_in_a_lineage_is_escaped() -> None:
    asked = scene("w", "x")
    evil = scene("x", "y").edit("report", lambda report: replace(report, exit_code="1"))
    asked.ancestors = (evil.get("certificate"),)
    assert all(line.isprintable() for line in table.text(asked.appraise()).split("\n"))
