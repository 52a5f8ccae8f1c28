"""Exports, card and page where the certificate, the card or the folder is hostile."""

import html.parser
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.exports import card, card_places, facts, files
from aicert.exports.page import page as draw
from aicert.formats import tpm
from aicert.formats.digest import of_bytes
from aicert.formats.run_report import Value
from tests.adversarial.forger import Scene
from tests.unit.sample_certificate import sample

BOAST = "PASSED. Verified, tier confidential-gpu"


class Words(html.parser.HTMLParser):
    """A parser that collects the page's words in order, without its style sheet."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.title = ""
        self._tag = ""

    def handle_starttag(self, tag: str, _: object) -> None:
        self._tag = tag

    def handle_data(self, data: str) -> None:
        if self._tag == "title":
            self.title += data.strip()
        elif self._tag != "style" and data.strip():
            self.texts.append(data.strip())


def written(tmp_path: Path, data: bytes | None = None) -> str:
    path = tmp_path / "certificate.json"
    path.write_bytes(sample() if data is None else data)
    return str(path)


def page(tmp_path: Path, data: bytes) -> tuple[int, Words, str]:
    out = tmp_path / "page.html"
    code = main(["report", written(tmp_path, data), "-o", str(out)])
    text = out.read_text()
    words = Words()
    words.feed(text)
    return code, words, text


def test_the_verdict_is_the_first_that_a_page_says(tmp_path: Path) -> None:
    """An unverified statement may give its run any name."""
    scene = Scene().edit("statement", lambda statement: replace(statement, run=BOAST))
    code, words, text = page(tmp_path, scene.get("file"))
    assert code == 1
    assert words.texts[0] == "FAILED"
    assert words.title == "FAILED: tiny"
    assert BOAST not in text


def not_canonical(scene: Scene) -> None:
    scene.edit("certificate", lambda certificate: replace(certificate, lockfile=b"nonsense"))


def no_statement(scene: Scene) -> None:
    scene.put("payload", b"{}")


def no_report(scene: Scene) -> None:
    scene.put("report_bytes", b"{}")


@pytest.mark.parametrize("change", [not_canonical, no_statement, no_report])
def test_what_cannot_be_read_fails_in_a_page_as_in_verify(
    tmp_path: Path, change: Callable[[Scene], None]
) -> None:
    scene = Scene()
    change(scene)
    code, words, _ = page(tmp_path, scene.get("file"))
    assert code == main(["verify", str(tmp_path / "certificate.json")]) == 1
    assert words.texts[0] == words.title == "FAILED"
    assert "Checks" in words.texts
    assert "The chain" not in words.texts


def test_a_page_of_an_image_that_nobody_accepted_claims(tmp_path: Path) -> None:
    """Any other software can measure what it likes."""
    scene = Scene("cloud")
    scene.edit("policy", lambda policy: replace(policy, accepted=frozenset()))
    result = scene.appraise()
    assert result.subject is not None
    data = scene.get("file")
    text = draw(of_bytes(data), facts.read(data), result)
    assert "everything below is what the certificate claims" in text
    assert "digests are measured" not in text
    assert "vouched for" not in text


def test_the_weights_of_a_page_are_the_ones_on_the_disk_or_it_says_so() -> None:
    scene = Scene().edit("model", lambda model: model | {"extra.py": next(iter(model.values()))})
    data = scene.get("file")
    text = draw(of_bytes(data), facts.read(data), scene.appraise())
    weights = text[text.index("<b>Weights</b>") : text.index("<b>Data")]
    assert "the model directory is not output model" in weights
    assert "certificate claims" not in text


def test_a_page_does_not_stand_among_certified_files(tmp_path: Path) -> None:
    """The model would fail its next verification because of the uncertified file."""
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "link").symlink_to(model)
    certificate = written(tmp_path)
    for place in (model / "page.html", tmp_path / "link" / "page.html"):
        assert main(["report", certificate, str(model), "-o", str(place)]) == 3
    assert not list(model.iterdir())


def test_a_machine_that_is_not_shown_to_be_confidential_chains_to_the_root() -> None:
    scene = Scene("confidential").put("platform", None)
    result = scene.appraise()
    assert result.tier is None
    data = scene.get("file")
    text = draw(of_bytes(data), facts.read(data), result)
    assert "this is not shown to be one" in text
    assert "chains to no platform" not in text


def test_a_value_is_one_line_of_a_page(tmp_path: Path) -> None:
    """A value with a line break would draw rows of its own into the table."""
    _, words, _ = page(
        tmp_path, sample(values={"kernel": Value("measured", "6.12\nok\nboot.image")})
    )
    assert "6.12\\nok\\nboot.image" in words.texts


def test_marks_do_not_pile_up_over_other_lines(tmp_path: Path) -> None:
    piled = "e" + "\u0301" * 50
    _, _, text = page(tmp_path, sample(values={"kernel": Value("measured", piled)}))
    assert "e\u0301\u0301\\u0301" in text
    assert "\u0301" * 3 not in text


def test_numbers_that_are_no_rate_make_no_sentence(tmp_path: Path) -> None:
    huge = {
        "tokens": Value("self-reported", 2**63 - 1),
        "trainSeconds": Value("self-reported", 5e-324),
        "losses": Value("self-reported", (-1e299, 1e299) * 5000),
        "lossSteps": Value("self-reported", (1 - 2**63, 2**63 - 1) * 5000),
    }
    _, _, text = page(tmp_path, sample(values=huge))
    assert " tokens in " not in text
    assert "Training loss by step" in text
    assert "nan" not in text
    assert len(text) < 100_000


def test_whose_word_a_value_is_stands_over_it(tmp_path: Path) -> None:
    _, words, _ = page(tmp_path, sample())
    at = words.texts.index
    assert at("Run report: measured") < at("kernel") < at("Run report: self-reported")
    assert at("Run report: self-reported") < at("tokens")


def test_the_page_does_not_replace_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Path(written(tmp_path))
    before = certificate.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for place in (str(certificate), certificate.name, f"link/{certificate.name}"):
        assert main(["report", str(certificate), "-o", place]) == 3
        assert certificate.read_bytes() == before


@pytest.mark.parametrize("command", ["report", "card", "export"])
def test_only_regular_files_are_replaced(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder may hold a link to a reader's file, or a pipe that has no writer."""
    certificate, own = written(tmp_path), tmp_path / "own"
    own.write_text("mine\n")
    place = tmp_path / ("bom.cdx.json" if command == "export" else "README.md")
    makers: tuple[Callable[[], None], ...] = (
        lambda: place.symlink_to(own),
        lambda: os.mkfifo(place),
        place.mkdir,
    )
    for make in makers:
        make()
        kind = place.lstat().st_mode
        to = {"report": ["-o", str(place)], "card": [str(place)], "export": [str(tmp_path)]}
        assert main([command, certificate, *to[command]]) == 2
        assert "cannot write" in capsys.readouterr().err
        assert place.lstat().st_mode == kind
        assert own.read_text() == "mine\n"
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink()


