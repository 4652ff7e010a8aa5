"""Search spaces of optimizers, as values, and the quasi-random settings that a search tries.

Ranges reach around optax's defaults about as far as those of AlgoPerf's published baselines do
(mlcommons/algorithmic-efficiency, `archived_paper_baselines`: 1 - b1 from 0.02 to 0.5, weight decay up to 1). eps ends
at 0.001, because Adam with a far larger one could imitate momentum (Choi et al. 2019, arXiv:1910.05446). SGD is stable
in a range of learning rate / (1 - momentum), so this quotient is drawn: a range of rates would waste the corner of
large momenta. The ranges were set with validation results of earlier studies of lesson `he` in view.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mnist_jax.errors import UserError
from mnist_jax.lessons import LESSONS, optimizer_to_json
from mnist_jax.optimizers import Optimizer, Schedule, Transformation, schedule
from mnist_jax.optimizers.factories import full_name, optimizer_factory
from mnist_jax.optimizers.parameters import Value, is_number, parameters
from mnist_jax.optimizers.values import may_start_at_0, takes_schedule
from mnist_jax.studies.dimensions import Choice, Range

STUDY_SEED = 18  # seed of the scrambles of all searches
MOST_TRIALS = 512  # to be drawn; a trial's number is its seed, and the seeds of confirmation begin at 1,000

# Linear warm-up over 5 % of the steps (`warmup_factor` of AlgoPerf's baselines), then a cosine to 0 at the last one.
WARMUP = 0.05
FIRST_STEP = 0.01  # of the peak: where the warm-up begins for optimizers that would never leave 0

# Good draws crowd at an end if 4 of the best 8 lie in its outer eighth: if the dimension did not matter, they would
# with probability 0.011 (scipy.stats.binom.sf(3, 8, 1 / 8)).
EDGES = {"best": 8, "crowd": 4, "outer": 1 / 8, "outer_of_chosen": 0.05}

Setting = Mapping[str, Value]


class Edge(NamedTuple):
    """An end of a range at which the best trials crowd: a wider space may favour the optimizer.

    Attributes:
      range: the range.
      end: its low or high end.
      crowded: number of the best draws that lie near that end.
      has_chosen: whether the chosen trial lies at it.
    """

    range: Range
    end: Literal["low", "high"]
    crowded: int
    has_chosen: bool


@dataclasses.dataclass(frozen=True)
class Space:
    """What a search of an optimizer may try.

    Attributes:
      optimizer: optimizer of trial 0; what no dimension sets stays in all trials.
      dimensions: ranges and choices, in the order of the quasi-random sequence's columns.
    """

    optimizer: Optimizer
    dimensions: tuple[Range | Choice, ...]

    @property
    def label(self) -> str:
        """Its name in tables: the optimizer's, with the settings that stay in all trials."""
        drawn = self._first()
        stays = tuple((name, value) for name, value in self.optimizer.hyperparameters if name not in drawn)
        return dataclasses.replace(self.optimizer, hyperparameters=stays).label

    @property
    def ranges(self) -> list[Range]:
        """The continuous dimensions, the learning rate's first."""
        return [dimension for dimension in self.dimensions if isinstance(dimension, Range)]

    @property
    def choices(self) -> list[Choice]:
        """The other dimensions."""
        return [dimension for dimension in self.dimensions if isinstance(dimension, Choice)]

    def trials(self, data: str, net: str, count: int) -> list[dict[str, Value]]:
        """Settings of trial 0 and of `count` quasi-random trials, always the same for the same arguments.

        They are a Sobol sequence, scrambled differently for each data set, net and optimizer, so that all searches are
        independent of each other.

        Raises:
          UserError: `count` is not a power of 2, without which the sequence is not balanced, or too large.
        """
        from scipy.stats import qmc  # half a second, which a single run need not wait

        if not 1 <= count <= MOST_TRIALS or count.bit_count() > 1:
            raise UserError(f"The number of trials must be a power of 2 from 1 to {MOST_TRIALS}, not {count:,}.")
        rng = np.random.default_rng([STUDY_SEED, zlib.crc32(f"{data}/{net}/{self.label}".encode())])
        sequence = qmc.Sobol(len(self.dimensions), scramble=True, rng=rng)
        points = sequence.random_base2(count.bit_length() - 1)
        return [self._first(), *map(self._setting, points.tolist())]

    def _first(self) -> dict[str, Value]:
        """The setting of trial 0."""
        own = {**dict(self.optimizer.hyperparameters), "learning_rate": self.optimizer.learning_rate}
        names = [name for dimension in self.dimensions for name in dimension.names]
        return {name: own.get(name, _UNSET.get(name)) for name in names}

    def _setting(self, point: Sequence[float]) -> dict[str, Value]:
        """The setting at a point of the unit cube."""
        drawn: dict[str, Value] = {}
        places = list(zip(self.dimensions, point, strict=True))
        for dimension, u in reversed(places):  # the learning rate, which comes first, depends on the momentum
            if isinstance(dimension, Choice):
                drawn[dimension.name] = dimension.values[int(len(dimension.values) * u)]
            else:
                drawn |= dict.fromkeys(dimension.names, dimension.value(u, self._momentum(drawn)))
        return {name: drawn[name] for name in self._first()}

    def _momentum(self, setting: Setting) -> float:
        stays = dict(self.optimizer.hyperparameters).get("momentum")
        return float(setting.get("momentum", stays) or 0)

    def place(self, dimension: Range, setting: Setting) -> float:
        """The position of a setting in one of the ranges; see `Range.place`."""
        return dimension.place(float(setting[dimension.names[0]] or 0), self._momentum(setting))

    def numbers(self, setting: Setting) -> tuple[tuple[str, float], ...]:
        """A setting's traced numbers, for `Run`."""
        return tuple((name, float(setting[name] or 0)) for found in self.ranges for name in found.names)

    def program(self, setting: Setting, steps: int) -> Optimizer:
        """The optimizer whose program trains a setting: one, with trial 0's numbers, for all with the same choices.

        Args:
          setting: a setting of this space.
          steps: number of steps of the whole run.
        """
        chosen = {choice.name: setting[choice.name] for choice in self.choices}
        rates = self.optimizer.schedule
        if chosen.pop("schedule", None) == "cosine":
            start = 0.0 if may_start_at_0(self.optimizer.name) else FIRST_STEP
            rates = schedule("warmup_cosine_decay", warmup_fraction=WARMUP, init_value=start)
        if fraction := chosen.pop("warmup_fraction", None):
            chosen["warmup_steps"] = max(1, round(float(fraction) * steps))
        pairs = tuple(sorted({**dict(self.optimizer.hyperparameters), **chosen}.items()))
        return dataclasses.replace(self.optimizer, hyperparameters=pairs, schedule=rates)

    def trained(self, setting: Setting, steps: int) -> Optimizer:
        """The optimizer with the setting's own numbers; see `program`."""
        program, numbers = self.program(setting, steps), dict(self.numbers(setting))
        rate = numbers.pop("learning_rate")
        pairs = tuple(sorted({**dict(program.hyperparameters), **numbers}.items()))
        return dataclasses.replace(program, learning_rate=rate, hyperparameters=pairs)

    def variant(self, setting: Setting) -> str:
        """A setting's choices in words; they determine the compiled program."""
        return ", ".join(f"{choice} {str(setting[choice.name]).lower()}" for choice in self.choices)

    def to_json(self) -> dict[str, Any]:
        """For results.json."""
        dimensions = [dataclasses.asdict(dimension) for dimension in self.dimensions]
        return {"optimizer": optimizer_to_json(self.optimizer), "dimensions": dimensions}


