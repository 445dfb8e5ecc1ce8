"""Front end for PyTorch.

- `draw`: a tensor, by a scheme.
- `plan`: which draw each parameter of a model gets, and why; nothing is drawn.
- `init_`: plan a model, and draw every parameter in place.
- `write_checkpoint`: draw a planned model to disk, without holding it in memory.
- `measure`: what the signal and the gradient do, layer by layer, with verdicts.
- `calibrate`: scale each kernel until its outputs have a given deviation.
- `compare`: train a model from several starts, and say which trains better.
- `transfer`: whether layers, and what training changes, are as large at every width and depth.
- `measure_drift`: how far the best learning rate moves with width and depth.
- `grow`: give a larger model the weights with which it computes what a small one does.
- `grow_vocabulary`: draw the rows of new tokens about the mean of the old ones.
- `coordinate_check`: whether the size of what each layer puts out depends on the width.
- `fanwise.torch.init`: a drop-in for `torch.nn.init`, a module.
"""

from fanwise.errors import need_framework

need_framework("torch")  # before what imports it

from fanwise.planning.rules import Rule  # noqa: E402
from fanwise.torch._draw import draw  # noqa: E402
from fanwise.torch.comparing.compare import compare  # noqa: E402
from fanwise.torch.comparing.drift import measure_drift  # noqa: E402
from fanwise.torch.comparing.transfer import transfer  # noqa: E402
from fanwise.torch.growing.grow import grow  # noqa: E402
from fanwise.torch.growing.vocabulary import grow_vocabulary  # noqa: E402
from fanwise.torch.measuring.calibration import calibrate  # noqa: E402
from fanwise.torch.measuring.coordinates import coordinate_check  # noqa: E402
from fanwise.torch.measuring.measure import measure  # noqa: E402
from fanwise.torch.planning.plan import Plan, init_, plan  # noqa: E402
from fanwise.torch.writing.checkpoint import write_checkpoint  # noqa: E402

__all__ = [
    "Plan",
    "Rule",
    "calibrate",
    "compare",
    "coordinate_check",
    "draw",
    "grow",
    "grow_vocabulary",
    "init_",
    "measure",
    "measure_drift",
    "plan",
    "transfer",
    "write_checkpoint",
]
