"""The network of all six lessons, and PyTorch's initial weights for it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn.initializers import Initializer

from mnist_jax.dropout import Dropout
from mnist_jax.errors import UserError
from mnist_jax.lessons import CLASSES, IMAGE_SHAPE, PIXELS, Lesson, single_example


def pytorch_kernel() -> Initializer:
    """Uniform on +-1/sqrt(fan_in): what torch.nn.Linear's `kaiming_uniform_(weight, a=sqrt(5))` amounts to.

    Variance scaling's uniform has the limit sqrt(3 scale / fan_in), hence scale 1/3.
    """
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def he_kernel() -> Initializer:
    """Uniform on +-sqrt(6/fan_in), variance 2/fan_in (He et al. 2015, arXiv:1502.01852, eq. 10)."""
    return nn.initializers.he_uniform()


def pytorch_bias(fan_in: int) -> Callable[..., jax.Array]:
    """Uniform on +-1/sqrt(fan_in), torch.nn.Linear's default; `fan_in` cannot be read from a bias's own shape."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        limit = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


_KERNELS = {"pytorch": pytorch_kernel, "he": he_kernel}


def check_images(images: jax.Array) -> None:
    """Raise `UserError` unless images are uint8 `[n, 28, 28]`; checked in tracing, so at no cost when compiled."""
    shape, dtype = getattr(images, "shape", ()), getattr(images, "dtype", np.dtype(object))
    if dtype != jnp.uint8 or len(shape) != 3 or shape[1:] != IMAGE_SHAPE:
        raise UserError(
            f"Images must be uint8 of shape (n, 28, 28), 0 the background and 255 the ink; these are {dtype} of shape "
            f"{shape}."
        )


class Network(nn.Module):
    """784 pixels -> hidden blocks -> 10 logits, as `lesson` specifies.

    Layers are named as in the notebooks: fc1, batch_norm1, fc2, ...

    Attributes:
      lesson: its network fields are used, its optimizer and batch size are not.
    """

    lesson: Lesson

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Logits of a batch.

        Args:
          images: uint8 `[batch, 28, 28]`.
          train: whether to apply dropout (which needs the rng `dropout`) and to normalise by the batch's statistics
            instead of the running ones.

        Returns:
          Unnormalised log probabilities `[batch, 10]` in the lesson's dtype.

        Raises:
          UserError: images of the wrong shape or dtype, or in training with batch norm a single one.
        """
        lesson = self.lesson
        check_images(images)
        if train and lesson.batch_norm and images.shape[0] == 1:
            raise single_example()
        activation = getattr(jax.nn, lesson.activation)
        x = images.reshape(images.shape[0], PIXELS).astype(lesson.dtype) / 255
        for layer, width in enumerate(lesson.hidden, start=1):
            x = self._dense(x, width, name=f"fc{layer}")
            if lesson.batch_norm:
                # PyTorch's momentum 0.1 is the share of the new value, Flax's 0.9 that of the old.
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=1e-5,
                    param_dtype=lesson.dtype,
                    force_float32_reductions=False,  # in the lesson's dtype, so that float64 is float64 throughout
                    name=f"batch_norm{layer}",
                )(x)
            x = activation(x)
            x = Dropout(lesson.dropout_rate, deterministic=not train)(x)
        return self._dense(x, CLASSES, name=f"fc{len(lesson.hidden) + 1}")

    def _dense(self, x: jax.Array, width: int, *, name: str) -> jax.Array:
        return nn.Dense(
            width,
            kernel_init=_KERNELS[self.lesson.initialisation](),
            bias_init=pytorch_bias(fan_in=x.shape[-1]),
            param_dtype=self.lesson.dtype,
            name=name,
        )(x)
