"""A tokenizer's decoder cannot hide the text of a template from the count of its tokens.

Decoders are inputs: one can give another text for a token alone than for the same token in a long
text. The test runs where rows are measured, with the training environment's Python.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from rules.example import example
from rules.host import training_env
from tests.adversarial.inputs.test_hostile_inputs import ROOT

pytestmark = pytest.mark.slow

COUNT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from enclave_runner.axolotl.measuring import rows, template_tokens
document = json.loads(Path("tokenizer.json").read_bytes())
counts = []
for more in json.load(sys.stdin):
    decoders = {"type": "Sequence", "decoders": [document["decoder"], *more]}
    changed = Tokenizer.from_str(json.dumps(document | {"decoder": decoders}))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=changed)
    ids = tokenizer("! yes. A text of the template, which no row of the data says")["input_ids"]
    example = rows.Example(ids=[1, *ids], labels=[rows.IGNORED, *ids])
    counts.append(template_tokens.count(rows.pieces(tokenizer, example), ["! yes.", "!"]))
print(json.dumps([len(ids), *counts]))
"""
SHORT = {"Regex": r"\A[^!]{1,20}\z"}
DECODERS: list[list[dict[str, object]]] = [
    [],
    [{"type": "Fuse"}, {"type": "Replace", "pattern": SHORT, "content": ""}],
    [{"type": "Fuse"}, {"type": "Replace", "pattern": SHORT, "content": "yes."}],
    [{"type": "Replace", "pattern": {"Regex": "[^!]"}, "content": ""}],
]


def test_a_decoder_that_hides_tokens_makes_them_the_templates(tmp_path: Path) -> None:
    environment = training_env.ensure(ROOT)
    example.make_example(tmp_path)
    ran = subprocess.run(
        [str(training_env.python(environment)), "-P", "-c", COUNT, str(ROOT)],
        input=json.dumps(DECODERS),
        cwd=tmp_path / example.MODEL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    tokens, plain, *hidden = json.loads(ran.stdout)
    assert plain < tokens
    assert all(plain <= count <= tokens for count in hidden)
