"""What `mnist-jax verify` found, in words."""

from collections.abc import Iterable, Mapping

import jax

from mnist_jax.lessons import Dtype
from mnist_jax.studies.verification import Comparison

CHECKS = ["lesson", "in", "compared with", "result"]
_COMPARED_WITH = {"float64": "PyTorch", "float32": "this project"}


def check_rows(found: Mapping[tuple[str, Dtype], Comparison]) -> list[list[str]]:
    """Rows of the table, by lesson and dtype."""
    return [[lesson_id, dtype, _COMPARED_WITH[dtype], words(one)] for (lesson_id, dtype), one in found.items()]


def words(found: Comparison) -> str:
    """The same bits, within rounding, or different."""
    size = f"{found.difference:.1e} in {found.quantity}, limit {found.limit:.0e}"
    if found.different:  # maybe in evaluation only, after training to the same bits
        return f"different ({size})"
    return "the same bits" if found.same_bits else f"within rounding (largest difference {size})"


def assumptions(dtypes: Iterable[Dtype]) -> str:
    """What this comparison assumes, which may not hold for other training on the device."""
    double = "" if "float64" in dtypes else "TPUs are taken to have no float64, so only float32 is compared. "
    return (
        f'{double}Matrix products are computed with jax_default_matmul_precision "highest"; by default TPUs round '
        "factors to bfloat16, and GPUs may round them to TF32, so that other training there is rounded more coarsely."
    )


def conclusion(found: Mapping[tuple[str, Dtype], Comparison]) -> str:
    """One sentence about all lessons and dtypes."""
    device = f"JAX {jax.__version__} on this device ({jax.devices()[0].device_kind})"
    wrong = [f"{lesson_id} in {dtype}" for (lesson_id, dtype), one in found.items() if one.different]
    if wrong:
        return (
            f"Different: {', '.join(wrong)}; {device} does not compute what it should: compare the installed versions "
            "with requirements.lock, and try --no-compilation-cache."
        )
    return f"Verified: {device} computes what it should."
