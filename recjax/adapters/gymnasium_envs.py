"""Our environments as environments of Gymnasium, for agents of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recjax.adapters.extra import require_gymnasium
from recjax.adapters.outside import Observe, as_dict, outside
from recjax.envs import Environment, environments
from recjax.rewards import Reward

if TYPE_CHECKING:
    import gymnasium

BOUNDS = (-1.0, 1.0)
"""Of each number of an action, where actions are vectors."""


def gymnasium_env(
    env: Environment,
    *,
    reward: Reward | str = "click",
    observe: Observe | None = None,
    bounds: tuple[float, float] = BOUNDS,
) -> gymnasium.Env:
    """One user at a time as a ``gymnasium.Env``: an episode is a user, from arrival to leaving.

    Actions are slates, ``MultiDiscrete([N] * K)``, or ``Discrete(N)`` where a slate has one slot; ``N`` counts the
    candidates of a step where there are any. A slot that repeats one above it, or holds no candidate, shows nothing.
    Where actions are vectors, the space is a ``Box``. The reward of a step is the sum over slots. ``info`` has the
    signals of the response by name, one number a slot. ``reset`` begins a new world; with the same seed, everything
    repeats.

    Args:
      env: the environment.
      reward: function of the response, or a name as :func:`recjax.rewards.parse` takes.
      observe: ``observation -> array`` or a dictionary of arrays (f32 or i32), of one user and in JAX: what the agent
        is given. By default a ``Dict`` of all that a platform sees, in which ids and codes are categories
        (``MultiDiscrete``) that begin with 0 for padding, so that item ``i`` is ``i + 1``.
      bounds: the lowest and the highest number of an action, where actions are vectors.

    Raises:
      ImportError: Gymnasium is not installed.
      ValueError: the environment does not keep its contract, the response has no signal that the reward asks for, or
        ``observe`` returns something else.
    """
    require_gymnasium()
    from recjax.adapters.user_envs import UserEnv

    return UserEnv(outside(env, reward, observe or as_dict, 1), bounds)


def gymnasium_vector_env(
    env: Environment,
    num_envs: int,
    *,
    reward: Reward | str = "click",
    observe: Observe | None = None,
    bounds: tuple[float, float] = BOUNDS,
) -> gymnasium.vector.VectorEnv:
    """Many users at once, in one compiled call a step, as a ``gymnasium.vector.VectorEnv``.

    Spaces and rewards are those of :func:`gymnasium_env`, batched. All users live in one world. Who is done makes room
    for somebody new in the same step (``metadata["autoreset_mode"]`` is ``SAME_STEP``): ``infos["final_obs"]`` and
    ``infos["final_info"]`` have the last observation and the last signals of those users.

    Args:
      env: the environment.
      num_envs: users who are served at once.
      reward: see :func:`gymnasium_env`.
      observe: see :func:`gymnasium_env`.
      bounds: see :func:`gymnasium_env`.

    Raises:
      ImportError: Gymnasium is not installed.
      ValueError: ``num_envs`` is below 1, or as :func:`gymnasium_env`.
    """
    require_gymnasium()
    from recjax.adapters.user_envs import UsersVectorEnv

    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}; it must be at least 1.")
    return UsersVectorEnv(outside(env, reward, observe or as_dict, num_envs), bounds)


def register_gymnasium() -> tuple[str, ...]:
    """Makes every registered environment known to Gymnasium, ``NAME`` as ``recjax/NAME-v0``.

    Then ``gymnasium.make("recjax/synthetic-v0", reward="click", num_items=50)`` makes one user at a time, and
    ``gymnasium.make_vec`` many at once: options of :func:`gymnasium_env` go to it, and all others to the factory of
    the environment. Calling it again adds what has been registered since.

    Returns:
      The names, as Gymnasium has them.

    Raises:
      ImportError: Gymnasium is not installed.
    """
    gymnasium = require_gymnasium()
    ids = {f"recjax/{name}-v0": name for name in environments}
    for id_, name in ids.items():
        if id_ not in gymnasium.registry:
            gymnasium.register(
                id_, f"{__name__}:_make", vector_entry_point=f"{__name__}:_make_vec", kwargs={"environment": name}
            )
    return tuple(ids)


def _make(environment: str, **options: Any) -> gymnasium.Env:
    ours = _split_off(options)
    return gymnasium_env(environments.make(environment, **options), **ours)


def _make_vec(environment: str, num_envs: int, **options: Any) -> gymnasium.vector.VectorEnv:
    ours = _split_off(options)
    return gymnasium_vector_env(environments.make(environment, **options), num_envs, **ours)


def _split_off(options: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of :func:`gymnasium_env` out of ``options``."""
    return {name: options.pop(name) for name in ("reward", "observe", "bounds") if name in options}
