"""A trained policy that is opened in a second: parameters, item index, names, histories, and a compiled program.

Nothing here needs the code that trained the policy, the log, or a fit: the program that makes
queries of histories is stored as StableHLO (:mod:`jax.export`), and items are ranked by
:mod:`recjax.catalogue`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from recjax.catalogue import ItemIndex, dense_scorer, top_k
from recjax.display import html_table
from recjax.serve import files
from recjax.serve.recommendations import Recommendations
from recjax.types import PAD_ID, Array, Behaviour

FORMAT = 1
"""Version of the layout; an artifact of another one is refused."""


@dataclasses.dataclass(frozen=True)
class UserHistories:
    """What known users had, oldest first.

    Attributes:
      names: of the users.
      starts: ``i64[U + 1]`` where each begins in the arrays below.
      items: ``i32[E]``.
      behaviours: ``i32[E]`` codes of :class:`~recjax.types.Behaviour`.
    """

    names: tuple[str, ...]
    starts: np.ndarray
    items: np.ndarray
    behaviours: np.ndarray

    @functools.cached_property
    def rows(self) -> dict[str, int]:
        """Row by name."""
        return {name: row for row, name in enumerate(self.names)}


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A policy ready to recommend.

    Attributes:
      policy: its name.
      manifest: what the artifact says of itself: format, versions, configuration, files with hashes.
      hash: SHA-256 of everything.
      names: of all items, as in the log.
      titles: of all items.
      users: what known users had.
      history_length: newest events that the policy sees.
      program: ``(arrays, history i32[B, L], behaviour i32[B, L]) -> queries``.
      arrays: the parameters that it needs.
      index: the item vectors, or None where the program scores every item itself.
      evidence: ``f32[N, D]`` unit vectors, see :class:`Recommendations`.
    """

    policy: str
    manifest: dict[str, Any]
    hash: str
    names: tuple[str, ...]
    titles: tuple[str, ...]
    users: UserHistories
    history_length: int
    program: jax.export.Exported
    arrays: list[Array]
    index: ItemIndex | None
    evidence: np.ndarray | None

    def __repr__(self) -> str:
        return f"Artifact({self.policy!r}, {len(self.names):,} items, {len(self.users.names):,} users)"

    def _repr_html_(self) -> str:
        facts = [
            ("items", f"{len(self.names):,}"),
            ("known users", f"{len(self.users.names):,}"),
            ("sees", f"the last {self.history_length} events"),
            *((name, self.manifest[name]) for name in ("recjax", "jax") if name in self.manifest),
            ("SHA-256", self.hash),
        ]
        return html_table(f"Policy {self.policy}", facts)

    def recommend(
        self,
        users: Sequence[str] = (),
        *,
        histories: Sequence[Sequence[str]] = (),
        k: int = 10,
        behaviour: Behaviour = Behaviour.CLICK,
        exclude_seen: bool = True,
    ) -> Recommendations:
        """The best items of known users, and of any others by what they had.

        Args:
          users: names of users of the log.
          histories: for each further user the names of the items they had, oldest first; they are
            called ``history 1``, ``history 2``, …
          k: how many items.
          behaviour: what the users of ``histories`` did to their items.
          exclude_seen: whether items that a user had, ever, are left out.

        Raises:
          ValueError: an unknown user or item, or ``k`` out of range.
        """
        if not 1 <= k <= len(self.names):
            raise ValueError(f"k is {k}, but the catalogue has {len(self.names)} items; choose 1 to {len(self.names)}.")
        known = [self._known(name) for name in users]
        given = [self._given(history, behaviour) for history in histories]
        events = known + given
        called = (*users, *(f"history {number + 1}" for number in range(len(given))))
        size = self.program.in_avals[-1].shape[0]
        ids, scores = np.zeros((len(events), k), np.int32), np.zeros((len(events), k), np.float32)
        for start in range(0, len(events), size):
            rows = slice(start, start + size)
            found = self._rank(events[rows], size, k, exclude_seen)
            scores[rows], ids[rows] = (np.asarray(part)[: len(events) - start] for part in found)
        seen = tuple(items[-self.history_length :] for items, _ in events)
        return Recommendations(called, ids, scores, self.names, self.titles, seen, self.evidence)

    def _rank(
        self, events: list[tuple[np.ndarray, np.ndarray]], size: int, k: int, exclude_seen: bool
    ) -> tuple[Array, Array]:
        """Scores and items of up to ``size`` users; the batch is filled up with users who had nothing."""
        length = self.history_length
        history = _padded([items[-length:] for items, _ in events], size, length)
        behaviours = _padded([behaviours[-length:] for _, behaviours in events], size, length)
        longest = max((len(items) for items, _ in events), default=0) if exclude_seen else 0
        # Widths are powers of two, so that few shapes compile.
        width = 1 << max(longest, 1).bit_length()
        seen = _padded([items[:longest] for items, _ in events], size, width)
        return _best(self.program, self.arrays, self.index, history, behaviours, seen, k=k)

    def _known(self, user: str) -> tuple[np.ndarray, np.ndarray]:
        row = self.users.rows.get(user)
        if row is None:
            some = ", ".join(self.users.names[:5])
            raise ValueError(f"There is no user {user!r}; the {len(self.users.names):,} users are {some}, …")
        events = slice(int(self.users.starts[row]), int(self.users.starts[row + 1]))
        return self.users.items[events], self.users.behaviours[events]

    def _given(self, history: Sequence[str], behaviour: Behaviour) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array([self._item(name) for name in history], np.int32)
        return rows, np.full(len(rows), int(behaviour), np.int32)

    def _item(self, name: str) -> int:
        if name not in self._items:
            close = difflib.get_close_matches(name, [*self._items, *self.titles], n=3)
            hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
            some = ", ".join(self.names[:5])
            raise ValueError(f"There is no item {name!r}; the {len(self.names):,} items are {some}, …{hint}")
        return self._items[name]

    @functools.cached_property
    def _items(self) -> dict[str, int]:
        """Row by name, and by title where that is one item's alone."""
        rows: dict[str, int] = {}
        for row, title in enumerate(self.titles):
            rows[title] = -1 if title in rows else row
        return {title: row for title, row in rows.items() if row >= 0} | {
            name: row for row, name in enumerate(self.names)
        }


