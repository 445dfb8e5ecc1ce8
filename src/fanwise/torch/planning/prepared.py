"""A plan made ready for a model: whatever can fail has been looked at, and nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from torch import Tensor, nn

from fanwise.drawing.fill import check_region
from fanwise.drawing.streams import check_seed
from fanwise.names import NameMap, check_names
from fanwise.planning.parts import Only, named_by, parts_of
from fanwise.planning.plan import Plan, plan_digest
from fanwise.planning.progress import Progress, interrupted
from fanwise.planning.rows import Row
from fanwise.planning.streams import check_streams
from fanwise.torch.materialized import check_materialized
from fanwise.torch.planning.buffers import check_buffers, filled_buffers, left_empty
from fanwise.torch.planning.held import remember_drawn
from fanwise.torch.planning.rows import check_fits, fills
from fanwise.torch.wrappers import without_wrappers

ALIKE_REMEDY = (
    "add a rule, names=fanwise.names.TORCH.extend(Rename(…)), or keep own names, "
    "names=fanwise.names.TORCH."
)


class Prepared:
    """A plan, or a part of it, and the memory that it is drawn into; see `Plan.apply`.

    Attributes:
        left_empty: buffers of what is drawn that nobody fills, since `only` doesn't name them.

    Raises:
        ModelError: the model's parameters aren't those of the plan, or are elsewhere; a buffer is
            on meta, or nobody knows how to fill it.
        ArgumentError: a seed outside [0, 2⁶⁴), a parameter that can't be written, two parameters
            that map to one stream, or a prefix or name that the plan doesn't have.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        *,
        seed: int,
        names: NameMap,
        threads: int | None,
        buffers_filled: bool = False,
        prefix: str = "",
        only: Only | None = None,
    ) -> None:
        self.plan, self.seed = plan, check_seed(seed)
        check_names(names)
        if only is not None and not isinstance(only, str | Mapping):
            only = tuple(only)
        every = (*(row.name for row in plan.rows), *dict(plan.tied), *plan.buffers)
        named = named_by(every, prefix, only)

        def needed(module: str) -> bool:
            return any(name.startswith(f"{prefix}{module}.") for name in named)

        with without_wrappers(model, needed) as plain:
            parameters = {prefix + name: p for name, p in plain.named_parameters()}
            aliases = [prefix + name for name, _ in plain.named_parameters(remove_duplicate=False)]
            buffers = [prefix + name for name, _ in plain.named_buffers(remove_duplicate=False)]
            self.parts = parts_of(_rows_here(plan, parameters), prefix, only, (*aliases, *buffers))
            self.rows = [part.row for part in self.parts]
            wanted = {row.name for row in self.rows} | {*named_by(parameters, prefix, only)}
            check_materialized(plain, {name.removeprefix(prefix) for name in wanted})
            self.parameters = {name: p for name, p in parameters.items() if name in wanted}
            check_fits(plan, self.rows, self.parameters, prefix)
            empty = [] if buffers_filled else named_by(plan.buffers, prefix, only)
            own = [name.removeprefix(prefix) for name in empty]
            check_buffers(plain, own)
            self.buffers = [*filled_buffers(plain, own).values()]
            whole = [self.parameters[row.name] for row, region in self.parts if region is None]
            others = [] if buffers_filled or not whole else named_by(plan.buffers, prefix)
            rest = [name.removeprefix(prefix) for name in others if name not in empty]
            self.left_empty = [prefix + name for name in left_empty(plain, rest, whole)]
        self.streams = [names(row.like or row.name) for row in self.rows]
        check_streams(zip(self.rows, self.streams, strict=True), ALIKE_REMEDY)
        self.fills = [
            fills(part.row, self.parameters[part.row.name], seed, threads, stream, part.region)
            if part.row.draws
            else []
            for part, stream in zip(self.parts, self.streams, strict=True)
        ]

    def terms(self, shared: Collection[Tensor]) -> Mapping[str, object]:
        """Return by name what ranks that share these parameters must have alike."""
        chosen = [
            (row.name, stream, check_region(row.shape, region))
            for (row, region), stream in zip(self.parts, self.streams, strict=True)
            if self.parameters[row.name] in shared
        ]
        return {
            "seed": self.seed,
            "plan": plan_digest(self.plan, self.seed, ()),  # of the version too
            "choice of parameters and regions": chosen,
        }

    def draw(self, progress: Progress) -> None:
        """Fill the buffers, then the parameters."""
        for buffer in self.buffers:
            buffer.write()
        done = 0
        try:
            for part, fill_calls in zip(self.parts, self.fills, strict=True):
                for fill in fill_calls:
                    fill()
                if fill_calls and part.region is None:
                    remember_drawn(self.parameters[part.row.name], part.row.zeros)
                done += 1
                progress(done, len(self.fills))
        except BaseException as error:
            error.add_note(interrupted(self.rows, done, self.seed))
            raise


def _rows_here(plan: Plan, parameters: Collection[str]) -> list[Row]:
    """Return the rows; that of a tied weight by the name that it has among these parameters."""
    here = {row: name for name, row in plan.tied if name in parameters and row not in parameters}
    return [
        replace(row, name=here[row.name], like=row.like or row.name) if row.name in here else row
        for row in plan.rows
    ]
