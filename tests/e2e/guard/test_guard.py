"""The audit hook and the cut-down loaders, in the real sandbox with the real environment: code in
the trainer's place really tries each forbidden thing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aicert.formats.certificate import parse
from aicert.formats.run_report import parse as parse_report
from aicert.formats.statement import parse as parse_statement
from enclave_runner.axolotl import training
from enclave_runner.axolotl.training import VIOLATIONS
from enclave_runner.sandbox import containment
from enclave_runner.sandbox.containment import Ended, Limits, Sandbox
from enclave_runner.sandbox.interpreter import PYTHON, interpreter
from enclave_runner.sandbox.places import INPUTS, PLUGIN, REMOTE_CODE
from rules.host import hardening, training_env
from tests.e2e.conftest import StandIn

ROOT = Path(__file__).resolve().parents[3]
SURVIVED = "and it went on"

pytestmark = pytest.mark.slow


@dataclass
class Trainer:
    """Runs Python text as a module of the image, in the trainer's place."""

    folder: Path
    environment: Path
    shown: dict[str, Path] = field(default_factory=dict)
    reader: training._Reader = field(default_factory=lambda: training._Reader(None))
    lines: list[bytes] = field(default_factory=list)
    # These are the variables of a run with GPUs, although there is none.
    gpus: bool = False

    def __post_init__(self) -> None:
        shutil.copytree(ROOT / "enclave_runner/axolotl/plugin", self.plugin)
        for name in ("scratch", "scratch/home", "scratch/tmp"):
            (self.folder / name).mkdir()

    @property
    def plugin(self) -> Path:
        return self.folder / "plugin"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def run(self, text: str) -> Ended:
        (self.plugin / "tried.py").write_text(text + f"\nprint({SURVIVED!r}, flush=True)\n")
        return self.start((PYTHON, "-P", "-m", "tried"))

    def start(self, command: Sequence[str]) -> Ended:
        limits = Limits(seconds=300.0)
        variables = training.environment(limits)
        if self.gpus:
            del variables["CUDA_VISIBLE_DEVICES"]
        sandbox = Sandbox(
            read_only={**interpreter(self.environment), PLUGIN: self.plugin, **self.shown},
            scratch=self.scratch,
            environment=variables,
        )
        return containment.run(command, sandbox, limits, self.folder / "log", self._take)

    def _take(self, line: bytes) -> None:
        self.lines.append(line)
        self.reader.take(line)

    def violation(self) -> object:
        return self.reader.counters.get("violation")


@pytest.fixture(scope="module")
def environment() -> Path:
    return training_env.ensure(ROOT)


@pytest.fixture
def trainer(tmp_path: Path, environment: Path) -> Trainer:
    return Trainer(folder=tmp_path, environment=environment)


PLANTED = "open('/aicert/scratch/planted.py', 'w').write('print(1)')\n"
LIBRARY = (
    "import _ctypes, ctypes, shutil, sys\n"
    "shutil.copyfile(_ctypes.__file__, '/aicert/scratch/tried.so')\n"
)
FORKED = "import os, time\nif os.fork() == 0:\n    {}\ntime.sleep(600)"

