"""Keras's optimizers, as a plan's corrections ask for: each variable has a rate of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from fanwise.errors import ArgumentError, ModelError
from fanwise.planning.hyperparameters import Decay, checked_optimizer, corrections_of
from fanwise.planning.plan import Plan
from fanwise.policies.corrections import Correction, Optimizer


class ScaledSteps:
    """What goes before an optimizer's class, so that variables have their own hyperparameters.

    `update_step` is where Keras's documentation has an optimizer's own update, and takes the
    learning rate; weight decay is applied before it.
    """

    weight_decay: Any
    learning_rate: Any
    epsilon: float
    fanwise_corrections: ClassVar[Mapping[int, tuple[Any, Correction]]]
    """Variables, each with its correction, by their id."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable, by its own learning rate and ε."""
        own = self._correction(variable)
        epsilon = getattr(self, "epsilon", None)
        if epsilon is not None and own.epsilon != 1.0:
            self.epsilon = epsilon * own.epsilon
        try:
            super().update_step(gradient, variable, learning_rate * own.rate)  # type: ignore[misc]
        finally:
            if epsilon is not None:
                self.epsilon = epsilon

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        if self.weight_decay is None:
            return
        for variable in variables:
            own = self._correction(variable)
            if own.decay and self._use_weight_decay(variable):  # type: ignore[attr-defined]
                share = self.weight_decay * own.decay * own.rate * self.learning_rate
                variable.assign(variable - variable * ops.cast(share, variable.dtype))

    def _correction(self, variable: Any) -> Correction:
        index: int = self._get_variable_index(variable)  # type: ignore[attr-defined]
        own = self._trainable_variables[index]  # type: ignore[attr-defined]
        if id(own) not in self.fanwise_corrections:
            raise ModelError(f"the plan has no row for {own.path!r}: plan this model anew.")
        return self.fanwise_corrections[id(own)][1]

    @classmethod
    def from_config(cls, config: Any, **more: Any) -> Any:
        """Raise: a configuration doesn't hold the corrections."""
        raise ArgumentError(
            "this optimizer's factors are a plan's: make it by plan.optimizer(model, …), and load "
            "the model with compile=False."
        )


def scaled_optimizer(
    plan: Plan, variables: Mapping[str, Any], optimizer: Any, decay: Decay | None
) -> Any:
    """Return the optimizer of `Plan.optimizer`.

    Args:
        plan: of the model.
        variables: the model's, by name.
        optimizer: see there.
        decay: see there.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ArgumentError(
            f"optimizer: pass one of Keras's, such as keras.optimizers.AdamW(1e-3), got "
            f"{optimizer!r}."
        )
    if optimizer.built:
        raise ArgumentError("optimizer: it has been built for a model already: pass a new one.")
    name = type(optimizer).__name__
    if checked_optimizer(plan, name) == Optimizer.MUON:
        raise ArgumentError("Keras's Muon divides variables among itself and AdamW by their names.")
    # On PyTorch an instance is of a class that updates all variables at once.
    kind = getattr(keras.optimizers, name)
    corrections = corrections_of(plan, name, decay=decay)
    own = {id(variables[n]): (variables[n], correction) for n, correction in corrections.items()}
    made = type(f"Scaled{name}", (ScaledSteps, kind), {"fanwise_corrections": own})
    return kind.from_config.__func__(made, optimizer.get_config())
