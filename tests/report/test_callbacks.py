"""Callbacks in the frameworks' own trainers, and the helper for test suites."""

import importlib
import inspect
import logging
import sys

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import chain  # noqa: E402
from support.signals import layer, signal  # noqa: E402
from support.tensorboard import scalars, without_tensorflow  # noqa: E402, F401
from torch import nn  # noqa: E402

from fanwise.errors import ArgumentError, ModelError  # noqa: E402
from fanwise.signal import Signal, Verdict  # noqa: E402
from fanwise.signal.watch import (  # noqa: E402
    Loggers,
    Outlets,
    TensorBoard,
    TrainingWatch,
    scalars_of,
)
from fanwise.testing import assert_healthy  # noqa: E402

X = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))


# --- when, what -----------------------------------------------------------------------------------


def test_it_is_measured_at_once_and_every_so_many_steps():
    watch, calls = TrainingWatch(every=4), []
    for step in (0, 0, 1, 2, 3, 4, 4, 4, 5, 8):  # accumulated gradients repeat a step
        watch.step(step, lambda step=step: calls.append(step) or signal(3))
    assert calls == [0, 4, 8] == [step for step, _ in watch.history]


def test_a_resumed_training_is_measured_at_once():
    watch = TrainingWatch(every=100)
    assert watch.step(37, lambda: signal(3))
    assert [step for step, _ in watch.history] == [37]


@pytest.mark.parametrize("every", [0, -3])
def test_steps_that_cannot_be(every):
    with pytest.raises(ArgumentError, match="at least; got"):
        TrainingWatch(every)


def test_what_is_logged():
    found = scalars_of(signal(3, rate=0.5))
    assert found["fanwise/defects"] == 1.0
    assert scalars_of(signal(3))["fanwise/defects"] == 0.0
    assert found["fanwise/rms/blocks.2.fc"] == 0.25
    assert found["fanwise/gradient_rms/blocks.0.fc"] == 0.25
    assert len(found) == 7
    broken = Signal((layer(0, rms=float("nan")),), ())
    assert list(scalars_of(broken)) == ["fanwise/defects", "fanwise/gradient_rms/blocks.0.fc"]


def test_a_new_verdict_is_told_once(caplog):
    def sick(kind):
        return Signal((), (Verdict(kind, "", "a", "Cause.", "Fix.", 1.0),))

    watch = TrainingWatch(every=1)
    with caplog.at_level(logging.WARNING, logger="fanwise"):
        for step, kind in enumerate(["dead", "dead", "saturated", "dead"]):
            watch.step(step, lambda kind=kind: sick(kind))
    assert [record.getMessage() for record in caplog.records] == [
        "step 0: dead, from 'a' on. Cause. Fix.",
        "step 2: saturated, from 'a' on. Cause. Fix.",
        "step 3: dead, from 'a' on. Cause. Fix.",
    ]


def test_tensorboard_reads_what_is_written(tmp_path):
    require("tensorboard")
    board = TensorBoard(tmp_path)
    board.write(0, {"a/b": 1.5})
    board.write(7, {"a/b": 2.5, "c": 0.0})
    board.close()
    assert scalars(tmp_path) == {"a/b": {0: 1.5, 7: 2.5}, "c": {7: 0.0}}


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    board = TensorBoard(tmp_path)
    board.write(0, {"a": 1.0})
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    asked, own = TensorBoard(tmp_path), TensorBoard(None)
    own.folder = tmp_path  # where nobody asked for one
    for step in range(3):
        asked.write(step, {"a": 1.0})
        own.write(step, {"a": 1.0})
    assert [record.getMessage() for record in caplog.records] == [
        f"nothing is written to {tmp_path}: TensorBoard is missing, pip install tensorboard"
    ]


def test_a_logger_that_fails_is_told_once(caplog):
    loggers, taken = Loggers(), []

    def refuse():
        raise OSError("disk full")

    for step in range(3):
        loggers.hand("Paper", refuse)
        loggers.hand("Slate", lambda step=step: taken.append(step))
    assert taken == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "Paper didn't take fanwise's numbers: OSError: disk full"
    ]


def test_numbers_go_to_a_folder_and_a_function(tmp_path, caplog):
    require("tensorboard")
    taken = {}
    outlets = Outlets(tmp_path, taken.__setitem__)
    outlets.write(0, {"a": 1.5})
    outlets.write(1, {})  # where no measurement was due
    outlets.close()
    assert taken == {0: {"a": 1.5}}
    assert scalars(tmp_path) == {"a": {0: 1.5}}
    failing = Outlets(log=lambda step, found: 1 / 0)
    failing.write(0, {"a": 1.5})
    assert "log didn't take fanwise's numbers: ZeroDivisionError" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["torch.lightning", "torch.transformers", "jax.callbacks"])
@pytest.mark.filterwarnings("ignore")
def test_every_callback_is_told_alike(trainer):
    require(trainer.partition(".")[2].replace("callbacks", "jax"))
    made = importlib.import_module(f"fanwise.{trainer}").SignalCallback
    assert {"every", "folder", "log"} <= inspect.signature(made).parameters.keys()


