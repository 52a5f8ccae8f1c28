"""Decide which of Axolotl's own plugins a config may name, and what happens to each.

A plugin's name imports code: only those of the locked Axolotl are known here, each in one of three
tables, and any other name is refused. Plugins that run appear with their full names in the
effective config. Plugins that only save time or memory, or report elsewhere, are dropped with the
keys that they add, and recorded; one of these, which needs kernels for a GPU, runs if the machine
has them. The functions here are pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from enclave_runner.axolotl.config_rules import LEAVES, ConfigRefused
from enclave_runner.axolotl.known_keys import axolotl_keys

_OWN = "axolotl.integrations."
DIFFUSION = f"{_OWN}diffusion.DiffusionPlugin"
SPECTRUM = f"{_OWN}spectrum.SpectrumPlugin"
_SPECTRUM_MODEL = "spectrum_model_name"

# These are pure Python in the environment, and run unchanged.
RUN = frozenset((DIFFUSION, f"{_OWN}grokfast.GrokfastPlugin", SPECTRUM))
# Triton compiles Liger's kernels for the GPU that is there (docs/adr/0043-kernels.md). Cut cross
# entropy needs a fork that is only in a git repository, and locks hold only what package indexes
# have.
_SAME = "the same sums in less time and memory, "
_ON_GPU = _SAME + "through kernels for a GPU that only the GPU image has"
_FORK = _SAME + "through a fork that no package index has"
LIGER = f"{_OWN}liger.LigerPlugin"
DROPPED: Mapping[str, str] = {
    f"{_OWN}cut_cross_entropy.CutCrossEntropyPlugin": _FORK,
    LIGER: _ON_GPU,
    f"{_OWN}swanlab.SwanLabPlugin": LEAVES,
}
# The plugins in `DROPPED` that run if the machine has kernels, and which of their keys are dropped
# even then.
WITH_KERNELS: Mapping[str, Mapping[str, str]] = {
    LIGER: {
        "liger_kernel_impl": (
            _SAME + "through kernels of packages that the training environment does not have"
        ),
    },
}
KERNELS = f"{_OWN}kernels.KernelsPlugin"
_UNUSED = "the config asks for none of its kernels"
_LACKS = "it needs the package {}, which the training environment does not have"
REFUSED: Mapping[str, str] = {
    f"{_OWN}densemixer.DenseMixerPlugin": _LACKS.format("densemixer"),
    f"{_OWN}expert_parallel.ExpertParallelPlugin": _LACKS.format("deep_ep"),
    f"{_OWN}hatchery.HatcheryPlugin": "it trains on a service, but training has no network",
    f"{_OWN}kd.KDPlugin": "a teacher's probabilities are not rows that the runner can read",
    KERNELS: "it loads some kernels from a hub, but training has no network",
    f"{_OWN}llm_compressor.LLMCompressorPlugin": _LACKS.format("llmcompressor"),
    f"{_OWN}lm_eval.LMEvalPlugin": "it starts another program",
    f"{_OWN}mora.MoraPlugin": "it needs another version of peft than the training environment's",
    f"{_OWN}nemo_gym.NemoGymPlugin": "it asks servers, but training has no network",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugins:
    """The decision about a config's `plugins`.

    `run`: full names of the plugins that run. `models`: the models whose keys the plugins add to
    the first level. `dropped`: keys that are dropped → why. `dropped_plugins`: name → why.
    """

    run: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    dropped_plugins: Mapping[str, str] = field(default_factory=dict)


def read(document: Mapping[object, object], *, kernels: bool = False) -> Plugins:
    """Decide about the plugins of a config. Raises ConfigRefused.

    `kernels`: whether the machine has a GPU and can compile kernels for it.
    """
    named = document.get("plugins") or []
    if not isinstance(named, list):
        raise ConfigRefused("plugins", "must be a list")
    run: list[str] = []
    models: list[str] = []
    dropped: dict[str, str] = {}
    dropped_plugins: dict[str, str] = {}
    keys = axolotl_keys()
    for index, each in enumerate(named):
        name = _whole(each, f"plugins[{index}]")
        model = keys.plugins.get(name)
        unused = name == KERNELS and not any(document.get(key) for key in keys.models[model or ""])
        if name in REFUSED and not unused:
            raise ConfigRefused(
                f"plugins[{index}]", f"{name}: {REFUSED[name]}", hint=f"remove `{each}`"
            )
        why = _UNUSED if unused else DROPPED.get(name)
        if why is None or (kernels and name in WITH_KERNELS):
            dropped |= WITH_KERNELS.get(name, {})
            run += [name] if name not in run else []
        else:
            dropped_plugins[name] = why
            dropped |= dict.fromkeys(keys.models[model] if model else (), why)
        models += [model] if model else []
    plugins = Plugins(
        run=tuple(run), models=tuple(models), dropped=dropped, dropped_plugins=dropped_plugins
    )
    _check_spectrum(plugins, document)
    return plugins


def adding(key: str) -> str | None:
    """Return the accepted plugin that adds a key; None if there is none."""
    keys = axolotl_keys()
    for name, model in keys.plugins.items():
        if model is not None and key in keys.models[model] and name not in REFUSED:
            return name
    return None


def _whole(named: object, place: str) -> str:
    """Return a plugin's full name: Axolotl adds the name of its package if that is missing."""
    text = str(named)
    known = {*RUN, *DROPPED, *REFUSED}
    name = next((each for each in (text, _OWN + text) if each in known), None)
    if name is None:
        close = difflib.get_close_matches(text, sorted(RUN | DROPPED.keys()), n=1, cutoff=0.6)
        raise ConfigRefused(
            place,
            f"{text[:80]!r} is not one of Axolotl's own plugins: it would import code by name, "
            "but only the measured image's code may run",
            hint=f"did you mean `{close[0]}`?" if close else f"remove `{text[:80]}`",
        )
    return name


def _check_spectrum(plugins: Plugins, document: Mapping[object, object]) -> None:
    """Refuse Spectrum for a model without measurements in Axolotl: it would ask the network."""
    if SPECTRUM not in plugins.run:
        return
    models = axolotl_keys().spectrum_models
    named = document.get(_SPECTRUM_MODEL)
    if str(named).replace("/", "-").replace("_", "-") not in models:
        raise ConfigRefused(
            _SPECTRUM_MODEL,
            f"Axolotl holds no measurements for {str(named)[:80]!r}, and training has no network",
            hint=f"one of: {', '.join(models)}",
        )
