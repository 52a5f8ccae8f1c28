"""Exports, the model card and the page: their content, and what hostile strings cannot do."""

import html.parser
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rules.runs.exports
from aicert.cli.main import main
from aicert.errors import ConfigError, EvidenceError
from aicert.exports import card, card_places, facts, files, packages
from aicert.exports.page import page as draw
from aicert.exports.plot import line_plot
from aicert.formats import certificate as form
from aicert.formats import image_lock, uncovered_names
from aicert.formats.certificate import emit
from aicert.formats.digest import of_bytes
from aicert.formats.run_report import Value
from tests.adversarial.attacks_convert import convert
from tests.adversarial.attacks_merge import merge
from tests.adversarial.attacks_quantise import quantise
from tests.adversarial.attacks_results import audit
from tests.adversarial.forger import Scene
from tests.unit.sample_certificate import FILES, SOURCES, sample


def written(tmp_path: Path, data: bytes | None = None) -> Path:
    path = tmp_path / "certificate.json"
    path.write_bytes(data or sample())
    return path


def test_export_wants_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, none = str(written(tmp_path)), str(tmp_path / "none")
    assert main(["export", certificate, none]) == 3
    assert capsys.readouterr().err.endswith(f"hint: mkdir -p {none}\n")
    assert main(["export", certificate, certificate]) == 3
    assert capsys.readouterr().err.endswith("hint: name a directory to write into\n")


def test_exports_are_the_same_bytes_for_the_same_certificate(tmp_path: Path) -> None:
    read = facts.read(sample())
    contents = files.exports(read)
    assert contents == files.exports(facts.read(sample()))
    assert set(contents) < uncovered_names.FILES
    assert main(["export", str(written(tmp_path)), str(tmp_path)]) == 0
    for name, data in contents.items():
        assert (tmp_path / name).read_bytes() == data
    assert main(["export", str(tmp_path / "certificate.json"), str(tmp_path / "none")]) == 3


def test_a_time_stamp_that_is_added_later_changes_no_export() -> None:
    certificate = facts.read(sample()).certificate
    evidence = replace(certificate.evidence, timestamps=("rfc3161:AAAA",))
    stamped = emit(replace(certificate, evidence=evidence))
    assert stamped != sample()
    assert facts.read(stamped).digest == facts.read(sample()).digest
    assert files.exports(facts.read(stamped)) == files.exports(facts.read(sample()))


def test_the_provenance_is_the_envelope_as_it_is() -> None:
    read = facts.read(sample())
    line = files.exports(read)["provenance.intoto.jsonl"]
    assert line.count(b"\n") == 1
    assert json.loads(line) == read.certificate.envelope.to_json()


def test_the_bill_of_materials_names_every_part() -> None:
    bom = json.loads(files.exports(facts.read(sample()))["bom.cdx.json"])
    types = {part["bom-ref"]: part["type"] for part in bom["components"]}
    assert types["input:model"] == "machine-learning-model"
    assert types["input:alpaca"] == types["input:config"] == "data"
    assert types["machine"] == "operating-system"
    assert types["pkg:pypi/torch@2.13.0%2Bcpu"] == "library"
    model = bom["metadata"]["component"]
    assert {part["name"]: part["hashes"][0]["content"] for part in model["components"]} == FILES
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": "input:alpaca"}]
    assert model["pedigree"]["ancestors"][0]["name"] == "model"
    metrics = {m["type"]: m["value"] for m in model["modelCard"]["quantitativeAnalysis"][
        "performanceMetrics"]}  # fmt: skip
    assert metrics["training loss, last (self-reported)"] == "2.0"
    workflow = bom["formulation"][0]["workflows"][0]
    assert [i["resource"]["ref"] for i in workflow["inputs"]] == [
        "input:alpaca", "input:config", "input:model"
    ]  # fmt: skip
    assert bom["declarations"]["claims"][0]["evidence"] == ["evidence:certificate"]


