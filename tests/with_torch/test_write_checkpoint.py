"""A planned model drawn to disk: read by its own readers, it has the bits of `apply`."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tracemalloc
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
import transformers
from safetensors.torch import load_file
from torch import nn

import fanwise.torch as fwt
from fanwise import ArgumentError, ModelError, TargetError
from fanwise.names import TORCH, Rename
from fanwise.torch.writing import contents, folder, lock
from fanwise.torch.writing.shards import FileTensor, bytes_of, index_of, shards_of


def llama():
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=160, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(vocab_size=300, n_positions=32, n_embd=64, n_layer=2, n_head=4)
    return transformers.GPT2LMHeadModel(config)


IDS = torch.randint(0, 300, (2, 16), generator=torch.Generator().manual_seed(0))


def meta(build):
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize("build", [llama, gpt2])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("size", ["5GB", "60KB"])
def test_from_pretrained_reads_what_apply_draws(tmp_path, build, dtype, size):
    model = meta(build)
    plan = fwt.plan(model, {"input_ids": IDS})
    files = fwt.write_checkpoint(plan, model, tmp_path / "m", seed=7, dtype=dtype, shard_size=size)
    assert ("model.safetensors.index.json" in {file.name for file in files}) == (size == "60KB")
    assert not (tmp_path / "m.part").exists()
    found, info = type(model).from_pretrained(
        tmp_path / "m", dtype=dtype or torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = plan.apply(build().to(dtype or torch.float32), seed=7)
    for name, parameter in expected.named_parameters():
        assert torch.equal(found.get_parameter(name), parameter), name
    auto = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert type(auto) is type(model)
    assert model.config.architectures is None  # as it was


class Mixed(nn.Module):
    """Blocks, buffers, a complex weight, an orthogonal one, a padding row, a scalar."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(12, 16, padding_idx=3)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.recurrence = nn.LSTM(16, 16, batch_first=True)
        self.norm = nn.BatchNorm1d(16)
        self.phases = nn.Parameter(torch.randn(16, 16, dtype=torch.complex64))
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, ids):
        x = self.tokens(ids)
        x = self.recurrence(x + self.attention(x, x, x, need_weights=False)[0])[0]
        x = self.norm(x.transpose(1, 2)).transpose(1, 2) * self.scale
        return torch.view_as_real(x.to(torch.complex64) @ self.phases)[..., 0]


TOKENS = torch.randint(0, 12, (4, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("block", [7, 100, 1 << 22])
def test_blocks_of_any_size_have_the_same_bits(tmp_path, monkeypatch, block):
    monkeypatch.setattr(contents, "BLOCK", block)
    model = meta(Mixed)
    plan = fwt.plan(model, TOKENS, keep="nothing")
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=1)
    expected = plan.apply(Mixed(), seed=1, buffers_filled=True).state_dict()
    found = load_file(tmp_path / "m" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_the_models_own_values_are_written_where_it_keeps_them(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.zeros_(model[2].weight)
    model[0].bias.requires_grad_(False)
    plan = fwt.plan(model, torch.randn(4, 8))
    assert not plan["2.weight"].draws
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0)
    found = load_file(tmp_path / "m" / "model.safetensors")
    assert torch.equal(found["2.weight"], torch.zeros(2, 8))
    assert torch.equal(found["0.bias"], model[0].bias)


def test_what_has_no_values_is_named(tmp_path):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].bias.requires_grad_(False)
    plan = fwt.plan(model, torch.randn(4, 8))
    with pytest.raises(ModelError, match=r"'0\.bias' keeps the model's own values.*no"):
        fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0)
    assert not list(tmp_path.iterdir())


