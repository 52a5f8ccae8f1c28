"""Triton's kernels under the audit hook, in the real sandbox: compiled for GPUs that are not here.

No kernel is started, because there is no GPU. The code that starts kernels is built as far as that
is possible without one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from enclave_runner.axolotl.training import VIOLATIONS
from rules.image import trees
from tests.e2e.guard.test_guard import ROOT, SURVIVED, Trainer, environment, trainer

__all__ = ["environment", "trainer"]
pytestmark = pytest.mark.slow

# One of Axolotl's own kernels, for LoRA on a GPU.
COMPILED = """
from axolotl.kernels.swiglu import _swiglu_fwd_kernel as kernel
from triton import compile as build
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

types = {name: "*bf16" for name in ("gate_ptr", "up_ptr", "out_ptr")}
types |= {"n_elements": "i32", "block_size": "constexpr"}
for arch in (80, 90, 100):
    target = GPUTarget("cuda", arch, 32)
    source = ASTSource(fn=kernel, signature=types, constexprs={"block_size": 1024})
    made = build(source, target=target).asm["cubin"]
    assert made.startswith(b"\\x7fELF"), made[:4]
    create_function_from_signature(kernel.signature, kernel.params, make_backend(target))
print("compiled")
"""
PTXAS = (
    "import subprocess, sys\n"
    "folder = sys.prefix + '/lib/python3.11/site-packages/triton/backends/nvidia/bin/'\n"
    "ptxas, source = folder + 'ptxas', '/aicert/scratch/tmp/x.ptx'\n"
    "words = ['-lineinfo', '-v', '--regAllocOptLevel=2', '--gpu-name=sm_90a']\n"
)
FORBIDDEN = {
    "an option that Triton does not use": "words.insert(0, '--options-file=/aicert/inputs/x')",
    "a kernel from outside of scratch": "source = '/aicert/inputs/x.ptx'",
    "a kernel by a way out of scratch": "source = '/aicert/scratch/../inputs/x.ptx'",
    "another kind of code": "words[-1] = '--gpu-name=compute_90'",
    "another program of Triton's": "ptxas = folder + 'cuobjdump'",
    "a program of that name": "ptxas = '/aicert/scratch/ptxas'",
}


def test_kernels_are_compiled_where_the_run_has_a_gpu(trainer: Trainer) -> None:
    trainer.gpus = True
    ended = trainer.run(COMPILED)
    assert ended.exit_code == "0", trainer.log[-3000:]
    assert "compiled" in trainer.log
    assert trainer.violation() is None


def test_no_assembler_runs_where_the_run_has_none(trainer: Trainer) -> None:
    trainer.run(COMPILED)
    assert trainer.violation() == VIOLATIONS["process"]


@pytest.mark.parametrize("change", FORBIDDEN.values(), ids=FORBIDDEN)
@pytest.mark.parametrize("kept", [True, False], ids=["fork_exec", "posix_spawn"])
def test_the_assembler_gets_what_triton_tells_it_and_no_more(
    trainer: Trainer, change: str, kept: bool
) -> None:
    trainer.gpus = True
    trainer.run(
        f"{PTXAS}{change}\n"
        f"subprocess.run([ptxas, *words, source, '-o', source + '.o'], close_fds={kept})"
    )
    assert trainer.violation() == VIOLATIONS["process"]
    assert SURVIVED not in trainer.log


def test_the_edits_of_the_image_with_gpus_fit_the_locked_triton(
    environment: Path, tmp_path: Path
) -> None:
    """Run the edits of the image's script on a copy. The image's build compiles the result."""
    (edit,) = re.findall(
        r'^python3 - "\$triton/driver\.py" <<\'END\'\n(.*?)^END\n',
        (ROOT / trees.KERNELS).read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    (driver,) = environment.glob("lib/python*/site-packages/triton/backends/nvidia/driver.py")
    copy = tmp_path / "driver.py"
    copy.write_bytes(driver.read_bytes())
    for expected in (0, 1):
        done = subprocess.run([sys.executable, "-c", edit, copy], capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
    assert "holds 0 times what is to be edited once" in done.stderr
    text = copy.read_text(encoding="utf-8")
    compile(text, str(copy), "exec")
    assert "check_output(" not in text
    assert "compile_module_from_file(" not in text