def test_inputs_of_the_hub_have_purl_version_and_supplier() -> None:
    contents = files.exports(facts.read(sample()))
    parts = {part["bom-ref"]: part for part in json.loads(contents["bom.cdx.json"])["components"]}
    assert parts["input:model"]["purl"] == f"pkg:huggingface/org/base-7b@{'b' * 40}"
    assert parts["input:alpaca"]["purl"] == f"pkg:huggingface/datasets/org/alpaca@{'a' * 40}"
    assert parts["input:model"]["version"] == "b" * 40
    assert parts["input:model"]["supplier"] == {
        "name": "org",
        "url": ["https://huggingface.co/org"],
    }
    assert "purl" not in parts["input:config"]
    graph = json.loads(contents["bom.spdx.json"])["@graph"]
    suppliers = [each["spdxId"] for each in graph if each["type"] == "Organization"]
    assert len(suppliers) == 1
    supplied = {e["software_packageUrl"]: e["suppliedBy"] for e in graph if "suppliedBy" in e}
    assert supplied == {parts[f"input:{n}"]["purl"]: suppliers[0] for n in ("model", "alpaca")}


def test_only_a_commit_is_a_version() -> None:
    read = facts.read(sample(sources={**SOURCES, "model": "hf:org/base-7b"}))
    source = facts.hub_source(next(i for i in read.lockfile.inputs if i.name == "model"))
    assert source is not None
    assert source.purl == "pkg:huggingface/org/base-7b"


