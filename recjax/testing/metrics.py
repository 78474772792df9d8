"""What every metric of a loop owes to it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.eval import Accumulator
from recjax.types import PAD_ID, Items, Response, Spec, Step

USERS = 6


def random_step(key: Any, spec: Spec, users: int = USERS) -> Step:
    """Random slates and answers; the last user has left."""
    slate_key, click_key = jax.random.split(key)
    noise = jax.random.uniform(slate_key, (users, spec.num_items))
    slate = jax.lax.top_k(noise, spec.slate_size)[1].at[-1].set(PAD_ID)
    click = jnp.where(slate == PAD_ID, 0.0, jax.random.bernoulli(click_key, 0.4, slate.shape).astype(jnp.float32))
    answers = {s.name: click if s.per == "slot" else click.max(-1) for s in spec.signals}
    flags = jnp.zeros(users, bool)
    observation = spec.empty_observation((users,))
    return Step(observation, slate, jnp.zeros(users), None, Response(**answers), click, flags, flags, observation)


def check_metric(metric: Accumulator, spec: Spec, items: Items) -> None:
    """Checks an accumulator.

    It computes scalars; a step of many users counts as its users one after the other; users who have left count
    nothing; and it does the same compiled.

    Args:
      metric: the accumulator.
      spec: of the problem.
      items: the features of all items.

    Raises:
      AssertionError: what does not keep the contract of :class:`recjax.eval.Accumulator`.
    """
    step = random_step(jax.random.key(0), spec)
    user = lambda row: jax.tree.map(lambda x: x[row : row + 1], step)  # noqa: E731

    def compute(*steps: Step) -> dict[str, Any]:
        state = metric.init(spec, items)
        for one in steps:
            state = metric.update(state, one, items)
        return jax.tree.map(np.asarray, metric.compute(state, items))

    together = compute(step)
    for name, value in together.items():
        assert value.shape == (), f"Metrics are scalars; {name!r} has shape {value.shape}."
    _equal(compute(*(user(row) for row in range(USERS))), together, "Users one after the other count otherwise.")
    _equal(compute(*(user(row) for row in range(USERS - 1))), together, "A user who has left counts.")
    compiled = jax.jit(lambda step: metric.compute(metric.update(metric.init(spec, items), step, items), items))
    _equal(jax.device_get(compiled(step)), together, "Compiled, it computes something else.")


def _equal(found: dict[str, Any], wanted: dict[str, Any], message: str) -> None:
    assert found.keys() == wanted.keys(), f"{message} {sorted(found)} against {sorted(wanted)}"
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=f"{message} ({name})")
