"""Sweeps: every column is the run that it stands for, in one program; what is chosen is judged by other seeds."""

from __future__ import annotations

import dataclasses
import importlib
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from recjax import agents, envs, loop, nn, testing
from recjax.loop import LoopConfig, Sweep, run_program, sweep

MODULE = importlib.import_module("recjax.loop.sweep")
KEY = jax.random.key(3)
CONFIG = LoopConfig(
    steps=6, chunk=3, eval_every=3, users=4, eval_users=8, eval_steps=3, seeds=2, batch_size=4, learn_start=0,
    replay_capacity=64,
)  # fmt: skip
GRID = {"discount": (0.0, 0.9), "learning_rate": (1e-3, 0.1), "period": (1, 4)}
ENV = envs.synthetic(num_items=20, slate_size=2, history_length=3)


def make(learning_rate=1e-3, period=100, n_step=1):
    """Without its discount, which the agent reads from its state."""
    return agents.dqn(
        nn.DotProductQ.of(num_items=20, dim=4), optax.adam(learning_rate), n_step=n_step,
        target=agents.TargetNetwork(period=period), policy=agents.SlatePolicy(epsilon=0.1),
    )  # fmt: skip


def with_response(env, **values):
    model = envs.as_arrays(env.params.response_model.replace(**values))
    return env._replace(params=env.params.replace(response_model=model))


@pytest.fixture(scope="module")
def swept():
    """The sweep, and after each environment the functions that were compiled, by name."""
    compiled = []

    def observed(program, *arguments, **options):
        result = run_program(program, *arguments, **options)
        compiled.append({name: program._compiled[name] for name in ("chunk", "evaluate")})
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "run_program", observed)
        worlds = {"calm": ENV, "hasty": with_response(ENV, leave_slope=1.0)}
        return sweep(worlds, make, GRID, CONFIG, key=KEY, test_seeds=1), compiled


def test_all_settings_and_environments_are_one_program(swept):
    found, (first, second) = swept
    assert len(found.settings) == 8
    assert found.final["calm"]["session_reward"].shape == (8, 3)
    assert all(second[name] is function and function._cache_size() == 1 for name, function in first.items())


def test_a_column_is_the_run_that_it_stands_for(swept):
    found, row = swept[0], 6
    setting = dict(found.settings[row])
    assert setting == {"discount": 0.9, "learning_rate": 0.1, "period": 1}
    agent = make(setting["learning_rate"], setting["period"])
    agent = agent._replace(hparams=agent.hparams.replace(discount=setting["discount"]))
    env = with_response(ENV, leave_slope=1.0)
    alone = loop.run(env, agent, dataclasses.replace(CONFIG, seeds=3), key=KEY)
    for metric, values in alone.final().items():
        np.testing.assert_allclose(found.final["hasty"][metric][row], values, rtol=2e-5, err_msg=metric)


def test_settings_and_environments_matter(swept):
    found = swept[0]
    calm, hasty = (np.stack(list(metrics.values())) for metrics in found.final.values())  # [metrics, settings, seeds]
    for name in GRID:
        alike = {tuple(sorted((s | {name: 0}).items())) for s in found.settings}
        rows = [[r for r, s in enumerate(found.settings) if tuple(sorted((s | {name: 0}).items())) == a] for a in alike]
        assert any(not np.allclose(calm[:, one], calm[:, other], equal_nan=True) for one, other in rows), name
    assert not np.allclose(calm, hasty, equal_nan=True)


def test_shapes_are_programs_of_their_own(monkeypatch):
    """Each row comes back where its setting is: what is found is what was asked for."""
    asked = []

    def echoed(program, key, *, hparams, **options):
        asked.append((program.config.seeds, program.groups, program.agent.memory.window, sorted(hparams)))
        values = np.asarray(hparams["discount"]) + 10 * program.agent.memory.window
        return SimpleNamespace(final=lambda: {"session_reward": values})

    monkeypatch.setattr(MODULE, "run_program", echoed)
    grid = {"discount": (0.0, 0.5), "n_step": (1, 2)}
    found = sweep(ENV, make, grid, CONFIG, key=KEY, test_seeds=1, shapes=["n_step"])
    assert asked == [(6, 2, 1, ["discount"]), (6, 2, 2, ["discount"])]
    assert [tuple(setting.values()) for setting in found.settings] == [(0.0, 1), (0.0, 2), (0.5, 1), (0.5, 2)]
    np.testing.assert_allclose(found.final["env"]["session_reward"], np.tile([[10], [20], [10.5], [20.5]], 3))


def test_tuning_seeds_choose_and_test_seeds_judge():
    values = np.array([[1.0, 1.2, 9.0, 9.4], [2.0, 2.2, 3.0, 5.0], [np.nan, np.nan, 8.0, 8.0]])
    found = Sweep(tuple({"a": i} for i in range(3)), {"x": {"ctr": values, "gini": values}}, tuning_seeds=2)
    best = found.best("ctr")["x"]
    assert best.setting == {"a": 1}
    assert (best.tuning.mean, best.test.mean, best.test.count) == (2.1, 4.0, 2)
    assert found.best("gini")["x"].setting == {"a": 0}
    with pytest.raises(ValueError, match="There is no metric 'reward'; there are ctr, gini"):
        found.best("reward")


def test_the_discount_that_pays_is_found():
    """One click at once and nothing else, or none and then two: patience is better, above a discount of 0.618."""
    env = envs.environments.make(testing.PROBES[-1])

    def learner(learning_rate):
        policy = agents.SlatePolicy(epsilon=0.5, exclude_history=False)
        network, target = nn.DotProductQ.of(num_items=2, dim=8), agents.TargetNetwork(period=10)
        return agents.dqn(network, optax.adam(learning_rate), target=target, policy=policy)

    config = LoopConfig(
        steps=150, chunk=150, eval_every=150, users=8, eval_users=4, eval_steps=4, seeds=2, batch_size=32, learn_start=2
    )
    found = sweep(env, learner, {"discount": (0.0, 0.3, 0.9), "learning_rate": (3e-2,)}, config, key=KEY, test_seeds=2)
    best = found.best("session_reward")["env"]
    assert best.setting == {"discount": 0.9, "learning_rate": 3e-2}
    assert (best.test.mean, best.test.count) == (2.0, 2)
    np.testing.assert_array_equal(found.final["env"]["session_reward"], [[1.0] * 4, [1.0] * 4, [2.0] * 4])


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({"learning_rate": ()}, {}, "no value of learning_rate"),
        ({"loss": ("mse",)}, {}, r"loss is 'mse', which is no number; name it in shapes=\('loss',\)"),
        ({"gamma": (0.9,)}, {}, "'gamma' is neither an argument"),
        ({"period": (1, 0)}, {}, "period is 0"),
        ({"n_step": (1, 2)}, {}, r"needs to know n_step, .* shapes=\('n_step',\)"),
        ({"discount": (0.9,)}, {"shapes": ["n_step"]}, "shapes names 'n_step'"),
        ({"discount": (0.9,)}, {"test_seeds": 0}, "test_seeds is 0"),
    ],
)
def test_what_cannot_be_swept_is_refused(grid, options, message):
    with pytest.raises(ValueError, match=message):
        sweep(ENV, make, grid, CONFIG, key=KEY, **{"test_seeds": 1, **options})
