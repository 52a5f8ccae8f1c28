"""Start `transformers serve` in the engine's sandbox without what it does not need.

`python engine_start.py MODEL PORT`. It is the server of `transformers serve` with the same settings
as that command. Nearly all of the time to its first answer goes into imports, which an emulated
machine does twenty times slower. So they run without garbage collection, which finds next to
nothing in them, and without packages that are optional, and whose only use is elsewhere: GPUs, a
terminal, connections to others. This program imports nothing from the runner.
"""

import functools
import gc
import sys
from collections.abc import Callable
from typing import Any

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


def _import_transformers() -> None:
    """Import it with caches that hold what its own import puts in them: with 128 entries, as they
    are by default, it reads the sources of all its models twice.
    """
    cache = functools.lru_cache

    def unbounded(maxsize: "int | Callable[..., Any] | None" = None, typed: bool = False) -> Any:
        return cache(None)(maxsize) if callable(maxsize) else cache(maxsize, typed)

    # torch keeps its own caches as they are.
    import torch  # noqa: F401

    functools.lru_cache = unbounded
    try:
        import transformers  # noqa: F401
    finally:
        functools.lru_cache = cache


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
