"""`aicert.toml`: strict, with the key, the file and the nearest valid name in every error."""

import subprocess
from pathlib import Path

import pytest

from aicert.errors import ConfigError
from rules.project import config

GOOD = """
[runs.tiny]
config = "path:tiny.yml"
machine = "here"
outputs = ["model"]
[runs.tiny.inputs]
model = "path:base"
data = {from = "path:data", allow-pickle = true}
[machines.here]
driver = "local"
memory = "6 GiB"
time-limit = "30 min"
"""


AUTHORITY = '[time-authority]\nurl = "%s"\n[machines.here]'

LOG = '[log]\nfolder = "l"\n%s\n[machines.here]'
WITNESS = LOG % '[[log.witnesses]]\nurl = "%s"\nkey = "%s"'
WITNESS_KEY = "witness.example/w1+7e136b5c+BAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def load(tmp_path: Path, text: str) -> config.Project:
    (tmp_path / "aicert.toml").write_text(text)
    return config.load(tmp_path)


def test_a_run_has_its_config_among_its_inputs_sorted_by_name(tmp_path: Path) -> None:
    run = load(tmp_path, GOOD).run("tiny")
    assert [item.name for item in run.inputs] == ["config", "data", "model"]
    assert [item.allow_pickle for item in run.inputs] == [False, True, False]
    assert (run.machine.memory, run.machine.time_limit) == (6 << 30, 1800)


def test_a_run_that_says_so_has_the_log(tmp_path: Path) -> None:
    text = GOOD.replace("[machines.here]", WITNESS % ("https://w", WITNESS_KEY))
    assert load(tmp_path, text).run("tiny").log is None
    text = text.replace('machine = "here"', 'machine = "here"\nlog = true')
    log = load(tmp_path, text).run("tiny").log
    assert log is not None
    assert (log.folder, log.key) == (tmp_path / "l", tmp_path / "l.key")
    assert [(one.url, one.key) for one in log.witnesses] == [("https://w", WITNESS_KEY)]
    text = text.replace('folder = "l"', 'folder = "/l"\nkey = "../k"')
    log = load(tmp_path, text).run("tiny").log
    assert log is not None
    assert (log.folder, log.key) == (Path("/l"), tmp_path / "../k")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("machine =", "machin =", "unknown key runs.tiny.machin, did you mean 'machine'?"),
        ("[runs.tiny", "[runs.image-gpu", "image-gpu.lock.toml is the lock"),
        ('machine = "here"', 'machine = "her"', "did you mean 'here'"),
        ("memory =", "memroy =", "unknown key machines.here.memroy, did you mean 'memory'?"),
        ("[machines.here]", "[machine.here]", "unknown key machine, did you mean 'machines'?"),
        ("[machines.here]", AUTHORITY % "ftp://tsa", "not an http or https URL: 'ftp://tsa'"),
        ("[machines.here]", AUTHORITY % "http://t\\n", "time-authority.url is not an http"),
        ("[machines.here]", AUTHORITY.replace("url", "uri"), "unknown key time-authority.uri"),
        ("[machines.here]", "[time-authority]\n[machines.here]", "authority.url is missing"),
        ("\n[runs.tiny]", "time-authority = 1\n[runs.tiny]", "time-authority is not a table"),
        (
            'machine = "here"',
            'machine = "here"\nlog = true',
            "tiny.log is true, but no log is defined",
        ),
        ('machine = "here"', 'machine = "here"\nlog = "log"', "runs.tiny.log"),
        ("[machines.here]", "[log]\n[machines.here]", "log.folder is missing"),
        ("[machines.here]", LOG % "origin = 1", "unknown key log.origin"),
        ("[machines.here]", LOG % "witnesses = [1]", "log.witnesses must be a list of tables"),
        ("[machines.here]", WITNESS % ("w", WITNESS_KEY), "log.witnesses.url is not an http"),
        ("[machines.here]", WITNESS % ("http://w", "w"), "witnesses.key: a verifier key is not"),
        ('config = "path:tiny.yml"', 'confg = "path:tiny.yml"', "did you mean 'config'?"),
        ("6 GiB", "6 GB", "machines.here.memory is '6 GB'"),
        ("30 min", "0 min", "machines.here.time-limit"),
        ('driver = "local"', 'driver = "aws"', "not one of local"),
        ('driver = "local"', 'driver = "azure"', "machines.here.region is missing"),
        ('driver = "local"', 'driver = "local"\nregion = "westeurope"', "is for driver azure"),
        ('driver = "local"', 'driver = "local"\ngpu = true', "gpu is for measured machines"),
        ('driver = "local"', 'driver = "azure"\nregion = "West Europe"', "like 'westeurope'"),
        (
            'driver = "local"',
            'driver = "azure"\nregion = "westeurope"\nsize = "D8"',
            "like 'Standard_D8s_v5'",
        ),
        (
            'driver = "local"',
            'driver = "azure"\nregion = "w10"\nsize = "Standard_D8"\nhourly-price = true',
            "hourly-price is not a price",
        ),
        ("[runs.tiny]", "[runs.Tiny]", "has the name 'Tiny'"),
        ("[runs.tiny", "[runs.image", "image.lock.toml is the lock of a machine's image"),
        ('["model"]', "[]", "outputs must be one name"),
        ('["model"]', '["a", "b"]', "outputs must be one name"),
        ("path:base", "path:/etc", "outside the repository"),
        ("path:base", "path:../up", "outside the repository"),
        ("path:base", "path:a/../b", "plain relative path"),
        ("path:base", "path:.", "plain relative path"),
        ("path:base", "hg:org/name@main", "an unknown scheme"),
        ("path:base", "mine/base", "has no scheme, did you mean 'path:mine/base'?"),
        (
            "path:base",
            "hf:org/name",
            "inputs.model: source 'hf:org/name' has no revision",
        ),
        ("path:base", "run:tinny/model", "there is no run 'tinny', did you mean 'tiny'?"),
        ("path:base", "run:tiny/modell", "no output 'modell', did you mean 'model'?"),
        ("path:base", "run:tiny/model", "use each other's outputs in a cycle: tiny -> tiny"),
        ("allow-pickle = true", "only = 3", "runs.tiny.inputs.data.only is not a list"),
        ("allow-pickle = true", "except = [3]", "is not a list of file patterns"),
        ("model = ", "config = ", "is not a valid input name"),
        ("allow-pickle = true", "allow-remote-code = 1", "remote-code is not true or false"),
        ("allow-pickle = true", "allow-pickle = 1", "allow-pickle is not true or false"),
        ("allow-pickle = true", "alow-pickle = true", "did you mean 'allow-pickle'?"),
        ("[machines.here]", "[runs.tiny]\n[machines.here]", "is not TOML"),
        ('"path:tiny.yml"', "3", "runs.tiny.config is not a string"),
        ('outputs = ["model"]', 'outputs = ["model"]\nranks = 0', "ranks must be at least 1"),
        ('outputs = ["model"]', 'outputs = ["model"]\nranks = 65', "ranks must be at most 64"),
        ('outputs = ["model"]', 'outputs = ["model"]\ndefault = 1', "tiny.default is not true or"),
        (
            '"local"',
            '"qemu"\nscratch = "4 GiB"',
            "machines.here.scratch is more than half of the memory",
        ),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(old, new))
    assert words in caught.value.message
    assert "aicert.toml" in caught.value.message
    assert caught.value.hint, "not how the command is used, which each command would say"