# --- Lightning --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:::lightning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_lightning(tmp_path, caplog):
    require("lightning", "tensorboard")
    from lightning.pytorch import LightningModule, Trainer, seed_everything
    from lightning.pytorch.loggers import CSVLogger
    from torch.utils.data import DataLoader

    from fanwise.torch.lightning import SignalCallback

    class Net(LightningModule):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))

        def forward(self, x):
            return self.body(x)

        def training_step(self, batch, index):
            return self(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def train(callbacks, logger):
        seed_everything(0, verbose=False)
        net = Net()
        Trainer(
            max_steps=7, accelerator="cpu", logger=logger, callbacks=callbacks,
            accumulate_grad_batches=2, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, log_every_n_steps=1, default_root_dir=tmp_path,
        ).fit(net, DataLoader(X, batch_size=2, shuffle=True))  # fmt: skip
        return net

    plain = train([], False)
    callback, logger = SignalCallback(X, every=3), CSVLogger(tmp_path)
    net = train([callback], logger)
    assert [step for step, _ in callback.history] == [0, 3, 6]
    assert [layer.name for layer in callback.history[0][1].layers] == ["body.0", "body.3"]
    assert callback.history[0][1] != callback.history[1][1]
    for a, b in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)  # the training went as without it, dropout and order included
    logged = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "fanwise/rms/body.0" in logged
    assert len(logged.splitlines()) == 4

    class Refusing(CSVLogger):
        def log_metrics(self, metrics, step=None):
            raise OSError("disk full")

    refused, kept = SignalCallback(X, every=3), CSVLogger(tmp_path, name="kept")
    train([refused], [Refusing(tmp_path, name="refusing"), kept])
    assert [step for step, _ in refused.history] == [0, 3, 6]
    assert "fanwise/rms/body.0" in (tmp_path / "kept/version_0/metrics.csv").read_text()
    told = [r.getMessage() for r in caplog.records if "Refusing" in r.getMessage()]
    assert told == ["Refusing didn't take fanwise's numbers: OSError: disk full"]


# --- transformers -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_transformers(tmp_path, caplog, monkeypatch):
    require("transformers", "accelerate", "tensorboard")
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from fanwise.torch.transformers import SignalCallback

    tokens = torch.randint(0, 50, (16, 6), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row} for row in tokens]

    def train(name, callbacks, report_to=()):
        set_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=16,
            )
        )  # fmt: skip
        how = TrainingArguments(
            output_dir=str(tmp_path / name), max_steps=5, per_device_train_batch_size=4,
            report_to=list(report_to), save_strategy="no", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False, logging_strategy="no",
        )  # fmt: skip
        Trainer(model, how, train_dataset=rows, callbacks=callbacks).train()
        return model

    callback = SignalCallback({"input_ids": tokens, "use_cache": False}, every=2)
    model, plain = train("watched", [callback]), train("plain", [])
    assert [step for step, _ in callback.history] == [0, 2, 4]
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    written = scalars(tmp_path / "watched" / "runs" / "fanwise")
    name = callback.history[0][1].layers[0].name
    assert written[f"fanwise/rms/{name}"] == {
        step: pytest.approx(found.layers[0].rms) for step, found in callback.history
    }

    class Keeps(TrainerCallback):
        """A logger of the user's own."""

        def __init__(self):
            self.steps = []

        def on_log(self, args, state, control, logs=None, **given):
            if f"fanwise/rms/{name}" in logs:
                self.steps.append(state.global_step)

    class Refuses(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **given):
            if "fanwise/defects" in logs:
                raise OSError("disk full")

    keeps = Keeps()
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    again = SignalCallback({"input_ids": tokens, "use_cache": False}, every=2)
    train("reported", [Refuses(), again, keeps], ["tensorboard"])
    assert keeps.steps == [0, 2, 4]
    assert not (tmp_path / "reported" / "runs").exists()
    (board,) = {file.parent for file in (tmp_path / "board").rglob("events.*")}
    assert set(scalars(board)[f"train/fanwise/rms/{name}"]) == {0, 2, 4}
    told = [r.getMessage() for r in caplog.records if "Refuses" in r.getMessage()]
    assert told == ["Refuses didn't take fanwise's numbers: OSError: disk full"]


# --- a helper for test suites -------------------------------------------------------------------


def test_a_healthy_model_passes():
    model = chain(3, 16)
    assert assert_healthy(model, torch.randn(8, 16)).healthy


def test_a_sick_model_fails_and_says_why():
    torch.manual_seed(0)
    model = chain(24, 32)
    with pytest.raises(AssertionError) as error:
        assert_healthy(model, torch.randn(16, 32))
    message = str(error.value)
    assert "✗ vanishing" in message
    assert "init_(" in message
    assert message.count("\n") > 24  # the table as well


def test_the_options_are_measures():
    with pytest.raises(ModelError, match="loss must return one number"):
        assert_healthy(chain(2, 4), torch.randn(2, 4), loss=lambda y: y)


def test_a_model_of_no_framework():
    with pytest.raises(ModelError) as error:
        assert_healthy("a model", 3)
    assert str(error.value).startswith("str is no model of PyTorch, Keras or JAX: pass a torch.nn")
