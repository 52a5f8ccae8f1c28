"""Programs in the sandbox import nothing from the runner, and use the same paths."""

import ast
from pathlib import Path

import pytest

from enclave_runner.sandbox import places

AXOLOTL = Path(places.__file__).parents[1] / "axolotl"


@pytest.mark.parametrize(
    ("program", "named"),
    [
        (
            "plugin/aicert_guard.py",
            {
                "SCRATCH": places.SCRATCH,
                "PLUGIN": places.PLUGIN,
                "CODE": places.CODE,
                "TOOLS": places.TOOLS,
                "REMOTE_CODE": places.REMOTE_CODE,
            },
        ),
        (
            "measuring/__main__.py",
            {
                "JOB": places.JOB,
                "SAMPLE": places.SAMPLE,
                "OUTPUT": places.TRAINED,
                "SCRATCH": places.SCRATCH,
            },
        ),
    ],
)
def test_programs_in_the_sandbox_know_where_things_are(program: str, named: dict[str, str]) -> None:
    tree = ast.parse((AXOLOTL / program).read_bytes())
    constants = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            texts = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            constants[node.targets[0].id] = texts
    assert {name: constants[name] for name in named} == {n: [place] for n, place in named.items()}


def test_places_that_are_written_out_are_places_of_ours() -> None:
    known = {value for name, value in vars(places).items() if name.isupper()}
    for path in [*AXOLOTL.glob("plugin/*.py"), *AXOLOTL.glob("measuring/*.py")]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                assert not text.startswith("/aicert/") or text in known, path
