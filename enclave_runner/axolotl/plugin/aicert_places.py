"""What the audit hook lets be: the places that make code, the programs and the commands.

A place is a module of the image and the qualified name of a function in it. Each is here because a
supported training, or an import that one needs, makes code there from text of the image's own:
classes that write their methods, types in quotes, templates in Jinja's sandbox.
"""

# module → function → what else must hold (`aicert_guard._CONDITIONS`). `<module>`: its top level.
# always: nothing; sandboxed: for an environment of Jinja's sandbox; module: for one of the image;
# sent: below a place that `receives`, which itself may make nothing.
PLACES = {
    # The standard library.
    "ast": {"parse": "always"},  # gives a tree, no code
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
    "jinja2.debug": {"fake_traceback": "always"},  # a template raises: `raise` at its line
    # Functions that are sent to workers, and the places that take them from their pipe.
    "dill._dill": {"_create_code": "sent", "_getattr": "sent"},
    "multiprocess.connection": {"_ConnectionBase.recv": "receives"},
    "multiprocess.queues": {"SimpleQueue.get": "receives"},
    "multiprocess.spawn": {"_main": "receives"},
    # The classes of Axolotl's own plugins, joined by their names (`plugins.py` has the list).
    "axolotl.integrations.config": {
        "merge_input_args": "always",
        "merge_training_args": "always",
    },
    # What Axolotl changes in the functions of others: their own source, edited.
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

# Functions that take a file's name for what is in the file: they open what a row or a setting
# names. Module → function → the folders in which it may open something.
READERS: "dict[str, dict[str, tuple[str, ...]]]" = {
    # The runner shows templates in these two and names them itself.
    "axolotl.utils.chat_templates.base": {
        "get_chat_template": ("/aicert/inputs", "/aicert/templates")
    },
    # It saves a tokenizer and loads what was saved.
    "axolotl.loaders.tokenizer": {"modify_tokenizer_files": ()},
    # Pictures, sound and video, which rows do not hold.
    "transformers.audio_utils": {"load_audio": (), "load_audio_as": ()},
    "transformers.image_utils": {"load_image": (), "load_image_as_tensor": ()},
    "transformers.video_utils": {"load_video": ()},
    # Weights and tokenizers of another form, which no model input shows.
    "transformers.modeling_gguf_pytorch_utils": {"load_gguf_checkpoint": ()},
}

# Whole command lines. Accelerate asks for GPUs by name, and does without where the program is not.
PROGRAMS = (("nvidia-smi", "--query-gpu=count,name", "--format=csv,noheader"),)

# What torchrun tells each of its interpreters, where a run has several trainers.
TRAINER = ("-u", "-m", "axolotl.cli.train", "/aicert/config.json")

# What such an interpreter may be told besides: what the trainer's own was. `-S` is not among them.
FLAGS = ("-B", "-E", "-I", "-P", "-s", "-u")

# Texts of `python -c TEXT`, with `#` for numbers: the workers that prepare rows, and what removes
# what workers leave in shared memory.
COMMANDS = (
    "from multiprocess.resource_tracker import main;main(#)",
    "from multiprocess.spawn import spawn_main; spawn_main(tracker_fd=#, pipe_handle=#)",
    "from multiprocessing.resource_tracker import main;main(#)",
    "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=#, pipe_handle=#)",
)
