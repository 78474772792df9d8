"""Networks that know distributions: chosen ones are those of the formula, and scores of all items their means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue, nn
from recjax.types import Items, Spec

N, DIM = 11, 4
ACTIONS = jnp.array([[0, 10], [3, 3], [5, 1], [7, 2]], jnp.int32)


@pytest.fixture(scope="module", params=["quantiles", "categorical"])
def case(request, items, observation):
    """A network with parameters far from the start, what it says of chosen and of all items, and its parts."""
    towers = {"item": nn.ItemTower(N, DIM), "user": nn.UserTower(DIM)}
    network = (
        nn.QuantileDotProductQ(**towers, distribution=nn.Quantiles(5))
        if request.param == "quantiles"
        else nn.CategoricalDotProductQ(**towers, distribution=nn.Categorical(-1.0, 3.0, 5))
    )
    params = jax.jit(network.init)(jax.random.key(0), observation, items)
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [x + 0.3 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(form, drawn)

    def run(params):
        queries, scorer = network.apply(params, observation, items, method="catalogue")
        return {
            "all": catalogue.score_at(queries, scorer, jnp.tile(jnp.arange(N), (4, 1))),
            "best": catalogue.argmax(queries, scorer, block_size=3),
            "at": network.apply(params, observation, ACTIONS, items, method="at"),
            "chosen": network.apply(params, observation, ACTIONS, items, method="distributions"),
            "user": network.apply(params, observation, items, method="represent"),
            "item": network.apply(params, items, method=lambda self, items: self.item.all(items)),
        }

    return request.param, params["params"], jax.tree.map(lambda x: np.asarray(x, np.float64), jax.jit(run)(params))


def outputs_of(kind, own, user, item):
    """What the formulas say of every item, ``f64[B, N, 5]``."""
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), own)
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    value = user @ own["value"]["kernel"] + own["value"]["bias"]
    q = own["scale"] * unit(user) @ unit(item).T + value + own["item_bias"][:, 0]
    moved = (user @ own["deviations"]["kernel"] + own["deviations"]["bias"]).reshape(len(user), 5, DIM + 1)
    moved = np.einsum("bsd,nd->bns", moved[..., :DIM], unit(item)) + moved[:, None, :, DIM]
    if kind == "quantiles":
        return q[..., None] + moved
    steps = np.linspace(-1, 3, 5)
    return steps * q[..., None] + moved - 2 * np.log(1 + steps**2)


def test_scores_are_the_means_of_the_distributions_of_the_formula(case):
    kind, own, found = case
    outputs = outputs_of(kind, own, found["user"], found["item"])
    rows = np.arange(4)[:, None]
    np.testing.assert_allclose(found["chosen"], outputs[rows, ACTIONS], rtol=1e-4, atol=1e-5)
    if kind == "quantiles":
        means = outputs.mean(-1)
    else:
        mass = np.exp(outputs)
        means = (mass / mass.sum(-1, keepdims=True)) @ np.linspace(-1, 3, 5)
    np.testing.assert_allclose(found["all"], means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["at"], means[rows, ACTIONS], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["best"], means.argmax(1))


def test_values_begin_near_zero(items, observation):
    network = nn.CategoricalDotProductQ(
        item=nn.ItemTower(N, DIM), user=nn.UserTower(DIM), distribution=nn.Categorical(0.0, 5.0, 51)
    )
    values, _ = jax.jit(network.init_with_output)(jax.random.key(0), observation, items)
    assert np.abs(values).max() < 0.15


def test_no_array_holds_the_distributions_of_every_item():
    size, users = 100_000, 9
    items = jax.eval_shape(lambda: Items(popularity=jnp.ones(size), is_new=jnp.zeros(size, bool)))
    seen = Spec(num_items=size, slate_size=1, history_length=2).empty_observation((users,))
    for network in (nn.QuantileDotProductQ.of(size, dim=4), nn.CategoricalDotProductQ.of(size, dim=4)):

        def search(key, items, network=network):
            params = network.init(key, Spec(size, 1, 2).empty_observation((1,)), items)
            return catalogue.argmax(*nn.catalogue_scores(network, params, seen, items))

        text = str(jax.make_jaxpr(search)(jax.random.key(0), items))
        sizes = [tuple(map(int, part.split("]")[0].split(","))) for part in text.split("f32[")[1:] if part[0] != "]"]
        assert max(np.prod(shape) for shape in sizes if shape[0] == users) < users * size / 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Categorical(1.0, 1.0), r"51 atoms from 1\.0 to 1\.0"),
        (lambda: nn.Categorical(size=1), "Categorical has 1 atoms"),
        (lambda: nn.Quantiles(0), r"Quantiles\.size is 0"),
        (lambda: nn.Quantiles(huber=-1.0), r"huber is -1\.0"),
    ],
)
def test_bad_descriptions_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
