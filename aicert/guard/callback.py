"""A callback that signs each checkpoint, for a Trainer that runs without a guard.

    trainer = Trainer(..., callbacks=[SigningCallback(key="key.pem")])

Under a guard whose policy has `[sign]`, no callback is needed: see `hooks.py`.
"""

from typing import Any

from transformers import TrainerCallback

from aicert.guard.policy import Signing
from aicert.guard.saving import load_key, sign_folder


class SigningCallback(TrainerCallback):  # type: ignore[misc]
    """Signs `checkpoint-STEP` once it is completely written."""

    def __init__(self, key: str, password_env: str = "") -> None:
        self._signer = load_key(Signing(key=key, password_env=password_env))

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Sign this step's checkpoint, in the one process that writes it."""
        if args.should_save:
            sign_folder(f"{args.output_dir}/checkpoint-{state.global_step}", self._signer)
