"""The schemes of quantisation that are checked: what of a model they change, and into what.

They are presets of compressed-tensors 0.19.0 (`quantization/quant_scheme.py`) for linear layers:
whole numbers, or floating ones of 8 bits (E4M3), with a scale for each row or for each group of 128
numbers in a row, and 0 in the middle.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

GROUP = 128
WEIGHT, PACKED, SCALE, SHAPE = "weight", "weight_packed", "weight_scale", "weight_shape"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """One scheme.

    `bits`: of each number. `floating`: whether they are E4M3 and not whole. `group`: how many
    numbers of a row share a scale, None if all do. `activations`: whether whoever runs the model
    rounds layers' inputs to 8 bits, too.
    """

    bits: int
    floating: bool = False
    group: int | None = None
    activations: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensors that stand for a layer's `weight`: its numbers first."""
        return (WEIGHT, SCALE) if self.group is None else (PACKED, SCALE, SHAPE)

    @property
    def _kind(self) -> str:
        return "float" if self.floating else "int"

    def config(self, ignore: Collection[str], order: str | None = None) -> dict[str, object]:
        """Return the `quantization_config` of a model that leaves out the layers `ignore`.

        `order`: the one in which numbers of a row were rounded, if that was one by one.
        """
        form = "pack-quantized" if self.group else f"{self._kind}-quantized"
        weights = _arguments(
            bits=self.bits,
            kind=self._kind,
            strategy="channel" if self.group is None else "group",
            group_size=self.group,
            observer="memoryless_minmax",
            order=order,
        )
        tokens = (
            _arguments(bits=8, kind=self._kind, strategy="token", dynamic=True)
            if self.activations
            else None
        )
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
    kind: str,
    strategy: str,
    group_size: int | None = None,
    observer: str | None = None,
    order: str | None = None,
    dynamic: bool = False,
) -> dict[str, object]:
    return {
        "actorder": order,
        "block_structure": None,
        "dynamic": dynamic,
        "group_size": group_size,
        "num_bits": bits,
        "observer": observer,
        "observer_kwargs": {},
        "scale_dtype": None,
        "strategy": strategy,
        "symmetric": True,
        "type": kind,
        "zp_dtype": None,
    }


SCHEMES: Mapping[str, Scheme] = {
    "FP8_DYNAMIC": Scheme(bits=8, floating=True, activations=True),
    "W4A16": Scheme(bits=4, group=GROUP),
    "W8A16": Scheme(bits=8, group=GROUP),
    "W8A8": Scheme(bits=8, activations=True),
}
