"""The schemes of quantisation that are checked: what of a model they change, and into what.

They are presets of compressed-tensors 0.19.0 (`quantization/quant_scheme.py`) for linear layers:
whole numbers, with a scale for each row or for each group of 128 numbers in a row, and 0 in the
middle.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

GROUP = 128
WEIGHT, PACKED, SCALE, SHAPE = "weight", "weight_packed", "weight_scale", "weight_shape"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """One scheme.

    `bits`: of each number. `group`: how many numbers of a row share a scale, None if all do.
    `activations`: whether whoever runs the model rounds layers' inputs to 8 bits, too.
    """

    bits: int
    group: int | None = None
    activations: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensors that stand for a layer's `weight`: its numbers first."""
        return (WEIGHT, SCALE) if self.group is None else (PACKED, SCALE, SHAPE)

    def config(self, ignore: Collection[str]) -> dict[str, object]:
        """Return the `quantization_config` of a model that leaves out the layers `ignore`."""
        form = "int-quantized" if self.group is None else "pack-quantized"
        weights = _arguments(
            bits=self.bits,
            strategy="channel" if self.group is None else "group",
            group_size=self.group,
            observer="memoryless_minmax",
        )
        tokens = _arguments(bits=8, strategy="token", dynamic=True) if self.activations else None
        group = {
            "format": form,
            "input_activations": tokens,
            "output_activations": None,
            "targets": ["Linear"],
            "weights": weights,
        }
        return {
            "config_groups": {"group_0": group},
            "format": form,
            "global_compression_ratio": None,
            "ignore": sorted(ignore),
            "kv_cache_scheme": None,
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
            "sparsity_config": {},
            "transform_config": {},
            "version": "0.19.0",
        }


def _arguments(
    *,
    bits: int,
    strategy: str,
    group_size: int | None = None,
    observer: str | None = None,
    dynamic: bool = False,
) -> dict[str, object]:
    return {
        "actorder": None,
        "block_structure": None,
        "dynamic": dynamic,
        "group_size": group_size,
        "num_bits": bits,
        "observer": observer,
        "observer_kwargs": {},
        "scale_dtype": None,
        "strategy": strategy,
        "symmetric": True,
        "type": "int",
        "zp_dtype": None,
    }


SCHEMES: Mapping[str, Scheme] = {
    "W4A16": Scheme(bits=4, group=GROUP),
    "W8A16": Scheme(bits=8, group=GROUP),
    "W8A8": Scheme(bits=8, activations=True),
}
