"""Plans of blocks: what suits which device, what overrides it, and programs for a device that is not here."""

from __future__ import annotations

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import catalogue
from recjax.catalogue import BlockScorer, ItemIndex, Plan, block_size_of, plan_for

ROWS, NUM_ITEMS, DIM = 2048, 50_000, 8


@pytest.mark.parametrize(
    ("num_items", "batch", "device", "block_size"),
    [
        (100_000, 1, "cpu", 16_384),  # No more than is worth one block.
        (100_000, 256, "cpu", 8_192),  # Two million scores.
        (100_000, 300, "cpu", 4_096),  # Down to a power of two.
        (100_000, 100_000, "cpu", 512),  # No fewer than are worth a block.
        (300, 256, "cpu", 300),
        (100_000, 2_048, "cpu", 1_024),
        (100_000, 2_048, "cuda", 16_384),
        (100_000, 8_192, "tpu", 4_096),
        (100_000, 0, "cpu", 16_384),
    ],
)
def test_blocks_are_what_fits_the_device(num_items, batch, device, block_size):
    plan = plan_for(num_items, batch, device=device)
    assert plan.block_size == block_size
    assert plan.scores_at_once == (2**21 if device == "cpu" else 2**25)


def test_the_default_is_the_device_of_jax():
    assert jax.default_backend() == "cpu"
    assert plan_for(10**6, 256) == plan_for(10**6, 256, device="cpu") != plan_for(10**6, 2048, device="cuda")


def test_the_caller_overrides_the_scorer_and_the_scorer_the_plan():
    queries, vectors = jnp.ones((4, 2)), jnp.ones((1000, 2))
    scorer = BlockScorer(lambda q, start, size: jnp.zeros((4, size)), 1000, block_size=30)
    plan = Plan(block_size=200, scores_at_once=2**21)
    assert block_size_of(vectors, queries) == 1000
    assert block_size_of(vectors, queries, plan=plan) == 200
    assert block_size_of(scorer, queries, plan=plan) == 30
    assert block_size_of(scorer, queries, 50, plan) == 50
    assert block_size_of(scorer, queries, 5000) == 1000


def products(text: str) -> set[tuple[int, int]]:
    """The shapes of matrices of scores in a StableHLO program."""
    found = re.findall(r"stablehlo\.dot_general .*-> tensor<(\d+)x(\d+)xf32>", text)
    return {(int(rows), int(columns)) for rows, columns in found}


def test_a_program_for_an_accelerator_is_made_on_a_cpu_host():
    """Its blocks are those of the accelerator, not of the host that traces it."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((ROWS, DIM), (NUM_ITEMS, DIM))]

    def exported(platform):
        plan = plan_for(NUM_ITEMS, ROWS, device=platform)
        return jax.export.export(jax.jit(functools.partial(catalogue.top_k, k=10, plan=plan)), platforms=[platform])(
            *shapes
        )

    for platform, product in (("cpu", (4096, 128)), ("cuda", (ROWS, 16_384))):
        program = exported(platform)
        assert program.platforms == (platform,)
        assert [(out.shape, str(out.dtype)) for out in program.out_avals] == [
            ((ROWS, 10), "float32"),
            ((ROWS, 10), "int32"),
        ]
        assert product in products(program.mlir_module())


@pytest.mark.parametrize("name", ["top_k", "argmax", "max_score", "mean_score", "logsumexp", "sample", "cross_entropy"])
def test_every_operation_takes_a_plan_and_finds_the_same(name):
    rng = np.random.default_rng(0)
    queries, vectors = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 3), (1500, 3)))
    labels = jnp.array([0, 5, -1, 1499])
    operation = {
        "top_k": lambda plan: catalogue.top_k(queries, vectors, 3, plan=plan),
        # The noise of an item depends on its block, so only what is drawn almost surely can be compared.
        "sample": lambda plan: catalogue.sample(jax.random.key(0), queries, vectors, 1, temperature=1e-6, plan=plan),
        "cross_entropy": lambda plan: (
            catalogue.softmax_cross_entropy(queries, vectors, labels, plan=plan),
            catalogue.mean_softmax_cross_entropy(queries, vectors, labels, plan=plan),
        ),
    }.get(name, lambda plan: getattr(catalogue, name)(queries, ItemIndex(vectors), plan=plan))
    for found, expected in zip(
        jax.tree.leaves(operation(Plan(block_size=100, scores_at_once=400))),
        jax.tree.leaves(operation(None)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_wrong_plans_are_named():
    with pytest.raises(ValueError, match="device is 'gpu0'; choose one of cpu, gpu, cuda, rocm, tpu"):
        plan_for(10, 1, device="gpu0")
    with pytest.raises(ValueError, match=r"Plan.block_size is 0; it must be at least 1"):
        Plan(block_size=0, scores_at_once=1)