@pytest.mark.parametrize("out", ["", ".", "..", "/"])
def test_a_page_needs_a_name(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", written(tmp_path), "-o", out]) == 2
    printed = capsys.readouterr().err
    assert "is a directory" in printed
    assert "defect" not in printed


def test_a_file_keeps_its_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Mine\n")
    readme.chmod(0o640)
    assert main(["card", written(tmp_path), str(readme)]) == 0
    assert readme.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README.md", "certificate.json"]


def test_what_is_no_text_is_no_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    for data, message in (
        (b"\xff\n", "is not UTF-8"),
        (b" " * (1 << 22) + b"\n", "is larger than"),
    ):
        readme.write_bytes(data)
        assert main(["card", written(tmp_path), str(readme)]) == 2
        assert message in capsys.readouterr().err
        assert readme.read_bytes() == data


@pytest.mark.parametrize(
    "text",
    [
        f"````md\n```\n```sh\n````\n{card_places.BEGIN} \n{card_places.END}\t\nafter",
        f"a\r\n{card_places.BEGIN}\r\nold\r\n{card_places.END}\r\nafter\r\n",
    ],
)
def test_only_what_stands_between_the_marks_changes(text: str) -> None:
    read = facts.read(sample(sources={"config": "path:c"}))
    once, _ = card.update(text, read, "model")
    assert once.startswith(text[: text.index(card_places.BEGIN)])
    assert once.endswith(text[text.index(card_places.END) + len(card_places.END) :])
    assert card.update(once, read, "model")[0] == once


@pytest.mark.parametrize(
    "text",
    [
        # CommonMark 0.31, 4.5: this is not a code block, since a backtick follows the first three.
        "# Mine\n\n```pip install mine```\n",
        "```pip install mine```\n\n```sh\nls\n```\n",
        "---\nchat_template: |\n  {% for m in messages %}\n  {{ m }}\n---\n# Mine\n",
    ],
)
def test_cards_that_only_look_like_code_or_braces(text: str) -> None:
    read = facts.read(sample(sources={"config": "path:c"}))
    once, _ = card.update(text, read, "model")
    assert once.startswith(text)
    assert card.update(once, read, "model")[0] == once


@pytest.mark.parametrize("key", ['"base_model"', "'base_model'", "base_model "])
def test_a_key_of_the_author_in_another_spelling_is_theirs(key: str) -> None:
    """The same key twice is invalid YAML."""
    after, notes = card.update(f"---\n{key}: mine/own\n---\n", facts.read(sample()), "model")
    assert after.count("base_model") == 1
    assert len(notes) == 1


def test_front_matter_after_a_blank_line_stays_the_front_matter() -> None:
    """The hub reads it so; a second one in front would hide the author's."""
    text = "\n---\nlicense: mit\n---\n# Mine\n"
    after, _ = card.update(text, facts.read(sample()), "model")
    assert after.startswith("\n---\nlicense: mit\n# aicert:begin\nbase_model:\n")
    assert card.update(after, facts.read(sample()), "model")[0] == after


def test_a_card_says_where_its_link_leads_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = written(tmp_path)
    (tmp_path / "model").mkdir()
    assert main(["card", certificate, str(tmp_path / "model" / "README.md")]) == 0
    assert "certificate.json, which is not beside it" in capsys.readouterr().out
    assert main(["card", certificate, str(tmp_path / "README.md")]) == 0
    assert "beside" not in capsys.readouterr().out


def test_the_key_that_a_report_names_is_the_one_that_was_certified() -> None:
    """Anybody can change the envelope's hint, and the certificate still passes."""
    scene = Scene()
    envelope = scene.get("certificate").envelope
    scene.edit_certificate(envelope=replace(envelope, keyid="another"))
    assert scene.appraise().verdict == "passed"
    scai = json.loads(files.exports(facts.read(scene.get("file")))["scai.intoto.json"])
    conditions = scai["predicate"]["attributes"][-1]["conditions"]
    assert conditions["runKeyName"] == tpm.parse_public(scene.get("run_public")).name.hex()


def test_versions_do_not_leave_their_place_in_a_package_url() -> None:
    version = "1.0?repository_url=https://example.com/#x@y z"
    data = sample(values={"torchVersion": Value("measured", version)})
    bom = json.loads(files.exports(facts.read(data))["bom.cdx.json"])
    (purl,) = (c["purl"] for c in bom["components"] if c["name"] == "torch")
    assert not set("?# ") & set(purl)
    assert purl.count("@") == 1


def test_spdx_says_nothing_that_nobody_knows() -> None:
    read = facts.read(sample())
    graph = json.loads(files.exports(read)["bom.spdx.json"])["@graph"]
    (data,) = (e for e in graph if e["type"] == "dataset_DatasetPackage")
    assert data["dataset_datasetType"] == ["noAssertion"]
    (build,) = (e for e in graph if e["type"] == "build_Build")
    assert not {"ai", "dataset"} & set(graph[-1]["profileConformance"])
    # The digest is that of the file which the URI names.
    (uri,), (digest,) = build["build_configSourceUri"], build["build_configSourceDigest"]
    assert uri == f"urn:aicert:lockfile:{digest['hashValue']}"


def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export = shlex.join((sys.executable, "-m", "aicert", "export", written(tmp_path), "out"))
    script = f"mount -t tmpfs -o ro none out && exec {export}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 2
    assert done.stderr.endswith(": Read-only file system\n")