def test_streams_of_other_names(tmp_path):
    names = TORCH.extend(Rename("^", "model."))
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    plan = fwt.plan(model, torch.randn(4, 8))
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, names=names)
    expected = plan.apply(model, seed=0, names=names).state_dict()
    found = load_file(tmp_path / "m" / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(ArgumentError, match="names must be a NameMap"):
        fwt.write_checkpoint(plan, model, tmp_path / "n", seed=0, names={})


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})
    how = {"seed": 7, "shard_size": "100KB"}
    fwt.write_checkpoint(plan, model, tmp_path / "whole", **how)

    def stop(done, of):
        if done == of // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fwt.write_checkpoint(plan, model, tmp_path / "m", **how, progress=stop)
    part = tmp_path / "m.part"
    assert not (tmp_path / "m").exists()
    assert not list(part.glob("*.half"))
    finished = {file: file.stat().st_mtime_ns for file in part.glob("*.safetensors")}
    assert finished
    state = part / folder.STATE
    written = state.stat().st_mtime_ns
    with pytest.raises(TargetError, match="another unfinished checkpoint"):
        fwt.write_checkpoint(plan, model, tmp_path / "m", seed=8, shard_size="100KB")
    steps = []
    fwt.write_checkpoint(
        plan, model, tmp_path / "m", **how,
        progress=lambda *step: steps.append((*step, state.stat().st_mtime_ns)),
    )  # fmt: skip
    assert {when for *_, when in steps} == {written}  # it says what was begun, and stays
    steps = [step[:2] for step in steps]
    assert steps[-1] == (steps[0][1], steps[0][1])
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "m" / file.name).read_bytes() == file.read_bytes()
    for file, when in finished.items():  # which weren't drawn again
        assert (tmp_path / "m" / file.name).stat().st_mtime_ns == when


@pytest.mark.parametrize("form", ["safetensors", "dcp"])
def test_all_of_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, form):
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4,
    )  # fmt: skip
    model = meta(lambda: transformers.LlamaForCausalLM(config))
    synced, fsync = {}, os.fsync

    def note(number):
        if not (tmp_path / "m").exists():
            synced[os.fstat(number).st_ino] = os.fstat(number).st_size
        fsync(number)

    monkeypatch.setattr(os, "fsync", note)
    how = {"shard_size": "10KB"} if form == "safetensors" else {}
    plan = fwt.plan(model, torch.arange(8)[None])
    files = fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, format=form, **how)
    assert len(files) > 1
    for file in files:
        assert synced.get(file.stat().st_ino) == file.stat().st_size, file.name


def layers():
    return meta(lambda: nn.Sequential(*(nn.Linear(64, 64) for _ in range(6))))


KILLED = """
import os, signal, sys, torch
from torch import nn
import fanwise.torch as fwt

with torch.device("meta"):
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(6)))

def stop(done, of):
    if done == 7:  # of the second shard one tensor is there
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))

how = {} if sys.argv[2] == "dcp" else {"shard_size": "50KB"}
fwt.write_checkpoint(
    fwt.plan(model), model, sys.argv[1], seed=7, format=sys.argv[2], progress=stop, **how
)
"""