def test_unknown_runs_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        load(tmp_path, GOOD).run("tinny")


def test_commands_mean_the_named_runs_or_the_default_ones(tmp_path: Path) -> None:
    other = GOOD.split("[machines", maxsplit=1)[0].replace("runs.tiny", "runs.big")
    text = GOOD + other.replace('["model"]', '["model"]\ndefault = false')
    project = load(tmp_path, text)

    def chosen(*names: str, everything: bool = False) -> list[str]:
        return [run.name for run in project.chosen(names, everything=everything)]

    assert chosen() == ["tiny"]
    assert chosen("big") == ["big"]
    assert chosen(everything=True) == ["tiny", "big"]
    with pytest.raises(ConfigError, match="--all"):
        chosen("big", everything=True)
    alone = load(tmp_path, GOOD.replace('["model"]', '["model"]\ndefault = false'))
    with pytest.raises(ConfigError, match="default = false"):
        alone.chosen([])


def test_a_measured_machine_has_its_scratch_in_memory(tmp_path: Path) -> None:
    machine = load(tmp_path, GOOD.replace('"local"', '"qemu"')).machine("here")
    assert machine.scratch == machine.memory // 2
    with pytest.raises(ConfigError, match="did you mean 'here'"):
        load(tmp_path, GOOD).machine("her")


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        config.load(tmp_path)
    with pytest.raises(ConfigError, match="does not define a run"):
        load(tmp_path, "")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "aicert.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        config.load(tmp_path)


def test_patterns_and_chains(tmp_path: Path) -> None:
    text = GOOD.replace("allow-pickle = true", 'only = ["*.jsonl"], except = ["x*"]')
    text += (
        GOOD.split("[machines", maxsplit=1)[0]
        .replace("runs.tiny", "runs.next")
        .replace("path:base", "run:tiny/model")
    )
    project = load(tmp_path, text)
    data = project.run("tiny").inputs[1]
    assert (data.only, data.except_) == (("*.jsonl",), ("x*",))
    assert project.run("next").inputs[2].source == "run:tiny/model"


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf[machines.here]\ndriver = 'local'\n"
    (tmp_path / "aicert.toml").write_bytes(data)
    with pytest.raises(ConfigError, match="begins with a byte order mark") as refused:
        config.load(tmp_path)
    assert refused.value.hint is not None
    subprocess.run(["sh", "-c", refused.value.hint], cwd=tmp_path, check=True)
    assert (tmp_path / "aicert.toml").read_bytes() == data[3:]


def test_code_of_an_input_runs_in_one_process(tmp_path: Path) -> None:
    text = GOOD.replace("allow-pickle", "allow-remote-code")
    locked = {item.name: item.allow_remote_code for item in load(tmp_path, text).run("tiny").inputs}
    assert locked == {"config": False, "data": True, "model": False}
    ranks = text.replace('["model"]\n', '["model"]\nranks = 2\n')
    with pytest.raises(ConfigError, match="an input's code needs one process, but ranks is 2"):
        load(tmp_path, ranks)
