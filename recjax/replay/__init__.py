"""What agents learn from: buffers of interaction, as pure functions over a state.

An agent describes the memory it needs; the loop makes the buffer:

>>> import jax, jax.numpy as jnp
>>> from recjax import replay
>>> from recjax.types import Response, Spec, Step
>>> obs = Spec(num_items=9, slate_size=2, history_length=3).empty_observation((4,))
>>> pairs, flags = jnp.zeros((4, 2)), jnp.zeros(4, bool)
>>> step = Step(obs, jnp.zeros((4, 2), jnp.int32), jnp.zeros(4), None, Response(click=pairs), pairs, flags, flags, obs)
>>> buffer = replay.uniform(window=2).make(capacity=100)
>>> state = buffer.init(step)
>>> for _ in range(3):
...     state = buffer.add(state, step)
>>> batch = buffer.sample(jax.random.key(0), state, 8)
>>> batch.experience.slate.shape, bool(batch.valid.all())
((8, 2, 2), True)

Experience may be any pytree of arrays with a leading user axis. :func:`stored` keeps it in smaller dtypes, as a
loop does by :func:`step_storage`. A log is replayed by :func:`from_dataset`.
"""

from recjax.replay.base import Batch, Buffer, Memory
from recjax.replay.dataset import Logged, from_dataset
from recjax.replay.prioritised import PrioritisedRing, importance_weights, prioritised
from recjax.replay.ring import Ring
from recjax.replay.rollout import rollout
from recjax.replay.storage import Storage, misfits, step_storage, stored
from recjax.replay.uniform import uniform

__all__ = [
    "Batch",
    "Buffer",
    "Logged",
    "Memory",
    "PrioritisedRing",
    "Ring",
    "Storage",
    "from_dataset",
    "importance_weights",
    "misfits",
    "prioritised",
    "rollout",
    "step_storage",
    "stored",
    "uniform",
]