CODE = {
    "exec of text in scratch": PLANTED + "exec(open('/aicert/scratch/planted.py').read())",
    "eval": "eval('1' + '+1')",
    "a forged file name": "import dataclasses\ncompile('1', dataclasses.__file__, 'exec')",
    "a forged module": "import dataclasses\n"
    "__name__, __file__ = 'dataclasses', dataclasses.__file__\n"
    "def _create_fn(): exec('1')\n"
    "_create_fn()",
    "a code object with the name of another": "import dataclasses\n"
    "def _create_fn(): exec('1')\n"
    "known = dataclasses._create_fn.__code__\n"
    "_create_fn.__code__ = _create_fn.__code__.replace(co_filename=known.co_filename)",
    "a module in scratch": PLANTED + "import sys; sys.path.insert(0, '/aicert/scratch')\n"
    "import planted",
    "a module with the name of one that may": "import sys, os\n"
    "open('/aicert/scratch/six.py', 'w').write('exec(\"1\")')\n"
    "sys.path.insert(0, '/aicert/scratch')\nimport six",
    "a module by its path": PLANTED + "import importlib.util as u\n"
    "s = u.spec_from_file_location('x', '/aicert/scratch/planted.py')\n"
    "s.loader.exec_module(u.module_from_spec(s))",
    "a link to a module": PLANTED + "import runpy; runpy.run_path('/aicert/scratch/planted.py')",
    "byte code": "import marshal; marshal.loads(marshal.dumps((lambda: 0).__code__))",
    "byte code from elsewhere": "import sys; sys.pycache_prefix = '/aicert/scratch'\nimport this",
    "a loader of one's own": "import importlib.machinery as m, types\n"
    "class L(m.SourceFileLoader):\n"
    "    def get_code(self, name): return (lambda: 0).__code__\n"
    "L('x', '/aicert/plugin/tried.py').exec_module(types.ModuleType('x'))",
    "a template without a sandbox": "import jinja2\n"
    "jinja2.Template.from_code(jinja2.Environment(), (lambda: 0).__code__, {})",
    "a pickle with code that nobody sent": "import dill; dill.loads(dill.dumps(lambda: 0))",
    "in a process that was forked": FORKED.format("exec('1')"),
}
FILE = {
    "open": "open('/tmp/x', 'w')",
    "appending": "open('/aicert/plugin/tried.py', 'a')",
    "os.open": "import os; os.open('/var/x', os.O_RDWR | os.O_CREAT)",
    "out of scratch": "open('/aicert/scratch/../x', 'wb')",
    "a link out of scratch": "import os; os.symlink('/aicert/x', '/aicert/scratch/x')\n"
    "open('/aicert/scratch/x', 'w')",
    "bytes": "open(b'/tmp/x', 'xb')",
    "a path": "import pathlib; pathlib.Path('/tmp/x').write_text('')",
}
LOADED = {
    "dlopen": LIBRARY + "ctypes.CDLL('/aicert/scratch/tried.so')",
    "from the working folder": LIBRARY + "ctypes.CDLL('./tried.so')",
    "through a system folder": LIBRARY + "ctypes.CDLL('/usr/lib/../../aicert/scratch/tried.so')",
    "through /proc": LIBRARY + "ctypes.CDLL('/proc/self/cwd/tried.so')",
    "an extension": LIBRARY + "import importlib.machinery as m, importlib.util as u\n"
    "l = m.ExtensionFileLoader('_ctypes', '/aicert/scratch/tried.so')\n"
    "u.module_from_spec(u.spec_from_loader('_ctypes', l))",
}
LOADER = {
    "a picture": PLANTED + "from transformers.image_utils import load_image\n"
    "load_image('/aicert/scratch/planted.py')",
    "a template that is a path": PLANTED
    + "from axolotl.utils.chat_templates.base import get_chat_template\n"
    "get_chat_template('jinja', '/aicert/plugin/../scratch/planted.py')",
}
PROCESS = {
    "subprocess": "import subprocess; subprocess.run(['/usr/bin/true'])",
    "a declared program, other words": "import subprocess; subprocess.run(['nvidia-smi', '-q'])",
    "declared words, another program": "import subprocess\n"
    "subprocess.run(['nvidia-smi', '--query-gpu=count,name', '--format=csv,noheader'],"
    " executable='/usr/bin/true')",
    "a trainer of another module": "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-u', '-m', 'axolotl.cli.main', '/aicert/config.json'])",
    "an interpreter without its site": "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-S', '-c', ''])",
    "without an event": "from multiprocessing.util import spawnv_passfds\n"
    "spawnv_passfds('/usr/bin/true', ['true'], ())",
    "a worker without its site": "import sys\n"
    "from multiprocessing.util import spawnv_passfds\n"
    "text = 'from multiprocessing.resource_tracker import main;main(1)'\n"
    "spawnv_passfds(sys.executable, [sys.executable, '-S', '-c', text], ())",
    "another interpreter": "from multiprocessing.util import spawnv_passfds\n"
    "text = 'from multiprocessing.resource_tracker import main;main(1)'\n"
    "spawnv_passfds('/usr/bin/python3', ['/usr/bin/python3', '-c', text], ())",
    "system": "import os; os.system('true')",
    "popen": "import os; os.popen('true')",
    "exec": "import os; os.execv('/usr/bin/true', ['true'])",
    "posix_spawn": "import os; os.posix_spawn('/usr/bin/true', ['true'], {})",
    "spawn": "import os; os.spawnv(os.P_NOWAIT, '/usr/bin/true', ['true'])\n"
    "import time; time.sleep(600)",
}
SOCKET = {
    "internet": "import socket; socket.socket()",
    "a name without a file": "import socket\nsocket.socket(socket.AF_UNIX).bind(chr(0) + 'aicert')",
    "a file outside of scratch": "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/x')",
    "a lookup": "import socket; socket.getaddrinfo('example.org', 80)",
}
TRIED = [
    pytest.param(kind, text, id=f"{kind}: {name}")
    for kind, cases in {
        "code": CODE, "file": FILE, "library": LOADED, "loader": LOADER, "process": PROCESS,
        "socket": SOCKET,
    }.items()
    for name, text in cases.items()
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), TRIED)
def test_the_hook_ends_the_run_with_a_reason(trainer: Trainer, kind: str, text: str) -> None:
    ended = trainer.run(text)
    assert trainer.violation() == VIOLATIONS[kind], trainer.log
    assert ended.exit_code == "signal:9"
    assert SURVIVED not in trainer.log
    assert "aicert: the audit hook stops the training" in trainer.log


