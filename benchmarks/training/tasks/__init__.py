"""The tasks, a file a kind; importing this registers all of them."""

from benchmarks.training.task import TASKS, Task
from benchmarks.training.tasks import (  # noqa: F401  (they register their tasks)
    control,
    convolutional,
    fields,
    generative,
    graphs,
    plain,
    recommenders,
    recurrent,
    transformers,
    tuning,
)

__all__ = ["TASKS", "Task"]
