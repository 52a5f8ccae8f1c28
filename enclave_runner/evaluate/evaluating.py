"""Evaluate in the machine: make rows, run the child that measures, check its numbers.

The child's libraries parse files that anybody may have written, so its numbers are read as hostile:
they must account for each row that the runner itself counted. The runner writes what the results
are about.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from aicert.formats import evaluation, strict_json
from aicert.formats.digest import Digest
from aicert.formats.evaluation import Results, Weights
from aicert.formats.strict_json import Fields
from enclave_runner.axolotl import report, token_columns
from enclave_runner.axolotl.config import InputView
from enclave_runner.axolotl.job import Job
from enclave_runner.evaluate import child, settings
from enclave_runner.evaluate import evaluation as trainer
from enclave_runner.evaluate.evaluation import Evaluation, Prepared, Subject, numbers_in
from enclave_runner.evaluate.settings import Settings
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.rows import Room
from enclave_runner.sandbox.places import CODE, CONFIG, JOB, OUTPUT

_MEASURING = "enclave_runner/axolotl/measuring"
_MAX_BYTES = 1 << 12


def views(measured: Sequence[MeasuredInput]) -> dict[str, InputView]:
    """Return the inputs that the config can name."""
    return {
        item.name: InputView(
            is_file=item.is_file, files=frozenset(path for path in item.files if path)
        )
        for item in measured
    }


def read(data: bytes, measured: Sequence[MeasuredInput]) -> Settings:
    """Read the config. Raises ConfigError."""
    return settings.read(data, views(measured))


def prepare(
    asked: Settings, measured: Sequence[MeasuredInput], room: Room, folder: Path
) -> Prepared[Settings]:
    """Refuse what cannot be evaluated, and prepare the rest for the child.

    Cleaned copies of models' JSON files are written below `folder`.
    """
    effective = asked.effective
    prepared = trainer.prepare(
        asked, effective.references, effective.selections, measured, measured, room, folder
    )
    token_columns.check(effective.config, prepared.rows.columns)
    settings.check_records(prepared.rows.records)
    templates = effective.show_templates(folder.with_name(f"{folder.name}-templates"))
    return replace(prepared, shown={**prepared.shown, **templates})


def _job(prepared: Prepared[Settings], scratch: Path) -> Job:
    config, job = (
        scratch.with_name(f"{scratch.name}-{name}.json") for name in ("config", "evaluation")
    )
    config.write_bytes(prepared.asked.effective.config)
    job.write_bytes(strict_json.dumps(_data(prepared)))
    measuring = Path(child.__file__).parents[2] / _MEASURING
    return Job(
        program=child,
        arguments=(CONFIG, JOB, OUTPUT),
        shown={f"{CODE}/{_MEASURING}": measuring, CONFIG: config, JOB: job, **prepared.shown},
        copied=prepared.rows.copied,
    )


def _data(prepared: Prepared[Settings]) -> list[dict[str, object]]:
    """Return where the child finds the rows of each data set of the config, in its order."""
    entries = strict_json.loads(prepared.asked.effective.config, what="config", max_bytes=1 << 24)
    data: list[dict[str, object]] = []
    for index, entry in enumerate(entries[settings.ROWS]):  # type: ignore[index]  # it is a mapping
        place, split = entry["path"], entry["split"]
        name = re.compile(rf"{re.escape(split)}-[0-9]+-of-[0-9]+\.jsonl")
        names = sorted(path.name for path in (prepared.shown[place] / "data").iterdir())
        files = [f"{place}/data/{each}" for each in names if name.fullmatch(each)]
        data.append({"files": files, "index": index})
    return data


def _results(
    prepared: Prepared[Settings], measured: Sequence[MeasuredInput], output: Path
) -> bytes:
    """Read the child's numbers and make the results.

    Raises EvidenceError if the numbers cannot come from these rows.
    """
    asked = prepared.asked
    fields = Fields(numbers_in(output, child.MEASURED, _MAX_BYTES), "numbers")
    digests = {item.name: item.digest for item in measured}
    adapter = asked.adapter
    results = Results(
        base=weights_of(asked.base, digests),
        adapter=None if adapter is None else weights_of(adapter, digests),
        config=Digest.parse(asked.effective.digest),
        data=evaluation.reads(prepared.rows.records),
        loss=float(fields.number("loss")),
        rows=fields.integer("rows", low=1),
        left_out=fields.integer("leftOut"),
        tokens=fields.integer("tokens", low=1),
        template_tokens=fields.integer("templateTokens"),
        seed=asked.seed,
        sequence_length=asked.sequence_length,
    )
    fields.done()
    evaluation.check(results)
    return evaluation.emit(results)


def weights_of(reference: Reference, digests: Mapping[str, Digest]) -> Weights:
    """Return the weights that results name, by the digests of the inputs."""
    return Weights(input=reference.name, digest=digests[reference.name], inside=reference.inside)


def _subject(asked: Settings) -> Subject:
    effective = asked.effective
    return Subject(
        base=asked.base,
        adapter=asked.adapter,
        references=effective.references,
        config=effective.config,
        digest=effective.digest,
        overrides=report.overrides(effective),
    )


EVALUATION: Final = Evaluation(
    what=settings.TRAINER,
    read=read,
    prepare=prepare,
    job=_job,
    results=_results,
    subject=_subject,
)