@pytest.mark.parametrize(
    ("form", "end", "left"),
    [("safetensors", "SIGTERM", "*.safetensors.half"), ("dcp", "SIGKILL", "*.distcp")],
)
def test_a_run_that_was_killed_goes_on(tmp_path, form, end, left):
    """What it held is free, and what it left half-written is gone in the end."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "m"), form, end]
    assert subprocess.run(command, check=False).returncode == -signal.Signals[end]
    assert list((tmp_path / "m.part").glob(left))
    model = layers()
    plan, how = fwt.plan(model), {} if form == "dcp" else {"shard_size": "50KB"}
    finished = {f: f.stat().st_mtime_ns for f in (tmp_path / "m.part").glob("*.safetensors")}
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=7, format=form, **how)
    fwt.write_checkpoint(plan, model, tmp_path / "whole", seed=7, format=form, **how)
    assert {file.name for file in tmp_path.iterdir()} == {"m", "whole"}
    names = {file.name for file in (tmp_path / "whole").iterdir()}
    assert {file.name for file in (tmp_path / "m").iterdir()} == names
    for name in names - {".metadata"}:  # which has an identifier of its own
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert bool(finished) == (form == "safetensors")
    for file, when in finished.items():  # which weren't drawn again
        assert (tmp_path / "m" / file.name).stat().st_mtime_ns == when


def test_what_a_killed_run_of_another_seed_left_unfinished_is_no_checkpoint(tmp_path):
    part = tmp_path / "m.part"
    part.mkdir()
    (part / folder.STATE).write_text('{"digest": "of another"}')
    (part / "model.safetensors.half").write_bytes(b"half")
    fwt.write_checkpoint(fwt.plan(layers()), layers(), tmp_path / "m", seed=7)
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["model.safetensors"]


def test_files_of_somebody_elses_stay(tmp_path):
    part = tmp_path / "m.part"
    part.mkdir()
    (part / "mine.half").write_text("mine")
    with pytest.raises(TargetError, match="holds another unfinished checkpoint"):
        fwt.write_checkpoint(fwt.plan(layers()), layers(), tmp_path / "m", seed=7)
    assert (part / "mine.half").read_text() == "mine"


@pytest.mark.parametrize("kernel", [True, False])
def test_one_process_writes(tmp_path, monkeypatch, kernel):
    """Where the kernel has locks, and where it has none."""
    if not kernel:
        monkeypatch.setattr(lock, "fcntl", None)
    path = tmp_path / "m.part.lock"
    model = layers()
    with lock.alone(path, tmp_path / "m.part"):
        with pytest.raises(TargetError, match=rf"another process writes .*process {os.getpid()} "):
            fwt.write_checkpoint(fwt.plan(model), model, tmp_path / "m", seed=7)
        assert path.exists()
    assert not list(tmp_path.iterdir())
    fwt.write_checkpoint(fwt.plan(model), model, tmp_path / "m", seed=7)


@pytest.mark.parametrize("kernel", [True, False])
def test_a_lock_counts_while_its_process_lives(tmp_path, monkeypatch, kernel):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    if not kernel:
        monkeypatch.setattr(lock, "fcntl", None)
    path = tmp_path / "lock"
    path.write_text(f"process {ended.pid} on {socket.gethostname()}")
    with lock.alone(path, tmp_path):
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert not path.exists()
    path.write_text(f"process {ended.pid} on another.host")
    if kernel:  # which knows better
        with lock.alone(path, tmp_path):
            pass
        return
    with pytest.raises(TargetError, match=r"on another\.host.*Remove that file only if"):
        lock.alone(path, tmp_path).__enter__()


@pytest.mark.parametrize("form", ["safetensors", "dcp"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, form):
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(TargetError, match=r"0\.0 GB are free"):
        fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, format=form)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_says_how_to_go_on(tmp_path, monkeypatch):
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})
    own = contents.Contents.draw

    def fail(self, name, box):
        if "layers.1.mlp" in name:
            raise OSError(28, "No space left on device")
        return own(self, name, box)

    monkeypatch.setattr(contents.Contents, "draw", fail)
    with pytest.raises(TargetError, match=r"No space left.*goes on from there"):
        fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, shard_size="60KB")
    assert not list((tmp_path / "m.part").glob("*.half"))
    monkeypatch.undo()
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, shard_size="60KB")
    assert (tmp_path / "m" / "model.safetensors.index.json").is_file()


def test_a_folder_that_holds_something_is_left(tmp_path):
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes").write_text("mine")
    with pytest.raises(TargetError, match="is there already"):
        fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0)
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["notes"]


@pytest.mark.parametrize("form", ["safetensors", "dcp"])
def test_memory_stays_at_a_block(tmp_path, form):
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(4)))
    plan = fwt.plan(model, torch.randn(1, 4096))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, format=form)  # 256 MiB
    tracemalloc.stop()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 160 << 10  # in KiB; some of it is what was freed and not given back


def loaded(model, path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.load(model.state_dict(), checkpoint_id=path)
    return model.state_dict()


@pytest.mark.parametrize("block", [1 << 7, 1 << 22])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_torchs_own_reader_reads_what_apply_draws(tmp_path, monkeypatch, dtype, block):
    """Tied weights under both of their names, as `state_dict` has them."""
    monkeypatch.setattr(contents, "BLOCK", block)
    model, steps = meta(gpt2), []
    plan = fwt.plan(model, {"input_ids": IDS})
    how = {"dtype": dtype, "progress": lambda *step: steps.append(step)}
    files = fwt.write_checkpoint(plan, model, tmp_path / "m", seed=7, format="dcp", **how)
    assert [file.name for file in files] == [".metadata", "__0_0.distcp"]
    expected = plan.apply(gpt2().to(dtype or torch.float32), seed=7).state_dict()
    assert steps == [(i + 1, len(expected)) for i in range(len(expected))]
    assert "lm_head.weight" in expected
    found = loaded(gpt2().to(dtype or torch.float32), tmp_path / "m")
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class Stateful(Mixed):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        assert state == {"calls": 3}


def test_torchs_own_reader_reads_whatever_a_state_holds(tmp_path):
    model = meta(Stateful)
    plan = fwt.plan(model, TOKENS, keep="nothing")
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=1, format="dcp")
    expected = plan.apply(Stateful(), seed=1, buffers_filled=True).state_dict()
    found = loaded(Stateful(), tmp_path / "m")
    for name, value in expected.items():
        same = torch.equal if isinstance(value, torch.Tensor) else dict.__eq__
        assert same(found[name], value), name


def test_a_model_with_values_keeps_them(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].bias.requires_grad_(False)
    before = [value.clone() for value in model.state_dict().values()]
    plan = fwt.plan(model, torch.randn(4, 8))
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, format="dcp")
    assert all(map(torch.equal, before, model.state_dict().values()))
    other = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert torch.equal(loaded(other, tmp_path / "m")["0.bias"], model[0].bias)


def test_a_disk_that_fills_leaves_nothing_of_torchs_format(tmp_path):
    """`torch.save` raises something of its own then."""
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TargetError, match="can't be written: File too large"):
            fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, format="dcp")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_what_goes_wrong_in_torchs_writer_is_said_as_it_is(tmp_path):
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0, format="dcp", progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_state_that_a_hook_makes_is_refused(tmp_path):
    model = nn.Linear(4, 4)
    model.register_state_dict_post_hook(
        lambda module, state, *_: state.update(first=state.pop("weight").detach()[:2])
    )
    with pytest.raises(ModelError, match=r"'first' is in the model's state.*a hook"):
        fwt.write_checkpoint(fwt.plan(model), model, tmp_path / "m", seed=0, format="dcp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"format": "gguf"}, "format is 'safetensors' or 'dcp', got 'gguf'"),
        ({"format": "dcp", "shard_size": "1GB"}, "shard_size is of safetensors"),
    ],
)
def test_formats(tmp_path, how, message):
    model = nn.Linear(4, 4)
    with pytest.raises(ArgumentError, match=message):
        fwt.write_checkpoint(fwt.plan(model), model, tmp_path / "m", seed=0, **how)


def test_the_index_is_the_one_of_the_format(tmp_path):
    tensors = [FileTensor(str(i), (100,), torch.float32) for i in range(5)]
    shards = shards_of(tensors, 1000)
    assert [[t.name for t in shard.tensors] for shard in shards] == [["0", "1"], ["2", "3"], ["4"]]
    assert shards[0].file == "model-00001-of-00003.safetensors"
    index = json.loads(index_of(shards))
    assert index["metadata"]["total_size"] == 2000
    assert index["weight_map"]["4"] == "model-00003-of-00003.safetensors"


def test_a_tensor_larger_than_a_shard_has_its_own():
    tensors = [FileTensor(name, (n,), torch.int8) for name, n in (("a", 5), ("b", 50), ("c", 5))]
    assert [len(shard.tensors) for shard in shards_of(tensors, 10)] == [1, 1, 1]


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("1.5 kib", 1536), (77, 77)])
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "5XB", "-1GB", "GB", "5G"])
def test_sizes_that_are_none(text):
    with pytest.raises(ArgumentError, match="is no size of a shard"):
        bytes_of(text)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.register_buffer("scales", torch.full((8,), 3.0))

    def forward(self, x):
        return self.norm(self.up(x)) * self.scales


def test_the_model_stays_on_meta_and_an_unknown_buffer_is_named_every_time(tmp_path):
    model = meta(Scaled)
    plan = fwt.plan(model, torch.randn(8, 8))
    for _ in range(2):
        with pytest.raises(
            ModelError, match=r"the buffer 'scales' had no.*Give its module a tensor"
        ):
            fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0)
        assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    model.scales = torch.full((8,), 3.0)
    fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0)
    found = load_file(tmp_path / "m" / "model.safetensors")
    assert torch.equal(found["scales"], model.scales)
    assert torch.equal(found["norm.running_var"], torch.ones(8))
    assert model.norm.running_var.is_meta


def test_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = meta(llama)
    plan = fwt.plan(model, {"input_ids": IDS})
    files = fwt.write_checkpoint(plan, model, ".", seed=0)
    assert all(file.is_file() for file in files)
