"""The trainers that this machine can run. Each is fixed in the image; a lockfile only names one."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from aicert.errors import ConfigError
from aicert.formats import machine_io
from aicert.formats.lockfile import Lockfile
from enclave_runner import fine_tune
from enclave_runner.audit import auditing
from enclave_runner.axolotl import training
from enclave_runner.evaluate import evaluating, evaluation
from enclave_runner.evaluate.evaluation import Evaluation
from enclave_runner.gguf import converting
from enclave_runner.inputs import measure
from enclave_runner.inputs.shared_refusals import require_plain_run
from enclave_runner.llmcompressor import quantising
from enclave_runner.lm_eval import harness
from enclave_runner.merge import derivation
from enclave_runner.merge import merging as adapters
from enclave_runner.merge.derivation import Derivation, DerivedModel
from enclave_runner.mergekit import merging as models
from enclave_runner.outputs import Ran, Run


def _audit(run: Run) -> Ran:
    """Audit rows. The output is the results; there is no model."""
    require_plain_run("an audit", run.lockfile)
    inputs = {item.name: item for item in run.measured}
    asked = auditing.read_config(run.config, inputs)
    run.events.send(machine_io.READING)
    audited = auditing.run(
        asked, inputs, run.room, run.scratch, lambda: run.events.send(machine_io.AUDITING)
    )
    files = run.take_results(audited.results)
    return run.ended(files, auditing.report(audited, inputs), audited.log)


def _derive(trainer: Derivation[derivation.S, derivation.P], run: Run) -> Ran:
    """Make a model of models. The output is that model; nothing is trained."""
    require_plain_run(trainer.what, run.lockfile)
    asked = trainer.read(run.config, measure.folders(run.measured))
    prepared = trainer.prepare(asked, run.measured, run.beside("models"))
    read = trainer.rows(prepared, run.measured, run.room)
    run.events.send(trainer.event)
    result = trainer.run(prepared, run.room, run.scratch, run.tools, read)
    seed = run.draw_seed()
    run.events.send(machine_io.MEASURING)
    files = training.collect(result, run.output)
    output = DerivedModel(folder=run.output, files=files, seed=seed)
    # The check comes before the signature: if this is not what was asked for, there is no model.
    report = trainer.report_of(prepared, result, run.measured, output, read)
    return run.ended(files, report, result.log)


def _evaluate(trainer: Evaluation[evaluation.S], run: Run) -> Ran:
    """Evaluate a model. The output is the results; there is no model."""
    require_plain_run(trainer.what, run.lockfile)
    asked = trainer.read(run.config, run.measured)
    run.events.send(machine_io.READING)
    prepared = trainer.prepare(asked, run.measured, run.room, run.beside("models"))
    run.events.send(machine_io.EVALUATING)
    evaluated = trainer.run(
        prepared, run.measured, run.room, run.scratch, run.tools, run.arguments.gpu
    )
    report = trainer.report_of(prepared, evaluated, run.measured, run.arguments.training_env)
    return run.ended(run.take_results(evaluated.data), report, evaluated.result.log)


# The verifier knows each by name.
TRAINERS: Final[Mapping[str, Callable[[Run], Ran]]] = {
    "audit": _audit,
    "axolotl": fine_tune.train,
    "axolotl-evaluate": partial(_evaluate, evaluating.EVALUATION),
    "axolotl-merge": partial(_derive, adapters.MERGE),
    "convert-hf-to-gguf": partial(_derive, converting.CONVERSION),
    "llmcompressor": partial(_derive, quantising.QUANTISATION),
    "lm-eval": partial(_evaluate, harness.EVALUATION),
    "mergekit": partial(_derive, models.MERGE),
}


def trainer_of(lockfile: Lockfile) -> Callable[[Run], Ran]:
    """Return the trainer that a lockfile names. Raises ConfigError."""
    if lockfile.trainer not in TRAINERS:
        raise ConfigError(f"this machine has no trainer named {lockfile.trainer}")
    if lockfile.audits and lockfile.trainer != "axolotl":
        raise ConfigError(f"a run of trainer {lockfile.trainer} reads no rows that audits could")
    return TRAINERS[lockfile.trainer]
