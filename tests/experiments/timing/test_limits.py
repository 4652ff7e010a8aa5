"""What an epoch must do at least, and how fast the machine does it."""

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.lessons import each_lesson
from helpers.turns import note
from jax.extend.core import jaxprs_in_params
from timing import limits
from timing.processes import in_processes

from mnist_jax import LESSONS, Examples, init_state, train_step


def flops_of_products(program):
    """FLOPs of the products in a jaxpr and its inner ones: twice the sizes of the output and the contracted axes."""
    found = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            found += 2 * equation.outvars[0].aval.size * int(np.prod([shape[axis] for axis in contracted]))
        for inner in jaxprs_in_params(equation.params):
            found += flops_of_products(inner)
    return found


@each_lesson
def test_flops_are_those_of_a_step_s_products(lesson):
    state = jax.eval_shape(functools.partial(init_state, lesson), jax.random.key(0))
    batch = Examples(jnp.zeros((32, 28, 28), jnp.uint8), jnp.zeros(32, jnp.uint8))
    step = jax.make_jaxpr(train_step)(state, batch)
    assert limits.flops_per_example(lesson) * 32 == flops_of_products(step.jaxpr)


def test_bytes_per_step():
    """Weights read twice and written, gradients written and read; one number per weight for momentum, two for Adam."""
    mlp = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert limits.bytes_per_step(LESSONS["mlp"]) == 4 * mlp * (5 + 2)
    assert limits.bytes_per_step(LESSONS["adam"]) == 4 * (mlp + 2 * (512 + 256)) * (5 + 4)


def test_limits_are_of_an_epoch(dataset, monkeypatch):
    """66 examples in three steps; a product of 2 * 4096^3 operations takes 2 seconds."""
    monkeypatch.setattr(limits, "copy_bandwidth", lambda: 3e9)
    found = limits.limits({"mlp": LESSONS["mlp"]}, dataset, 2.0)
    assert found == {
        "product_gigaflops_per_second": pytest.approx(4.096**3),
        "copy_gigabytes_per_second": 3,
        "epoch_gigaflops": {"mlp": pytest.approx(66 * 2_407_424e-9)},
        "epoch_gigabytes": {"mlp": pytest.approx(3 * limits.bytes_per_step(LESSONS["mlp"]) / 1e9)},
    }


def test_a_copy_reads_and_writes(monkeypatch):
    monkeypatch.setattr(limits, "COPIED", 2**20)
    monkeypatch.setattr(limits, "elapsed", lambda _: 0.5)
    monkeypatch.setattr(limits, "COPIES", 3)
    assert limits.copy_bandwidth() == 3 * 2**22


def test_copies_are_made_in_a_row(monkeypatch):
    """A GPU makes one in less time than a call takes: one wait for all of them."""
    waited = []
    monkeypatch.setattr(limits, "COPIED", 64)
    monkeypatch.setattr(limits, "COPIES", 3)
    monkeypatch.setattr(jax, "block_until_ready", lambda arrays: waited.append(float(arrays[0][0])))
    limits.copy_bandwidth()
    assert waited == [3.0 * turn for turn in range(1, 7)]


@pytest.mark.parametrize("way", [limits.numpy_products, limits.jax_products])
def test_each_turn_makes_a_product(way, monkeypatch):
    made = []
    monkeypatch.setattr(np, "matmul", lambda *factors, out: made.append(out.shape))
    monkeypatch.setattr(jax, "block_until_ready", lambda product: made.append(product.shape))
    turns = way(8)
    next(turns)
    next(turns)
    assert made == [(8, 8)] * 2


def test_variables_that_choose_kernels_or_threads_do_not_reach_the_product(monkeypatch):
    given = []
    monkeypatch.setattr(limits, "in_processes", lambda *_, environment: given.append(environment))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLOUR", "red")
    limits.products()
    assert not {"OPENBLAS_CORETYPE", "OMP_NUM_THREADS"} & given[0].keys()
    assert given[0]["COLOUR"] == "red"


@pytest.mark.slow
def test_processes_work_at_once_in_turns(tmp_path, monkeypatch):
    monkeypatch.setenv("COLOUR", "red")
    turns = in_processes(2, note, str(tmp_path), 2, False, environment={**os.environ, "COLOUR": "blue"})
    assert os.environ["COLOUR"] == "red"
    for turn in range(2):
        next(turns)
        left = [path.name.split("-") for path in tmp_path.iterdir() if path.name.startswith(str(turn))]
        assert len({process for _, process, _ in left} - {str(os.getpid())}) == 2
        assert {colour for *_, colour in left} == {"blue"}
    assert os.environ["COLOUR"] == "red"
    turns.close()


@pytest.mark.slow
def test_failing_process_ends_the_measurement(tmp_path, capfd):
    turns = in_processes(1, note, str(tmp_path), 1, True)
    next(turns)
    with pytest.raises(EOFError):
        next(turns)
    assert "as it must" in capfd.readouterr().err


@pytest.mark.slow
def test_interrupted_processes_end_without_a_traceback(tmp_path, capfd):
    turns = in_processes(1, note, str(tmp_path), 1, False)
    next(turns)
    (left,) = tmp_path.iterdir()
    os.kill(int(left.name.split("-")[1]), signal.SIGINT)
    with pytest.raises((EOFError, OSError)):
        next(turns)
    assert capfd.readouterr().err == ""
