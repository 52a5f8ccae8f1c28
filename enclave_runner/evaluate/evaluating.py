"""Evaluate in the machine: make rows, run the child that measures, check its numbers.

The child's libraries parse files that anybody may have written, so its numbers are read as hostile:
they must account for each row that the runner itself counted. The runner writes what the results
are about.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aicert.formats import evaluation, strict_json
from aicert.formats.digest import Digest
from aicert.formats.evaluation import Results, Weights
from aicert.formats.run_report import Override, RunReport, Value
from aicert.formats.strict_json import Fields
from enclave_runner.axolotl import report, texts, token_columns
from enclave_runner.axolotl.config import InputView
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.evaluate import child, settings
from enclave_runner.evaluate.evaluation import Evaluated, Evaluation, numbers_in
from enclave_runner.evaluate.settings import Settings
from enclave_runner.inputs import model_files, reportable, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.sandbox.places import CODE, CONFIG, INPUTS, JOB, OUTPUT

BASE_INPUT, ADAPTER_INPUT = "baseInput", "adapterInput"
_MEASURING = "enclave_runner/axolotl/measuring"
_MAX_BYTES = 1 << 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """An evaluation that passed every check.

    `shown`: everything that the child will see, place → file or folder. `weights`: the places of
    all model files. `removed`: keys that were removed from their JSON.
    """

    settings: Settings
    rows: Rows
    shown: Mapping[str, Path]
    weights: tuple[str, ...]
    removed: tuple[str, ...]


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
) -> Prepared:
    """Refuse what cannot be evaluated, and prepare the rest for the child.

    Cleaned copies of models' JSON files are written below `folder`.
    """
    effective = asked.effective
    models = model_files.prepare(
        effective.references,
        measured,
        frozenset(),
        folder,
        model_types=axolotl_keys().model_types,
    )
    read = rows.prepare(effective.selections, {item.name: item for item in measured}, room)
    token_columns.check(effective.config, read.columns)
    reportable.check_reportable(read.records, models.removed)
    settings.check_records(read.records)
    shown = {f"{INPUTS}/{place}": path for place, path in models.shown.items()}
    shown |= effective.show_templates(folder.with_name(f"{folder.name}-templates"))
    return Prepared(
        settings=asked,
        rows=read,
        shown={**shown, **read.shown},
        weights=tuple(models.shown),
        removed=models.removed,
    )


def _job(prepared: Prepared, scratch: Path) -> Job:
    config, job = (
        scratch.with_name(f"{scratch.name}-{name}.json") for name in ("config", "evaluation")
    )
    config.write_bytes(prepared.settings.effective.config)
    job.write_bytes(strict_json.dumps(_data(prepared)))
    measuring = Path(child.__file__).parents[2] / _MEASURING
    return Job(
        program=child,
        arguments=(CONFIG, JOB, OUTPUT),
        shown={f"{CODE}/{_MEASURING}": measuring, CONFIG: config, JOB: job, **prepared.shown},
        copied=prepared.rows.copied,
    )


def _data(prepared: Prepared) -> list[dict[str, object]]:
    """Return where the child finds the rows of each data set of the config, in its order."""
    entries = strict_json.loads(
        prepared.settings.effective.config, what="config", max_bytes=1 << 24
    )
    data: list[dict[str, object]] = []
    for index, entry in enumerate(entries[settings.ROWS]):  # type: ignore[index]  # it is a mapping
        place, split = entry["path"], entry["split"]
        name = re.compile(rf"{re.escape(split)}-[0-9]+-of-[0-9]+\.jsonl")
        names = sorted(path.name for path in (prepared.shown[place] / "data").iterdir())
        files = [f"{place}/data/{each}" for each in names if name.fullmatch(each)]
        data.append({"files": files, "index": index})
    return data


def _results(prepared: Prepared, measured: Sequence[MeasuredInput], output: Path) -> bytes:
    """Read the child's numbers and make the results.

    Raises EvidenceError if the numbers cannot come from these rows.
    """
    asked = prepared.settings
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


def report_of(
    prepared: Prepared,
    evaluated: Evaluated,
    measured: list[MeasuredInput],
    training_env: Path,
) -> RunReport:
    """Build the run report of an evaluation."""
    asked, result = prepared.settings, evaluated.result
    effective = asked.effective
    values = {
        "effectiveConfig": Value("measured", effective.digest),
        "readingCpuSeconds": Value("measured", round(prepared.rows.cpu_seconds, 3)),
        **report.of_weights(prepared.weights),
        **values_of(asked.base, asked.adapter, evaluated, measured),
    }
    named = texts.read_texts(
        effective.config,
        effective.references,
        {item.name: item for item in measured},
        training_env,
        prepared.shown,
    )
    return RunReport(
        exit_code=result.exit_code,
        values=values,
        overrides=tuple(
            Override(
                key=each.key,
                configured=report.text(each.configured),
                used=report.text(each.used),
                why=each.why,
            )
            for each in effective.overrides
        ),
        records=prepared.rows.records,
        removed=prepared.removed,
        texts=texts.named(named),
    )


def values_of(
    base: Reference,
    adapter: Reference | None,
    evaluated: Evaluated,
    measured: list[MeasuredInput],
) -> dict[str, Value]:
    """Return the values that are reported of every evaluation, whatever it evaluates on."""
    result = evaluated.result
    values = {
        BASE_INPUT: Value("measured", base.named),
        # The output is results, not a model, so it has no weights to look into.
        **report.common(result, measured, {}, result.output),
        "outputBytes": Value("measured", len(evaluated.data or b"")),
    }
    if adapter is not None:
        values[ADAPTER_INPUT] = Value("measured", adapter.named)
    if "violation" in result.self_reported:
        values["auditViolation"] = Value("self-reported", str(result.self_reported["violation"]))
    return values


EVALUATION: Final = Evaluation(
    what=settings.TRAINER,
    read=read,
    prepare=prepare,
    job=_job,
    results=_results,
    report_of=report_of,
)
