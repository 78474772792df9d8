"""An item modality of somebody's own package, made of public names alone: histograms of the colours of images."""

from __future__ import annotations

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np

from recjax import data, nn
from recjax.models import TwoTower, TwoTowerConfig, fit_recommendation
from recjax.types import Feature, Items

NUM_ITEMS, BINS = 24, 4


class HistogramEncoder(linen.Module):
    """A linear map of the square roots of shares, under which histograms are near by Hellinger's distance."""

    dim: int
    initial_norm: float = 1.0
    dtype: object = jnp.float32

    @linen.compact
    def __call__(self, values):
        roots = jnp.sqrt(values / values.sum(-1, keepdims=True))
        init = linen.initializers.variance_scaling(self.initial_norm**2, "fan_out", "normal")
        return linen.Dense(self.dim, kernel_init=init, dtype=self.dtype)(roots)


if "histogram" not in nn.feature_encoders:
    nn.feature_encoders.register("histogram", HistogramEncoder)


def catalogue() -> tuple[Items, np.ndarray]:
    """Items whose images are mostly of one colour, and that colour."""
    rng = np.random.default_rng(0)
    colour = np.arange(NUM_ITEMS) % BINS
    counts = rng.integers(1, 5, (NUM_ITEMS, BINS)) + 60 * np.eye(BINS, dtype=int)[colour]
    image = Feature(jnp.asarray(counts, jnp.float32), "histogram")
    return Items(jnp.ones(NUM_ITEMS), jnp.zeros(NUM_ITEMS, bool), {"image": image}), colour


def test_a_two_tower_model_learns_from_images_what_it_recommends_of_items_it_has_never_seen():
    items, colour = catalogue()
    rng = np.random.default_rng(1)
    old = np.arange(NUM_ITEMS // 2)  # only these are in the log; users stay with one colour
    favourite = rng.integers(0, BINS, 80)
    log = np.stack([rng.choice(old[colour[old] == each], 6) for each in favourite])
    sequences = data.sequences(data.Interactions(np.repeat(np.arange(80), 6), log.ravel(), time=np.arange(480)), 80)
    item, user = nn.ItemTower(NUM_ITEMS, 16, use_id=False), nn.UserTower(16)
    network = nn.Recommendation(item=item, user=user)
    config = TwoTowerConfig(epochs=10, batch_size=64, history_length=5)
    fitted = fit_recommendation(network, sequences, items, config, key=jax.random.key(0))
    assert fitted.params["params"]["item"]["histogram"]["Dense_0"]["kernel"].shape == (BINS, 16)
    new = np.arange(NUM_ITEMS // 2, NUM_ITEMS)
    scores = np.asarray(TwoTower(fitted.params, items, network).scores(jnp.asarray(log)))[:, new]
    assert (colour[new[scores.argmax(1)]] == favourite).mean() > 0.95
