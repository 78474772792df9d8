"""Training the retriever, and the search for ids beside the ranking of all items."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import data
from recjax.eval import Protocol, evaluate
from recjax.fit import Checkpoints, Hooks
from recjax.models.semantic_ids import (
    GenerativeRetriever,
    SemanticIds,
    append,
    beam_search,
    item_scorer,
    log_probabilities,
    prefix_tree,
    residual_kmeans,
    with_free_codes,
)
from recjax.models.semantic_ids import beam as beam_module
from recjax.models.semantic_ids.beam import _search
from recjax.models.sequence import SequenceConfig, fit_sequences
from recjax.types import PAD_ID, Observation

RING, LENGTH, USERS = 24, 6, 3


def observe(*histories):
    """Left-padded histories, as many as the compiled shape holds."""
    rows = [[PAD_ID] * (LENGTH - len(history)) + list(history) for history in histories]
    history = jnp.asarray(rows, jnp.int32)
    return Observation(history, jnp.where(history == PAD_ID, PAD_ID, 1))


def network(ids, **options):
    return GenerativeRetriever(ids.level_sizes, dim=16, **options)


@pytest.fixture(scope="module")
def log():
    """Users walk along the ring."""
    user, step = np.divmod(np.arange(64 * 9), 9)
    first = np.random.default_rng(0).integers(0, RING, 64)
    return data.sequences(data.Interactions(user, (first[user] + step) % RING, time=step), 64)


CONFIG = SequenceConfig(
    epochs=60, batch_size=16, history_length=LENGTH, learning_rate=1e-2, schedule="cosine", accumulate=1, num_buckets=1
)


@pytest.fixture(scope="module")
def trained(log, ring_ids):
    return fit_sequences(network(ring_ids), log, ring_ids, CONFIG, key=jax.random.key(0)).params


@pytest.fixture(scope="module")
def untrained(ring_ids):
    """Sharper than at the start, so that items differ."""
    params = jax.jit(network(ring_ids).init)(jax.random.key(1), observe([0]), ring_ids)
    return jax.tree.map(lambda leaf: 2 * leaf, params)


HISTORIES = observe([], [4], [7, 8, RING, 9, 10, 11])  # none, short, full and with an unknown item


def exhaustive(scores, k, exclude):
    """The best of all items by a sort, the lowest id of equals first."""
    found = []
    for row, unwanted in zip(np.asarray(scores), np.asarray(exclude), strict=True):
        left = [item for item in np.lexsort((np.arange(len(row)), -row)).tolist() if item not in unwanted][:k]
        found.append(left + [PAD_ID] * (k - len(left)))
    return np.array(found)


def test_learns_the_ring_and_the_search_finds_it(trained, ring_ids):
    starts = np.arange(RING)[:, None]
    history = jnp.asarray((starts + np.arange(LENGTH)) % RING)
    observation = Observation(history, jnp.ones_like(history))
    wanted = (starts[:, 0] + LENGTH) % RING
    scores, items = beam_search(network(ring_ids), trained, observation, ring_ids, prefix_tree(ring_ids), 1, beam=4)
    assert np.mean(items[:, 0] == wanted) > 0.95
    assert float(jnp.exp(scores[:, 0]).mean()) > 0.8
    protocol = Protocol(split="along the ring", history_length=LENGTH, ks=(1,), seen="kept")
    scorer = item_scorer(network(ring_ids), trained, ring_ids)
    found = evaluate(scorer, observation, jnp.asarray(wanted), protocol, batch_size=RING)
    assert found.metrics["hit_rate@1"] == np.mean(items[:, 0] == wanted)


def test_log_probabilities_are_sums_over_levels_and_lose_what_no_item_has(untrained, ring_ids):
    """Every id of the levels, whether an item has it or not, one code after the other."""
    retriever = network(ring_ids)
    users = retriever.apply(untrained, HISTORIES, ring_ids, method="represent")
    total, codes = jnp.zeros((USERS, 1)), np.zeros((1, 0), np.int32)
    for size in ring_ids.level_sizes:
        each = jnp.repeat(users, len(codes), axis=0)
        said = retriever.apply(untrained, each, jnp.tile(jnp.asarray(codes), (USERS, 1)), method="next_code")
        np.testing.assert_allclose(jnp.exp(said).sum(-1), 1.0, rtol=1e-5)
        total = (total.reshape(-1, 1) + said).reshape(USERS, -1)
        codes = np.column_stack([np.repeat(codes, size, axis=0), np.tile(np.arange(size), len(codes))])
    np.testing.assert_allclose(jnp.exp(total).sum(-1), 1.0, rtol=1e-4)
    place = [np.flatnonzero((codes == row).all(-1))[0] for row in np.asarray(ring_ids.codes)]
    scores = log_probabilities(retriever, untrained, HISTORIES, ring_ids)
    np.testing.assert_allclose(scores, total[:, np.array(place)], rtol=1e-4)
    assert (jnp.exp(scores).sum(-1) < 0.9).all()


def test_blocks_do_not_change_the_scores(monkeypatch, untrained, ring_ids):
    whole = log_probabilities(network(ring_ids), untrained, HISTORIES, ring_ids)
    monkeypatch.setattr(beam_module, "scores_at_once", lambda: 7 * USERS * 48)
    users, scorer = item_scorer(network(ring_ids), untrained, ring_ids)(HISTORIES)
    assert scorer.block_size == 7
    log_probabilities.clear_cache()
    np.testing.assert_allclose(log_probabilities(network(ring_ids), untrained, HISTORIES, ring_ids), whole, rtol=1e-5)
    chosen = jnp.array([[3, 20], [0, 1], [23, 23]])
    picked = jnp.take_along_axis(whole, chosen, axis=1)
    np.testing.assert_allclose(scorer.score_ids(users, chosen), picked, rtol=1e-5)


def test_a_beam_that_holds_every_beginning_equals_the_ranking_of_all_items(untrained, ring_ids):
    tree, k = prefix_tree(ring_ids), RING
    exclude = jnp.array([[-1, -1, -1], [4, -1, 0], [7, 99, 23]])
    scores = log_probabilities(network(ring_ids), untrained, HISTORIES, ring_ids)
    wanted = exhaustive(scores, k, exclude)
    found, items = beam_search(
        network(ring_ids), untrained, HISTORIES, ring_ids, tree, k, beam=max(tree.num_nodes[:-1]), exclude=exclude
    )
    np.testing.assert_array_equal(items, wanted)
    there = wanted != PAD_ID
    np.testing.assert_allclose(
        np.asarray(found)[there], np.take_along_axis(np.asarray(scores), wanted, axis=1)[there], rtol=1e-4
    )
    assert (np.asarray(found)[~there] == -np.inf).all()
    assert (~there).sum() == 0 + 2 + 2


def test_equal_probabilities_give_the_lowest_item():
    """A network of zeros thinks all codes alike: whatever the order of codes, items come in that of their ids."""
    codes = np.array([[2, 1], [0, 3], [0, 0], [2, 0], [1, 1], [0, 2]])
    ids = SemanticIds(jnp.asarray(codes, jnp.int32), (jnp.zeros((3, 1)), jnp.zeros((4, 1))))
    retriever = network(ids)
    zeros = jax.tree.map(jnp.zeros_like, jax.jit(retriever.init)(jax.random.key(0), observe([0]), ids))
    scores, items = beam_search(retriever, zeros, observe([0], []), ids, prefix_tree(ids), 4, beam=3)
    assert items.tolist() == [[0, 1, 2, 3]] * 2
    np.testing.assert_allclose(scores, -np.log(12), rtol=1e-6)
    # One beginning goes on, that of the lowest code: 0, which items 1, 2 and 5 have.
    _, items = beam_search(retriever, zeros, observe([0], []), ids, prefix_tree(ids), 4, beam=1)
    assert items.tolist() == [[1, 2, 5, PAD_ID]] * 2


def test_wider_beams_find_no_less(untrained, circle):
    """Of two levels only the first is cut, so that a wider beam ranks more items."""

    ids = with_free_codes(residual_kmeans(circle, levels=2, codebook_size=6, key=jax.random.key(0)), circle)
    retriever = network(ids)
    params = jax.tree.map(lambda leaf: 2 * leaf, retriever.init(jax.random.key(2), HISTORIES, ids))
    exact = np.asarray(log_probabilities(retriever, params, HISTORIES, ids))
    before = np.full((USERS, 5), -np.inf)
    for beam in (1, 2, 4, 6):
        scores, items = map(np.asarray, beam_search(retriever, params, HISTORIES, ids, prefix_tree(ids), 5, beam=beam))
        assert (scores >= before - 1e-5).all()
        there = items != PAD_ID
        np.testing.assert_allclose(scores[there], np.take_along_axis(exact, items, axis=1)[there], rtol=1e-4)
        before = scores
    np.testing.assert_array_equal(items, exhaustive(exact, 5, [[]] * USERS))


def test_the_search_compiles_once(untrained, ring_ids):
    tree, before = prefix_tree(ring_ids), None
    for seed in range(3):
        params = jax.tree.map(lambda leaf, seed=seed: leaf * (1 + seed), untrained)
        beam_search(network(ring_ids), params, observe([seed], [], [1]), ring_ids, tree, 3, beam=2)
        before = before or _search._cache_size()
    assert _search._cache_size() == before


def test_memory_of_the_tree_is_linear_in_the_items():
    """Ids drawn at random: the arrays have fewer than 3 numbers an item and level."""
    codes = np.unique(np.random.default_rng(0).integers(0, 64, (5000, 3)), axis=0)
    tree = prefix_tree(SemanticIds(jnp.asarray(codes, jnp.int32), (jnp.zeros((64, 1)),) * 3))
    numbers = sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert numbers < 3 * codes.size
    assert tree.num_nodes[0] == 1
    assert tree.num_nodes[-1] == len(codes)
    assert max(tree.most_children) <= 64


def test_a_new_item_can_be_found_at_once(trained, ring_ids):
    """An item between 10 and 11 is found where these are, and stands in histories for what it is like."""
    angle = 2 * np.pi * 10.5 / RING
    grown = append(ring_ids, jnp.array([[np.cos(angle), np.sin(angle)]], jnp.float32))
    tree = prefix_tree(grown)
    np.testing.assert_array_equal(grown.codes[:RING], ring_ids.codes)
    observation = observe([7, 8, 9], [5, 6, 7, 8, 9], [8, 9, 10, RING])
    _, items = beam_search(network(grown), trained, observation, grown, tree, RING + 1, beam=max(tree.num_nodes))
    assert all(RING in row for row in items.tolist())
    exact = log_probabilities(network(grown), trained, observation, grown)
    np.testing.assert_array_equal(items, exhaustive(exact, RING + 1, [[]] * 3))
    alike = (np.asarray(grown.codes)[:, :2] == np.asarray(grown.codes)[RING, :2]).all(-1)
    assert {10, 11} & set(np.flatnonzero(alike).tolist())


def test_resumed_training_is_the_same_training(log, ring_ids, tmp_path):
    retriever = network(ring_ids, dropout=0.1)
    config = dataclasses.replace(CONFIG, epochs=3)
    whole = fit_sequences(retriever, log, ring_ids, config, key=jax.random.key(0))

    def stop(epoch, params):
        if epoch == 2:
            raise KeyboardInterrupt

    def run(callback=None):
        hooks = Hooks(callback, checkpoints=Checkpoints(tmp_path))
        return fit_sequences(retriever, log, ring_ids, config, key=jax.random.key(0), hooks=hooks)

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    resumed = run()
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


def test_the_loss_is_the_mean_over_targets_that_are_items(untrained, ring_ids):
    retriever, target = network(ring_ids), jnp.array([3, PAD_ID, RING])
    loss = retriever.apply(untrained, HISTORIES, target, ring_ids, method="next_item_loss")
    scores = log_probabilities(retriever, untrained, HISTORIES, ring_ids)
    assert float(loss) == pytest.approx(-float(scores[0, 3]), rel=1e-5)


def test_an_encoder_that_is_asked_at_a_gap(ring_ids):
    retriever = GenerativeRetriever(ring_ids.level_sizes, dim=8, encoder="bidirectional")
    params = jax.jit(retriever.init)(jax.random.key(0), HISTORIES, ring_ids)
    users = retriever.apply(params, HISTORIES, ring_ids, method="represent")
    assert users.shape == (USERS, 8)
    assert float(jnp.abs(users[0] - users[1]).max()) > 1e-3


def test_what_cannot_be_is_refused(untrained, log, ring_ids):
    tree, retriever = prefix_tree(ring_ids), network(ring_ids)
    for options, message in (
        ({"k": 0}, r"k is 0, but there are 24 items; choose k in 1 .. 24"),
        ({"k": 25}, r"k is 25, but there are 24 items"),
        ({"k": 1, "beam": 0}, "beam is 0; it must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            beam_search(retriever, untrained, HISTORIES, ring_ids, tree, **options)
    fewer = ring_ids.replace(codes=ring_ids.codes[1:])
    with pytest.raises(ValueError, match=r"The tree has 24 items but ids has 23; make it anew"):
        beam_search(retriever, untrained, HISTORIES, fewer, tree, 1)
    with pytest.raises(ValueError, match=r"Items 0 and 1 have the same codes \[0, 0, 0\]"):
        prefix_tree(ring_ids.replace(codes=jnp.zeros((2, 3), jnp.int32)))
    with pytest.raises(ValueError, match=r"Item 1 has the code 6 at level 0, whose codes are\s+0 .. 5"):
        prefix_tree(ring_ids.replace(codes=jnp.array([[0, 0, 0], [6, 0, 0]])))
    with pytest.raises(ValueError, match="loss is 'bce', but GenerativeRetriever has a loss of its own; leave it None"):
        fit_sequences(retriever, log, ring_ids, dataclasses.replace(CONFIG, loss="bce"), key=jax.random.key(0))
    with pytest.raises(ValueError, match="no feature of kind 'multi_hot'"):
        fit_sequences(retriever, log, ring_ids, dataclasses.replace(CONFIG, attributes=0.1), key=jax.random.key(0))
