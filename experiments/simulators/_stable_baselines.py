"""Our users behind the interface of Stable-Baselines3, which has vector environments of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv


class ManyUsers(VecEnv):
    """A vector environment of Gymnasium that resets in the same step, as one of Stable-Baselines3."""

    def __init__(self, venv: VectorEnv, seed: int) -> None:
        self.venv, self.first_seed = venv, seed
        self._actions: Any = None
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    def reset(self) -> Any:
        seen, _ = self.venv.reset(seed=self.first_seed)
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        seen, reward, terminated, truncated, infos = self.venv.step(self._actions)
        done = terminated | truncated
        told: list[dict[str, Any]] = [{} for _ in done]
        for row in np.flatnonzero(done):
            told[row] = {"terminal_observation": infos["final_obs"][row], "TimeLimit.truncated": bool(truncated[row])}
        return seen, reward, done, told

    def close(self) -> None:
        self.venv.close()

    def get_attr(self, attr_name: str, indices: int | Sequence[int] | None = None) -> list[Any]:
        return [getattr(self.venv, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: int | Sequence[int] | None = None) -> None:
        raise NotImplementedError("All users share one environment.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("All users share one environment.")

    def env_is_wrapped(self, wrapper_class: type, indices: int | Sequence[int] | None = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))
