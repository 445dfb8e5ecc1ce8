"""What each front end has: verbs and their words, figures, steps and operations, from the code.

    KERAS_BACKEND=jax python -m website.support > docs/support.md

All three front ends are imported, so it runs in a process of its own. A hole without a reason, or a
reason without a hole, is an error.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from website.losses import known_losses

ROOT = Path(__file__).parents[1]
PACKAGES = {"PyTorch": "torch", "Keras": "keras", "JAX": "jax"}
SPELLED = {"init": "init_"}
"""JAX changes no array in place, and so no name of its ends in ``_``."""

TRAINS = "not built: the loop that trains, and its data, are the framework's own"
WHY: dict[str, dict[str, str]] = {
    "verbs": {
        "Keras: compare": TRAINS,
        "JAX: compare": TRAINS,
        "Keras: transfer": TRAINS,
        "JAX: transfer": TRAINS,
        "Keras: measure_drift": TRAINS,
        "JAX: measure_drift": TRAINS,
        "grow": "not built: axes are followed through PyTorch's operations alone",
        "grow_vocabulary": "not built, as `grow`",
        "Keras: coordinate_check": "not built",
        "PyTorch: Meter": "nothing is compiled, so there is nothing to keep between two calls",
        "Keras: Meter": "nothing is compiled, so there is nothing to keep between two calls",
        "write_checkpoint": "not built: weights are drawn into the model's memory, then saved",
        "Keras: Plan.parameter_groups": "an optimizer of Keras's has no groups: `Plan.optimizer`",
        "JAX: Plan.parameter_groups": "an optimizer of optax has no groups: `Plan.optimizer`",
        "PyTorch: Plan.optimizer": "`Plan.parameter_groups` is for any optimizer",
    },
    "words": {
        "only": "not built: a plan is applied whole",
        "prefix": "not built: a plan is applied whole",
        "PyTorch: params": "the model holds its weights",
        "Keras: params": "the model holds its weights",
        "PyTorch: call": "the model's own call is followed",
        "Keras: call": "the model's own call is followed",
        "PyTorch: shardings": "a DTensor carries its own",
        "Keras: shardings": "not built: a variable is drawn whole, then assigned",
        "Keras: check_ranks": "not built, since variables are drawn whole",
        "JAX: check_ranks": "an array is one array for all processes",
        "Keras: buffers_filled": "variables have values once they are built",
        "JAX: buffers_filled": "other collections are made by the model's own `init`",
        "Keras: mode": "not built: it is always the first training step's",
        "JAX: mode": "`call=` says it",
        "Keras: device": "the backend's current device",
        "JAX: device": "`sharding=` says it",
        "PyTorch: sharding": "`device=`, and `region=` for a rank's own part",
        "Keras: sharding": "not built: a tensor is drawn whole, or by `region=`",
        "Keras: out": "a tensor may be immutable",
        "JAX: out": "an array is immutable",
    },
    "figures": {},
    "losses": {
        "Keras: softmax of something else": "not built: a loss may be of the backend's own "
        "operations, which aren't followed; its gradient alone doesn't tell what the softmax is of",
    },
    "steps": {
        "Spread": "not built: what all positions of a sample share counts as independent there",
    },
}


def front_end(name: str) -> Any:
    """Return the module of a front end."""
    return import_module(f"fanwise.{PACKAGES[name]}")


def sources(name: str) -> list[ast.Module]:
    """Return the parsed files of a front end."""
    folder = ROOT / "src" / "fanwise" / PACKAGES[name]
    return [ast.parse(path.read_text("utf-8")) for path in sorted(folder.rglob("*.py"))]


def verbs(name: str) -> dict[str, list[str]]:
    """Return a front end's verbs, `Plan.apply` and the like among them, with their arguments."""
    module = front_end(name)
    found: dict[str, Callable[..., Any]] = {}
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isfunction(value) or public == "Meter":
            found[SPELLED.get(public, public)] = value
    base = next(b for b in module.Plan.__mro__ if b.__name__ == "ShownPlan")
    for public, value in vars(module.Plan).items():
        if inspect.isfunction(value) and public[0] != "_" and not hasattr(base, public):
            found[f"Plan.{public}"] = value
    return {
        verb: [word for word in inspect.signature(call).parameters if word != "self"]
        for verb, call in found.items()
    }


