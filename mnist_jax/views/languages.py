"""The languages of pages: the demo and reports. What programs print and record is English."""

from collections.abc import Mapping
from typing import Literal, get_args

from mnist_jax.views import english, korean

Language = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

Words = Mapping[str, str]  # name -> what is said, with names of values in braces

WORDS: dict[Language, Words] = {"en": english.WORDS, "ko": korean.WORDS}
READING: dict[Language, Words] = {"en": {}, "ko": korean.READING}  # a figure or a study -> how to read it
COLUMNS: dict[Language, Words] = {"en": {}, "ko": korean.COLUMNS}  # heading of a recorded table -> what it is
ENGLISH = WORDS["en"]


class Count(int):
    """A number of things: with `{n:seed}` English says `1 seed` or `1,000 seeds`, and `{n}` is `1,000`."""

    def __format__(self, noun: str) -> str:
        return f"{int(self):,}" + f" {noun}{'s' * (self != 1)}" * bool(noun)
