"""TensorBoard's files, read by TensorBoard."""

import sys

import pytest


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    """TensorBoard takes TensorFlow where it is installed, which must not meet Triton."""
    if "tensorflow" not in sys.modules:
        monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", sys)


def scalars(folder):
    """Return what a folder's TensorBoard file says: {tag: {step: value}}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(folder))
    found.Reload()
    tensors = {tag: found.Tensors(tag) for tag in found.Tags()["tensors"]}
    values = {
        tag: {event.step: make_ndarray(event.tensor_proto).item() for event in events}
        for tag, events in tensors.items()
        if not tag.endswith("text_summary")
    }
    older = {tag: {e.step: e.value for e in found.Scalars(tag)} for tag in found.Tags()["scalars"]}
    return values | older  # the format that PyTorch's writer has
