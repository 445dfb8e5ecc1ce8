"""What looks wrong: each kind of finding on a checkpoint that has it, and on one that doesn't."""

import numpy as np
import pytest
import torch
from torch import nn

import fanwise as fw
import fanwise.torch as fwt
from fanwise.auditing.checkpoint import open_checkpoint
from fanwise.schemes import Normal

RNG = np.random.default_rng(0)


def noise(shape=(64, 96), seed=0, scheme="he_normal"):
    return fw.draw(scheme, shape, seed=seed, name="w").copy()


def trained(shape=(64, 96), seed=0):
    return noise(shape, seed) * (1 + RNG.random((shape[0], 1), np.float32))


def kinds(audit):
    return [str(finding.kind) for finding in audit.findings]


def test_a_plain_checkpoint_has_none(audited):
    found = audited({"a.weight": noise((200, 300)), "a.bias": np.zeros(200, np.float32)})
    assert found.findings == ()
    assert found.trained is False
    assert found.summary == "As it was drawn: none of 1 kernels was trained (1 by He normal)."


def test_nan(audited):
    values = noise()
    values[3, :5] = np.nan
    values[7, 7] = np.inf
    found = audited({"a": values})
    assert kinds(found) == ["not finite"]
    assert "6 of 6,144" in found.findings[0].words
    assert found.tensors[0].origin.kind == "drawn"


def test_what_was_never_trained_beside_what_was(audited):
    some = {f"{i}.weight": trained(seed=i) for i in range(4)}
    healthy = audited({**some, "0.bias": np.zeros(64, np.float32)})  # as before a batch norm
    assert (kinds(healthy), healthy.trained) == ([], True)
    found = audited({**some, "new.weight": noise((300, 300), 9)})
    assert [finding.tensors for finding in found.findings] == [("new.weight",)]
    assert kinds(found) == ["never trained"]


def test_a_narrow_kernel_is_not_said_to_be_untrained(audited):
    some = {f"{i}.weight": trained(seed=i) for i in range(4)}
    assert kinds(audited({**some, "router": noise((8, 4096), scheme=Normal(0.02))})) == []


@pytest.mark.parametrize("updated", [False, True])
def test_batch_norm_that_never_ran(audited, updated):
    found = audited(
        {
            "conv.weight": trained(),
            "bn.running_mean": np.full(64, 0.1 if updated else 0.0, np.float32),
            "bn.running_var": np.ones(64, np.float32),
        }
    )
    assert kinds(found) == ([] if updated else ["never updated"])


def test_dead_units(audited):
    values = noise()
    values[[3, 9]] = 0
    values[:, 5] = 0
    found = audited({"a": values})
    assert kinds(found) == ["dead units"] * 2
    assert "rows 3, 9 of 64" in found.findings[0].words
    assert "column 5 of 96" in found.findings[1].words


def test_equal_units(audited):
    values = noise()
    values[40] = values[2]
    found = audited({"a": values})
    assert kinds(found) == ["equal units"]
    assert "rows 2, 40 are equal" in found.findings[0].words


def test_equal_tensors(audited):
    almost = noise(seed=1)
    almost[5, 5], almost[5, 6] = almost[5, 6], almost[5, 5]  # the same moments, other entries
    found = audited({"a": noise(), "b": noise(), "c": noise(seed=1), "d": almost})
    assert [finding.tensors for finding in found.findings] == [("a", "b")]
    assert audited({"a": np.zeros((9, 9)), "b": np.zeros((9, 9))}).findings == ()


def test_draws_of_few_random_bits(audited):
    import jax

    key = jax.random.key(0)
    coarse = jax.random.normal(key, (300, 300), "bfloat16").astype("float32")
    fine = jax.random.normal(key, (300, 300), "float32")
    assert "few levels" in kinds(audited({"a": np.asarray(coarse)}))
    assert kinds(audited({"a": np.asarray(fine)})) == []


def test_float32_that_holds_bfloat16(audited):
    rounded = torch.from_numpy(noise((300, 300))).bfloat16().float().numpy()
    assert kinds(audited({"a": rounded})) == ["rounded"]


def test_out_of_range(audited):
    assert kinds(audited({"a": noise() * 1e6})) == ["out of range"]


def build():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 200))


def tensors_of(model, prefix=""):
    return {f"{prefix}{k}": v.numpy() for k, v in model.state_dict().items()}


def test_against_a_target(audited):
    x = torch.randn(8, 64)
    plan = fwt.plan(build(), x)
    model = fwt.init_(build(), x, seed=0)
    assert audited(tensors_of(model), plan).findings == ()
    assert audited(tensors_of(model, "model."), plan).findings == ()
    with torch.no_grad():
        model[2].weight *= 4
    wrong = tensors_of(model)
    del wrong["2.bias"]
    wrong["0.bias"] = np.zeros(7, np.float32)
    wrong["old.weight"] = noise()
    found = audited(wrong, plan)
    assert kinds(found) == ["missing", "other shape", "wrong scale", "unexpected"]
    assert found.findings[2].tensors == ("2.weight",)
    assert found.tensors[[t.name for t in found.tensors].index("2.weight")].role == "dense"


