"""The program that evaluates, in the trainer's sandbox, with lm-evaluation-harness.

Its arguments are a job and the folder for the results. The job is JSON: the effective config's
values, and for each task its definition and the files of its rows.
"""

import gc
import json
import math
import os
import random
import sys
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

MEASURED = "measured.json"
# The harness draws samples again and again for the errors of metrics that are no means. Those are
# not reported, and two are the fewest that it can draw.
_DRAWS = 2
_SCHEMA = "schema.json"
# By which share a likelihood is lowered: more than divisions by lengths round.
_LESS = 1e-9
# The kinds of tasks whose numbers say how likely a text is. What a tokenizer drops costs nothing.
_OF_TEXTS = ("loglikelihood", "loglikelihood_rolling")


def main(job: str, output: str) -> int:
    """Evaluate, and write what was measured into `output`; return 1 if nothing was."""
    try:
        measured = evaluate(json.loads(Path(job).read_bytes()))
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was measured
        traceback.print_exc()
        return 1
    (Path(output) / MEASURED).write_text(json.dumps(measured, allow_nan=False), encoding="ascii")
    return 0


def evaluate(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each task how many rows were evaluated, and the metrics over them."""
    # Imports make no garbage that is worth looking for.
    gc.disable()
    os.environ["DISABLE_MULTIPROC"] = "1"
    import numpy
    import torch

    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    gc.enable()
    confine_templates()
    seed = job["seed"]
    random.seed(seed)
    numpy.random.seed(seed)  # what the harness itself does
    torch.manual_seed(seed)
    model = HFLM(
        pretrained=job["model"],
        peft=job["adapter"],
        batch_size=job["batchSize"],
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    tasks = {each["name"]: _task(each, seed) for each in job["tasks"]}
    of_texts = [each["name"] for each in job["tasks"] if _is_of_texts(each)]
    evaluated = evaluator.evaluate(
        lm=model,
        task_dict={"groups": {}, "tasks": tasks},
        limit=job["limit"],
        bootstrap_iters=_DRAWS,
        log_samples=False,
        apply_chat_template=job["chatTemplate"],
        fewshot_as_multiturn=job["chatTemplate"],
    )
    for name in of_texts:
        _check_scored(model, tasks[name])
    return [_measured(evaluated, name, tasks[name]) for name in tasks]


def _is_of_texts(each: dict[str, Any]) -> bool:
    return each["definition"]["output_type"] in _OF_TEXTS


def _check_scored(model: Any, task: Any) -> None:
    """Raise ValueError if the model's tokenizer dropped or replaced a text that is scored.

    A tokenizer is a model's own file, and may turn each text into one that is likely, or into none:
    then any model has the best perplexity. From the tokens that were scored the text must come
    back.
    """
    from enclave_runner.axolotl.measuring.kept_texts import check_scored

    for request in task.instances:
        *before, text = request.args
        if before and before[0]:
            _, tokens = model._encode_pair(before[0], text)  # noqa: SLF001  # what was scored
        elif before:
            tokens = model.tok_encode(text, add_special_tokens=False)
            # The harness takes such a token for the beginning, and does not score it.
            tokens = tokens[tokens[:1] == [model.prefix_token_id] :]
        else:
            tokens = model.tok_encode(text)
        check_scored(model.tokenizer, text, tokens, f"of task {task.config.task}")


def confine_templates() -> None:
    """Make the harness render templates in Jinja's sandbox, which it does not do by itself."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from lm_eval import utils

    environment = ImmutableSandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["regex_replace"] = utils.regex_replace
    utils.env = environment


def _task(each: dict[str, Any], seed: int) -> Any:
    from lm_eval.api.task import ConfigurableTask

    class Strict(ConfigurableTask):  # type: ignore[misc]  # the harness has no types here
        """Takes no answer for right of which the model's numbers do not say that."""

        def process_results(self, doc: Any, results: list[Any]) -> Any:
            if self.OUTPUT_TYPE != "generate_until":
                check_finite(results)
            if self.OUTPUT_TYPE == "multiple_choice":
                of_right = self.doc_to_text if self.multiple_input else self.doc_to_target
                results = without_luck(results, self.doc_to_choice(doc), of_right(doc))
            return super().process_results(doc, results)

    rows = {split: _rows(files) for split, files in each["rows"].items()}

    def dataset(**_: object) -> dict[str, Any]:
        return rows

    config = {**each["definition"], "custom_dataset": dataset, "task": each["name"]}
    task = Strict(config=config)
    task.set_fewshot_seed(seed)
    return task


def check_finite(results: Sequence[Any]) -> None:
    """Raise ValueError for a likelihood that is infinite or no number.

    The harness would take the first choice then, which is the right one in some tasks.
    """
    for result in results:
        number = result[0] if isinstance(result, tuple) else result
        if not math.isfinite(number):
            raise ValueError(f"the model gives a text the likelihood {number}")


def without_luck(
    results: Sequence[tuple[float, bool]],
    choices: Sequence[str],
    right: int | str | Collection[int],
) -> list[tuple[float, bool]]:
    """Return likelihoods of choices in which a right one that is as likely as a wrong one loses.

    The harness takes the first of equal ones. A model that tells no choices apart would be right
    wherever a task lists the right one first.
    """
    if isinstance(right, str):
        right = [index for index, choice in enumerate(choices) if choice == right]
    indexes = {right} if isinstance(right, int) else set(right)
    texts = {choice for index, choice in enumerate(choices) if index in indexes}
    wrong = {
        number for (number, _), choice in zip(results, choices, strict=True) if choice not in texts
    }
    return [
        (
            number - _LESS * max(1.0, abs(number)) if number in wrong and at in indexes else number,
            is_greedy,
        )
        for at, (number, is_greedy) in enumerate(results)
    ]


def _rows(files: list[str]) -> Any:
    """Read canonical rows, with the types of their schema."""
    import aicert_rows
    import datasets
    import pyarrow

    folder = Path(files[0]).parents[1]
    schema = aicert_rows.arrow_schema(json.loads((folder / _SCHEMA).read_bytes()))
    tables = [table for path in files for table in aicert_rows.read_tables(path, schema)]
    return datasets.Dataset(pyarrow.concat_tables(tables))


def _measured(evaluated: dict[str, Any], name: str, task: Any) -> dict[str, Any]:
    from lm_eval.api.metrics import mean

    own = evaluated["results"][name]
    metrics = []
    for key, value in own.items():
        metric, comma, pipeline = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        error = own.get(f"{metric}_stderr,{pipeline}", "N/A")
        is_mean = task.aggregation()[metric] is mean
        metrics.append(
            {
                "filter": pipeline,
                "name": metric,
                "value": float(value),
                **({} if error == "N/A" or not is_mean else {"stderr": float(error)}),
            }
        )
    return {"metrics": metrics, "samples": own["sample_len"]}


if __name__ == "__main__":
    code = main(*sys.argv[1:3])
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
