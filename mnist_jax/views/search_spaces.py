"""The table of search spaces in docs/search_spaces.md."""

from collections.abc import Mapping

from mnist_jax.studies.dimensions import Choice, Range
from mnist_jax.studies.spaces import Space
from mnist_jax.views.words import markdown_table

PAGE = "docs/search_spaces.md"
HEADER = ["optimizer", "learning rate", "other numbers", "choices", "trial 0"]


def search_spaces_table(spaces: Mapping[str, Space]) -> str:
    """One row per optimizer, as Markdown."""
    return markdown_table(HEADER, [_row(name, space) for name, space in spaces.items()])


def _row(name: str, space: Space) -> list[str]:
    rate, *others = space.ranges
    numbers = "; ".join(f"{found}: {_ends(found)}" for found in others)
    first = {"learning_rate": space.optimizer.learning_rate, **dict(space.optimizer.hyperparameters)}
    return [
        name,
        f"{_ends(rate)}{'' if rate.form == 'value' else f' ({rate})'}",
        numbers or "none",
        "; ".join(map(_choice, space.choices)) or "none",
        ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in first.items()),
    ]


def _ends(found: Range) -> str:
    return f"{found.low:g} to {found.high:g}"


def _choice(choice: Choice) -> str:
    return f"{choice}: {' or '.join(map(_value, choice.values))}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