def test_kernels_of_one_rule_are_one_finding(audited):
    x = torch.randn(8, 64)
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(6)), nn.Linear(64, 500))
    plan = fwt.plan(model, x)
    for i, m in enumerate(model):
        drawn = noise(tuple(m.weight.shape), seed=i, scheme=Normal(0.02))
        m.weight.data = torch.from_numpy(drawn)
    scales = [f for f in audited(tensors_of(model), plan).findings if f.kind == "wrong scale"]
    kernels = sorted(name for f in scales for name in f.tensors)
    assert kernels == [f"{i}.weight" for i in range(7)]
    stds = [plan[f"{i}.weight"].std for i in range(7)]
    assert len(scales) == len(set(stds)) < 7  # by what their use asks for
    many = max(scales, key=lambda f: len(f.tensors))
    assert many.words.startswith("0.weight, 1.weight, 2.weight")
    assert "their use asks" in many.words


def test_tied_weights_as_save_model_writes_them(tmp_path):
    """It keeps one of the names, which needn't be the model's first."""
    from safetensors.torch import save_model

    ids = torch.randint(1, 50, (8, 5))
    model = fwt.init_(Net(), ids, seed=0)
    save_model(model, str(tmp_path / "m.safetensors"))
    kept = {t.name for t in open_checkpoint(tmp_path).tensors}
    assert "head.weight" in kept
    assert "tokens.weight" not in kept
    found = fw.audit(tmp_path, fwt.plan(Net(), ids))
    assert found.findings == ()
    assert next(t for t in found.tensors if t.name == "head.weight").planned_std


def test_json_has_no_nan(audited):
    import json

    text = audited({"a": np.full((3, 3), np.nan, np.float32), "b": noise()}).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["findings"][0]["kind"] == "not finite"


def test_small_std(audited):
    found = audited({"a": noise(scheme=Normal(1e-10))})
    assert found.tensors[0].origin.drawn.std == pytest.approx(1e-10, rel=0.05)


def test_a_mask_is_no_accident(audited):
    mask = np.triu(np.full((32, 32), -np.inf, np.float32), 1)
    assert audited({"mask": mask}).findings == ()
    mask[3, 3] = np.nan
    assert kinds(audited({"mask": mask})) == ["not finite"]


@pytest.mark.parametrize("shape", [(300_001,), (1000,), (20_000, 16)])
def test_what_is_nearly_all_zeros(audited, shape):
    values = np.zeros(shape, np.float32)
    values[77] = RNG.normal(size=shape[1:])
    found = audited({"a": values})
    assert found.tensors[0].origin.kind in ("design", "untold", "empty")
    assert "few levels" not in kinds(found)


def test_float8_noise_is_not_orthogonal(tmp_path):
    from safetensors.torch import save_file

    wide = torch.randn(32, 4096, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16):
        save_file({"a": wide.to(dtype)}, tmp_path / "m.safetensors")
        assert "orthogonal" not in fw.audit(tmp_path / "m.safetensors").tensors[0].origin.words


def test_orthogonal_in_bfloat16(tmp_path):
    from safetensors.torch import save_file

    square = nn.init.orthogonal_(torch.empty(300, 300)).bfloat16()
    save_file({"a": square}, tmp_path / "m.safetensors")
    assert fw.audit(tmp_path / "m.safetensors").tensors[0].origin.words == "orthogonal"


def test_equal_rows_wherever_they_lie(audited):
    values = noise((1001, 301))
    values[999], values[998] = values[0], values[5]
    found = audited({"a": values})
    assert kinds(found) == ["equal units"]
    assert "2 of 1001 rows are copies" in found.findings[0].words


def test_vectors_of_any_shape_are_not_told(audited):
    found = audited({"a.bias": RNG.laplace(size=768).astype(np.float32)})
    assert found.tensors[0].origin.kind == "untold"
    few = audited({"a.weight": noise((2, 100)), "a.bias": np.array([0.01, -0.02], np.float32)})
    assert few.tensors[1].origin.kind == "untold" or few.tensors[0].origin.kind == "untold"


def test_minima_are_of_the_finite_entries(audited):
    values = RNG.uniform(5, 6, (40, 40)).astype(np.float32)
    values[0, 0] = np.nan
    tensor = audited({"a": values}).tensors[0]
    assert 5 <= tensor.minimum < tensor.maximum <= 6


def test_hardly_any_std_is_taken_for_gpt2s(audited):
    named = 0
    for i, std in enumerate(np.geomspace(0.0014, 0.0142, 40)):
        origin = audited({"a": noise((256, 256), i, Normal(std))}).tensors[0].origin
        named += any("GPT-2" in scheme for scheme in origin.schemes)
    assert named <= 8


class Net(nn.Module):
    """Buffers, a padding row and a tied head: all healthy."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(50, 64, padding_idx=0)
        self.norm, self.up = nn.BatchNorm1d(64), nn.Linear(64, 64)
        self.head = nn.Linear(64, 50, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(torch.relu(self.up(self.norm(self.tokens(ids).mean(1)))))


@pytest.mark.parametrize("prefix", ["", "model.", "base_model.model."])
def test_a_healthy_target_with_buffers_and_padding(audited, prefix):
    ids = torch.randint(1, 50, (8, 5))
    model = fwt.init_(Net(), ids, seed=0)
    tensors = {k: v for k, v in tensors_of(model, prefix).items() if "head" not in k}
    assert audited(tensors, fwt.plan(Net(), ids)).findings == ()
