"""The tasks of a repository that uses aicert: its `dodo.py` imports them all from here."""

from rules.image.tasks import (
    task_image,
    task_image_gpu,
    task_image_gpu_reproduce,
    task_image_gpu_update,
    task_image_reproduce,
    task_image_serve,
    task_image_serve_reproduce,
    task_image_serve_update,
    task_image_tools,
    task_image_tools_reproduce,
    task_image_tools_update,
    task_image_update,
)
from rules.tasks import task_certify, task_export, task_lock, task_track, task_training_env

__all__ = [
    "task_certify",
    "task_export",
    "task_image",
    "task_image_gpu",
    "task_image_gpu_reproduce",
    "task_image_gpu_update",
    "task_image_reproduce",
    "task_image_serve",
    "task_image_serve_reproduce",
    "task_image_serve_update",
    "task_image_tools",
    "task_image_tools_reproduce",
    "task_image_tools_update",
    "task_image_update",
    "task_lock",
    "task_track",
    "task_training_env",
]
