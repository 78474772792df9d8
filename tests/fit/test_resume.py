"""A training is continued by itself alone: of other data, another start or other rates it is refused."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import fit
from recjax.catalogue import row_adam
from recjax.fit import Checkpoints, Hooks, RowWise, TrainingPlan, adafactor, adamw, fit_epochs

DATA = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2), "y": np.arange(12, dtype=np.float32)}
START = {"w": np.zeros(2, np.float32)}


def loss_fn(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2), {}


def train(folder, epochs=2, *, data=DATA, start=START, optimizer=None, batch_size=4, seed=0, **plan):
    return fit_epochs(
        loss_fn, optimizer or adamw(0.1), start, data, TrainingPlan(epochs, batch_size, **plan),
        key=jax.random.key(seed), hooks=Hooks(checkpoints=Checkpoints(folder)),
    )  # fmt: skip


def moved(tree, name):
    """The tree with the last bit of one number changed."""
    changed = tree[name].copy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
    return tree | {name: changed}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": moved(DATA, "x")}, "data"),
        ({"data": DATA | {"y": DATA["y"].astype(np.int32)}}, "data"),
        ({"data": {name: value[::-1] for name, value in DATA.items()}}, "data"),
        ({"start": moved(START, "w")}, "start"),
        ({"optimizer": adamw(0.1 + 1e-7)}, "optimizer"),
        ({"optimizer": adamw(0.1, weight_decay=0.01)}, "optimizer"),
        ({"optimizer": adamw(optax.linear_schedule(0.1, 0.0, 6))}, "optimizer"),
        ({"sort_key": jnp.arange(12)}, "sort_key"),
        ({"accumulate": 2}, "accumulate"),
        ({"batch_size": 6}, "batch_size"),
        ({"num_examples": 8}, "num_examples"),
        ({"seed": 1}, "key"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_other_trainings_are_refused_by_name(changes, named, tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match=rf"holds a run with {named} .*, but now {named} is .*; go on with what"):
        train(tmp_path, 3, **changes)
    assert Checkpoints(tmp_path).latest_step() == 2


def test_equal_data_of_other_arrays_and_more_epochs_go_on(tmp_path):
    train(tmp_path)
    as_jax = jax.tree.map(jnp.array, (DATA, START))
    again = train(tmp_path, 4, data=as_jax[0], start=as_jax[1], optimizer=adamw(0.1))
    assert again.history == train(tmp_path / "whole", 4).history


def test_more_epochs_of_a_schedule_that_counts_them_are_another_training(tmp_path):
    rates = lambda epochs: adamw(fit.cosine(0.1, 3 * epochs))  # noqa: E731
    train(tmp_path, 2, optimizer=rates(2))
    assert len(train(tmp_path, 2, optimizer=rates(2)).history) == 2
    with pytest.raises(ValueError, match="schedules by the number of steps"):
        train(tmp_path, 4, optimizer=rates(4))


def test_a_checkpoint_that_says_nothing_of_its_data_is_refused(tmp_path):
    train(tmp_path / "now")
    state, metadata = Checkpoints(tmp_path / "now").restore(_state())
    del metadata["identity"]["data"]
    Checkpoints(tmp_path / "before").save(2, state, metadata)
    with pytest.raises(ValueError, match="a run with data None, but now data is"):
        train(tmp_path / "before", 3)


def _state():
    optimizer = adamw(0.1)
    return fit.FitState(fit.TrainState.create(jax.tree.map(jnp.asarray, START), optimizer), jax.random.key(0))


def optimisers():
    """By name, no two of which make the same updates."""
    bottom, stacked = (lambda path: "bottom" in path), (lambda path: "layers" in path)
    made = {
        "adamw": adamw(0.1),
        "adamw, slower": adamw(0.09),
        "clipped": adamw(0.1, max_grad_norm=1.0),
        "clipped elsewhere": adamw(0.1, max_grad_norm=2.0),
        "decayed": adamw(0.1, weight_decay=0.1),
        "adafactor": adafactor(0.1),
        "cosine": adamw(fit.cosine(0.1, 50)),
        "longer cosine": adamw(fit.cosine(0.1, 51)),
        "warm": adamw(fit.linear(0.1, 50, 5)),
        "by layers": fit.layer_wise(adamw(0.1), 0.5, stacked=stacked, bottom=bottom),
        "by layers, deeper": fit.layer_wise(adamw(0.1), 0.6, stacked=stacked, bottom=bottom),
        "by paths": fit.path_wise(adamw(0.1), lambda path: 0.5 if "bottom" in path else 1.0),
        "frozen by paths": fit.path_wise(adamw(0.1), lambda path: 0.0 if "bottom" in path else 1.0),
        "in parts": optax.partition(
            {"a": adamw(0.1), "b": optax.sgd(1.0)}, {"embedding": "a", "layers": "b", "bottom": "b"}
        ),
    }  # fmt: skip
    for rate in (0.1, 0.2):
        for whole in (False, True):
            made[f"rows {rate} {whole}"] = RowWise(row_adam(rate), adamw(0.1), whole=whole)
    return made


def digests():
    params = {"embedding": jnp.zeros((40, 3)), "layers": jnp.zeros((2, 3)), "bottom": jnp.zeros(3)}
    return {name: fit.optimizer_digest(optimizer, params) for name, optimizer in optimisers().items()}


def test_optimisers_are_recognised_by_what_they_do(tmp_path):
    """In this process and in another, whose hashes of strings are others."""
    found = digests()
    assert len(set(found.values())) == len(found)
    assert digests() == found
    code = f"import runpy, sys; print(runpy.run_path({__file__!r})['digests']())"
    for seed in ("0", "7"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(found)


def test_digests_of_trees_see_paths_shapes_types_and_keys():
    trees = [
        {"a": jnp.zeros(4)}, {"b": jnp.zeros(4)}, {"a": jnp.zeros((2, 2))}, {"a": jnp.zeros(4, jnp.int32)},
        {"a": jnp.zeros(4, jnp.bfloat16)}, {"a": jax.random.key(0)}, {"a": jax.random.key(1)}, {"a": 0.5}, {},
        {"a": jnp.array([0.0, 0.0, 0.0, -0.0])}, {"a": jnp.zeros(0)},
    ]  # fmt: skip
    assert len({fit.tree_digest(tree) for tree in trees}) == len(trees)
    assert fit.tree_digest([np.zeros(3), None]) == fit.tree_digest([np.zeros(3)])
