"""What the guard does not protect against, as `aicert guard --limits` prints it."""

LIMITS = (
    (
        "a process of the same user that writes the files while they load: the load fails, but"
        " other bytes were parsed, and code in them may have run (not so with --copy, for models)"
    ),
    "a folder above the model's that is swapped and swapped back while the model loads (the same)",
    "with --copy, writes to data sets: datasets keeps what it read where others may write",
    "root, and anybody who may trace other users' processes",
    "another model, or an older one, from a signer that the policy trusts",
    "code that the guarded program runs itself: it can remove the guard from its own process",
    "python -S and interpreters without the .pth: the variable alone does nothing there",
    "child processes that are not Python, like servers in other languages, and what they read",
    (
        "readers of vLLM and others that open weights without transformers, safetensors' safe_open"
        " or huggingface_hub; torch.load, pickle, numpy, GGUF and ONNX files opened directly"
    ),
    "tokenizers.Tokenizer.from_file and pyarrow or pandas readers that are called directly",
    "safetensors.deserialize and load: they get bytes, not a file",
    (
        "what caches hold from before: prepared tables of datasets, and modules that transformers"
        " copied from a model (HF_HOME/modules)"
    ),
    "rows of a streamed data set, and weights that are read lazily, after the load has returned",
    "code that kernels, evaluate and similar libraries fetch and run",
    "optimizer states and schedulers of a Trainer's checkpoint: they are read by torch.load",
    "a signature and a certificate of which one was removed: the other one decides",
)


def text() -> str:
    """Return the list, formatted for a terminal."""
    return "The guard does not protect against:\n" + "".join(f"  - {line}\n" for line in LIMITS)
