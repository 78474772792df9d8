"""Keys whose random numbers are those of JAX's default generator, computed as one expression.

JAX compiles Threefry for CPUs as a loop of five rounds, each several small kernels over all numbers, which is quick
to compile and slow to run. Written out, the same function is one kernel, several times as fast where
numbers are few. Every number is the same, so which of the two made it cannot be told.
"""

from __future__ import annotations

import math

import jax
import jax.extend.random
import jax.numpy as jnp

from recjax.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def inlined(key: Array) -> Array:
    """A key that gives the same numbers by inlined code; keys of other generators stay what they are.

    >>> key = jax.random.key(0)
    >>> float(jax.random.uniform(key)) == float(jax.random.uniform(inlined(key)))
    True

    Args:
      key: typed PRNG keys of any shape.
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_THREEFRY)


@jax.jit
def threefry(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """Threefry-2x32 of 20 rounds, ``u32[...]`` each.

    References:
      Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    keys = (*key, key[0] ^ key[1] ^ jnp.uint32(PARITY))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(distance)) | (y >> jnp.uint32(32 - distance)))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def below(bits: Array, n: int) -> tuple[Array, Array]:
    """Integers in ``0 .. n - 1`` from random bits, without a division.

    >>> number, is_fair = below(jax.random.bits(jax.random.key(0), (1000,)), 6)
    >>> int(number.min()), int(number.max()), bool(is_fair.all())
    (0, 5, True)

    Args:
      bits: ``u32[...]``.
      n: at most ``2**31``.

    Returns:
      ``(i32[...], bool[...])``; those that are fair are exactly uniform, all but ``n`` of ``2**32``.

    References:
      Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019.
    """
    low, high = jnp.uint32(n & 0xFFFF), jnp.uint32(n >> 16)
    bits_low, bits_high = bits & 0xFFFF, bits >> 16
    # The upper half of the product of 64 bits, from products of 16 bits each.
    carry = bits_high * low + ((bits_low * low) >> 16)
    crossed = bits_low * high + (carry & 0xFFFF)
    number = bits_high * high + (carry >> 16) + (crossed >> 16)
    return number.astype(jnp.int32), bits * jnp.uint32(n) >= jnp.uint32(2**32 % n)


def _seed(seed: Array) -> Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


def _numbered(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Of ``0 .. size - 1`` in an array of ``shape``."""
    size = math.prod(shape)
    if size >= 2**32:
        raise ValueError(f"{size} random numbers of one key were asked for; fewer than {2**32} can be made at once.")
    counter = jnp.arange(size, dtype=jnp.uint32).reshape(shape)
    return threefry((key[0], key[1]), (jnp.zeros_like(counter), counter))


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return _materialised(jnp.stack(_numbered(key, shape), axis=-1))


def _fold_in(key: Array, data: Array | int) -> Array:
    return _materialised(jnp.stack(threefry((key[0], key[1]), (jnp.uint32(0), jnp.asarray(data, jnp.uint32)))))


def _materialised(key: Array) -> Array:
    """A key that is computed before it is used: XLA would write its expression out wherever that is read.

    Keys of keys of keys would then take it minutes to compile.
    """
    return jax.lax.optimization_barrier(key)


def _random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    x, y = _numbered(key, shape)
    if bit_width == 64:
        return (x.astype(jnp.uint64) << 32) | y.astype(jnp.uint64)
    return (x ^ y).astype(f"uint{bit_width}")


_THREEFRY = jax.extend.random.define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="inlined_threefry2x32"
)
