"""The real runner evaluates on a task of docs/spec/lm-eval.md: the same bytes twice, and the same
numbers as the harness by itself. A template that reaches for code ends the evaluation, and so does
a tokenizer that does not keep the texts whose likelihood is asked for. A model that says nothing is
not right by luck.
"""

import json
import math
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from aicert.formats import evaluated_tasks, known_tasks
from enclave_runner.evaluate.evaluation import Evaluated
from enclave_runner.lm_eval import harness
from enclave_runner.mergekit.stored import opened
from rules.example import example
from rules.host import tool_envs, training_env
from tests.e2e.conftest import REPOSITORY, Checkout
from tests.e2e.training.test_evaluate import evaluated as run_child
from tests.e2e.training.test_evaluate import replace_in_texts, results, verified

pytestmark = pytest.mark.slow

PAGE = (REPOSITORY / "docs/spec/lm-eval.md").read_text(encoding="utf-8")
(RUN,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
CONFIG, TASK = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
# The harness by itself. It renders templates in an environment that the training environment's
# Jinja refuses; everything else is its own.
BY_THE_HARNESS = """
import json, sys
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from lm_eval import evaluator, utils
from lm_eval.tasks import TaskManager
utils.env = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
folder, model, output = sys.argv[1:]
measured = evaluator.simple_evaluate(
    model="hf", model_args={"pretrained": model}, tasks=["local_mc"], num_fewshot=2,
    batch_size=1, device="cpu", task_manager=TaskManager(include_path=folder),
    random_seed=1234, numpy_random_seed=1234, torch_random_seed=1234, fewshot_random_seed=1234,
)
json.dump(measured["results"]["local_mc"], open(output, "w"))
"""
WORDS = ["ferry", "gate", "oak", "harbour", "lamp", "stone", "river", "bread", "cloud", "wheel"]


def questions(path: Path) -> None:
    """Write 20 questions with four answers each."""
    rows = [
        {
            "question": f"Which of these stands at place {index}?",
            "choices": [
                " ".join([WORDS[(3 * index + number) % 10]] * (1 + (index + number) % 3))
                for number in range(4)
            ],
            "answer": index * index % 4,
        }
        for index in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_page_is_evaluated_twice_and_by_the_harness_with_equal_numbers(
    checkout: Checkout, tmp_path: Path
) -> None:
    root, mine = checkout.root, checkout.root / "mine"
    mine.mkdir()
    (mine / "questions.yml").write_text(CONFIG)
    (mine / "local_mc.yaml").write_text(TASK)
    questions(mine / "questions.jsonl")
    with (root / "aicert.toml").open("a") as file:
        file.write(f"\n{RUN}".replace("[runs.questions]", "[runs.questions]\ndefault = false"))
    for command in ("lock", "certify"):
        done = checkout.doit(command, "questions")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED    results of an evaluation, not a model (software" in done.stdout
    whole = evaluated_tasks.parse(results(checkout, "questions").read_bytes())
    again = checkout.doit("reproduce", "questions")
    assert again.returncode == 0, again.stdout + again.stderr

    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "local_mc.yaml").write_text(
        TASK.replace("input:questions", str(mine / "questions.jsonl"))
    )
    tools = tool_envs.ensure_shown(REPOSITORY, "lm-eval") / "lm-eval"
    python = training_env.python(training_env.location(REPOSITORY))
    output = tmp_path / "harness.json"
    done = subprocess.run(
        [python, "-P", "-c", BY_THE_HARNESS, tasks, root / "examples/tiny-llama", output],
        env={
            "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1", "PATH": os.defpath, "PYTHONPATH": str(tools),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = json.loads(output.read_text())
    task, *of_image = whole.tasks
    assert (task.samples, task.shots) == (20, 2)
    for one, own in zip(of_image, known_tasks.KNOWN[:1], strict=True):
        assert evaluated_tasks.known(whole, one) == own
        assert (one.digest, one.samples) == (evaluated_tasks.known_digest(own), own.rows.rows)
    for metric in task.metrics:
        assert metric.value == theirs[f"{metric.name},none"]
        assert metric.stderr == theirs[f"{metric.name}_stderr,none"]

    evidence = tmp_path / "evidence/questions"
    evidence.mkdir(parents=True)
    certificate = root / "certificates/questions/certificate.json"
    shutil.copy(certificate, evidence)
    shutil.copy(results(checkout, "questions"), evidence)
    shown = verified(
        checkout, certificate, results(checkout, "questions").parent, "--evidence",
        evidence.parent, "--format=json",
    )  # fmt: skip
    (one,) = json.loads(shown.stdout)["evidence"]["evaluations"]
    assert one["tasks"][0]["task"] == str(task.digest)


def evaluated(folder: Path, config: str, names: dict[str, Path]) -> Evaluated:
    """Run the child in the trainer's sandbox, below `folder`, as the machine does."""
    tools = tool_envs.ensure_shown(REPOSITORY, "lm-eval") / "lm-eval"
    return run_child(folder, harness.EVALUATION, config, names, tools)


def test_a_template_that_reaches_for_code_ends_the_evaluation(tmp_path: Path) -> None:
    example.make_example(tmp_path)
    questions(tmp_path / "questions.jsonl")
    reaching = TASK.replace("{{question}}", "{{question.__class__.__mro__[1].__subclasses__()}}")
    (tmp_path / "task.yaml").write_text(reaching)
    done = evaluated(
        tmp_path,
        CONFIG,
        {
            "model": tmp_path / example.MODEL,
            "local-mc": tmp_path / "task.yaml",
            "questions": tmp_path / "questions.jsonl",
        },
    )
    assert done.data is None
    assert done.result.exit_code == "1"
    log = done.result.log.read_text()
    assert "SecurityError: access to attribute '__class__' of 'str' object is unsafe" in log


LIKELIHOOD = """
task: {kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: input:questions}}}}
output_type: {kind}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[0]}}}} , or n't ."
"""


@pytest.mark.parametrize(
    ("pattern", "content", "kinds"),
    [
        pytest.param("[\\s\\S]", "a", ["loglikelihood_rolling"], id="one letter"),
        # Of an answer, only the last letters would be in the tokens that are scored.
        pytest.param("\\z", "?????", ["loglikelihood"], id="more at the end"),
        pytest.param("no such text", "", ["loglikelihood", "loglikelihood_rolling"], id="honest"),
    ],
)
def test_texts_that_the_tokenizer_does_not_keep_have_no_likelihood(
    tmp_path: Path, pattern: str, content: str, kinds: list[str]
) -> None:
    example.make_example(tmp_path)
    questions(tmp_path / "questions.jsonl")
    (tmp_path / "tasks").mkdir()
    for kind in kinds:
        (tmp_path / f"tasks/{kind}.yaml").write_text(LIKELIHOOD.format(kind=kind))
    replace_in_texts(tmp_path / example.MODEL, pattern, content)
    # As in Llama 3's: what it decodes lacks spaces that the text has.
    settings = tmp_path / example.MODEL / "tokenizer_config.json"
    settings.chmod(0o644)
    whole = json.loads(settings.read_bytes()) | {"clean_up_tokenization_spaces": True}
    settings.write_text(json.dumps(whole))
    done = evaluated(
        tmp_path,
        json.dumps(
            {"base_model": "input:model", "tasks": [f"input:tasks/{kind}.yaml" for kind in kinds]}
        ),
        {
            "model": tmp_path / example.MODEL,
            "questions": tmp_path / "questions.jsonl",
            "tasks": tmp_path / "tasks",
        },
    )
    is_refused = "the tokenizer does not keep the texts" in done.result.log.read_text()
    is_honest = len(kinds) > 1
    assert (is_refused, done.data is None) == (not is_honest, not is_honest)


LISTED_FIRST = """
task: first
dataset_path: json
dataset_kwargs: {data_files: {test: input:questions}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: [a, b, c]
doc_to_target: 0
"""


@pytest.mark.parametrize("number", [0.0, math.nan])
def test_a_model_that_tells_no_answers_apart_is_never_right(tmp_path: Path, number: float) -> None:
    example.make_example(tmp_path)
    questions(tmp_path / "questions.jsonl")
    (tmp_path / "task.yaml").write_text(LISTED_FIRST)
    file = tmp_path / example.MODEL / "model.safetensors"
    with opened([file]) as tensors:
        head = tensors["lm_head.weight"]
    data = bytearray(file.read_bytes())
    size = 4 * head.tensor.elements
    data[head.begin : head.begin + size] = struct.pack("<f", number) * head.tensor.elements
    file.chmod(0o644)
    file.write_bytes(data)
    done = evaluated(
        tmp_path,
        "base_model: input:model\ntasks: [input:task]\n",
        {
            "model": tmp_path / example.MODEL,
            "questions": tmp_path / "questions.jsonl",
            "task": tmp_path / "task.yaml",
        },
    )
    if number == 0:
        assert done.data is not None
        (task,) = evaluated_tasks.parse(done.data).tasks
        assert [metric.value for metric in task.metrics] == [0.0, 0.0]
    else:
        assert done.data is None
        assert "the likelihood nan" in done.result.log.read_text()
