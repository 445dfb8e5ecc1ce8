"""The audit of a checkpoint: each tensor's origin, and what looks wrong, as plain values."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fanwise.auditing.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from fanwise.auditing.findings import Finding, Looked, findings_in, findings_of
from fanwise.auditing.origins import Origin, OriginKind, origin_of, settled
from fanwise.auditing.statistics import look_over
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row

__all__ = ["Audit", "AuditedTensor", "Finding", "OriginKind", "audit"]

TRAINED_SHARE = 0.5
"""Of a model's kernels, by number, from which it counts as trained."""


@dataclass(frozen=True)
class AuditedTensor:
    """One tensor of a checkpoint.

    Attributes:
        name, shape, dtype: as the file has them; the dtype as safetensors writes it.
        file: the file's name.
        origin: where its values come from; None for integers and formats that nothing draws.
        mean, std, rms, minimum, maximum: of its finite entries.
        not_finite: how many are NaN or infinite.
        role: of a parameter of the target, what it is for; else empty.
        planned_std: as the target's plan would draw it; None without one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    origin: Origin | None
    mean: float = 0.0
    std: float = 0.0
    rms: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0
    not_finite: int = 0
    role: str = ""
    planned_std: float | None = None

    @property
    def is_kernel(self) -> bool:
        """Whether it has rows and columns, and values that tell their origin."""
        return len(self.shape) > 1 and self.origin is not None and self.origin.kind in (
            OriginKind.DRAWN,
            OriginKind.TRAINED,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the tensor as plain JSON values."""
        plain = asdict(self)
        if plain["origin"]:
            del plain["origin"]["fits"], plain["origin"]["narrow"]
        return plain


@dataclass(frozen=True)
class Audit:
    """What a checkpoint's weights show.

    Attributes:
        tensors: each of them, in the order of the files.
        findings: what looks wrong, the gravest first.
    """

    tensors: tuple[AuditedTensor, ...]
    findings: tuple[Finding, ...]

    @property
    def trained(self) -> bool | None:
        """Whether the model was trained; None where no kernel tells."""
        kernels = [t for t in self.tensors if t.is_kernel]
        if not kernels:
            return None
        share = sum(_kind(t) == OriginKind.TRAINED for t in kernels) / len(kernels)
        return share >= TRAINED_SHARE

    @property
    def summary(self) -> str:
        """The audit in a sentence or two."""
        kernels = [t for t in self.tensors if t.is_kernel]
        trained = sum(_kind(t) == OriginKind.TRAINED for t in kernels)
        schemes = Counter(t.origin.schemes[0] for t in kernels if t.origin and t.origin.schemes)
        parts = [f"{count} by {name}" for name, count in schemes.most_common(3)]
        rest = len(kernels) - trained - sum(count for _, count in schemes.most_common(3))
        if rest:
            parts.append(f"{rest} by {'others' if len(parts) == 3 else 'no scheme known here'}")
        by = f" ({', '.join(parts)})" if parts else ""
        if not kernels:
            return "No kernel is large enough to tell whether it was trained."
        if not trained:
            return f"As it was drawn: none of {len(kernels)} kernels was trained{by}."
        if trained == len(kernels):
            return f"Trained: all {trained} kernels that are large enough to tell."
        drawn = len(kernels) - trained
        return f"Trained: {trained} of {len(kernels)} kernels; {drawn} as they were drawn{by}."

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as plain JSON values."""
        return {
            "trained": self.trained,
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
            "tensors": [tensor.to_dict() for tensor in self.tensors],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return the audit as JSON; what isn't finite is null."""
        return json.dumps(_plain(self.to_dict()), indent=indent)

    def __str__(self) -> str:
        """Return the summary, and the findings, a line each."""
        return "\n".join([self.summary, *(f"- {finding}" for finding in self.findings)])


