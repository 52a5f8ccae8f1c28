"""Exports of what passed: the summary of training content, Croissant, metrics of evaluations."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aicert.audits.results import Results
from aicert.cli.main import main
from aicert.errors import EvidenceError
from aicert.exports import audit_counts, croissant, cyclonedx, facts, training_summary
from aicert.exports.verified import Verified
from aicert.files.tree import read_tree
from aicert.formats import evaluated_tasks, evaluation
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluation import Weights
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import Lockfile
from aicert.verifier.evidence import Audit, Evaluation
from aicert.verifier.verify import check_files
from tests.adversarial.attacks_results import audit, results, trainer
from tests.adversarial.attacks_run import reported
from tests.adversarial.forger import Scene
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.aicert.cli.verify.test_evaluations import give, results_of
from tests.unit.aicert.cli.verify.test_evidence import (
    DOMAINS,
    RESULTS,
    audit_scene,
    audited,
    put,
    records,
    trained,
)
from tests.unit.aicert.cli.verify.test_task_evaluations import TASK_DIGEST, tasks_of

MORE = {"training-content.md", "training-content.json", "alpaca.croissant.json"}
(ROWS,) = audited().data


def lay(folder: Path, scene: Scene) -> Path:
    lay_out(scene, folder)
    put(folder, "tiny", scene, None)
    put(folder, "look-at-rows", audit_scene())
    (folder / "out").mkdir()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lay(tmp_path, trained())


def judging(folder: Path) -> list[str]:
    return ["--policy", "local", "--root", str(folder / "root.pem"), "--at", AT]


def export(folder: Path, *more: str, evidence: bool = True) -> int:
    words = ["export", str(folder / "c.json"), str(folder / "out"), *judging(folder)]
    words += ["--evidence", str(folder / "evidence")] if evidence else []
    return main([*words, "--model", str(folder / "model"), *more])


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "out" / name).read_bytes())


def verified(folder: Path, **changes: Any) -> Verified:
    """What the command line makes of the folder, without the evidence."""
    result = check_files(
        str(folder / "c.json"),
        str(folder / "model"),
        policy="local",
        root=str(folder / "root.pem"),
        at=AT,
    )
    given: dict[str, Any] = {
        "facts": facts.read((folder / "c.json").read_bytes()),
        "result": result,
        "runs": ((result.run or "", result.facts),),
        "is_lineage_known": True,
        "audits": (),
        "evaluations": (),
    }
    return Verified(**(given | changes))


def audit_of(changed: Results | None = None) -> Audit:
    return Audit(run="look", tier="vtpm", digest=of_bytes(RESULTS), results=changed or audited())


def test_the_summary_has_what_was_measured(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(folder) == 0
    printed = capsys.readouterr()
    assert "the certificate passed, tier software" in printed.err
    assert "nothing was verified" not in printed.err
    text = (folder / "out" / "training-content.md").read_text()
    assert "PASSED under policy `local`" in text
    assert "Whoever ran the machine could have forged all that is called measured." in text
    assert "measured: 7 rows of 150 bytes in 2 selections" in text
    assert "measured: 9 words in 1 selection" in text
    assert "measured: 1 text beside the rows" in text
    row = f"| `tiny` | `alpaca` | `train` | 3 | {ROWS.bytes} | `{ROWS.digest}` | "
    assert row + "`path:examples/alpaca` | `dirHash:" in text
    row = f"| `domains/v1` | `url` | `{of_bytes(DOMAINS)}` | 1 | 3 | 1 | 0 | 1 of 2 | "
    assert row + f"`{ROWS.digest}` | run `look`, tier software, results " in text
    assert f"No such audit read `{ROWS.digest}` (4 rows)." in text
    table = f"Rows `{ROWS.digest}`, column `url`: 2 domains. Of 3 rows 1 have nothing there, and 0 "
    assert table + "what is no URL (run `look`, tier software, results `" in text
    assert "\n\n| domain | rows | bytes |\n|---|---|---|\n| `a.org` | 1 | 24 |\n| `b.org` |" in text
    assert "domains with the most bytes" not in text
    assert "| `patterns/v1` | all text |  | 1 | 3 | 0 | 0 |  | " in text


def test_what_nobody_measured_is_left_to_the_provider(folder: Path) -> None:
    assert export(folder) == 0
    summary = read(folder, "training-content.json")
    fields = {
        (section["number"], field["name"]): field
        for section in summary["sections"]
        for field in section["fields"]
    }
    assert all(field["ownWords"] == "" for field in fields.values())
    assert {place for place, field in fields.items() if field["statements"]} == {
        ("1.2", "Model names with versions"),
        ("1.2", "Models that this one is based on"),
        ("1.3", "Modalities and size of the training data"),
    }
    origins = {s["origin"] for field in fields.values() for s in field["statements"]}
    assert origins == {"measured", "the builder's claim"}
    text = (folder / "out" / "training-content.md").read_text()
    assert text.count("- the provider's own words:\n") == len(fields)
    numbers = [section["number"] for section in summary["sections"]]
    assert numbers == sorted(numbers)
    assert {"1.1", "1.2", "1.3", "2.1", "2.2.1", "2.2.2", "2.6", "3.1", "3.2", "3.3"} < set(numbers)


def test_programs_get_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(folder, "--format", "json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["verified"] is True
    assert {Path(path).name for path in printed["written"]} > MORE
    summary = read(folder, "training-content.json")
    assert summary["verdict"] == {
        "verdict": "passed", "policy": "local", "tier": "software", "lineageTier": None, "at": AT,
    }  # fmt: skip
    train, test = summary["data"]
    assert train["claimed"] == {
        "run": "tiny", "name": "alpaca", "split": "train", "source": "path:examples/alpaca",
    }  # fmt: skip
    assert train["measured"]["digest"] == test["measured"]["digest"] == str(ROWS.digest)
    assert (train["measured"]["rows"], test["measured"]["rows"]) == (3, 4)
    domains, patterns = summary["audits"]
    assert (domains["kind"], domains["column"], domains["matches"]) == ("domains/v1", "url", 1)
    assert domains["list"] == {"digest": str(of_bytes(DOMAINS)), "entries": 2, "unusable": 1}
    assert (patterns["kind"], "column" in patterns, "list" in patterns) == (
        "patterns/v1", False, False,
    )  # fmt: skip
    (table,) = summary["domains"]
    assert (table["run"], table["rowsDigest"], table["count"]) == ("look", str(ROWS.digest), 2)
    assert table["largest"][0] == {"host": "a.org", "rows": 1, "bytes": 24}
    assert summary["notVerified"] == []


def test_a_table_that_leaves_domains_out_says_so(folder: Path) -> None:
    (fact,) = audited().data
    assert fact.domains is not None
    many = replace(fact, domains=replace(fact.domains, count=5))
    given = verified(folder, audits=(audit_of(replace(audited(), data=(many,))),))
    text = training_summary.markdown(given).decode()
    assert ": 5 domains. Of 3 rows" in text
    assert "\nThe 2 domains with the most bytes:\n\n| domain |" in text


def test_croissant_has_the_root_of_an_audit_that_passed(folder: Path) -> None:
    assert export(folder) == 0
    document = read(folder, "alpaca.croissant.json")
    train, test = document["distribution"]
    assert (train["name"], train["sha256"]) == ("alpaca-train.jsonl", ROWS.digest.hex)
    assert train["contentSize"] == f"{ROWS.bytes} B"
    known = {each["propertyID"]: each for each in train["identifier"]}
    assert known["urn:aicert:rows:count"]["value"] == "3"
    assert known["urn:aicert:record-root"]["value"] == f"sha256:{ROWS.rows.root.hex()}"
    assert known["urn:aicert:record-root"]["description"].startswith(
        "RFC 6962 tree of 3 salted rows, by audit look (tier software), "
    )
    # Nothing audited the other.
    assert [each["propertyID"] for each in test["identifier"]] == ["urn:aicert:rows:count"]
    item = facts.read((folder / "c.json").read_bytes()).lockfile.input("alpaca")
    assert document["url"] == f"urn:aicert:input:{item.digest}"
    assert {"license", "creator", "datePublished", "version"}.isdisjoint(document)


def test_evaluations_are_metrics_of_the_model_that_they_are_about(folder: Path) -> None:
    model = dir_digest(read_tree(folder / "model"))
    give(folder, evaluation.emit(results_of(model)), digests={"model": model})
    assert export(folder) == 0
    component = read(folder, "bom.cdx.json")["metadata"]["component"]
    *_, metric = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    slices = ", ".join(str(each.digest) for each in results_of(model).data)
    assert metric == {"type": "loss per token (measured)", "value": "3.41", "slice": slices}
    (about,) = [p["value"] for p in component["properties"] if p["name"] == "aicert:evaluation"]
    assert about.startswith("run look, tier software, results sha256:")
    assert about.endswith("900 tokens (90 from templates) of 255 rows, 1 left out")


def test_metrics_of_tasks_name_the_task_by_its_digest_alone(folder: Path) -> None:
    model = dir_digest(read_tree(folder / "model"))
    data = evaluated_tasks.emit(tasks_of(model))
    give(folder, data, trainer("lm-eval"), digests={"model": model})
    assert export(folder) == 0
    component = read(folder, "bom.cdx.json")["metadata"]["component"]
    *_, metric = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metric == {
        "type": "acc_norm (measured)", "value": "1.0", "slice": f"task {TASK_DIGEST}",
    }  # fmt: skip
    (about,) = [p["value"] for p in component["properties"] if p["name"] == "aicert:evaluation"]
    assert f": task {TASK_DIGEST}: acc 0.6 over " in about
    assert "task_0" not in (folder / "out" / "bom.cdx.json").read_text()


@pytest.mark.parametrize("inside", ["", "last"])
def test_evaluations_of_another_model_are_no_metrics(folder: Path, inside: str) -> None:
    model = dir_digest(read_tree(folder / "model"))
    digest = model if inside else Digest("dirHash", "e" * 64)
    other = results_of(digest, base=Weights(input="model", digest=digest, inside=inside))
    give(folder, evaluation.emit(other), digests={"model": digest})
    assert export(folder) == 0
    assert "loss per token" not in (folder / "out" / "bom.cdx.json").read_text()


def test_an_adapter_is_evaluated_on_its_base(folder: Path) -> None:
    read_facts = facts.read((folder / "c.json").read_bytes())
    digest = read_facts.statement.outputs["model"].digest
    base = Digest("dirHash", "e" * 64)
    adapted = results_of(base, adapter=Weights(input="adapter", digest=digest, inside=""))
    one = Evaluation(run="look", tier="vtpm", digest=of_bytes(b""), results=adapted)
    bom = json.loads(cyclonedx.bom(read_facts, verified=verified(folder, evaluations=(one,))))
    properties = bom["metadata"]["component"]["properties"]
    assert properties[-1]["value"].endswith(f"1 left out; loaded on {base}")


def test_a_certificate_that_does_not_pass_gives_no_export(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model" / "config.json").write_text("{}")
    assert export(folder) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert "nothing was written, because the certificate does not pass" in printed.err
    assert list((folder / "out").iterdir()) == []
    assert export(folder, "--format", "json") == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "failed"


def test_what_did_not_pass_cannot_be_exported(folder: Path) -> None:
    failed = check_files(
        str(folder / "c.json"), None, policy="local", root=str(folder / "root.pem"), at=AT
    )
    with pytest.raises(EvidenceError, match="does not pass"):
        verified(folder, result=failed)
    passed = verified(folder).result
    with pytest.raises(EvidenceError, match="for results and not for a model"):
        verified(folder, result=replace(passed, kind="audit"))
    with pytest.raises(EvidenceError, match="version 1"):
        verified(folder, result=replace(passed, facts=None))


def test_an_audits_certificate_is_none_of_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene("local", 2)
    audit(results({"results.json": RESULTS}))(scene)
    scene.put("outputs", {"model": {"results.json": RESULTS}})
    lay_out(scene, tmp_path)
    (tmp_path / "out").mkdir()
    assert export(tmp_path, evidence=False) != 0
    assert list((tmp_path / "out").iterdir()) == []


def test_evidence_that_does_not_count_is_left_out_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "evidence" / "look-at-rows" / "results.json"
    place.write_bytes(RESULTS + b" ")
    assert export(folder) == 0
    why = "these are not the results that the certificate names"
    assert f"note     look-at-rows does not count: {why}\n" in capsys.readouterr().err
    assert "record-root" not in (folder / "out" / "alpaca.croissant.json").read_text()
    text = (folder / "out" / "training-content.md").read_text()
    assert "No certified audit with a check of domains/v1 is among the evidence." in text
    assert "No certified audit with a table of domains (`[domains]` in its config) is" in text
    assert "words" not in text.replace("own words", "")


def test_without_evidence_the_certificate_is_enough(folder: Path) -> None:
    assert export(folder, evidence=False) == 0
    assert {path.name for path in (folder / "out").iterdir()} > MORE
    assert read(folder, "training-content.json")["audits"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["--evidence", "somewhere"],
        ["--root", "root.pem"],
        ["--policy", "local"],
        ["--image-lock", "l"],
    ],
)
def test_options_of_judging_want_the_model(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(folder / "c.json"), str(folder / "out"), *words]) == 3
    assert f"{words[0]} needs --model" in capsys.readouterr().err
    assert list((folder / "out").iterdir()) == []


def test_nothing_is_written_among_the_models_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(folder / "model")
    words = ["export", str(folder / "c.json"), model, *judging(folder), "--model", model]
    assert main(words) == 3
    assert "which holds certified files only" in capsys.readouterr().err


def test_what_is_not_verified_is_named(folder: Path) -> None:
    given = verified(folder, is_lineage_known=False)
    given = replace(given, runs=(*given.runs, ("be`fore", None)))
    text = training_summary.markdown(given).decode()
    assert "**Not verified:** what run `be?fore` read" in text
    assert "**Not verified:** what the runs read whose outputs are inputs of this one" in text


def test_rows_of_runs_before_have_no_source_here(folder: Path) -> None:
    given = verified(folder)
    given = replace(given, runs=(*given.runs, ("before", given.result.facts)))
    document = json.loads(training_summary.document(given))
    assert ["source" in each["claimed"] for each in document["data"]] == [True, True, False, False]
    # They are the same rows.
    text = training_summary.markdown(given).decode()
    assert "7 rows of 150 bytes in 2 selections" in text


def test_a_run_without_rows_states_no_size(folder: Path) -> None:
    given = verified(folder)
    empty = replace(given.result, facts=replace(given.result.facts, records=()))  # type: ignore[type-var]
    given = verified(folder, result=empty, runs=(("merge", empty.facts),))
    assert "rows of" not in training_summary.markdown(given).decode()
    assert croissant.documents(given) == {}


def test_what_there_is_none_of_is_not_stated(folder: Path) -> None:
    (first, *_) = verified(folder).records
    whole = replace(audited(), data=(replace(ROWS, text=None),))
    bare = replace(
        verified(folder).result.facts,  # type: ignore[type-var]
        records=(replace(first, unread_bytes=0),),
        texts=(),
    )
    given = verified(folder, runs=(("tiny", bare),), audits=(audit_of(whole),))
    summary = json.loads(training_summary.document(given))
    (size,) = [
        field["statements"]
        for section in summary["sections"]
        for field in section["fields"]
        if field["name"] == "Modalities and size of the training data"
    ]
    assert [each["text"].partition(",")[0] for each in size] == [
        "3 rows of 75 bytes in 1 selection"
    ]


def test_a_better_tier_says_nothing_of_forging(folder: Path) -> None:
    result = replace(verified(folder).result, tier="vtpm", lineage_tier="vtpm")
    text = training_summary.markdown(verified(folder, result=result)).decode()
    assert "(tier vtpm, its lineage vtpm)" in text
    assert "could have forged" not in text
    below = replace(result, lineage_tier="software")
    assert b"could have forged" in training_summary.markdown(verified(folder, result=below))


def test_what_the_builder_names_stays_text(tmp_path: Path) -> None:
    hostile = "hf:datasets/a/b`|<script>|**PASSED**"

    def named(locked: Lockfile, **changes: Any) -> Lockfile:
        inputs = tuple(
            replace(each, uri=hostile, **changes) if each.name == "alpaca" else each
            for each in locked.inputs
        )
        return replace(locked, inputs=inputs)

    scene = Scene("local", 2)
    reported(records=(records("alpaca", "../x|`y"),))(scene)
    scene.edit("lockfile", named)
    lay(tmp_path, scene)
    given = verified(tmp_path, audits=(audit_of(),))
    text = training_summary.markdown(given).decode()
    assert "`hf:datasets/a/b???script??**PASSED**`" in text
    assert "| `../x??y` | 3 | " in text
    document = json.loads(croissant.documents(given)["alpaca.croissant.json"])
    assert "urn:aicert:signed-by" not in [each["propertyID"] for each in document["identifier"]]
    (file,) = document["distribution"]
    assert file["contentUrl"] == file["name"] == "alpaca-..%2Fx%7C%60y.jsonl"
    key = "p256:02" + "a" * 64
    signed = replace(given.facts, lockfile=named(given.facts.lockfile, signed_by=key))
    document = json.loads(
        croissant.documents(replace(given, facts=signed))["alpaca.croissant.json"]
    )
    assert document["identifier"][-1] == {
        "@type": "sc:PropertyValue", "propertyID": "urn:aicert:signed-by", "value": key,
    }  # fmt: skip


def test_data_of_the_hub_has_its_page(tmp_path: Path) -> None:
    def named(locked: Lockfile) -> Lockfile:
        inputs = tuple(
            replace(each, uri="hf:datasets/org/alpaca") if each.name == "alpaca" else each
            for each in locked.inputs
        )
        return replace(locked, inputs=inputs)

    scene = trained()
    scene.edit("lockfile", named)
    document = json.loads(
        croissant.documents(verified(lay(tmp_path, scene)))["alpaca.croissant.json"]
    )
    assert document["url"] == "https://huggingface.co/datasets/org/alpaca"


def test_audits_of_other_rows_do_not_count(folder: Path) -> None:
    other = replace(audited(), data=(replace(ROWS, bytes=ROWS.bytes + 1),))
    given = verified(folder, audits=(audit_of(other),))
    assert audit_counts.counts_of(given) == []