@pytest.mark.parametrize("words", [("-c", "1"), ("-I", "-c", "1"), ("-E", "-c", "1"), ("-",)])
def test_an_interpreter_that_runs_a_text_is_ended(trainer: Trainer, words: Sequence[str]) -> None:
    assert trainer.start((PYTHON, *words)).exit_code == "signal:9"
    assert trainer.violation() == VIOLATIONS["interpreter"]


def test_an_interpreter_that_runs_a_file_of_scratch_is_ended(trainer: Trainer) -> None:
    (trainer.scratch / "planted.py").write_text("print(1)")
    trainer.start((PYTHON, "-I", "/aicert/scratch/planted.py"))
    assert trainer.violation() == VIOLATIONS["interpreter"]


PEACEFUL = """
import collections, ctypes.util, dataclasses, enum, json, multiprocessing, subprocess, tempfile
import typing
import jinja2.sandbox

# As CUDA's packages do when they are imported; it would start ldconfig, gcc and ld.
print(ctypes.util.find_library("dl"))

def double(n): return 2 * n

@dataclasses.dataclass
class Row:
    text: "str"

print(collections.namedtuple("Pair", "a b")(1, 2), Row("x"), typing.get_type_hints(Row))
environment = jinja2.sandbox.ImmutableSandboxedEnvironment()
print(environment.from_string("{{ 1 + 1 }}").render(), jinja2.Template("{{ 3 }}").render())
with tempfile.NamedTemporaryFile("w") as file, open("/dev/null", "w") as nothing:
    json.dump([], file)
    json.dump([], nothing)
with multiprocessing.Manager() as manager, multiprocessing.Pool(2) as pool:
    queue = manager.Queue()
    queue.put(pool.map(double, [1, 2]))
    print(queue.get())
try:
    words = ["nvidia-smi", "--query-gpu=count,name", "--format=csv,noheader"]
    subprocess.run(words, capture_output=True)
except FileNotFoundError:
    pass
"""


def test_what_a_training_does_is_let_be(trainer: Trainer) -> None:
    assert trainer.run(PEACEFUL).exit_code == "0", trainer.log
    assert trainer.violation() is None
    assert SURVIVED in trainer.log


WORKERS = """
import multiprocess, multiprocess.sharedctypes

if __name__ == "__main__":
    with multiprocess.get_context("spawn").Pool(2) as pool:
        print(pool.map(lambda n: n + 1, [1, 2]), flush=True)
"""


@pytest.mark.parametrize("library", ["multiprocess", "multiprocessing"])
def test_workers_that_are_started_are_let_be(trainer: Trainer, library: str) -> None:
    text = WORKERS.replace("multiprocess", library)
    if library == "multiprocessing":
        # multiprocessing sends functions only by name.
        text = "def more(n): return n + 1\n" + text.replace("lambda n: n + 1", "more")
    assert trainer.run(text).exit_code == "0", trainer.log
    assert trainer.violation() is None
    assert "[2, 3]" in trainer.log


