"""Files: shards, formats, and what is no checkpoint."""

import json
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fanwise as fw
from fanwise.auditing.checkpoint import FLOATS, open_checkpoint
from fanwise.auditing.statistics import BLOCK, look_over, matrix_shape
from fanwise.errors import TargetError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_format_is_decoded(tmp_path, dtype):
    if dtype.startswith("F8"):
        values = torch.arange(256, dtype=torch.uint8).view(DTYPES[dtype])
    else:
        values = torch.randn(1000, dtype=torch.float64).to(DTYPES[dtype])
    save_file({"pad": torch.zeros(3, dtype=torch.uint8), "w": values}, tmp_path / "m.safetensors")
    w = next(t for t in open_checkpoint(tmp_path / "m.safetensors").tensors if t.name == "w")
    assert w.dtype == dtype
    assert np.array_equal(w.decode(w.read(0, w.size)), values.double().numpy(), equal_nan=True)
    assert np.array_equal(w.decode(w.read(5, 9)), values.double().numpy()[5:14], equal_nan=True)


def test_all_formats_are_tried():
    assert set(FLOATS) == {*DTYPES, "C64"}


def shards(folder, index=True):
    parts = {
        f"model-0000{i}-of-00003.safetensors": {f"layers.{i}.weight": torch.randn(20, 30)}
        for i in (1, 2, 3)
    }
    for name, tensors in parts.items():
        save_file(tensors, folder / name)
    where = {tensor: name for name, tensors in parts.items() for tensor in tensors}
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return list(parts)


@pytest.mark.parametrize("index", [True, False])
def test_shards(tmp_path, index):
    shards(tmp_path, index)
    names = [t.name for t in open_checkpoint(tmp_path).tensors]
    assert names == ["layers.1.weight", "layers.2.weight", "layers.3.weight"]


def test_a_missing_shard_is_named(tmp_path):
    (tmp_path / shards(tmp_path)[1]).unlink()
    with pytest.raises(TargetError, match=r"lacks model-00002-of-00003.* 1 of 3 tensors lie there"):
        open_checkpoint(tmp_path)


def test_a_tensor_that_no_shard_holds(tmp_path):
    shards(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["layers.4.weight"] = index["weight_map"]["layers.3.weight"]
    path.write_text(json.dumps(index))
    findings = fw.audit(tmp_path).findings
    assert [(str(f.kind), f.tensors) for f in findings] == [("missing", ("layers.4.weight",))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weight_map": {"a": "../other.safetensors"}}', "isn't in its own folder"),
        ("{}", "is no index of shards"),
        ("[1]", "is no index of shards"),
        ("not json", "is no index of shards"),
    ],
)
def test_an_index_that_is_none(tmp_path, text, message):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(TargetError, match=message):
        open_checkpoint(path)


def test_one_name_in_two_files(tmp_path):
    for name in ("a", "b"):
        save_file({"w": torch.randn(3, 3)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(TargetError, match=r"holds 'w' twice, in a.safetensors and in b.safet"):
        open_checkpoint(tmp_path)


def whole():
    from safetensors.torch import save

    return save({"w": torch.randn(30, 30)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: whole()[:-10], "no whole safetensors file.*cut short"),
        (lambda: whole()[:20], "no whole safetensors file"),
        (lambda: b"", "no whole safetensors file"),
        (lambda: whole() + b"more", "no whole safetensors file"),
        (lambda: pickle.dumps({"w": 1}), "a pickle, which runs code"),
        (lambda: b"PK\x03\x04" + bytes(99), "a zip archive, as torch.save"),
        (lambda: b"\x89HDF\r\n", "an HDF5 file"),
        (lambda: b"GGUF" + bytes(99), "a GGUF file"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        (lambda: b"<!doctype html>", "HTML"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content())
    with pytest.raises(TargetError, match=message):
        open_checkpoint(path)


def test_a_header_whose_length_begins_as_a_pickle_does(tmp_path):
    path = tmp_path / "model.safetensors"
    for length in range(1, 120):
        save_file({"w" * length: torch.randn(2, 2)}, path)
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert len(open_checkpoint(path).tensors) == 1


def test_no_such_file(tmp_path):
    with pytest.raises(TargetError, match="No such file"):
        open_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(TargetError, match="holds no safetensors file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shape",
    [(7,), (BLOCK + 9,), (3, BLOCK + 9), (700, 600), (64, 32, 3, 3), (4, 50, 60), (0, 3), ()],
)
def test_statistics_in_blocks_are_those_of_the_whole(tmp_path, shape):
    values = torch.randn(shape, dtype=torch.float64).float()
    save_file({"w": values}, tmp_path / "m.safetensors")
    found = look_over(open_checkpoint(tmp_path / "m.safetensors").tensors[0])
    matrix = values.double().numpy().reshape(matrix_shape(shape) if values.numel() else (0, 3))
    assert found.size == values.numel()
    if not values.numel():
        return
    assert np.allclose(found.row_squares, np.square(matrix).mean(1), rtol=1e-4)
    assert np.allclose(found.column_squares, np.square(matrix).mean(0), rtol=1e-4)
    assert np.allclose(found.row_means, matrix.mean(1), atol=1e-5)
    assert np.allclose(found.column_means, matrix.mean(0), atol=1e-5)
    assert found.rms == pytest.approx(np.sqrt(np.square(matrix).mean()), rel=1e-5)
    assert (found.minimum, found.maximum) == (matrix.min(), matrix.max())
    assert np.isin(found.sample, matrix).all()
    assert len(found.sample) >= min(values.numel(), 40_000)


def test_complex_entries_count_as_two(tmp_path):
    values = torch.randn(20, 30, dtype=torch.complex64)
    save_file({"w": values}, tmp_path / "m.safetensors")
    found = look_over(open_checkpoint(tmp_path / "m.safetensors").tensors[0])
    assert found.rms == pytest.approx(float(torch.view_as_real(values).square().mean().sqrt()))


def test_memory_is_bounded(tmp_path):
    save_file({f"{i}.w": torch.randn(2048, 4096) for i in range(4)}, tmp_path / "m.safetensors")
    fw.audit(tmp_path / "m.safetensors", threads=1)
    tracemalloc.start()
    fw.audit(tmp_path / "m.safetensors", threads=1)  # 128 MiB of weights
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20