def given_to(name: str, function: str) -> set[str]:
    """Return the keywords that a front end's code calls a function or a class with."""
    return {
        str(keyword.arg)
        for tree in sources(name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function
        for keyword in node.keywords
    }


def steps(name: str) -> set[str]:
    """Return the steps of the graph that a front end's code makes."""
    module = import_module("fanwise.network.steps.base")
    for each in ("attention", "recurrence", "signals", "weights"):
        import_module(f"fanwise.network.steps.{each}")
    known = {kind.__name__ for kind in _all_subclasses(module.Step)}
    called = {
        node.func.id
        for tree in sources(name)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return known & called


def _all_subclasses(kind: type) -> set[type]:
    own = set(kind.__subclasses__())
    return own.union(*(_all_subclasses(each) for each in own))


def operations(name: str) -> list[str]:
    """Return the operations that a front end has a rule for."""
    package = f"fanwise.{PACKAGES[name]}.tracing"
    import_module(f"{package}.{'walk' if name == 'JAX' else 'tracer'}")
    registry = import_module(f"{package}.rules.registry")
    return sorted({*registry.RULES, *getattr(registry, "CONTRACTIONS", ())})


class Reasons:
    """Says why something is missing, and sees that every reason is used."""

    def __init__(self, kind: str) -> None:
        self.all, self.left = WHY[kind], dict(WHY[kind])

    def of(self, front_end: str, what: str) -> str:
        """Return why a front end lacks something.

        Raises:
            KeyError: no reason is given.
        """
        key = what if what in self.all else f"{front_end}: {what}"
        self.left.pop(key, None)
        return self.all[key]

    def check(self) -> None:
        """Raise `ValueError` for a reason of something that isn't missing."""
        if self.left:
            raise ValueError(f"reasons without a hole: {', '.join(self.left)}")


def table(kind: str, found: Mapping[str, Mapping[str, str]], rows: Iterable[str]) -> list[str]:
    """Return what all front ends have, a table of what one lacks, and why it does."""
    reasons, rows = Reasons(kind), list(rows)
    whole = [row for row in rows if all(found[n].get(row) == "yes" for n in PACKAGES)]
    lines = [f"All three: {', '.join(f'`{row}`' for row in whole)}.", ""] if whole else []
    holes: dict[str, list[str]] = {}
    if len(whole) < len(rows):
        lines += [f"| | {' | '.join(PACKAGES)} |", f"|{'---|' * (1 + len(PACKAGES))}"]
    for row in rows:
        if row in whole:
            continue
        cells = [found[name].get(row, "—") for name in PACKAGES]
        lines.append(f"| `{row}` | {' | '.join(cells)} |")
        for name, cell in zip(PACKAGES, cells, strict=True):
            if cell == "—":
                holes.setdefault(f"`{row}`: {reasons.of(name, row)}", []).append(name)
    reasons.check()
    if not holes:
        return lines
    return [*lines, "", *(f"- {what} ({', '.join(names)})." for what, names in holes.items()), ""]


def page() -> str:
    """Return the page."""
    every = {name: verbs(name) for name in PACKAGES}
    names = sorted({verb for found in every.values() for verb in found})
    has = {
        name: {verb: ", ".join(f"`{w}`" for w in words) for verb, words in found.items()}
        for name, found in every.items()
    }
    words: dict[str, dict[str, str]] = {name: {} for name in PACKAGES}
    shared = [verb for verb in names if all(verb in every[name] for name in PACKAGES)]
    for name in PACKAGES:
        for verb in shared:
            for word in every[name][verb]:
                words[name].setdefault(word, "yes")
    from fanwise.signal import Layer, Weights

    figures: dict[str, dict[str, str]] = {}
    kinds = {
        "Layer": [f.name for f in fields(Layer)],
        "Weights": [f.name for f in fields(Weights)],
        "judge": ["sums", "output", "twins", "not_finite", "cuts", "norms_of_one",
                  "embedding_sums", "trained"],
    }  # fmt: skip
    for name in PACKAGES:
        figures[name] = {
            word: "yes"
            for kind, known in kinds.items()
            for word in given_to(name, kind)
            if word in known
        }
    losses = {name: known_losses(name) for name in PACKAGES}
    rules = {name: operations(name) for name in PACKAGES}
    made = {name: dict.fromkeys(steps(name), "yes") for name in PACKAGES}
    return "\n".join(
        [
            "# What each framework has",
            "",
            "Printed from the code by `python -m website.support`. A dash stands where there is "
            "nothing; below each table is why.",
            "",
            "## Verbs, and their words",
            "",
            *table("verbs", has, names),
            "Words of the verbs that all three have:",
            "",
            *table("words", words, sorted({w for found in words.values() for w in found})),
            "## What `measure` sees",
            "",
            "Of a layer, of a weight and of the whole model; verdicts that need a figure that is "
            "missing aren't given.",
            "",
            *table("figures", figures, dict.fromkeys(w for found in kinds.values() for w in found)),
            "## Losses whose chance level `measure` knows",
            "",
            "However they are written, in JAX and Keras on each backend: the gradient of a loss "
            "at a few points tells its kind and its targets. PyTorch sees the operations. A "
            "softmax of something else than an output is one of similarities, or with a margin. A "
            "loss that no row names, or whose gradient fits no kind at those points, has no chance "
            "level: it is measured, and not judged by one.",
            "",
            *table("losses", losses, dict.fromkeys(x for found in losses.values() for x in found)),
            "## Steps of a trace",
            "",
            *table("steps", made, sorted({step for found in made.values() for step in found})),
            "## Operations with a rule of their own",
            "",
            "What has none is run on samples.",
            "",
            *(
                f'<details markdown="1"><summary>{name}, {len(found)}</summary>\n\n'
                f"{' '.join(f'`{each}`' for each in found)}.\n\n</details>\n"
                for name, found in rules.items()
            ),
        ]
    )


if __name__ == "__main__":
    print(page(), end="")
