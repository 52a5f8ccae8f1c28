"""Texts that come from no row are named, each with the digest of its content."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from aicert.formats.digest import Digest, FileFact
from aicert.formats.run_report_facts import MAX_TEXTS
from enclave_runner.axolotl import texts
from enclave_runner.axolotl.config import refer
from enclave_runner.inputs import model_files
from enclave_runner.inputs.measure import MeasuredInput

LOADED = (
    "added_tokens.json", "additional_chat_templates/x.jinja", "chat_template.jinja",
    "chat_template.json", "merges.txt", "sentencepiece.bpe.model", "sentencepiece.model",
    "source.spm", "special_tokens_map.json", "spiece.model", "spm.model", "spm_char.model",
    "target.spm", "tekken.json", "tiktoken.model", "tokenizer.4.0.0.json", "tokenizer.json",
    "tokenizer.model", "tokenizer.model.v3", "tokenizer_config.json", "vocab.json", "vocab.txt",
)  # fmt: skip
TEMPLATE = "{% for m in messages %}another corpus{% endfor %}"


def sha(data: bytes | str) -> Digest:
    data = data.encode() if isinstance(data, str) else data
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def measured(name: str, root: Path, files: dict[str, bytes]) -> MeasuredInput:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    facts = {path: FileFact(size=len(data), sha256=sha(data).hex) for path, data in files.items()}
    return MeasuredInput(
        name=name, path=root, digest=Digest("dirHash", "0" * 64), stat_keys={}, files=facts
    )


def named(
    tmp_path: Path, settings: dict[str, object], files: dict[str, bytes] | None = None
) -> dict[str, Digest]:
    inputs = {"model": measured("model", tmp_path, files or {})}
    references = [refer(key="base_model", name="model", inside="")]
    config = json.dumps(settings).encode()
    return dict(texts.named(texts.read_texts(config, references, inputs, tmp_path)))


def test_a_tokenizers_rules_and_templates_are_named(tmp_path: Path) -> None:
    normalizer = {"type": "Replace", "pattern": {"Regex": ".*"}, "content": "x"}
    files = {
        "tokenizer.json": json.dumps({"normalizer": normalizer, "decoder": None, "model": {}}),
        "tokenizer_config.json": json.dumps(
            {"chat_template": TEMPLATE, "mask_token": "-Buy!", "model_max_length": 5}
        ),
        "vocab.json": "{}",
        "chat_template.jinja": TEMPLATE,
        "additional_chat_templates/tools.jinja": "tools",
        "tokenizer.model": "binary",
        "config.json": "{}",
        "other/tokenizer.json": "{}",
    }
    digests = named(tmp_path, {}, {path: text.encode() for path, text in files.items()})
    form = '{"content":"x","pattern":{"Regex":".*"},"type":"Replace"}'
    assert digests == {
        "model/additional_chat_templates/tools.jinja": sha("tools"),
        "model/chat_template.jinja": sha(TEMPLATE),
        "model/tokenizer.json: normalizer": sha(form),
        "model/tokenizer.model": sha("binary"),
        "model/tokenizer_config.json: chat_template": sha(TEMPLATE),
        # A template may contain the text of a token, but not the token itself.
        "model/tokenizer_config.json: mask_token": sha("-Buy!"),
        "model/vocab.json": sha("{}"),
    }


def test_every_file_from_which_a_tokenizer_is_loaded_is_named(tmp_path: Path) -> None:
    patterns = [pattern for pattern, kind in model_files._TOKENIZER if kind != "config"]
    for pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in LOADED), pattern
    for name in LOADED:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), name
    digests = named(tmp_path, {}, dict.fromkeys(LOADED, b'{"key":"text"}'))
    assert {each.partition(": ")[0] for each in digests} == {f"model/{name}" for name in LOADED}


def test_a_vocabulary_is_named(tmp_path: Path) -> None:
    files = {"tokenizer.json": b'{"model":{"vocab":{"good":0,"evil":1}},"version":"1.0"}'}
    vocabulary = sha('{"vocab":{"evil":1,"good":0}}')
    assert named(tmp_path, {}, files) == {"model/tokenizer.json: model": vocabulary}


def test_the_rules_of_a_tokenizer_under_its_other_names_are_named(tmp_path: Path) -> None:
    tokens = json.dumps({"extra_special_tokens": ["<a>"], "additional_special_tokens": ["<b>"]})
    files = {
        "tokenizer.4.0.0.json": b'{"normalizer":"x"}',
        "tokenizer.model.v3": b"binary",
        "sentencepiece.bpe.model": b"rules",
        "tokenizer_config.json": tokens.encode(),
        "tokenizer.4.0.json": b'{"normalizer":"no loader reads it"}',
        "vocab.4.0.0.json": b"{}",
    }
    assert named(tmp_path, {}, files) == {
        "model/sentencepiece.bpe.model": sha("rules"),
        "model/tokenizer.4.0.0.json: normalizer": sha("x"),
        "model/tokenizer.model.v3": sha("binary"),
        "model/tokenizer_config.json: additional_special_tokens": sha('["<b>"]'),
        "model/tokenizer_config.json: extra_special_tokens": sha('["<a>"]'),
    }


def test_only_inputs_that_give_a_tokenizer_are_looked_at(tmp_path: Path) -> None:
    item = measured(
        "rows", tmp_path, {"chat_template.jinja": b"x", "tok/chat_template.jinja": b"y"}
    )
    data = refer(key="datasets.path", name="rows", inside="")
    tokenizer = refer(key="tokenizer_config", name="rows", inside="tok")
    read = texts.read_texts(b"{}", [data, tokenizer], {"rows": item}, tmp_path)
    named_texts = texts.named(read)
    assert named_texts == (("rows/tok/chat_template.jinja", sha("y")),)


def test_the_configs_own_texts_are_named_by_key(tmp_path: Path) -> None:
    settings: dict[str, object] = {
        "default_system_message": "Say this.",
        "special_tokens": {"pad_token": "</s>"},
        "tokens": [],
        "datasets": [
            {"path": "/aicert/records/x/0", "type": {"format": "[Q] {instruction}"}},
            {"roles": {"the text": ["user"]}, "message_property_mappings": {"content": "x"}},
        ],
        "chat_template_jinja": "/aicert/inputs/model/deep/mine.jinja",
    }
    assert named(tmp_path, settings, {"deep/mine.jinja": b"jinja"}) == {
        "config: chat_template_jinja": sha("jinja"),
        "config: datasets[0].type.format": sha("[Q] {instruction}"),
        "config: datasets[1].message_property_mappings": sha('{"content":"x"}'),
        "config: datasets[1].roles": sha('{"the text":["user"]}'),
        "config: default_system_message": sha("Say this."),
        "config: special_tokens": sha('{"pad_token":"</s>"}'),
    }


def test_a_template_that_the_runner_wrote_is_named_by_its_text(tmp_path: Path) -> None:
    template = sha(TEMPLATE)
    settings: dict[str, object] = {"chat_template_jinja": f"/aicert/templates/{template.hex}.jinja"}
    assert named(tmp_path, settings) == {"config: chat_template_jinja": template}


@pytest.mark.parametrize("inside", ["", "/", "/a", "/a/b", "/model", "/model/", "/model/none"])
def test_a_text_that_looks_like_a_place_is_a_text(tmp_path: Path, inside: str) -> None:
    text = f"/aicert/inputs{inside}"
    settings: dict[str, object] = {
        "default_system_message": text,
        "datasets": [{"other": {"chat_template_jinja": text}}],
    }
    assert named(tmp_path, settings, {"x": b"x"}) == {
        "config: datasets[0].other.chat_template_jinja": sha(text),
        "config: default_system_message": sha(text),
    }


@pytest.mark.parametrize("name", ["chatml", "tokenizer_default_fallback_chatml"])
def test_a_template_of_the_image_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / texts._BUILT_IN
    folder.mkdir(parents=True)
    (folder / "chatml.jinja").write_text("chatml")
    (folder.parent / "secret.jinja").write_text("not a template")
    expected = {"image: chat template chatml": sha("chatml")}
    assert named(tmp_path, {"chat_template": name}) == expected
    assert named(tmp_path, {"datasets": [{"chat_template": name}, "no entry"]}) == expected
    assert named(tmp_path, {"chat_template": "../secret"}) == {}
    assert named(tmp_path, {"chat_template": "tokenizer_default"}) == {}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_no_loader_reads_names_nothing(content: bytes, tmp_path: Path) -> None:
    assert named(tmp_path, {}, {"tokenizer.json": content}) == {}


def test_text_that_utf8_cannot_say_has_a_digest(tmp_path: Path) -> None:
    digests = named(
        tmp_path, {}, {"tokenizer.json": rb'{"normalizer":"\ud800","decoder":["\ud800"]}'}
    )
    assert digests == {
        "model/tokenizer.json: decoder": sha(rb'["\ud800"]'),
        "model/tokenizer.json: normalizer": sha(rb'"\ud800"'),
    }


def test_names_are_ones_that_a_table_shows(tmp_path: Path) -> None:
    names = [f"{'é' * 100}/additional_chat_templates/{'x' * 200}{n}.jinja" for n in (1, 2)]
    item = MeasuredInput(
        name="model", path=tmp_path, digest=Digest("dirHash", "0" * 64), stat_keys={},
        files={name: FileFact(size=1, sha256=sha(name).hex) for name in names},
    )  # fmt: skip
    reference = refer(key="base_model", name="model", inside="é" * 100)
    read = texts.read_texts(b"{}", [reference], {"model": item}, tmp_path)
    digests = dict(texts.named(read))
    assert len(digests) == 2
    assert all(len(name) <= 200 and name.isascii() and name.isprintable() for name in digests)


def test_what_no_loader_opens_is_not_named(tmp_path: Path) -> None:
    files = dict.fromkeys(
        ("additional_chat_templates/é.jinja", "additional_chat_templates/a/b.jinja", "spm.model.v3",
         "config.json", "generation_config.json", "README.md"), b"{}",
    )  # fmt: skip
    assert named(tmp_path, {}, files) == {}


def test_more_texts_than_a_report_holds_are_folded_into_one(tmp_path: Path) -> None:
    files = {f"additional_chat_templates/{n:03d}.jinja": b"%d" % n for n in range(MAX_TEXTS + 5)}
    digests = named(tmp_path, {}, files)
    assert len(digests) == MAX_TEXTS
    assert "~ 6 more" in digests
    files["additional_chat_templates/068.jinja"] = b"changed"
    assert named(tmp_path, {}, files)["~ 6 more"] != digests["~ 6 more"]
