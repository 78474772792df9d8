"""Artifacts: the same recommendations as the agent's own, opened without anything that training needs."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax import agents, nn, serve
from recjax.catalogue import top_k
from recjax.data import Dataset, IdMap, Interactions
from recjax.serve import export
from recjax.types import Behaviour, Items, Observation, Spec

N, U, L, K = 25, 9, 4, 5
SPEC = Spec(num_items=N, slate_size=3, history_length=L)
ITEMS = Items(popularity=jnp.arange(N, dtype=jnp.float32), is_new=jnp.zeros(N, bool))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(U - 1), 7)  # The last user has nothing.
    return Dataset(
        name="made",
        interactions=Interactions(user, rng.integers(0, N, len(user)), time=np.arange(len(user))),
        users=IdMap(tuple(f"u{u}" for u in range(U))),
        items=IdMap(tuple(f"i{i}" for i in range(N))),
        titles=tuple(f"Item, the {i}th" for i in range(N)),
    )


@pytest.fixture(scope="module")
def policies():
    """Every kind of score: an index, blocks, dense scores of a table, and one that rates nothing."""
    model = nn.Recommendation.of(N, dim=6)
    params = jax.jit(model.init)(jax.random.key(2), SPEC.empty_observation((1,)), ITEMS)
    made = {
        "popularity": agents.popularity(),
        "greedy": agents.supervised_greedy(model, params),
        "similarity_prior": agents.similarity_prior(model, params, prior="popularity"),
        "dqn": agents.dqn(nn.DotProductQ.of(N, dim=6, encoder="attention"), optax.adam(1e-3)),
        "mlp": agents.dqn(nn.MLPQ.of(N, dim=6), optax.adam(1e-3)),
        "q_learning": agents.q_learning(),
        "random": agents.random(),
    }
    states = {name: agent.init(jax.random.key(1), SPEC, ITEMS) for name, agent in made.items()}
    states["q_learning"] = states["q_learning"].replace(table=jax.random.normal(jax.random.key(5), (N + 1, N)))
    return {name: (agent, states[name]) for name, agent in made.items()}


@pytest.fixture(scope="module")
def path(policies, dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("artifacts") / "all"
    evidence = nn.normalize(jax.random.normal(jax.random.key(0), (N, 3)))
    export.save(path, policies, SPEC, dataset, evidence=evidence, config={"seed": 0})
    return path


def own_answer(agent, state, dataset):
    """By the agent itself, one user at a time."""
    log, ids = dataset.interactions, []
    for user in range(U):
        had = log.item[log.user == user]
        history = np.full((1, L), -1, np.int32)
        if len(had):
            history[0, L - len(had[-L:]) :] = had[-L:]
        behaviour = np.where(history < 0, -1, int(Behaviour.CLICK))
        exclude = jnp.asarray(had if len(had) else [-1], jnp.int32)[None]
        found = top_k(
            *agent.scores(state, Observation(jnp.asarray(history), jnp.asarray(behaviour))), K, exclude=exclude
        )
        ids.append(np.asarray(found[1])[0])
    return np.array(ids)


@pytest.mark.parametrize("name", ["popularity", "greedy", "similarity_prior", "dqn", "mlp", "q_learning"])
def test_recommendations_are_the_agents_own(name, path, policies, dataset):
    found = serve.load(path, name).recommend(dataset.users.names, k=K)
    np.testing.assert_array_equal(found.ids, own_answer(*policies[name], dataset))


def test_raw_histories_are_those_of_the_same_user(path, dataset):
    artifact = serve.load(path, "dqn")
    log = dataset.interactions
    histories = [[f"i{i}" for i in log.item[log.user == user]] for user in range(U)]
    known = artifact.recommend(dataset.users.names, k=K)
    given = artifact.recommend(histories=histories, k=K)
    np.testing.assert_array_equal(given.ids, known.ids)
    np.testing.assert_array_equal(given.scores, known.scores)
    titled = artifact.recommend(histories=[["Item, the 3th", "i4"]], k=K)
    np.testing.assert_array_equal(titled.ids, artifact.recommend(histories=[["i3", "i4"]], k=K).ids)
    assert titled.history(0) == ["Item, the 4th", "Item, the 3th"]


def test_users_go_through_in_batches(path, dataset):
    artifact = serve.load(path, "greedy")
    many = artifact.recommend(list(dataset.users.names) * 30, k=K)
    assert len(many) == 30 * U > export.BATCH
    np.testing.assert_array_equal(many.ids, np.tile(artifact.recommend(dataset.users.names, k=K).ids, (30, 1)))


def test_seen_items_may_be_recommended_on_request(path, dataset):
    artifact = serve.load(path, "popularity")
    assert artifact.recommend(["u0"], k=3, exclude_seen=False).ids.tolist() == [[N - 1, N - 2, N - 3]]


def test_users_who_had_almost_everything_get_what_is_left(path):
    artifact = serve.load(path, "popularity")
    found = artifact.recommend(histories=[[f"i{i}" for i in range(N - 2)]], k=4)
    assert found.ids.tolist() == [[N - 1, N - 2, -1, -1]]
    assert [row["rank"] for row in found.rows()] == [1, 2]


def test_tables(path):
    found = serve.load(path, "popularity").recommend(["u0", "u8"], k=2)
    rows = [json.loads(line) for line in found.to_json().splitlines()]
    assert rows == list(found.rows())
    read = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [(r["user"], r["item"], r["title"]) for r in read] == [(r["user"], r["item"], r["title"]) for r in rows]
    assert repr(found) == "Recommendations(2 users, 2 items each)"


def test_evidence_is_given_only_where_histories_are_read(path):
    found = serve.load(path, "dqn").recommend(["u0"], k=2)
    near = found.follows_from(0, int(found.ids[0, 0]))
    assert len(near) == 3
    assert [cosine for _, cosine in near] == sorted((cosine for _, cosine in near), reverse=True)
    assert serve.load(path, "popularity").recommend(["u0"], k=2).follows_from(0, 3) == []
    again = serve.load(path, "dqn").recommend(histories=[["i1", "i2", "i1", "i1"]], k=1)
    assert len({title for title, _ in again.follows_from(0, int(again.ids[0, 0]))}) == 2
    assert len(again.follows_from(0, int(again.ids[0, 0]))) == 2


def test_an_artifact_opens_where_nothing_of_training_can_be_imported(path, policies, dataset):
    code = f"""
