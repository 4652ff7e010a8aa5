"""`mnist-jax train` reports the accuracy of optax's average for optimizers that average weights."""

import dataclasses
import json

import jax
import optax
import pytest
from helpers import toy_digits

from mnist_jax import LESSONS, Examples, evaluate
from mnist_jax.cli import commands as cli
from mnist_jax.train import batch_loss, epoch_order, init_net

# Adam would divide the noisy zeros that are the gradients of biases before batch norm by their own size.
RATE, EPS = 1.0, 1e-3


def trained_by_hand(examples):
    """Lesson he after an epoch of schedule_free_adamw, at the point of its gradients and at optax's average."""
    state, chosen = init_net(LESSONS["he"], jax.random.key(0)), optax.contrib.schedule_free_adamw(RATE, eps=EPS)
    order = epoch_order(jax.random.fold_in(state.order_key, 0), examples.size, examples.size)
    opt_state = chosen.init(state.params)
    for first in range(0, examples.size, 32):
        batch = Examples(*(part[order[first : first + 32]] for part in examples))
        grads, batch_stats = jax.grad(batch_loss, has_aux=True)(state.params, state, batch)
        updates, opt_state = chosen.update(grads, opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = dataclasses.replace(state, params=params, batch_stats=batch_stats, step=state.step + 1)
    average = optax.contrib.schedule_free_eval_params(opt_state, state.params)
    return state, dataclasses.replace(state, params=average)


def test_train_reports_the_accuracy_of_the_average(run_main, toy_folder, toy, tmp_path):
    out, chosen = tmp_path / "run", ["--optimizer", "contrib.schedule_free_adamw", "--learning-rate", RATE]
    line = ["train", "he", *chosen, "--hyperparameters", "eps", EPS, "--epochs", 1, "--split", "notebooks"]
    status, printed, _ = run_main(cli.main, *line, "--data", toy_folder, "--out", out)
    assert status == 0
    entry = json.loads((out / "results.json").read_text())["lessons"]["he"]
    with jax.numpy_dtype_promotion("standard"):  # optax divides by its int32 count of steps
        where_trained, average = (evaluate(net, toy_digits(20, seed=1)) for net in trained_by_hand(toy))
    assert entry["test_correct"] == [[average.correct]]
    assert f"test accuracy {average.correct / 20:7.2%}" in printed
    assert entry["test_loss"][0][0] == pytest.approx(float(average.loss), rel=1e-3)
    assert where_trained.correct != average.correct