def edges(space: Space, settings: Sequence[Setting], scores: Sequence[int], chosen: Setting | None) -> list[Edge]:
    """Ends of ranges at which the best trials crowd: a warning, not a test.

    Args:
      space: the space that was searched.
      settings: settings of the drawn trials.
      scores: their scores; higher is better.
      chosen: the chosen setting; None if it is trial 0, which was not drawn.
    """
    ranked = sorted(range(len(settings)), key=lambda number: -scores[number])
    best = [settings[number] for number in ranked[: int(EDGES["best"])]]
    found = []
    for dimension in space.ranges:
        for end in ("low", "high"):

            def depth(setting: Setting, dimension: Range = dimension, end: str = end) -> float:
                place = space.place(dimension, setting)
                return place if end == "low" else 1 - place

            crowded = sum(depth(setting) < EDGES["outer"] for setting in best)
            has_chosen = chosen is not None and depth(chosen) < EDGES["outer_of_chosen"]
            if crowded >= EDGES["crowd"] or has_chosen:
                found.append(Edge(dimension, end, crowded, has_chosen))
    return found


# --- the spaces ---

_UNSET: Mapping[str, Value] = {"schedule": "constant", "warmup_fraction": 0.0}  # of trial 0

_SCHEDULE = Choice("schedule", ("constant", "cosine"))
_WARMUP = Choice("warmup_fraction", (0.0, WARMUP))  # of optimizers that bring their own schedule
_NESTEROV = Choice("nesterov", (False, True))
_EPS, _DECAY = Range(("eps",), 1e-9, 1e-3), Range(("weight_decay",), 1e-3, 1)