def test_a_started_worker_has_the_hook_and_ends_the_run(trainer: Trainer) -> None:
    ended = trainer.run(WORKERS.replace("lambda n: n + 1", "lambda n: eval('n')"))
    assert ended.exit_code == "signal:9", trainer.log
    assert trainer.violation() == VIOLATIONS["code"]


def test_no_training_starts_without_the_hook(trainer: Trainer) -> None:
    (trainer.plugin / "aicert_guard.py").write_text("raise ValueError")
    assert trainer.run("import aicert_axolotl").exit_code == "1"
    assert "the audit hook is not installed" in trainer.log


def test_the_reason_is_in_the_certificate(stand_in: StandIn) -> None:
    checkout = stand_in("say(1, 3)\nweights()\nimport socket; socket.socket()\n")
    (packages,) = Path(checkout.environment["AICERT_CACHE"]).glob("envs/*/lib/*/site-packages")
    hook = next(edit for edit in hardening.EDITS if edit.path.endswith(".pth"))
    (packages / hook.path).write_text(hook.after)
    # venv writes this line: other packages of this Python do not belong to the environment.
    with (packages.parents[2] / "pyvenv.cfg").open("a") as settings:
        settings.write("include-system-site-packages = false\n")
    done = checkout.doit("certify")
    assert done.returncode == 1, done.stderr
    assert "aicert: the audit hook stops the training" in done.stderr
    statement = parse_statement(parse(checkout.certificate.read_bytes()).envelope.payload)
    report = parse_report(statement.report)
    assert report.exit_code == "signal:9", done.stderr
    assert report.values["auditViolation"].data == VIOLATIONS["socket"], done.stderr
    assert report.values["auditViolation"].origin == "self-reported"