import sys
class Refuse:
    names = {{"optax", "polars", "orbax", "matplotlib", "tensorboardX", "tyro"}}
    packages = set("fit agents envs models language study loop replay data eval report nn".split())
    def find_spec(self, name, path=None, target=None):
        first, _, rest = name.partition(".")
        if first in self.names or (first == "recjax" and rest.split(".")[0] in self.packages):
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
from recjax import serve
print(serve.load({str(path)!r}, "dqn").recommend({list(dataset.users.names)!r}, k={K}).ids.tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == own_answer(*policies["dqn"], dataset).tolist()


def test_only_what_serving_reads_is_kept(path, policies):
    """Neither the optimiser's state nor the target network, and no item twice."""
    kept = serve.load(path, "dqn")
    own = sum(leaf.size for leaf in jax.tree.leaves(policies["dqn"][1].params))
    assert sum(array.size for array in kept.arrays) <= own
    assert kept.index.vectors.shape == (N, 8)


@pytest.mark.parametrize("name", ["items.json", "users.npz", "policy-0/arrays.npz", "policy-0/program.bin"])
def test_a_flipped_bit_is_found(name, policies, dataset, tmp_path):
    export.save(tmp_path / "a", {"popularity": policies["popularity"]}, SPEC, dataset)
    file = tmp_path / "a" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its SHA-256"):
        serve.load(tmp_path / "a")
    file.unlink()
    with pytest.raises(ValueError, match=f"lacks {name}"):
        serve.load(tmp_path / "a")


def test_saving_again_replaces_all_and_repeats_the_hash(policies, dataset, tmp_path):
    only = {"popularity": policies["popularity"]}
    first = export.save(tmp_path / "a", policies, SPEC, dataset)
    second, third = (export.save(tmp_path / "a", only, SPEC, dataset) for _ in range(2))
    assert first != second == third == serve.load(tmp_path / "a").hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert not (tmp_path / "a" / "policy-1").exists()


def test_bad_input_is_named(path, policies, dataset, tmp_path):
    with pytest.raises(ValueError, match="no artifact in nowhere"):
        serve.load("nowhere")
    with pytest.raises(ValueError, match=r"has the policies popularity, greedy, .*; choose one of them"):
        serve.load(path, "nobody")
    with pytest.raises(ValueError, match="'random': It does not rate items"):
        serve.load(path, "random")
    artifact = serve.load(path, "dqn")
    with pytest.raises(ValueError, match="no user 'u99'; the 9 users are u0, u1"):
        artifact.recommend(["u99"])
    with pytest.raises(ValueError, match=r"no item 'Item, the 3rd'.*Did you mean 'Item, the 3th'"):
        artifact.recommend(histories=[["Item, the 3rd"]])
    with pytest.raises(ValueError, match="k is 26"):
        artifact.recommend(["u0"], k=26)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged: it names no files"):
        serve.load(tmp_path)
    with pytest.raises(ValueError, match="None of the policies can be exported"):
        export.save(tmp_path / "b", {"random": policies["random"]}, SPEC, dataset)
    assert not (tmp_path / "b").exists()
    with_context = Spec(N, 3, L, context_size=2)
    with pytest.raises(ValueError, match="needs more than the items of a history"):
        export.export_policy(*policies["popularity"], with_context)