def audit(
    path: str | os.PathLike[str],
    plan: Plan | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Audit:
    """Return what the weights of a checkpoint show: which were drawn, how, and which were trained.

    Each tensor is read once, a block at a time: memory stays at a few megabytes a thread, and what
    the rows and columns of one tensor take.

    Args:
        path: a safetensors file, a folder with one or with shards, or the index of shards.
        plan: of the model that the weights are for: its roles and scales are held to them.
        threads: how many tensors are read at once; all cores by default.
        progress: called with (tensors that are done, how many there are).

    Raises:
        TargetError: there is no such file, a shard is missing, or a file isn't safetensors.
    """
    checkpoint = open_checkpoint(Path(path))
    floats = [tensor for tensor in checkpoint.tensors if tensor.is_float]
    found: list[Looked] = []
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        shapes = {tensor.name: tensor.shape for tensor in checkpoint.tensors}
        limits = [_bias_limit(tensor, shapes) for tensor in floats]
        for own in pool.map(_look_at, floats, limits):
            found.append(own)
            if progress is not None:
                progress(len(found), len(floats))
    origins = settled([own.origin for own in found])
    looked = {
        own.name: replace(own, origin=origin) for own, origin in zip(found, origins, strict=True)
    }
    rows = {row.name: row for row in plan.rows} if plan else {}
    names = _names_in_plan(checkpoint, rows)
    tensors = tuple(
        _audited(tensor, looked.get(tensor.name), rows.get(names.get(tensor.name, "")))
        for tensor in checkpoint.tensors
    )
    trained = Audit(tensors, ()).trained is True
    wrong = findings_of(checkpoint, looked, trained=trained, rows=rows, names=names)
    return Audit(tensors, wrong)


def _look_at(tensor: StoredTensor, bias_limit: float | None) -> Looked:
    """Return what is known of one tensor, with nothing kept that is large."""
    found = look_over(tensor)
    own = Looked(tensor, found, origin_of(tensor, found, bias_limit))
    return Looked(tensor, found.moments(), own.origin, findings_in(own))


def _audited(tensor: StoredTensor, own: Looked | None, row: Row | None) -> AuditedTensor:
    audited = AuditedTensor(tensor.name, tensor.shape, tensor.dtype, tensor.path.name, None)
    if own is not None:
        audited = replace(
            audited,
            origin=own.origin,
            mean=own.found.mean,
            std=own.found.std,
            rms=own.found.rms,
            minimum=own.found.minimum,
            maximum=own.found.maximum,
            not_finite=own.found.not_finite,
        )
    return audited if row is None else replace(audited, role=str(row.role), planned_std=row.std)


def _kind(tensor: AuditedTensor) -> OriginKind | None:
    return tensor.origin.kind if tensor.origin else None


def _bias_limit(tensor: StoredTensor, shapes: Mapping[str, tuple[int, ...]]) -> float | None:
    """Return 1/√fan_in of the weight beside a bias, or of a recurrence 1/√hidden; None without."""
    head, dot, last = tensor.name.rpartition(".")
    if not last.startswith("bias") or len(tensor.shape) != 1:
        return None
    name = last.replace("bias", "weight", 1).replace("weight_ih", "weight_hh")
    shape = shapes.get(f"{head}{dot}{name}", ())
    fan_in = math.prod(shape[1:]) if len(shape) > 1 and shape[0] == tensor.shape[0] else 0
    return 1.0 / math.sqrt(fan_in) if fan_in else None


def _names_in_plan(checkpoint: Checkpoint, rows: Mapping[str, Row]) -> dict[str, str]:
    """Return, by a tensor's name, the parameter that it is of.

    A prefix that one of the two has, as wrappers leave it, is passed over where most of the
    parameters are found so.
    """
    own = [tensor.name for tensor in checkpoint.tensors]
    exact = {name: name for name in own if name in rows}
    # Of parameters that share one memory the plan has one, and the file has it under another name.
    exact |= {kept: left for left, kept in checkpoint.aliases.items() if kept not in rows}
    exact = {name: parameter for name, parameter in exact.items() if parameter in rows}
    if not rows or 2 * len(exact) > len(rows):
        return exact
    last = list(rows)[-1]  # its own prefix, or the file's, is what one has more
    votes: dict[tuple[str, str], dict[str, str]] = {}
    for name in own:
        if name.endswith(f".{last}"):
            mine, theirs = name.removesuffix(last), ""
        elif last.endswith(f".{name}"):
            mine, theirs = "", last.removesuffix(name)
        else:
            continue
        votes[mine, theirs] = {
            each: theirs + each.removeprefix(mine)
            for each in own
            if each.startswith(mine) and theirs + each.removeprefix(mine) in rows
        }
    best = max(votes.values(), key=len, default={})
    return best if 2 * len(best) > len(rows) else exact


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
