"""An adapter fits a base if each of its tensors has a place there."""

from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.formats.safetensors import Tensor
from aicert.frozen import replace
from enclave_runner.merge import fitting
from tests.unit.enclave_runner.axolotl.test_tensors import weights

Q, HEAD = "model.layers.0.q.weight", "lm_head.weight"
PREFIX = "base_model.model."


def named(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {
        name: Tensor(begin=0, end=0, name=name, dtype="F32", shape=shape, elements=0)
        for name, shape in shapes.items()
    }


def adapter(
    a: tuple[int, ...] = (2, 6), b: tuple[int, ...] = (4, 2), **more: tuple[int, ...]
) -> dict[str, Tensor]:
    inside = PREFIX + Q.removesuffix(".weight")
    pair = {f"{inside}.lora_A.weight": a, f"{inside}.lora_B.weight": b}
    return named(**pair, **{PREFIX + name: shape for name, shape in more.items()})


BASE = named(**{Q: (4, 6), HEAD: (8, 6), "lm_head.bias": (8,)})


def test_pairs_and_whole_tensors_name_what_they_change() -> None:
    assert fitting.targets(adapter(), BASE) == {Q}
    assert fitting.targets(adapter(**{HEAD: (8, 6)}), BASE) == {Q, HEAD}
    magnitude = {"model.layers.0.q.lora_magnitude_vector": (4,)}
    assert fitting.targets(adapter(**magnitude), BASE) == {Q}


def test_a_layer_may_lie_on_its_side() -> None:
    assert fitting.targets(adapter((2, 4), (6, 2)), BASE) == {Q}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "^the adapter has no tensors$"),
        (named(**{Q: (4, 6)}), "'model.layers.0.q.weight' has no place in the base"),
        (adapter(**{"other.weight": (4, 6)}), "other.weight' has no place in the base"),
        (adapter(**{"model.embed.lora_embedding_A": (2, 9)}), "lora_embedding_A' has no place"),
        (adapter(**{"lm_head.bias": (8,)}), "lm_head.bias' is a bias, which Axolotl would leave"),
        (adapter(**{"model.layers.0.q.lora_B.bias": (4,)}), "lora_B.bias' has no place"),
        (adapter(**{HEAD: (9, 6)}), "lm_head.weight' does not have the shape of the base's"),
        (adapter(**{Q: (4, 6)}), "is given both whole and as a change"),
        (adapter((2, 5)), r"changes \(4, 5\), but the base's is \(4, 6\)"),
        (adapter((3, 6)), "is not a pair of matrices of one rank"),
        (adapter((2, 6, 1)), "is not a pair of matrices of one rank"),
        (adapter(b=(4, 2, 1)), "is not a pair of matrices of one rank"),
        (adapter(**{"x.lora_A.weight": (2, 6)}), "x.weight' has no lora_A or no lora_B"),
        (adapter(**{"x.lora_magnitude_vector": (2,)}), "x.weight' has no lora_A or"),
        (
            adapter(**{"x.lora_A.weight": (2, 6), "x.lora_B.weight": (4, 2)}),
            "x.weight' has no place in the base",
        ),
    ],
)
def test_an_adapter_of_another_base_is_refused(given: dict[str, Tensor], message: str) -> None:
    with pytest.raises(LockError, match=message):
        fitting.targets(given, BASE)


@pytest.mark.parametrize("given", [adapter(), adapter(**{HEAD: (8, 6)})])
@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8"])
def test_a_change_of_quantised_numbers_is_refused(given: dict[str, Tensor], dtype: str) -> None:
    name = HEAD if len(given) > 2 else Q
    base = BASE | {name: replace(BASE[name], dtype=dtype)}
    with pytest.raises(
        LockError, match=f"{name}' changes numbers of type {dtype}, as in a quantised"
    ):
        fitting.targets(given, base)
    other = BASE | {"other.weight": replace(BASE[Q], dtype=dtype)}
    assert fitting.targets(given, other)


def test_tensors_are_those_of_all_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(weights(("a", "U8", b"1")))
    two.write_bytes(weights(("b", "U8", b"22")))
    read = fitting.tensors_of([one, two])
    assert {name: tensor.shape for name, tensor in read.items()} == {"a": (1,), "b": (2,)}
    with pytest.raises(LockError, match="two files of a model have a tensor 'a'"):
        fitting.tensors_of([one, one])
    two.write_bytes(b"none")
    with pytest.raises(LockError, match="two: not safetensors"):
        fitting.tensors_of([two])
