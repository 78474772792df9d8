"""What the loop remembers: buffers of interaction, as three pure functions over a state.

>>> import jax, jax.numpy as jnp
>>> from recjax import replay
>>> from recjax.types import Response, Spec, Step
>>> obs = Spec(num_items=9, slate_size=2, history_length=3).empty_observation((4,))
>>> pairs, flags = jnp.zeros((4, 2)), jnp.zeros(4, bool)
>>> step = Step(obs, jnp.zeros((4, 2), jnp.int32), pairs, Response(pairs), pairs, flags, flags, obs)
>>> buffer = replay.uniform(capacity=100, window=2)
>>> state = buffer.init(step)
>>> for _ in range(3):
...     state = buffer.add(state, step)
>>> sample = buffer.sample(jax.random.key(0), state, 8)
>>> sample.steps.slate.shape, bool(sample.valid.all())
((8, 2, 2), True)
"""

from recjax.replay.base import Buffer
from recjax.replay.uniform import ReplayState, uniform

__all__ = ["Buffer", "ReplayState", "uniform"]
