"""The lists of what the audit hook allows: places that make code, programs and commands.

A place is a module of the image and the qualified name of a function in it. Each is listed because
a supported training, or an import that it needs, makes code there from the image's own text:
classes that write their methods, types in quotes, templates in Jinja's sandbox.
"""

# Module → function → its condition (`aicert_guard._CONDITIONS`). `<module>` is the top level.
# always: no condition; sandboxed: only in an environment of Jinja's sandbox; module: only for a
# module of the image; sent: only if called below a place that `receives`, which itself may make no
# code.
PLACES = {
    # The standard library.
    "ast": {"parse": "always"},  # makes a tree, no code
    "collections": {"namedtuple": "always"},
    "dataclasses": {"_create_fn": "always"},
    "enum": {"_simple_enum.<locals>.convert_class": "always"},
    "runpy": {"_run_code": "module"},
    "types": {"coroutine": "always"},
    "typing": {"ForwardRef.__init__": "always", "ForwardRef._evaluate": "always"},
    # Classes and functions that libraries write when they are imported.
    "attr._make": {"_compile_and_eval": "always"},
    "fastcore.basics": {"patch_to.<locals>._inner": "always"},
    "multiprocess.managers": {"MakeProxyType": "always"},
    "multiprocess.sharedctypes": {"make_property": "always"},
    "multiprocessing.managers": {"MakeProxyType": "always"},
    "multiprocessing.sharedctypes": {"make_property": "always"},
    "mpmath.ctx_mp_python": {"binary_op": "always"},
    "numba.experimental.jitclass.overloads": {"extract_template": "always"},
    "six": {"<module>": "always"},
    "sympy": {"__sympy_debug": "always"},
    "sympy.external.importtools": {"__sympy_debug": "always"},
    "torch._inductor.ops_handler": {"DefaultHandler._init_cls": "always"},
    "torch._inductor.utils": {
        "cache_on_self": "always",
        "cache_on_self_and_args.<locals>.wrapper": "always",
    },
    "torch.distributed.nn.jit.instantiator": {"_StringLoader.exec_module": "always"},
    "typing_inspection.typing_objects": {
        "_compile_identity_check_function": "always",
        "_compile_isinstance_check_function": "always",
    },
    # Templates.
    "jinja2.environment": {"Environment._compile": "sandboxed", "Template.from_code": "sandboxed"},
    "jinja2.debug": {"fake_traceback": "always"},  # `raise` at the line where a template fails
    # Functions that are sent to workers, and the places where workers read them from their pipe.
    "dill._dill": {"_create_code": "sent", "_getattr": "sent"},
    "multiprocess.connection": {"_ConnectionBase.recv": "receives"},
    "multiprocess.queues": {"SimpleQueue.get": "receives"},
    "multiprocess.spawn": {"_main": "receives"},
    # The classes of Axolotl's own plugins, merged by name (`plugins.py` has the list).
    "axolotl.integrations.config": {
        "merge_input_args": "always",
        "merge_training_args": "always",
    },
    # The function that starts a kernel, written from the names of the kernel's parameters.
    "triton.runtime.jit": {"create_function_from_signature": "always"},
    # mergekit orders its work with networkx, whose wrappers of functions are written when they are
    # first called, from the names of the functions' parameters.
    "networkx.utils.decorators": {"argmap.compile": "always"},
    # Axolotl changes functions of other libraries here by editing their source.
    "axolotl.monkeypatch.lora_kernels": {"patch_self_attn_lora": "always"},
    "axolotl.monkeypatch.peft.utils": {"patch_peft_prep_code": "always"},
    "axolotl.monkeypatch.trainer_accelerator_args": {
        "patch_create_accelerate_code_for_fp8": "always"
    },
    "axolotl.monkeypatch.transformers.trainer_loss_calc": {
        "patch_evaluation_loop": "always",
        "patch_maybe_log_save_evaluate": "always",
    },
}

# Functions that accept a file's name instead of its content: they open what a row or a setting
# names. Module → function → the folders in which they may open files.
READERS: "dict[str, dict[str, tuple[str, ...]]]" = {
    # The runner puts templates into these two folders, and chooses their names.
    "axolotl.utils.chat_templates.base": {
        "get_chat_template": ("/aicert/inputs", "/aicert/templates")
    },
    # This function saves a tokenizer and loads what it saved.
    "axolotl.loaders.tokenizer": {"modify_tokenizer_files": ()},
    # Images, audio and video, which rows do not hold.
    "transformers.audio_utils": {"load_audio": (), "load_audio_as": ()},
    "transformers.image_utils": {"load_image": (), "load_image_as_tensor": ()},
    "transformers.video_utils": {"load_video": ()},
    # Weights and tokenizers in other formats, which no model input shows.
    "transformers.modeling_gguf_pytorch_utils": {"load_gguf_checkpoint": ()},
}

# Command lines that are allowed as a whole. Accelerate asks this program for the names of GPUs, and
# goes on without them if it is missing.
PROGRAMS = (("nvidia-smi", "--query-gpu=count,name", "--format=csv,noheader"),)

# The assembler, in Triton's folder of the environment's packages: it makes a kernel from the text
# that Triton wrote. These are its options, besides the kind of the GPU and two files in scratch. It
# runs only if the run has a GPU.
ASSEMBLERS = tuple(f"triton/backends/nvidia/bin/{name}" for name in ("ptxas", "ptxas-blackwell"))
ASSEMBLING = (
    ("-lineinfo", "--fmad=false", "-v", "--regAllocOptLevel=2"),
    ("-lineinfo", "-v", "--regAllocOptLevel=2"),
)
KINDS = ("--gpu-name=sm_#", "--gpu-name=sm_#a")

# The arguments that torchrun passes to each of its interpreters, if a run has several trainers.
TRAINER = ("-u", "-m", "axolotl.cli.train", "/aicert/config.json")

# Options that the interpreter of a worker may have, as the trainer's own may. `-S` is not among
# them, because it would skip the hook.
FLAGS = ("-B", "-E", "-I", "-P", "-s", "-u")

# Texts of `python -c TEXT`, with `#` for numbers: the workers that prepare rows, and the process
# that cleans up their shared memory.
COMMANDS = (
    "from multiprocess.resource_tracker import main;main(#)",
    "from multiprocess.spawn import spawn_main; spawn_main(tracker_fd=#, pipe_handle=#)",
    "from multiprocessing.resource_tracker import main;main(#)",
    "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=#, pipe_handle=#)",
)
