"""The dimensions of a search space: ranges of numbers, and choices."""

import dataclasses
import math
from typing import Literal

from mnist_jax.optimizers.parameters import Value

DIGITS = 6  # significant digits of a value, so that what is recorded is what is trained


@dataclasses.dataclass(frozen=True)
class Range:
    """A number that is drawn uniformly on a log scale.

    Attributes:
      names: names of the optimizer's arguments that it sets, all to the same value.
      low: smallest number drawn.
      high: largest number drawn.
      form: what is drawn: the value, 1 - value, or value / (1 - momentum).
    """

    names: tuple[str, ...]
    low: float
    high: float
    form: Literal["value", "one_minus", "over_one_minus_momentum"] = "value"

    def __str__(self) -> str:
        name = " and ".join(self.names).replace("_", " ")
        return {"one_minus": f"1 - {name}", "over_one_minus_momentum": f"{name} / (1 - momentum)"}.get(self.form, name)

    def value(self, u: float, momentum: float) -> float:
        """The value at position `u` of the range, from 0 to 1."""
        drawn = self.low * (self.high / self.low) ** u
        exact = {"one_minus": 1 - drawn, "over_one_minus_momentum": drawn * (1 - momentum)}.get(self.form, drawn)
        return float(f"{exact:.{DIGITS}g}")

    def place(self, value: float, momentum: float) -> float:
        """The inverse of `value`: the position of a value, 0 at the low end and 1 at the high end, up to rounding."""
        drawn = {"one_minus": 1 - value, "over_one_minus_momentum": value / (1 - momentum)}.get(self.form, value)
        return math.log(drawn / self.low) / math.log(self.high / self.low)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting for which one of several values is drawn with equal probability; it changes the compiled program.

    Attributes:
      name: `schedule`, `warmup_fraction` (of the run's steps), or an argument of the optimizer.
      values: values to choose from.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What it sets, as for a `Range`."""
        return (self.name,)

    def __str__(self) -> str:
        return self.name.replace("_", " ")
