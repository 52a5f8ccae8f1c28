"""Start `transformers serve` in the engine's sandbox without what it does not need.

`python engine_start.py MODEL PORT`. It is the server of `transformers serve` with the same settings
as that command. Nearly all of the time to its first answer goes into imports, which an emulated
machine does twenty times slower. So it begins with them, before the folder MODEL exists, and then
waits for that. They run without garbage collection, which finds next to nothing in them, and
without what is of use only elsewhere: optional packages for GPUs, a terminal and connections to
others, tensors that are spread over processes, and torch's compiler. This program imports nothing
from the runner.
"""

import contextlib
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
import types
from collections.abc import Callable
from typing import Any

_POLL_S = 0.05
# Modules of the server, of its protocol, and of what loads a model.
_LAZY = (
    "transformers.cli.serving.server",
    "transformers.cli.serving.chat_completion",
    "transformers.cli.serving.completion",
    "transformers.cli.serving.transcription",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.tokenization_utils_tokenizers",
    "transformers.video_processing_utils",
    "sympy",
    "torch.fx.experimental.symbolic_shapes",
    "multiprocessing.synchronize",
    "pydantic.v1",
    "uvicorn.protocols.http.h11_impl",
)
# For kernels of GPUs, for openai's own client, and for colours.
_UNUSED = ("triton", "aiohttp", "rich")


def main(arguments: list[str]) -> int:
    """Serve until ended."""
    model, port = arguments
    gc.disable()
    for name in _UNUSED:
        # The import system takes this for a package that is not installed.
        sys.modules[name] = None  # type: ignore[assignment]  # as documented for `sys.modules`
    _import_transformers()
    import uvicorn
    from transformers.cli.serve import Serve

    _import_what_is_lazy()
    while not os.path.isdir(model):
        time.sleep(_POLL_S)

    run = uvicorn.Server.run

    def collecting(server: Any, *arguments: Any) -> None:
        """Collect garbage from here on. The model is loaded, and what there is by now stays."""
        gc.freeze()
        gc.enable()
        run(server, *arguments)

    uvicorn.Server.run = collecting
    Serve(
        model, host="127.0.0.1", port=int(port), device="cpu", continuous_batching=False,
        log_level="warning",
    )  # fmt: skip
    return 0


def _import_what_is_lazy() -> None:
    """Import what is otherwise imported only when a model is loaded and the server begins. If a
    module has another name some day, it is imported then, as before.
    """
    for name in _LAZY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _import_transformers() -> None:
    """Import it with caches that hold what its own import puts in them: with 128 entries, as they
    are by default, it reads the sources of all its models twice.
    """
    cache = functools.lru_cache

    def unbounded(maxsize: "int | Callable[..., Any] | None" = None, typed: bool = False) -> Any:
        return cache(None)(maxsize) if callable(maxsize) else cache(maxsize, typed)

    # torch keeps its own caches as they are.
    import torch

    # One process serves alone. Otherwise transformers imports what spreads tensors over processes.
    torch.distributed.is_available = lambda: False
    _Compiler().install()
    functools.lru_cache = unbounded
    try:
        import transformers  # noqa: F401
    finally:
        functools.lru_cache = cache


class _Compiler(types.ModuleType):
    """A stand-in for torch's compiler, which is a quarter of what a model imports. Nothing is
    compiled here: functions are only marked for it, and one of its modules is used without it.
    Whatever asks for more gets the real one.
    """

    NAME = "torch._dynamo"

    def __init__(self) -> None:
        super().__init__(self.NAME)
        spec = importlib.util.find_spec(self.NAME)
        self.__path__ = [] if spec is None else list(spec.submodule_search_locations or ())

    def install(self) -> None:
        """Stand in from here on, also as the attribute of torch, which is a lazy import."""
        sys.modules[self.NAME] = self
        importlib.import_module(f"{self.NAME}._trace_wrapped_higher_order_op")
        sys.meta_path.insert(0, _CompilersModules(self))

    def __getattr__(self, name: str) -> Any:
        # `inspect` asks all modules for such names.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.real(), name)

    def real(self) -> types.ModuleType:
        """Return the real one instead of this one."""
        if sys.modules.get(self.NAME) is self:
            del sys.modules[self.NAME]
        return importlib.import_module(self.NAME)

    @staticmethod
    def allow_in_graph(function: Any) -> Any:
        """Leave a function as it is, like the other marks."""
        return function

    assume_constant_result = allow_in_graph

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        return _Compiler.allow_in_graph if function is None else function


class _CompilersModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is imported from the package that `_Compiler` stands in for."""

    def __init__(self, compiler: _Compiler) -> None:
        self._compiler = compiler

    def find_spec(self, name: str, *_: Any) -> "importlib.machinery.ModuleSpec | None":
        if not name.startswith(f"{_Compiler.NAME}.") or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        self._compiler.real()
        # The real package has imported nearly all of its modules by itself.
        return importlib.machinery.ModuleSpec(name, self) if name in sys.modules else None

    def create_module(self, spec: "importlib.machinery.ModuleSpec") -> types.ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        """It was executed when the package imported it."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
