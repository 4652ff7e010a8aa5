"""optax's optimizers, schedules and chains by name, as values."""

from mnist_jax.optimizers.factories import OPTIMIZERS as OPTIMIZERS
from mnist_jax.optimizers.factories import TRANSFORMATIONS as TRANSFORMATIONS
from mnist_jax.optimizers.factories import register as register
from mnist_jax.optimizers.parameters import a_number as a_number
from mnist_jax.optimizers.parameters import is_number as is_number
from mnist_jax.optimizers.parameters import is_whole as is_whole
from mnist_jax.optimizers.schedules import Schedule as Schedule
from mnist_jax.optimizers.schedules import schedule as schedule
from mnist_jax.optimizers.schedules import schedule_names as schedule_names
from mnist_jax.optimizers.values import Optimizer as Optimizer
from mnist_jax.optimizers.values import Transformation as Transformation
from mnist_jax.optimizers.values import hyperparameter_names as hyperparameter_names
from mnist_jax.optimizers.values import optimizer as optimizer
from mnist_jax.optimizers.values import transformation as transformation
