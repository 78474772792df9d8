"""From an agent to an artifact: what it needs to recommend, and nothing of what it needed to learn."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import recjax
from recjax.agents import Agent
from recjax.catalogue import ItemIndex, as_scorer
from recjax.data import Dataset, sequences
from recjax.serve import files
from recjax.serve.artifact import FORMAT
from recjax.types import Array, Observation, PyTree, Spec

BATCH = 64
"""Users that a program serves at once; fewer where it scores every item of a big catalogue itself."""

DENSE_SCORES = 2**24
"""Scores that such a program may hold at once."""

PLATFORMS = ("cpu", "cuda", "tpu")
"""Devices that a program runs on."""


@dataclasses.dataclass(frozen=True)
class Exported:
    """A policy as a program, apart from the agent it came from.

    Attributes:
      program: serialised StableHLO of ``(arrays, history, behaviour) -> queries``, or ``-> scores f32[B, N]``.
      arrays: the parameters that it reads.
      index: item vectors that queries are multiplied with, None where the program scores every item.
      reads_history: whether the ranking depends on what a user had.
    """

    program: bytes
    arrays: list[Array]
    index: ItemIndex | None
    reads_history: bool


def export_policy(agent: Agent, state: PyTree, spec: Spec) -> Exported:
    """The program by which an agent rates items.

    Args:
      agent: one that rates items.
      state: its state, of one seed.
      spec: of the problem that it was trained for.

    Raises:
      ValueError: the agent does not rate items, or needs more than histories to do so.
    """
    if agent.scores is None:
        raise ValueError("It does not rate items, so it has none to recommend in order.")
    if spec.context_size or spec.has_time or spec.action_space != "catalogue":
        raise ValueError(
            "It needs more than the items of a history: artifacts hold policies for"
            f" slates of the catalogue without context or times; got {spec}."
        )
    leaves, structure = jax.tree.flatten(state)
    rate = agent.scores

    def scored(leaves: list[Array], observation: Observation) -> tuple[PyTree, Any]:
        return rate(jax.tree.unflatten(structure, leaves), observation)

    blank = spec.empty_observation((1,))
    kinds: list[bool] = []
    jax.eval_shape(lambda leaves: kinds.append(isinstance(scored(leaves, blank)[1], ItemIndex)), leaves)
    has_index = kinds[0]
    index = jax.jit(lambda leaves: scored(leaves, blank)[1])(leaves) if has_index else None

    def program(leaves: list[Array], history: Array, behaviour: Array) -> PyTree:
        queries, items = scored(leaves, Observation(history, behaviour))
        return queries if has_index else as_scorer(items).score_block(queries, 0, spec.num_items)

    batch = BATCH if has_index else max(1, min(BATCH, DENSE_SCORES // spec.num_items))
    events = jax.ShapeDtypeStruct((batch, spec.history_length), jnp.int32)
    used = _export(program, leaves, events).module_kept_var_idx
    read = [number for number in range(len(leaves)) if number in used]
    reads_history = any(number >= len(leaves) for number in used)

    def of_read(arrays: list[Array], history: Array, behaviour: Array) -> PyTree:
        whole = [jnp.zeros(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        for number, array in zip(read, arrays, strict=True):
            whole[number] = array
        return program(whole, history, behaviour)

    arrays = [leaves[number] for number in read]
    return Exported(bytes(_export(of_read, arrays, events).serialize()), arrays, index, reads_history)


def save(
    path: str | os.PathLike[str],
    policies: Mapping[str, tuple[Agent, PyTree]],
    spec: Spec,
    dataset: Dataset,
    *,
    evidence: Array | np.ndarray | None = None,
    config: Mapping[str, Any] | None = None,
) -> str:
    """Writes an artifact: one line to save, and one (:func:`recjax.serve.load`) to open.

    Args:
      path: the folder; an artifact that is there is replaced.
      policies: agent and state of one seed by name. Those that cannot be exported are left out, and the
        artifact says why.
      spec: of the problem that they were trained for.
      dataset: names of users and items, titles, and the histories of the users.
      evidence: ``f32[N, D]`` unit vectors that say which items are alike, or None.
      config: how the policies came about, ready for JSON.

    Returns:
      The hash of everything.

    Raises:
      ValueError: no policy could be exported.
    """
    contents: dict[str, bytes] = {}
    described: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, (agent, state) in policies.items():
        try:
            exported = export_policy(agent, state, spec)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        described[name] = _add_policy(contents, f"policy-{len(described)}", exported)
    if not described:
        raise ValueError(f"None of the policies can be exported: {left_out}.")
    users = _histories(dataset)
    contents["users.npz"], users_described = files.pack(users)
    contents["users.json"] = json.dumps(list(dataset.users.names), ensure_ascii=False).encode()
    titles = None if dataset.titles is None else [dataset.title(item) for item in range(dataset.num_items)]
    names = {"names": list(dataset.items.names), "titles": titles}
    contents["items.json"] = json.dumps(names, ensure_ascii=False).encode()
    evidence_described = None
    if evidence is not None:
        contents["evidence.npz"], evidence_described = files.pack({"vectors": np.asarray(evidence, np.float32)})
    manifest = {
        "format": FORMAT,
        "recjax": recjax.__version__,
        "jax": jax.__version__,
        "data": dataset.name,
        "history_length": spec.history_length,
        "policies": described,
        "left_out": left_out,
        "users": users_described,
        "evidence": evidence_described,
        "config": dict(config or {}),
    }
    return files.write(path, manifest, contents)


def _export(program: Any, leaves: list[Array], events: jax.ShapeDtypeStruct) -> jax.export.Exported:
    shapes = [jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
    return jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, events, events)


def _add_policy(contents: dict[str, bytes], folder: str, exported: Exported) -> dict[str, Any]:
    arrays: dict[str, Any] = {str(number): array for number, array in enumerate(exported.arrays)}
    index = exported.index
    if index is not None:
        own = {field: getattr(index, field) for field in ("vectors", "bias", "scale")}
        arrays |= {field: array for field, array in own.items() if array is not None}
    contents[f"{folder}/program.bin"] = exported.program
    contents[f"{folder}/arrays.npz"], described = files.pack(arrays)
    return {
        "folder": folder,
        "arrays": described,
        "index": index is not None,
        "unit_queries": index is not None and index.unit_queries,
        "reads_history": exported.reads_history,
    }


def _histories(dataset: Dataset) -> dict[str, np.ndarray]:
    log = dataset.interactions.take(dataset.interactions.item < dataset.num_items)
    found = sequences(log, dataset.num_users)
    return {
        "starts": np.asarray(found.starts, np.int64),
        "items": np.asarray(found.items, np.int32),
        "behaviours": np.asarray(found.behaviours, np.int32),
    }
