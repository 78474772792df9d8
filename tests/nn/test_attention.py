"""Blocks of sequence models against PyTorch, float64 NumPy and what they promise."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.nn import HSTUBlock, RelativeBias, SelfAttention, SelfAttentionEncoder, TransformerBlock
from recjax.nn.attention import rotate, time_bucket

B, L, D, H = 3, 6, 8, 2


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(0), (B, L, D))


@pytest.fixture(scope="module")
def visible():
    mask = jnp.arange(L)[None] >= jnp.array([0, 2, 5])[:, None]
    return mask[:, None, None, :] & jnp.tril(jnp.ones((L, L), bool))[None, None]


def moved(module, *inputs, key=1):
    """Parameters away from their initial values, so that biases and norms count."""
    params = jax.jit(module.init)(jax.random.key(0), *inputs)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(key), len(leaves))
    return jax.tree.unflatten(
        treedef, [leaf + 0.2 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    )


def torch_block(torch, params, x, visible, *, norm_first):
    """The same block of PyTorch's own modules, which know nothing of ours."""
    gelu = functools.partial(torch.nn.functional.gelu, approximate="tanh")
    layer = torch.nn.TransformerEncoderLayer(
        D, H, 4 * D, dropout=0.0, activation=gelu, batch_first=True, norm_first=norm_first,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    t = lambda value: torch.tensor(np.asarray(value))  # noqa: E731
    attention = params["attention"]
    names = ("query", "key", "value")
    with torch.no_grad():
        weights = [np.asarray(attention[name]["kernel"]).reshape(D, D).T for name in names]
        layer.self_attn.in_proj_weight.copy_(t(np.concatenate(weights)))
        layer.self_attn.in_proj_bias.copy_(t(np.concatenate([attention[n]["bias"].reshape(-1) for n in names])))
        layer.self_attn.out_proj.weight.copy_(t(np.asarray(attention["out"]["kernel"]).reshape(D, D).T))
        layer.self_attn.out_proj.bias.copy_(t(attention["out"]["bias"]))
        for ours, theirs in (("wide", layer.linear1), ("narrow", layer.linear2)):
            theirs.weight.copy_(t(np.asarray(params[ours]["kernel"]).T))
            theirs.bias.copy_(t(params[ours]["bias"]))
        for ours, theirs in (("attention_norm", layer.norm1), ("feed_forward_norm", layer.norm2)):
            theirs.weight.copy_(t(params[ours]["scale"]))
            theirs.bias.copy_(t(params[ours]["bias"]))
        hidden = t(~np.repeat(np.asarray(visible)[:, 0], H, axis=0))
        return layer(t(x), src_mask=hidden).numpy()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_block_equals_pytorch(norm, x, visible):
    torch = pytest.importorskip("torch")
    block = TransformerBlock(H, norm=norm)
    params = moved(block, x, visible)
    ours = block.apply(params, x, visible)
    theirs = torch_block(torch, params["params"], x, visible, norm_first=norm == "pre")
    seen = np.asarray(visible[:, 0].any(-1))
    np.testing.assert_allclose(np.asarray(ours)[seen], theirs[seen], atol=2e-5)


def torch_sasrec_block(torch, params, x, visible):
    """The block of SASRec's code out of PyTorch's own modules: normed queries, raw keys and values."""
    t = lambda value: torch.tensor(np.asarray(value))  # noqa: E731
    attention, names = params["attention"], ("query", "key", "value")
    attend = torch.nn.MultiheadAttention(D, H, batch_first=True)
    weights = np.concatenate([np.asarray(attention[name]["kernel"]).reshape(D, D).T for name in names])
    biases = np.concatenate([attention[name]["bias"].reshape(-1) for name in names])
    linear = torch.nn.functional.linear

    def norm(x, p):
        return torch.nn.functional.layer_norm(x, (D,), t(p["scale"]), t(p["bias"]), eps=1e-6)

    def dense(x, p):
        return linear(x, t(np.asarray(p["kernel"]).T), t(p["bias"]))

    with torch.no_grad():
        attend.in_proj_weight.copy_(t(weights))
        attend.in_proj_bias.copy_(t(biases))
        attend.out_proj.weight.copy_(t(np.asarray(attention["out"]["kernel"]).reshape(D, D).T))
        attend.out_proj.bias.copy_(t(attention["out"]["bias"]))
        hidden = t(~np.repeat(np.asarray(visible)[:, 0], H, axis=0))
        raw = t(x)
        asking = norm(raw, params["attention_norm"])
        after = norm(asking + attend(asking, raw, raw, attn_mask=hidden)[0], params["feed_forward_norm"])
        return (after + dense(torch.relu(dense(after, params["wide"])), params["narrow"])).numpy()


def test_block_of_sasrec_equals_pytorch(x, visible):
    torch = pytest.importorskip("torch")
    block = TransformerBlock(H, norm="query", expansion=1, activation="relu")
    params = moved(block, x, visible)
    theirs = torch_sasrec_block(torch, params["params"], x, visible)
    seen = np.asarray(visible[:, 0].any(-1))
    np.testing.assert_allclose(np.asarray(block.apply(params, x, visible))[seen], theirs[seen], atol=2e-5)
    last = block.apply(params, x, visible[:, :, -1:])
    np.testing.assert_allclose(last[:, 0], theirs[:, -1], atol=2e-5)


def test_dropout_needs_a_key_and_keeps_the_mean(x, visible):
    block = SelfAttention(H, dropout=0.5)
    params = moved(block, x, visible)
    still = block.apply(params, x, visible)
    np.testing.assert_array_equal(still, block.apply(params, x, visible))
    draw = jax.jit(jax.vmap(lambda key: block.apply(params, x, visible, rngs={"dropout": key})))
    dropped = draw(jax.random.split(jax.random.key(0), 4000))
    assert float(jnp.abs(dropped[0] - dropped[1]).max()) > 0.01
    np.testing.assert_allclose(dropped.mean(0), still, atol=0.08)


def test_both_paths_of_attention_agree(x, visible):
    """With a key, weights are computed by hand; without, by jax.nn.dot_product_attention."""
    bias = jax.random.normal(jax.random.key(5), (1, H, L, L))
    tiny = SelfAttention(H, dropout=1e-7)
    params = moved(tiny, x, visible)
    by_hand = tiny.apply(params, x, visible, bias, rngs={"dropout": jax.random.key(0)})
    seen = visible[:, 0].any(-1)
    np.testing.assert_allclose(by_hand[seen], SelfAttention(H).apply(params, x, visible, bias)[seen], atol=1e-5)


def test_the_last_query_alone_equals_the_last_of_all(x, visible):
    """Alone, it makes no keys and values; the result, and the gradients of all parameters, are the same."""
    attention = SelfAttention(H)
    bias = jax.random.normal(jax.random.key(5), (1, H, L, L))
    params = moved(attention, x, visible)

    def last(params, visible):
        return attention.apply(params, x, visible, bias)[:, -1]

    alone, whole = (
        jax.jit(jax.value_and_grad(lambda p, v: (last(p, v) ** 3).sum()))(params, v)
        for v in (visible[:, :, -1:], visible)
    )
    np.testing.assert_allclose(last(params, visible[:, :, -1:]), last(params, visible), atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), alone, whole)


