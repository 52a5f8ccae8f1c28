"""Refusals that audits, merges and evaluations share."""

import pytest

from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.frozen import replace
from enclave_runner.inputs.shared_refusals import (
    require_all_named,
    require_known_keys,
    require_plain_run,
)

MODEL = LockedInput(
    name="model",
    source="path:model",
    uri="path:model",
    size=1,
    digest=Digest("dirHash", "ab" * 32),
)
PLAIN = Lockfile(run="r", trainer="audit", outputs=("results",), inputs=(MODEL,))


@pytest.mark.parametrize(
    ("lockfile", "message"),
    [
        (replace(PLAIN, outputs=("a", "b")), "^a merge makes exactly one output$"),
        (replace(PLAIN, ranks=2), "^a merge is a single process$"),
        (
            replace(PLAIN, inputs=(replace(MODEL, allow_pickle=True),)),
            "^a merge does not run inputs' code: pickle of model$",
        ),
        (
            replace(PLAIN, inputs=(replace(MODEL, allow_remote_code=True),)),
            "^a merge does not run inputs' code: remote-code of model$",
        ),
    ],
)
def test_a_plain_run_has_one_output_one_process_and_no_code_of_inputs(
    lockfile: Lockfile, message: str
) -> None:
    require_plain_run("a merge", PLAIN)
    with pytest.raises(ConfigError, match=message):
        require_plain_run("a merge", lockfile)


def test_the_config_names_every_input_but_itself() -> None:
    require_all_named("a merge", {"a", "b"}, {"a", "b", "config"})
    with pytest.raises(ConfigError) as refusal:
        require_all_named("a merge", {"a"}, {"a", "rows", "config", "more"})
    assert refusal.value.message == (
        "a merge reads only what its config names, but the run has other inputs: more, rows"
    )


def test_an_unknown_key_is_refused_and_a_near_one_suggested() -> None:
    require_known_keys("a merge", ["base"], {"base", "adapter"}, "see the docs")
    for key, hint in (("bases", "did you mean `base`?"), (7, "see the docs")):
        with pytest.raises(ConfigError, match=f"^config: '{key}': a merge has no such key") as got:
            require_known_keys("a merge", [key], {"base", "adapter"}, "see the docs")
        assert got.value.hint == hint