def load(path: str | os.PathLike[str], policy: str | None = None) -> Artifact:
    """Opens an artifact.

    Args:
      path: the folder that :func:`recjax.serve.export.save` has written.
      policy: which of its policies; by default the one that was saved last.

    Raises:
      ValueError: there is no artifact, it is damaged or of another format, or has no such policy.
    """
    manifest, found = files.read_manifest(path)
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"The artifact {path} has format {manifest.get('format')}, but this version of recjax reads {FORMAT};"
            " write it anew with this version."
        )
    policies = manifest["policies"]
    policy = next(reversed(policies)) if policy is None else policy
    if policy not in policies:
        left_out = manifest.get("left_out", {})
        reason = f" {policy!r}: {left_out[policy]}" if policy in left_out else ""
        raise ValueError(f"The artifact {path} has the policies {', '.join(policies)}; choose one of them.{reason}")
    described = policies[policy]
    catalogue = json.loads(files.read(path, manifest, "items.json"))
    arrays = files.unpack(files.read(path, manifest, f"{described['folder']}/arrays.npz"), described["arrays"])
    index = None
    if described["index"]:
        options = {name: arrays.pop(name) for name in ("vectors", "bias", "scale") if name in arrays}
        index = ItemIndex(**jax.tree.map(jnp.asarray, options), unit_queries=described["unit_queries"])
    return Artifact(
        policy=policy,
        manifest=manifest,
        hash=found,
        names=tuple(catalogue["names"]),
        titles=tuple(catalogue["titles"] or catalogue["names"]),
        users=_users(path, manifest),
        history_length=manifest["history_length"],
        program=jax.export.deserialize(bytearray(files.read(path, manifest, f"{described['folder']}/program.bin"))),
        arrays=[jnp.asarray(arrays[str(number)]) for number in range(len(arrays))],
        index=index,
        evidence=_evidence(path, manifest) if described["reads_history"] else None,
    )


def _users(path: str | os.PathLike[str], manifest: dict[str, Any]) -> UserHistories:
    names = json.loads(files.read(path, manifest, "users.json"))
    found = files.unpack(files.read(path, manifest, "users.npz"), manifest["users"])
    return UserHistories(tuple(names), found["starts"], found["items"], found["behaviours"])


def _evidence(path: str | os.PathLike[str], manifest: dict[str, Any]) -> np.ndarray | None:
    if not manifest["evidence"]:
        return None
    return files.unpack(files.read(path, manifest, "evidence.npz"), manifest["evidence"])["vectors"]


def _padded(rows: list[np.ndarray], size: int, width: int) -> np.ndarray:
    """``i32[size, width]``, each row at the right end, padded on the left."""
    whole = np.full((size, width), PAD_ID, np.int32)
    for place, row in enumerate(rows):
        whole[place, width - len(row) :] = row
    return whole


@functools.partial(jax.jit, static_argnames=("program", "k"))
def _best(
    program: jax.export.Exported,
    arrays: list[Array],
    index: ItemIndex | None,
    history: Array,
    behaviour: Array,
    seen: Array,
    *,
    k: int,
) -> tuple[Array, Array]:
    queries = program.call(arrays, history, behaviour)
    if index is not None:
        return top_k(queries, index, k, exclude=seen)
    return top_k(*dense_scorer(queries), k, exclude=seen)
