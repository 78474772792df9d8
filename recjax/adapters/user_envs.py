"""Our users behind the two interfaces of Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector.utils import batch_space

from recjax.adapters.outside import Answer, Crowd, Outside, as_dict
from recjax.adapters.spaces import action_space, as_actions, box, observation_space
from recjax.types import Array


class UserEnv(gymnasium.Env):
    """One user at a time, see :func:`recjax.adapters.gymnasium_env`."""

    def __init__(self, outside: Outside, bounds: tuple[float, float]) -> None:
        self.metadata: dict[str, Any] = {"render_modes": []}
        self.observation_space, self.action_space = _spaces(outside, bounds)
        self._outside = outside
        self._crowd: Crowd | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new user arrives in a new world."""
        super().reset(seed=seed)
        self._crowd, seen = self._outside.begin(_key(self.np_random))
        return _row(_copied(seen), 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The user answers.

        Raises:
          ValueError: the action is outside of the space.
          gymnasium.error.ResetNeeded: nobody is there.
        """
        actions = as_actions(action, self._outside.env.spec, 1)
        crowd, answer = self._outside.step(_served(self._crowd), actions)
        # Fetched at once: each array on its own costs as much as all of them.
        answer = jax.device_get(answer)
        terminated, truncated = bool(answer.terminated[0]), bool(answer.truncated[0])
        self._crowd = None if terminated or truncated else crowd
        info = _row(_copied(dict(answer.response)), 0)
        return _row(_copied(answer.last), 0), float(answer.reward[0]), terminated, truncated, info


class UsersVectorEnv(gymnasium.vector.VectorEnv):
    """Many users in one compiled call a step, see :func:`recjax.adapters.gymnasium_vector_env`."""

    def __init__(self, outside: Outside, bounds: tuple[float, float]) -> None:
        self.metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        self.num_envs = outside.count
        self.single_observation_space, self.single_action_space = _spaces(outside, bounds)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._outside = outside
        self._crowd: Crowd | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New users arrive in a new world."""
        super().reset(seed=seed)
        self._crowd, seen = self._outside.begin(_key(self.np_random))
        return _copied(seen), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """All users answer, and who is done makes room for somebody new.

        Raises:
          ValueError: actions are outside of the space.
          gymnasium.error.ResetNeeded: nobody is there.
        """
        chosen = as_actions(actions, self._outside.env.spec, self.num_envs)
        self._crowd, answer = self._outside.step(_served(self._crowd), chosen)
        flags = np.array(answer.terminated), np.array(answer.truncated)
        return _copied(answer.seen), np.array(answer.reward, np.float64), *flags, _infos(answer, flags[0] | flags[1])


def _spaces(outside: Outside, bounds: tuple[float, float]) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Of observations and actions of one user."""
    spec = outside.env.spec
    seen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), outside.seen)
    seen_space = observation_space(spec, seen) if outside.observe is as_dict else box(seen)
    return seen_space, action_space(spec, bounds)


def _served(crowd: Crowd | None) -> Crowd:
    if crowd is None:
        raise gymnasium.error.ResetNeeded("No user is there: call reset before step, and again when the user is done.")
    return crowd


def _key(rng: np.random.Generator) -> Array:
    """A key of JAX that follows from the generator of Gymnasium."""
    return jax.random.wrap_key_data(jnp.array(rng.integers(2**32, size=2, dtype=np.uint32)), impl="threefry2x32")


def _copied(tree: Any) -> Any:
    """Arrays that whoever gets them may write to."""
    return jax.tree.map(np.array, tree)


def _row(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda x: x[row], tree)


def _infos(answer: Answer, done: np.ndarray) -> dict[str, Any]:
    """As vector environments of Gymnasium arrange it that reset in the same step.

    What belongs to users who are done stands below ``final_info``, and of a key ``x``, ``_x`` says whose values it has.
    """
    response = {name: np.array(values) for name, values in answer.response.items()}
    infos = _of(response, ~done)
    if done.any():
        last, final = _copied(answer.last), np.full(len(done), None, object)
        for row in np.flatnonzero(done).tolist():
            final[row] = _row(last, row)
        infos |= {"final_obs": final, "_final_obs": done.copy()}
        infos |= {"final_info": _of(response, done), "_final_info": done.copy()}
    return infos


def _of(response: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    if not rows.any():
        return {}
    of_rows = {name: np.where(rows.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for name, x in response.items()}
    return of_rows | {f"_{name}": rows.copy() for name in response}
