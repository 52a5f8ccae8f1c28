"""Refuse keys that contradict each other about the kind of training.

By these keys the run report says why no loss per token was measured, and whether the trainer's own
losses are losses per token. But Axolotl takes a plugin's trainer, or another model class, whatever
these keys say: a language model could be trained, and the report would call it a reward model. The
functions here are pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from enclave_runner.axolotl.config_rules import ConfigRefused
from enclave_runner.axolotl.plugins import DIFFUSION

# For each key, the ending of the names of classes that such a training uses.
_CLASSES: Mapping[str, str] = {
    "reward_model": "ForSequenceClassification",
    "process_reward_model": "ForTokenClassification",
}
# Axolotl has two keys for the class of the model.
_CLASS_KEYS = ("type_of_model", "model_type")
_NOT_BESIDE_DIFFUSION = (*_CLASSES, "rl")


def check(settings: Mapping[str, object]) -> None:
    """Raise ConfigRefused if keys of a resolved config contradict each other."""
    for key, ending in _CLASSES.items():
        for name in _CLASS_KEYS if settings.get(key) else ():
            value = settings.get(name)
            if value and not str(value).endswith(ending):
                raise ConfigRefused(
                    name,
                    f"{str(value)[:80]!r} is not a class for `{key}`, which would be ignored",
                    hint=f"remove `{name}`, or use AutoModel{ending}",
                )
    for key in _NOT_BESIDE_DIFFUSION if is_diffusion(settings) else ():
        if settings.get(key):
            raise ConfigRefused(
                key, f"the plugin {DIFFUSION} has its own trainer, which would ignore it",
                hint=f"remove `{key}`, or the plugin",
            )  # fmt: skip
    ebft = settings.get("ebft")
    if settings.get("rl") == "ebft" and isinstance(ebft, Mapping):
        _check_ebft(ebft)


def _check_ebft(ebft: Mapping[object, object]) -> None:
    """Refuse `ebft` settings that give the rows more weight than generated text.

    With only the loss on rows, this would be an ordinary training whose loss is not measured.
    """
    by_rows, by_generated = ebft.get("ce_coef", 0.0), ebft.get("rl_coef", 1.0)
    if not by_rows:
        return
    numbers = isinstance(by_rows, int | float) and isinstance(by_generated, int | float)
    if not numbers or not 0 < by_rows <= by_generated:  # type: ignore[operator]  # numbers
        raise ConfigRefused(
            "ebft.ce_coef",
            f"{str(by_rows)[:80]!r} gives the rows more weight than generated text (`rl_coef`), "
            "but no loss on the rows would be measured",
            hint="remove `ce_coef`, or make it no larger than `rl_coef`",
        )


def is_diffusion(settings: Mapping[str, object]) -> bool:
    """Return whether the config trains by diffusion, so that losses are those of masked tokens."""
    plugins = settings.get("plugins")
    return isinstance(plugins, list) and DIFFUSION in plugins