def _rate(low: float, high: float) -> Range:
    return Range(("learning_rate",), low, high)


def _one_minus(name: str, low: float, high: float) -> Range:
    return Range((name,), low, high, "one_minus")


def _betas(*names: str) -> tuple[Range, Range]:
    first, second = names or ("b1", "b2")
    return _one_minus(first, 0.02, 0.5), _one_minus(second, 5e-4, 0.1)


def _adam_like(*further: Range) -> tuple[Range | Choice, ...]:
    return _rate(1e-5, 0.1), *_betas(), _EPS, *further, _SCHEDULE


def _space(name: str, rate: float, *dimensions: Range | Choice, **first: Value) -> Space:
    """A space; its trial 0 has this rate, what `first` names, and else optax's defaults (0 for None)."""
    known = parameters(optimizer_factory(name))
    named = {argument for dimension in dimensions for argument in dimension.names} & known.keys() - {"learning_rate"}
    defaults = {argument: known[argument].default for argument in named}
    values = {argument: 0.0 if default is None else default for argument, default in defaults.items()} | first
    return Space(Optimizer(name, rate, tuple(sorted(values.items()))), dimensions)


# The course's optimizers by name: sgd 0.01 with momentum 0.5, adam 0.01.
COURSE = {lesson.optimizer.name: lesson.optimizer for lesson in LESSONS.values()}