def test_files_written_are_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, readme = str(written(tmp_path)), tmp_path / "README.md"
    assert main(["export", certificate, str(tmp_path), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["verified"] is False
    assert {Path(path).name for path in printed["written"]} == set(
        files.exports(facts.read(sample()))
    )
    for expected in ([str(readme)], []):
        assert main(["card", certificate, str(readme), "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "written": expected, "notes": [], "verified": False
        }  # fmt: skip


@pytest.mark.parametrize("command", ["show", "verify", "export", "card"])
def test_a_certificate_comes_from_standard_input(tmp_path: Path, command: str) -> None:
    certificate = written(tmp_path)
    more = {"export": [str(tmp_path)], "card": [str(tmp_path / "README.md")]}.get(command, [])
    runs = [
        subprocess.run(
            [sys.executable, "-m", "aicert", command, place, *more],
            input=certificate.read_bytes(),
            capture_output=True,
            check=False,
        )
        for place in ("-", str(certificate))
    ]
    # The certificate chain of this sample is not a real one.
    assert runs[0].returncode == runs[1].returncode
    assert runs[0].returncode in ((1, 2) if command == "verify" else (0,))
    # A verdict says how old the evidence is, in seconds.
    text = [re.sub(rb"\d+", b"", done.stdout) for done in runs]
    assert text[0] == text[1] != b"" or command == "card"


def test_packages_of_a_lock() -> None:
    lock = (
        b"# head\nA_b==1.0+x \\\n    --hash=sha256:" + b"11" * 32 + b" \\\n    --hash=sha256:"
        + b"22" * 32 + b"\n    # via nothing\n"
    )  # fmt: skip
    bom = json.loads(packages.bom(lock, "env"))
    (part,) = bom["components"]
    assert part["purl"] == "pkg:pypi/a-b@1.0%2Bx"
    assert [entry["content"] for entry in part["hashes"]] == ["11" * 32, "22" * 32]
    for bad in (b"a\n", b"a==1\n", b"-e .\n", b"a==1 --hash=md5:00\n", b"\xff"):
        with pytest.raises(EvidenceError):
            packages.bom(bad, "env")


ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("torch", "image", "locks"),
    [
        ("2.13.0+cpu", None, ("",)),
        ("2.13.0+cpu", "image", ("",)),
        ("2.13.0", None, ("", "-cuda")),
        ("2.13.0", "image-gpu", ("", "-cuda", "-kernels")),
    ],
)
def test_packages_of_the_training_environment_are_those_of_its_locks(
    tmp_path: Path, torch: str, image: str | None, locks: tuple[str, ...]
) -> None:
    """PyPI's torch brings CUDA's libraries, which have a lock of their own.

    So have the kernels that only the GPU image adds.
    """
    data = sample(values={"torchVersion": Value("measured", torch)})
    if image is not None:
        lock_of_image = (ROOT / "lockfiles" / f"{image}.lock.toml").read_bytes()
        data = form.emit(replace(form.parse(data), image_lock=lock_of_image))
    certificate = written(tmp_path, data)
    rules.runs.exports.write(certificate)
    bom = json.loads((tmp_path / "bom.training.cdx.json").read_bytes())
    locked = {
        tuple(pin.rstrip(" \\\n").split("=="))
        for lock in locks
        for pin in re.findall(
            r"^[a-z0-9].*==.*\n",
            (ROOT / "enclave_runner" / f"requirements{lock}.lock").read_text("ascii"),
            re.MULTILINE,
        )
    }
    assert {(part["name"], part["version"]) for part in bom["components"]} == locked


def test_the_driver_of_a_gpu_image_is_in_it() -> None:
    lock = (ROOT / "lockfiles" / "image-gpu.lock.toml").read_bytes()
    parts = json.loads(packages.image_bom(lock))["components"]
    driver = [part for part in parts if part["bom-ref"].startswith("driver/")]
    assert driver
    assert {part["scope"] for part in driver} == {"required"}
    # Debian's archive has none of these packages.
    assert all(part["purl"].startswith("pkg:deb/ubuntu/") for part in driver)


def test_packages_of_an_image() -> None:
    lock = (ROOT / "lockfiles" / "image.lock.toml").read_bytes()
    read = facts.read(sample(image=lock))
    image_bom = files.exports(read)["bom.image.cdx.json"]
    assert files.IMAGE_BOM in uncovered_names.FILES
    assert image_bom == packages.image_bom(lock)
    bom = json.loads(image_bom)
    parts = {part["bom-ref"]: part for part in bom["components"]}
    locked = image_lock.parse(lock).packages
    assert len(parts) == len(locked)
    # Every part has been put in a group: a new part needs a decision first.
    assert {item.part for item in locked} == {
        *(set(packages.INSIDE) - {"driver", *packages.BESIDE}),
        "build",
        "builder",
        "mkosi",
        "tools",
    }
    torch = next(part for part in parts.values() if part["name"] == "torch")
    assert torch["purl"].startswith("pkg:pypi/torch@")
    libc = next(p for p in parts.values() if p["bom-ref"].startswith("machine/libc6@"))
    assert libc["purl"].startswith("pkg:deb/debian/libc6@")
    assert libc["scope"] == "required"
    (needs,) = bom["dependencies"]
    assert set(needs["dependsOn"]) == {r for r, p in parts.items() if p["scope"] == "required"}
    assert len(needs["dependsOn"]) < len(parts)


def test_a_card_is_made_and_renewed_and_nothing_else_changes(tmp_path: Path) -> None:
    certificate = written(tmp_path)
    readme = tmp_path / "README.md"
    before = "---\nlicense: mit\ntags:\n- x\n---\n# My model\n\nText.\n"
    readme.write_text(before)
    assert main(["card", str(certificate), str(readme)]) == 0
    once = readme.read_text()
    assert "base_model:\n- org/base-7b\ndatasets:\n- org/alpaca\n" in once
    assert str(facts.read(sample()).statement.outputs["model"].digest) in once
    stripped = re.sub(r"# aicert:begin\n.*?# aicert:end\n", "", once, flags=re.DOTALL)
    stripped = re.sub(r"\n<!-- aicert:begin.*?aicert:end -->\n", "", stripped, flags=re.DOTALL)
    assert stripped == before
    assert main(["card", str(certificate), str(readme)]) == 0
    assert readme.read_text() == once
    readme.write_text(once.replace("Text.", "Other.") + "\nAfter.\n")
    assert main(["card", str(certificate), str(readme)]) == 0
    assert readme.read_text() == once.replace("Text.", "Other.") + "\nAfter.\n"


def test_a_card_keeps_its_authors_keys_and_line_ends() -> None:
    read = facts.read(sample())
    text = "---\r\nbase_model: mine/own\r\n---\r\nHello\r\n"
    after, notes = card.update(text, read, "model")
    assert "base_model: mine/own\r\n" in after
    assert after.count("base_model") == 1
    assert "\n" not in after.replace("\r\n", "")
    assert notes == ["base_model is yours and stays as it is; the certificate names org/base-7b"]


@pytest.mark.parametrize(
    "text",
    [
        "---\nlicense: mit\n---\nUnix\nWindows\r\nlast",
        "---\r\nlicense: mit\r\n---\r\nWindows\r\nUnix\n",
        "\ufeff---\ntitle: a\u2028b\x85c \n---\n\n\nText \x0b\x0c\n\n",
        "---\nlicense: mit\n--- \n",
        "---\n---\n",
        "",
        "Old\rMac\r",
    ],
)
def test_every_other_byte_of_a_card_stays(text: str) -> None:
    read = facts.read(sample())
    once, _ = card.update(text, read, "model")
    assert card.update(once, read, "model")[0] == once
    rest = re.sub(r"# aicert:begin\r?\n.*?# aicert:end\r?\n", "", once, flags=re.DOTALL)
    rest = rest[: rest.index(card_places.BEGIN)]
    if "---" not in text:
        rest = rest.removeprefix("---\n---\n")
    assert rest.startswith(text)
    assert set(rest[len(text) :]) <= {"\r", "\n"}


@pytest.mark.parametrize(
    "text",
    [
        f"{card_places.BEGIN}\n",
        f"{card_places.END}\n{card_places.BEGIN}\n",
        f"{card_places.BEGIN}\n{card_places.END}\n{card_places.BEGIN}\n{card_places.END}\n",
        "---\n# aicert:begin\n---\n",
        "---\n# aicert:end\n# aicert:begin\n---\n",
    ],
)
def test_a_card_whose_marks_do_not_pair_is_left_alone(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    assert main(["card", str(written(tmp_path)), str(readme)]) == 3
    assert readme.read_text() == text


def test_a_certified_card_is_never_changed() -> None:
    read = facts.read(sample(files={**FILES, "README.md": "77" * 32}))
    with pytest.raises(ConfigError, match="one of the certified files"):
        card.update("", read, "model")
    with pytest.raises(ConfigError, match="no output"):
        card.update("", facts.read(sample()), "other")


HOSTILE = "<script>alert(1)</script>'|`]](x)--><img src=x onerror=y>{{"


def test_hostile_names_of_a_statement_do_not_reach_a_card() -> None:
    """A card of an unverified certificate repeats only what a lockfile can hold."""
    scene = Scene()
    hostile = {"run": f"`\n{card_places.END}<img src=//e>", "trainer": "`<script>"}
    scene.edit("statement", lambda statement: replace(statement, **hostile))
    after, _ = card.update("", facts.read(scene.get("file")), "model")
    assert "<img" not in after
    assert "<script" not in after
    assert card.update(after, facts.read(scene.get("file")), "model")[0] == after


def test_hostile_sources_do_not_leave_their_place_in_a_card() -> None:
    sources = {**SOURCES, "model": f"path:{HOSTILE}", "alpaca": "hf:datasets/a b/c\n"[:-1]}
    after, _ = card.update("", facts.read(sample(sources=sources)), "model")
    assert "<script" not in after
    assert "<img" not in after
    assert "datasets:" not in after
    assert after.count("-->") == 2


class Tags(html.parser.HTMLParser):
    """A parser that collects elements, attributes and references to outside resources."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "footer",
    "section",
    "h1",
    "h2",
    "p",
    "strong",
    "b",
    "br",
    "ol",
    "ul",
    "li",
    "code",
    "div",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "figure",
    "figcaption",
    "svg",
    "desc",
    "path",
    "text",
    "polyline",
    "span",
}


def page(tmp_path: Path, data: bytes) -> tuple[int, str, Tags]:
    out = tmp_path / "page.html"
    certificate = written(tmp_path, data)
    code = main(["report", str(certificate), "-o", str(out)])
    text = out.read_text()
    tags = Tags()
    tags.feed(text)
    return code, text, tags


def test_a_page_is_self_contained_and_carries_the_verdict(tmp_path: Path) -> None:
    code, text, tags = page(tmp_path, sample())
    assert code == 1
    assert "<h1><strong>FAILED</strong>" in text
    # No evidence covers the claims, so the page must not call them measured.
    assert "everything below is what the certificate claims" in text
    assert "digests are measured" not in text
    assert set(tags.tags) <= ALLOWED
    assert not {"src", "href", "onload", "onerror", "style"} & set(tags.attributes)
    assert "default-src 'none'" in text
    assert 'lang="en"' in text
    # Each plot labels its axes with quantity and unit.
    assert ">loss, as the trainer reports it (nats)</text>" in text
    assert ">training step</text>" in text
    assert "Training loss by step, from 3 at step 1 to 2 at step 3 (self-reported)" in text
    assert "300 tokens in 1.5 s: 200 tokens a second" in text


def test_a_page_draws_what_evaluations_said() -> None:
    more = {
        "evalLosses": Value("self-reported", (2.5, 2.25)),
        "evalLossSteps": Value("self-reported", (5, 10)),
        "evalAccuracy": Value("self-reported", 0.5),
    }
    scene = Scene("local", 2).edit(
        "report", lambda report: replace(report, values={**report.values, **more})
    )
    text = draw(of_bytes(scene.get("file")), facts.read(scene.get("file")), scene.appraise())
    assert "Evaluation loss by step, from 2.5 at step 5 to 2.25 at step 10 (self-repo" in text
    assert "evalAccuracy" in text


def test_a_page_says_measured_where_the_checks_are_ok() -> None:
    scene = Scene()
    result = scene.appraise()
    assert result.verdict == "passed"
    text = draw(of_bytes(scene.get("file")), facts.read(scene.get("file")), result)
    assert "<h1><strong>PASSED</strong>" in text
    assert "digests are measured" in text
    assert "certificate claims" not in text


def drawn(scene: Scene, **changes: Any) -> str:
    result = replace(scene.appraise(), **changes)
    return draw(of_bytes(scene.get("file")), facts.read(scene.get("file")), result)


def test_a_page_about_results_speaks_of_no_model() -> None:
    scene = Scene("local", 2)
    audit()(scene)
    assert "about the results of an audit, not about a model" in drawn(scene)
    assert "and no model" not in drawn(Scene())


def test_a_merge_is_not_called_a_training() -> None:
    derived = {"merge": merge(), "quantisation": quantise(), "conversion": convert()}
    for what, change in derived.items():
        scene = Scene("local", 2)
        change(scene)
        assert f"about a {what}: nothing was trained" in drawn(scene)
    assert "nothing was trained" not in drawn(Scene())


@pytest.mark.parametrize("tier", ["software", "measured-vm"])
def test_a_pass_that_somebody_could_have_forged_is_not_green(tier: str) -> None:
    text = drawn(Scene(), tier=tier)
    assert '<section class="verdict weak"' in text
    words = "<strong>PASSED</strong>, but anyone with this computer could have made this</h1>"
    assert words in text


def test_a_pass_on_a_forgeable_lineage_is_not_green() -> None:
    text = drawn(Scene("cloud"), lineage_tier="software")
    assert '<section class="verdict weak"' in text
    assert "PASSED</strong>, but anyone with the computer of an earlier run" in text


def test_a_pass_on_forgeable_audits_is_not_green() -> None:
    text = drawn(Scene("cloud"), audits_tier="software")
    assert '<section class="verdict weak"' in text
    assert "PASSED</strong>, but anyone with the computer of an audit" in text


def test_a_pass_on_forgeable_evaluations_is_not_green() -> None:
    text = drawn(Scene("cloud"), evaluations_tier="software")
    assert '<section class="verdict weak"' in text
    assert "PASSED</strong>, but anyone with the computer of an evaluation" in text


def test_a_pass_of_a_clouds_machine_is_green() -> None:
    tiers = ("lineage_tier", "audits_tier", "evaluations_tier")
    for changes in ({}, *({tier: "vtpm"} for tier in tiers)):
        text = drawn(Scene("cloud"), **changes)
        assert '<section class="verdict passed"' in text
        assert "<h1><strong>PASSED</strong></h1>" in text


def test_only_a_pass_has_the_colour_of_doubt() -> None:
    scene = Scene()
    first, *rest = scene.appraise().checks
    text = drawn(scene, checks=(replace(first, verdict="not-checked"), *rest))
    assert '<section class="verdict none"' in text
    assert "NO VERDICT</strong>, but anyone with this computer" in text
    scene.set_pcr(14, bytes(32))
    text = drawn(scene)
    assert '<section class="verdict failed"' in text
    assert "anyone with this computer" not in text


def test_a_failed_check_shows_its_hint() -> None:
    scene = Scene()
    scene.edit("statement", lambda statement: statement)
    result = scene.appraise()
    hinted = replace(
        result.check("inputs.pcr14"), verdict="failed", detail="differs", hint="git log -- <x>"
    )
    checks = tuple(hinted if one.id == hinted.id else one for one in result.checks)
    text = drawn(scene, checks=checks)
    assert text.count("What helps: <code>git log -- &lt;x&gt;</code>") == 2, "verdict and table"
    unhinted = tuple(replace(one, hint=None) for one in checks)
    assert "What helps" not in drawn(scene, checks=unhinted)


def test_a_simulated_platform_has_the_hint_of_the_command_line() -> None:
    scene = Scene()
    detail = "the AK certificate is for a simulated platform (simulated:local, tier software)"
    result = scene.appraise()
    chain = replace(result.check("platform.chain"), verdict="failed", detail=detail)
    checks = tuple(chain if one.id == chain.id else one for one in result.checks)
    text = drawn(scene, checks=checks, policy="default")
    assert "What helps: <code>--policy local --root PEM</code>" in text
    text = drawn(scene, checks=checks, policy="local")
    assert "What helps: <code>--root PEM  # the CA of the checkout that made it</code>" in text


def test_a_page_is_of_the_certificate_that_was_appraised(tmp_path: Path) -> None:
    """A path may name another certificate the second time it is read; a pipe has nothing left."""
    out = tmp_path / "page.html"
    reading, writing = os.pipe()
    os.write(writing, sample())
    os.close(writing)
    try:
        code = main(["report", f"/dev/fd/{reading}", "-o", str(out)])
    finally:
        os.close(reading)
    assert str(of_bytes(sample())) in out.read_text()
    assert code == page(tmp_path, sample())[0]


def test_strings_of_a_certificate_never_become_markup(tmp_path: Path) -> None:
    hostile = sample(
        sources={**SOURCES, "model": f"path:{HOSTILE}"},
        files={f"{HOSTILE.replace('/', '')}/w.safetensors": "22" * 32},
        values={
            "kernel": Value("measured", HOSTILE),
            "device": Value("measured", "\x1b[31m\u202e"),
        },
    )
    _, text, tags = page(tmp_path, hostile)
    assert set(tags.tags) <= ALLOWED
    assert not {"src", "onerror"} & set(tags.attributes)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_plot_needs_finite_points() -> None:
    assert line_plot((1.0,), (2.0,), "t", "o", axis="a") == ""
    assert line_plot((1.0, 2.0), (float("inf"), 2.0), "t", "o", axis="a") == ""
    flat = line_plot((1.0, 2.0), (3.0, 3.0), "t", "o", axis="a")
    assert "nan" not in flat
    many = line_plot(tuple(range(20_000)), (1.0, 2.0) * 10_000, "t", "o", axis="a")
    assert len(many) < 40_000
    assert line_plot((1.0, 2.0), (-1.7e308, 1.7e308), "t", "o", axis="a") == ""
    assert "nan" not in line_plot((1.0, 2.0), (1e200, 1e200), "t", "o", axis="a")
    assert "nan" not in line_plot((1.0, 2.0), (0.0, 5e-324), "t", "o", axis="a")


@pytest.mark.parametrize(
    ("losses", "marks"),
    [
        ((6.13, 3.91), ["4", "4.5", "5", "5.5", "6"]),
        ((3.0, 2.0), ["2", "2.2", "2.4", "2.6", "2.8", "3"]),
        ((-1e299, 1e299), ["-1e+299", "-5e+298", "0", "5e+298", "1e+299"]),
        ((10.01, 10.19), ["10.05", "10.1", "10.15"]),
        ((0.0, 40.0), ["0", "10", "20", "30", "40"]),
    ],
)
def test_a_plot_is_marked_at_round_numbers(losses: tuple[float, ...], marks: list[str]) -> None:
    plot = line_plot((1.0, 2.0), losses, "t", "o", axis="a")
    assert re.findall('text-anchor="end">([^<]*)<', plot)[:-1] == marks