LOADERS = """
import importlib, json, os, sys, zipfile
from pathlib import Path

scratch = Path("/aicert/scratch")
results = {}

def attempt(name, action):
    try:
        results[name] = f"went through: {action()!r:.200}"
    except Exception as error:
        results[name] = f"{type(error).__name__}: {error}"

import fsspec, jinja2, jinja2.sandbox
results["file systems"] = list(fsspec.available_protocols())
template = "{{ cycler.__init__.__globals__.os.open('/aicert/scratch/ran', 65) }}"
reference = {"version": 1, "templates": {"x": template}, "refs": {"a": ["{{x}}"]}}
(scratch / "reference.json").write_text(json.dumps(reference))
with zipfile.ZipFile(scratch / "archive.zip", "w") as archive:
    archive.writestr("rows.jsonl", "{}")
for url in ("reference::/aicert/scratch/reference.json", "zip://rows.jsonl::/aicert/scratch/archive.zip",
            "http://127.0.0.1/x", "hf://datasets/a/b", "memory://x", "data:,x", "gzip://x::/y",
            "dir::/aicert/scratch", "filecache::/aicert/scratch/archive.zip"):
    attempt(url, lambda: fsspec.open(url).open().read())
for module in ("fsspec.implementations.reference", "fsspec.implementations.zip", "kernels",
               "datasets.packaged_modules.imagefolder", "datasets.packaged_modules.parquet",
               "pyarrow._s3fs"):
    attempt(module, lambda: importlib.import_module(module))

attempt("unsandboxed", lambda: jinja2.Environment().from_string("{{ 1 }}").render())
attempt("no environment", lambda: jinja2.Template("{{ [].__class__.__mro__ }}").render())

import datasets
import pyarrow, pyarrow.parquet
results["caching"] = datasets.is_caching_enabled()
info = {"info": {"features": {"image": {"_type": "Image"}}}}
schema = pyarrow.schema([("image", pyarrow.struct([("path", pyarrow.string())]))],
                        metadata={"huggingface": json.dumps(info)})
rows = pyarrow.table({"image": [{"path": "/aicert/scratch/archive.zip"}]}, schema=schema)
attempt("schema of an image", lambda: datasets.Dataset(rows)[0])
image = {"path": "/aicert/scratch/archive.zip", "bytes": None}
attempt("decoding", lambda: datasets.Image().decode_example(image))
folder = scratch / "folder"
folder.mkdir()
pyarrow.parquet.write_table(rows, folder / "rows.parquet")
parquet = str(folder / "rows.parquet")
from mistral_common.protocol.instruct.chunk import ImageURLChunk
from mistral_common.tokens.tokenizers.audio import Audio
from mistral_common.tokens.tokenizers.image import image_from_chunk
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
chunk = ImageURLChunk(image_url="file:///aicert/scratch/archive.zip")
attempt("a Mistral's image", lambda: image_from_chunk(chunk))
attempt("a Mistral's sound", lambda: Audio.from_file("/aicert/scratch/archive.zip"))
attempt("a Mistral's vocabulary by its name", lambda: MistralTokenizer.v3(is_tekken=True))
attempt("parquet", lambda: datasets.load_dataset("parquet", data_files=parquet))
attempt("a folder", lambda: datasets.load_dataset(str(folder)))
attempt("unpacking", lambda: datasets.DownloadManager().extract(str(scratch / "archive.zip")))
(scratch / "rows.jsonl").write_text('{"text":"a"}\\n{"text":"b"}\\n')
features = datasets.Features({"text": datasets.Value("string")})
attempt("canonical rows", lambda: datasets.load_dataset(
    "json", data_files=str(scratch / "rows.jsonl"), features=features, split="train")["text"][:])

model = scratch / "model"
model.mkdir()
(model / "code.py").write_text("open('/aicert/scratch/ran', 'w')\\n"
    "from transformers import PretrainedConfig\\nclass C(PretrainedConfig): pass\\n")
(model / "config.json").write_text(json.dumps(
    {"model_type": "own", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.C"}}))
import transformers, transformers.dynamic_module_utils as dynamic
attempt("dynamic class", lambda: dynamic.get_class_from_dynamic_module("code.C", str(model)))
attempt("dynamic file", lambda: dynamic.get_cached_module_file(str(model), "code.py"))
attempt("dynamic module", lambda: dynamic.get_class_in_module("C", "code.py"))
attempt("trust_remote_code", lambda: transformers.AutoConfig.from_pretrained(
    str(model), trust_remote_code=True))
results["kernels in transformers"] = transformers.utils.is_kernels_available()
import evaluate
attempt("a metric", lambda: evaluate.load(str(model / "code.py")))
results["ran"] = (scratch / "ran").exists()
os.write(int(os.environ["AICERT_PROGRESS_FD"]), (json.dumps(results) + "\\n").encode())
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> dict[str, object]:
    trainer = Trainer(folder=tmp_path_factory.mktemp("loaders"), environment=environment)
    ended = trainer.run(LOADERS)
    assert ended.exit_code == "0", trainer.log[-3000:]
    return dict(json.loads(trainer.lines[-1]))


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("reference::/aicert/scratch/reference.json", "Protocol not known: reference"),
        ("zip://rows.jsonl::/aicert/scratch/archive.zip", "Protocol not known: zip"),
        ("http://127.0.0.1/x", "Protocol not known: http"),
        ("hf://datasets/a/b", "Protocol not known: hf"),
        ("memory://x", "Protocol not known: memory"),
        ("data:,x", "Protocol not known: data"),
        ("gzip://x::/y", "Protocol not known: gzip"),
        ("dir::/aicert/scratch", "Protocol not known: dir"),
        ("filecache::/aicert/scratch/archive.zip", "Protocol not known: filecache"),
        ("fsspec.implementations.reference", "ModuleNotFoundError"),
        ("fsspec.implementations.zip", "ModuleNotFoundError"),
        ("kernels", "ModuleNotFoundError"),
        ("datasets.packaged_modules.imagefolder", "ModuleNotFoundError"),
        ("datasets.packaged_modules.parquet", "ModuleNotFoundError"),
        ("pyarrow._s3fs", "ModuleNotFoundError"),
        ("unsandboxed", "only a sandboxed environment compiles templates"),
        ("no environment", "SecurityError"),
        ("schema of an image", "Feature type 'Image' not found"),
        ("decoding", "rows hold no images"),
        ("a Mistral's image", "rows hold no images"),
        ("a Mistral's sound", "rows hold no images"),
        ("a Mistral's vocabulary by its name", "tekken_240718.json"),
        ("parquet", "Error"),
        ("a folder", "Error"),
        ("unpacking", "the machine unpacks nothing"),
        ("canonical rows", "went through: ['a', 'b']"),
        ("dynamic class", "the machine runs no code"),
        ("dynamic file", "the machine runs no code"),
        ("dynamic module", "the machine runs no code"),
        ("trust_remote_code", "trust_remote_code"),
        ("a metric", "the machine runs no code"),
    ],
)
def test_a_loader_that_was_cut_down(tried: dict[str, object], name: str, outcome: str) -> None:
    assert outcome in str(tried[name])
    assert str(tried[name]).startswith("went through") == (name == "canonical rows")


def test_only_local_files_and_no_caches_are_left(tried: dict[str, object]) -> None:
    assert tried["file systems"] == ["file", "local"]
    assert tried["caching"] is False
    assert tried["kernels in transformers"] is False
    assert tried["ran"] is False


OWN_CONFIG = """from transformers import PretrainedConfig
class OwnConfig(PretrainedConfig):
    model_type = "own"