SPACES: Mapping[str, Space] = {
    space.optimizer.name: space
    for space in (
        _space(
            "sgd",
            COURSE["sgd"].learning_rate,
            Range(("learning_rate",), 1e-2, 3, "over_one_minus_momentum"),
            _one_minus("momentum", 0.01, 1),
            _NESTEROV,
            _SCHEDULE,
            **dict(COURSE["sgd"].hyperparameters),
        ),
        _space("adam", COURSE["adam"].learning_rate, *_adam_like()),
        _space("adamw", 1e-3, *_adam_like(_DECAY)),
        _space("nadam", 1e-3, *_adam_like()),
        _space("nadamw", 1e-3, *_adam_like(_DECAY)),
        _space("radam", 1e-3, *_adam_like()),
        _space("adabelief", 1e-3, _rate(1e-5, 0.1), *_betas(), Range(("eps", "eps_root"), 1e-18, 1e-8), _SCHEDULE),
        _space(
            "rmsprop",
            1e-3,
            _rate(1e-5, 0.1),
            _one_minus("decay", 0.005, 0.3),
            _EPS,
            _one_minus("momentum", 0.05, 1),
            _SCHEDULE,
        ),
        _space("adagrad", 0.01, _rate(5e-3, 5), Range(("initial_accumulator_value",), 1e-4, 1), _EPS, _SCHEDULE),
        _space(
            "lion",
            1e-4,
            _rate(3e-6, 3e-3),
            _one_minus("b1", 0.02, 0.5),
            _one_minus("b2", 5e-3, 0.1),
            Range(("weight_decay",), 1e-3, 10),
            _SCHEDULE,
        ),
        _space("lamb", 1e-3, _rate(1e-4, 0.3), *_betas(), _EPS, _DECAY, _SCHEDULE),
        _space("yogi", 1e-3, _rate(1e-4, 0.3), *_betas(), Range(("eps",), 1e-5, 0.1), _SCHEDULE),
        _space(
            "novograd",
            1e-3,
            _rate(1e-4, 0.3),
            _one_minus("b1", 0.02, 0.5),
            _one_minus("b2", 0.05, 0.9),
            _EPS,
            _DECAY,
            _SCHEDULE,
        ),
        _space(
            "adan",
            1e-3,
            _rate(1e-5, 0.1),
            _one_minus("b1", 0.005, 0.2),
            _one_minus("b2", 0.02, 0.3),
            _one_minus("b3", 1e-3, 0.1),
            _EPS,
            _DECAY,
            _SCHEDULE,
        ),
        _space("contrib.muon", 0.02, _rate(3e-4, 0.3), _one_minus("beta", 0.01, 0.3), _NESTEROV, _DECAY, _SCHEDULE),
        _space(
            "contrib.ademamix",
            1e-3,
            _rate(1e-5, 1e-2),
            *_betas(),
            _one_minus("b3", 1e-4, 0.1),
            Range(("alpha",), 1, 10),
            _EPS,
            _SCHEDULE,
        ),
        _space("contrib.schedule_free_sgd", 1.0, _rate(3e-2, 10), _one_minus("b1", 0.02, 0.5), _WARMUP),
        _space("contrib.schedule_free_adamw", 0.0025, _rate(1e-4, 0.1), *_betas(), _EPS, _DECAY, _WARMUP),
        _space("contrib.prodigy", 1.0, _rate(0.1, 10), *_betas("betas_1", "betas_2"), _DECAY, _SCHEDULE),
    )
}


def space_of(
    name: str,
    /,
    *,
    schedule: Schedule | None = None,
    chain: tuple[Transformation, ...] = (),
    **stays: Value,
) -> Space:
    """The space of an optimizer, without what the user has fixed, which stays in all trials.

    For an optimizer that `SPACES` lacks, the learning rate and the schedule are drawn. Trial 0 has optax's default
    rate, and the range is from a hundredth of that to ten times it; without a default, 0.001, and 1e-5 to 10.

    Raises:
      UserError: there is no such optimizer, or it does not take these values.
    """
    name = full_name(name)
    found = SPACES.get(name) or _general(name)
    settled = {*stays, *(("schedule", "warmup_fraction") if schedule is not None or "warmup_steps" in stays else ())}
    dimensions = tuple(dimension for dimension in found.dimensions if not settled & set(dimension.names))
    first = {**dict(found.optimizer.hyperparameters), **stays}
    chosen = Optimizer(name, found.optimizer.learning_rate, tuple(sorted(first.items())), schedule, chain)
    chosen.check()
    return Space(chosen, dimensions)


def _general(name: str) -> Space:
    default = parameters(optimizer_factory(name))["learning_rate"].default
    rate, reach = (float(default), (0.01, 10.0)) if is_number(default) else (1e-3, (0.01, 1e4))
    dimensions = (_rate(rate * reach[0], rate * reach[1]), *((_SCHEDULE,) if takes_schedule(name) else ()))
    return _space(name, rate, *dimensions)
