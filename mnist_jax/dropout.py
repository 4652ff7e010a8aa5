"""Dropout whose random numbers cost next to nothing on a CPU.

JAX compiles its generator for CPUs as a loop over memory, which took a seventh of a lesson's training time. Here the
same function (Threefry-2x32 with 20 rounds: Salmon et al. 2011, doi:10.1145/2063384.2063405) is written without a loop,
so that XLA fuses it with what uses the numbers. With JAX's defaults (partitionable Threefry, no jax_enable_x64) the
bits are those of `jax.random.bits`, and the masks those of `flax.linen.Dropout`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


class Dropout(nn.Module):
    """Sets each input to 0 with probability `rate`, and divides the others by 1 - `rate`.

    Attributes:
      rate: in [0, 1).
      deterministic: whether to return the inputs unchanged; if not, the rng `dropout` is needed.
    """

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply dropout; the output has the shape and dtype of `x`."""
        if self.deterministic or self.rate == 0:
            return x
        keep = 1 - self.rate
        # The 23 bits of a float32's fraction, as jax.random.bernoulli compares them.
        kept = random_bits(self.make_rng("dropout"), x.shape) >> 9 < math.ceil(np.float32(keep) * 2**23)
        return jnp.where(kept, x / keep, 0)


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The uint32 bits of `jax.random.bits(key, shape)`, computed without a loop; for fewer than 2^32 numbers."""
    if jax.random.key_impl(key) != "threefry2x32":
        return jax.random.bits(key, shape)
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ _PARITY)
    x = jnp.broadcast_to(keys[0], shape)
    y = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape) + keys[1]
    for block in range(5):
        for distance in _ROTATIONS[block % 2]:
            x += y
            y = x ^ (y << distance | y >> 32 - distance)
        x += keys[(block + 1) % 3]
        y += keys[(block + 2) % 3] + np.uint32(block + 1)
    return x ^ y