"""
OWN_MODEL = """import torch
from transformers import PreTrainedModel
from .configuration_own import OwnConfig
class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(2, 2)
        self.post_init()
open("/aicert/scratch/ran", "w")
"""
OWN_JSON = {
    "model_type": "own",
    "auto_map": {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnModel",
    },
}
LOAD = f"""
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.from_pretrained("{INPUTS}/model", trust_remote_code=True)
model = AutoModelForCausalLM.from_config(config, trust_remote_code=True)
assert type(model).__name__ == "OwnModel"
model.save_pretrained("/aicert/scratch/saved")
"""


@pytest.fixture
def own_code(trainer: Trainer) -> Trainer:
    """Return a trainer that sees a model with code of its own, and may run that code."""
    model = trainer.folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(OWN_JSON))
    digests = []
    for name, text in (("configuration_own.py", OWN_CONFIG), ("modeling_own.py", OWN_MODEL)):
        (model / name).write_text(text)
        digests.append(hashlib.sha256(text.encode()).hexdigest())
    admitted = trainer.folder / "remote-code"
    admitted.write_text("".join(f"{digest}\n" for digest in digests))
    trainer.shown = {f"{INPUTS}/model": model, REMOTE_CODE: admitted}
    return trainer


def test_code_of_an_input_runs_where_its_digest_is_admitted(own_code: Trainer) -> None:
    ended = own_code.run(LOAD)
    assert ended.exit_code == "0", own_code.log[-3000:]
    assert (own_code.scratch / "ran").exists()
    saved = own_code.scratch / "saved"
    assert (saved / "modeling_own.py").read_text() == OWN_MODEL
    assert list(saved.glob("*.safetensors"))


def test_other_code_beside_it_ends_the_run(own_code: Trainer) -> None:
    model = own_code.shown[f"{INPUTS}/model"] / "modeling_own.py"
    model.write_text(OWN_MODEL + "# another byte\n")
    own_code.run(LOAD)
    assert own_code.violation() == VIOLATIONS["code"]
    assert not (own_code.scratch / "ran").exists()


def test_code_that_a_run_wrote_itself_ends_it_though_others_is_admitted(own_code: Trainer) -> None:
    own_code.run(
        "import os, sys\n"
        "folder = '/aicert/scratch/home/huggingface/modules'\n"
        "os.makedirs(folder)\n"
        "open(folder + '/planted.py', 'w').write('print(1)')\n"
        "sys.path.append(folder)\n"
        "import planted\n"
    )
    assert own_code.violation() == VIOLATIONS["code"]


def test_code_of_an_input_stays_refused_without_the_file(own_code: Trainer) -> None:
    del own_code.shown[REMOTE_CODE]
    ended = own_code.run(LOAD)
    assert ended.exit_code != "0"
    assert own_code.violation() is None
    assert not (own_code.scratch / "ran").exists()
