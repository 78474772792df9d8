"""Whether a study can run, told before anything is fetched, fitted or written.

Policies are made for a small stand-in of the catalogue, so that every option meets the code that it is for. What a
large study takes of memory is measured on the same stand-in, by shapes alone.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys

import jax
import jax.numpy as jnp

from recjax import data, envs
from recjax.envs import Environment
from recjax.loop.memory import check_memory, memory_of, memory_of_machine, tree_bytes
from recjax.loop.program import Program
from recjax.models.collaborative import ItemKNN
from recjax.nn import history_encoders, q_networks
from recjax.rewards import Reward
from recjax.rewards import parse as parse_reward
from recjax.study.config import StudyConfig
from recjax.study.policies import (
    Policy,
    PolicyContext,
    build_recommendation,
    check_policy,
    make_policy,
    policies,
    updates_rows,
)
from recjax.types import Spec

STAND_IN_ITEMS = 64

LARGE = 0.125
"""Share of the memory from which on a study, roughly estimated, is measured by shapes."""


def import_plugins(names: tuple[str, ...]) -> None:
    """Imports the modules that register parts of one's own; they may lie in the current folder.

    Raises:
      ValueError: there is no such module, or it cannot be imported.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = f"It imports {error.name!r}, which is not installed." if error.name != name else (
                f"Give the name of a Python module, as in `import {name}`, that lies in the current folder"
                f" ({os.getcwd()}) or is installed."
            )  # fmt: skip
            raise ValueError(f"The plugin {name!r} cannot be imported. {missing}") from None
        except Exception as error:
            raise ValueError(f"The plugin {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def check_study(config: StudyConfig) -> None:
    """Raises ValueError where a study cannot run: names, ranges, devices, files, memory.

    Files of a data set are fetched, since only then it is known whether they can be.

    Args:
      config: the study, whose plugins have been imported.
    """
    if not config.agent:
        raise ValueError("A study needs at least one policy; agent is empty.")
    for name in config.agent:
        check_policy(name)
    envs.environments[config.env]
    history_encoders[config.network.encoder]
    q_networks[config.network.q_network]
    envs.as_arrays(config.response_model)
    reward = parse_reward(config.reward)
    if not 1 <= config.devices <= jax.device_count() or config.seeds % config.devices:
        raise ValueError(
            f"devices={config.devices} must divide seeds={config.seeds}, and JAX sees {jax.device_count()}."
        )
    if config.env == "synthetic" and not isinstance(config.items, str):
        Spec(config.items, config.slate_size, config.history_length)
    size = max(STAND_IN_ITEMS, config.slate_size)
    _policies(config, _stand_in(config, size)[1])
    if config.env in ("logged", "synthetic"):
        _check_memory(config, reward, size)
    named = config.env == "logged" and not data.is_log_file(config.data)
    if named and isinstance(data.datasets[config.data], data.NamedSet):
        data.fetch(config.data, config.data_dir)


def _stand_in(config: StudyConfig, items: int) -> tuple[Environment, PolicyContext]:
    """A catalogue of so many items, and what policies are built from, with shapes in place of trained parameters."""
    env = envs.synthetic(num_items=items, slate_size=config.slate_size, history_length=config.history_length)
    model = build_recommendation(config, items)
    observation = env.spec.empty_observation((1,))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), observation, env.items))
    neighbours = ItemKNN(jnp.zeros((items, 1), jnp.int32), jnp.zeros((items, 1)))
    return env, PolicyContext(config, model, params, params, neighbours, jax.ShapeDtypeStruct((items,), jnp.float32))


def _policies(config: StudyConfig, context: PolicyContext) -> list[Policy]:
    """The policies of a study that come with recjax; what another factory does with shapes cannot be known."""
    own = [name for name in dict.fromkeys(config.agent) if name in policies]
    return [make_policy(name, context) for name in own if policies[name].__module__.startswith("recjax.")]


def _check_memory(config: StudyConfig, reward: Reward, size: int) -> None:
    """Raises ValueError where a large study does not fit.

    All that it holds is linear in the items, so two small catalogues tell what a large one takes.
    """
    limit = memory_of_machine(config.devices)
    if limit is None or _rough_bytes(config) < LARGE * limit:
        return
    items = size if isinstance(config.items, str) or config.env != "synthetic" else config.items
    row_wise = updates_rows(config, items)
    config = dataclasses.replace(config, learn=dataclasses.replace(config.learn, row_wise=row_wise))
    small, twice = (_needed(config, reward, items) for items in (size, 2 * size))
    for first, second in zip(small, twice, strict=True):
        slope = {name: (second[name] - first[name]) // size for name in first}
        check_memory({name: first[name] + slope[name] * (items - size) for name in first}, config.devices)


def _needed(config: StudyConfig, reward: Reward, items: int) -> list[dict[str, int]]:
    """Bytes that the loop of each policy needs over a stand-in of so many items."""
    env, context = _stand_in(config, items)
    shared = {
        "the catalogue (items)": tree_bytes((env.params, env.items)),
        # Parameters, gradients, and two moments of Adam.
        "training on the log (items × width)": 4 * tree_bytes(context.params),
    }
    needed = []
    for policy in _policies(config, context):
        program = Program(env, policy.agent, config, reward)
        state = program.shapes(hparams=policy.hparams, params=policy.params)
        needed.append(shared | memory_of(state, config))
    return needed


def _rough_bytes(config: StudyConfig) -> int:
    """More than a study takes, by its counts alone."""
    width = 64 + 16 * (config.history_length + config.slate_size)
    rows = max(config.users, config.eval_users) + config.replay_capacity
    items = 0 if isinstance(config.items, str) or config.env != "synthetic" else config.items
    return 4 * config.seeds * (rows * width + 8 * items * config.network.dim) + 256 * items