def test_the_last_query_alone_makes_no_keys_and_values(x, visible):
    attention = SelfAttention(H)
    params = moved(attention, x, visible)
    program = str(jax.make_jaxpr(attention.apply)(params, x, visible[:, :, -1:]))
    made = f"f32[{B},{L},{H},{D // H}]"
    assert made not in program
    assert made in str(jax.make_jaxpr(attention.apply)(params, x, visible))


def test_projections_have_the_parameters_of_flax(x, visible):
    class Theirs(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.DenseGeneral((H, D // H), name="key")(x)

    ours, theirs = (m.init(jax.random.key(0), *i) for m, i in ((SelfAttention(H), (x, visible)), (Theirs(), (x,))))
    ours, theirs = ours["params"]["key"], theirs["params"]["key"]
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_rotation_makes_products_depend_on_distances_only():
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 8))
    product = lambda i, j: float(  # noqa: E731
        jnp.vdot(rotate(query[None], jnp.array([i])), rotate(key[None], jnp.array([j])))
    )
    assert product(3, 1) == pytest.approx(product(12, 10), abs=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_rotation_equals_complex_multiplication():
    x = np.random.default_rng(0).normal(size=(5, 2, 6))
    turned = np.asarray(rotate(jnp.asarray(x, jnp.float32), jnp.arange(5)))
    angle = np.arange(5)[:, None] * 10_000.0 ** (-np.arange(3) / 3)
    expected = (x[..., :3] + 1j * x[..., 3:]) * np.exp(1j * angle)[:, None]
    np.testing.assert_allclose(turned[..., :3] + 1j * turned[..., 3:], expected, atol=1e-5)


def test_relative_bias_by_hand():
    module = RelativeBias(num_heads=1, max_length=2, time_buckets=4)
    steps, seconds = jnp.array([[30.0], [10.0], [20.0]]), jnp.array([[0.0], [1.0], [2.0], [3.0]])
    params = {"params": {"steps": steps, "seconds": seconds}}
    bias = module.apply(params, 3, jnp.array([[0, 1, 100]]))
    assert bias[0, 0].tolist() == [[10.0, 31.0, 33.0], [21.0, 10.0, 33.0], [23.0, 23.0, 10.0]]


def test_time_buckets_grow_with_time_and_end_at_the_last():
    seconds = jnp.array([0, 1, 2, 3, 4, 100, 2**31 - 1])
    found = time_bucket(seconds, 16)
    assert found.tolist() == sorted(found.tolist())
    assert found[0] == 0
    assert found[-1] == 15
    np.testing.assert_array_equal(time_bucket(-seconds, 16), found)


def test_relative_bias_without_times_says_so():
    with pytest.raises(ValueError, match="time_buckets is 4, but the observation has no time"):
        RelativeBias(1, 4, time_buckets=4).init(jax.random.key(0), 3)


def test_hstu_block_equals_float64(x, visible):
    block = HSTUBlock(H, max_length=10)
    bias = jax.random.normal(jax.random.key(3), (1, H, L, L))
    params = moved(block, x, visible, bias)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    silu = lambda z: z / (1 + np.exp(-z))  # noqa: E731

    def norm(z, q):
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6) * q["scale"] + q["bias"]

    z = np.asarray(x, np.float64)
    u, v, q, k = np.split(silu(norm(z, p["norm"]) @ p["mix"]["kernel"] + p["mix"]["bias"]), 4, axis=-1)
    out = np.zeros_like(z)
    for b in range(B):
        for i in range(L):
            for h in range(H):
                part = slice(h * D // H, (h + 1) * D // H)
                for j in range(L):
                    if visible[b, 0, i, j]:
                        weight = silu(q[b, i, part] @ k[b, j, part] + float(bias[0, h, i, j])) / 10
                        out[b, i, part] += weight * v[b, j, part]
    expected = z + (norm(out, p["attended_norm"]) * u) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(block.apply(params, x, visible, bias), expected, atol=1e-4)


@pytest.mark.parametrize("positions", ["from_start", "from_end", "rotary", "relative"])
def test_order_matters_to_positions(positions, x):
    encoder = SelfAttentionEncoder(num_blocks=2, positions=positions)
    mask = jnp.ones((B, L), bool)
    params = moved(encoder, x, mask)
    turned = x.at[:, :-1].set(x[:, -2::-1])
    assert float(jnp.abs(encoder.apply(params, x, mask) - encoder.apply(params, turned, mask)).max()) > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfAttentionEncoder(positions="sine"), "positions is 'sine'; choose one of"),
        (lambda: SelfAttentionEncoder(dropout=1.0), r"dropout is 1.0; it must lie in \[0, 1\)"),
        (lambda: SelfAttentionEncoder(norm="none"), "norm is 'none'; choose one of"),
        (lambda: SelfAttentionEncoder(activation="tanh"), "activation is 'tanh'; choose one of"),
        (lambda: SelfAttentionEncoder(num_heads=8, positions="rotary"), "heads of even width"),
    ],
)
def test_bad_options_say_what_to_choose(make, message, x):
    with pytest.raises(ValueError, match=message):
        make().init(jax.random.key(0), x, jnp.ones((B, L), bool))
