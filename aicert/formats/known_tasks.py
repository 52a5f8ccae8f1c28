"""The tasks that the image carries, each with what it asks: the closed list of known names.

A task is named by its digest, and a name that people compare by is shown only for a digest that
follows from this list (docs/spec/known-tasks.md). The machine reads the rows from the image and not
from an input, so a run report may name them here.
"""

from collections.abc import Mapping
from typing import Final

from aicert.formats.digest import Digest
from aicert.formats.run_report_facts import Records
from aicert.frozen import dataclass

SPLIT: Final = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTask:
    """A task of the image: what decides its prompts and scores, and its rows.

    `measures`: each metric that it has, and on what text ("none": all of it).
    """

    definition: Mapping[str, object]
    rows: Records
    measures: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Its name, which its rows have too."""
        return self.rows.name

    @property
    def kind(self) -> str:
        """The harness's output type."""
        return str(self.definition["output_type"])


def _metric(name: str) -> dict[str, object]:
    return {"aggregation": "mean", "higher_is_better": True, "metric": name}


def _task(
    name: str,
    rows: tuple[int, int, str],
    asked: Mapping[str, object],
    measure: tuple[str, str],
) -> KnownTask:
    """Add what all of them share: no examples, and delimiters that are the harness's own.

    `rows`: their number, bytes and SHA-256.
    """
    number, size, digest = rows
    return KnownTask(
        definition={
            "description": "",
            "fewshot_delimiter": "\n\n",
            "fewshot_split": SPLIT,
            "metric_list": [_metric(measure[0])],
            "num_fewshot": 0,
            "target_delimiter": " ",
            "test_split": SPLIT,
            **asked,
        },
        rows=Records(
            name=name,
            split=SPLIT,
            rows=number,
            bytes=size,
            unread_bytes=0,
            digest=Digest("sha256", digest),
            files=(),
        ),
        measures=(measure,),
    )


_QUESTION: Final = "Question: {{question}}\nAnswer:"
KNOWN: Final = (
    _task(
        "aicert-addition",
        (120, 9268, "5c9cde01a64d5ee29ae712188c9a2252d19b302d14a7b961a703f73a9032c411"),
        {
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "doc_to_text": _QUESTION,
            "output_type": "multiple_choice",
        },
        ("acc", "none"),
    ),
    _task(
        "aicert-copy",
        (100, 3587, "31f3eaefa9de53f368fe6f753f09da990e4ac1d876273e8f918434134705ee96"),
        {
            "doc_to_target": "{{words}}",
            "doc_to_text": "Copy the words.\nWords: {{words}}\nCopy:",
            "filter_list": [
                {
                    "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}],
                    "name": "line",
                }
            ],
            "generation_kwargs": {
                "do_sample": False,
                "max_gen_toks": 48,
                "temperature": 0.0,
                "until": ["\n"],
            },
            "output_type": "generate_until",
        },
        ("exact_match", "line"),
    ),
    _task(
        "aicert-weekdays",
        (98, 6020, "770d6cfc1106a4fc5a578741a17c7b20079eeb0ed1c85a4c4bafbf1ded765443"),
        {
            "doc_to_choice": [
                "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
            ],
            "doc_to_target": "answer",
            "doc_to_text": _QUESTION,
            "output_type": "multiple_choice",
        },
        ("acc", "none"),
    ),
)  # fmt: skip
NAMES: Final = tuple(task.name for task in KNOWN)
# For each trainer what a run report may say about rows that are no input's.
ROWS_OF_IMAGE: Final[Mapping[str, frozenset[Records]]] = {
    "lm-eval": frozenset(task.rows for task in KNOWN)
}
