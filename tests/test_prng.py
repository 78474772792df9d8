"""Inlined keys give the numbers of JAX's default generator; bounded integers are exactly uniform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.prng import below, inlined

DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "bytes": lambda key: jax.random.bits(key, (5,), jnp.uint8),
    "uniform": lambda key: jax.random.uniform(key, (4, 1, 2)),
    "normal": lambda key: jax.random.normal(key, (7,)),
    "gumbel": lambda key: jax.random.gumbel(key, (6,)),
    "bernoulli": lambda key: jax.random.bernoulli(key, 0.3, (9,)),
    "randint": lambda key: jax.random.randint(key, (9,), 0, 77),
    "permutation": lambda key: jax.random.permutation(key, 20),
    "no numbers": lambda key: jax.random.uniform(key, (0,)),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**31 + 5)),
    "mapped": lambda key: jax.vmap(lambda one: jax.random.uniform(one, (3,)))(jax.random.split(key, 4)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers_are_those_of_the_default_generator(name, key):
    draw = jax.jit(DRAWS[name])
    np.testing.assert_array_equal(draw(inlined(key)), draw(key))


def test_keys_of_other_generators_and_inlined_ones_stay_what_they_are(key):
    for other in (jax.random.key(0, impl="rbg"), inlined(key)):
        assert inlined(other).dtype == other.dtype


def test_bounded_integers_are_the_upper_half_of_the_product():
    bits = np.concatenate([np.arange(5), 2**32 - 1 - np.arange(5), np.random.default_rng(0).integers(2**32, size=500)])
    for n in (1, 2, 6, 1000, 65_535, 65_536, 65_537, 12_345_678, 2**31):
        number, is_fair = below(jnp.asarray(bits, jnp.uint32), n)
        product = bits.astype(object) * n
        assert number.tolist() == [p >> 32 for p in product]
        assert is_fair.tolist() == [p % 2**32 >= 2**32 % n for p in product]


def test_keys_of_keys_are_not_written_out_again_and_again():
    def bits(key, depth):
        for _ in range(depth):
            key = jax.random.split(key)[1]
        return jax.random.bits(key, (64,))

    def size(depth):
        text = jax.jit(lambda key: bits(inlined(key), depth)).lower(jax.random.key(0)).compile().as_text()
        return text.count(" xor(")

    assert size(6) <= 7 * size(0)
