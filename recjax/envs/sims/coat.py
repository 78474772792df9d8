"""Coat Shopping as an environment: EasyRL4Rec's rule, and the study of state encoders."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from recjax.data import item_features, load
from recjax.data.named import PathLike
from recjax.data.sets.coat import completed
from recjax.envs.base import Environment, register
from recjax.envs.sims.leaving import distances, too_close
from recjax.envs.sims.matrix import matrix
from recjax.types import Items

Mode = Literal["FreeB", "NX_0", "NX_10"]

LIKED = 4.0
"""Of 5 stars: a click."""

THRESHOLD, WINDOW = 6.0, 7


@register("coat")
def coat(
    ratings: ArrayLike | None = None,
    *,
    rewards: ArrayLike | None = None,
    mode: Mode = "FreeB",
    faithful: bool = False,
    user_features: bool = False,
    slate_size: int = 1,
    data_dir: PathLike | None = None,
) -> Environment:
    """Users who rate coats, and leave when a coat is too much like one of the last 7 (EasyRL4Rec's Coat).

    With the ratings ``M: [290, 300]``, whole numbers from 1 to 5, a user ``u`` who is shown coat ``a`` answers
    ``rating = M[u, a]`` (and ``click`` from 4 on) and leaves if ``D[a, x] < 6`` for one of the last 7 coats ``x``,
    where ``D`` is the Euclidean distance of the columns of ``M``. What is left is an environment of
    :func:`recjax.envs.matrix`. A session is cut after 30 coats.

    Modes are those of Yu et al. (SIGIR 2024): ``FreeB`` allows repeats; in ``NX_0`` a coat that was shown before earns
    nothing; ``NX_10`` is that without leaving, for exactly 10 coats. Its numbers are sums of ratings
    (``reward="rating=1"``) from arrival to leaving; see the page on this environment for theirs and ours.

    Args:
      ratings: ``f32[U, N]`` of any users and items, which distances are of; by default those of Coat, which the user
        brings.
      rewards: ``f32[U, N]`` what users answer with instead, such as predictions to train on; by default the ratings.
      mode: see above.
      faithful: repeats a quirk of the original: before step 7, the window at step ``t`` is the last ``min(t, 7 - t)``
        coats, where by default it is all of them.
      user_features: whether the context begins with the 14 features of the user. The published policies do not see
        them. Only of Coat's own users.
      slate_size: coats shown at once, all of which are rated; the original shows 1.
      data_dir: where data sets lie that the user brings. Default: ``RECJAX_DATA``.

    Raises:
      ValueError: the files are not there, or an argument is not one of those above.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; choose one of {', '.join(get_args(Mode))}.")
    table, items, context = _known("whole", ratings, user_features, data_dir)
    leaving = too_close(distances(table), threshold=THRESHOLD, window=WINDOW, faithful=faithful)
    return matrix(
        table if rewards is None else rewards,
        click_from=LIKED,
        leaving=None if mode == "NX_10" else leaving,
        repeats=mode == "FreeB",
        max_steps=10 if mode == "NX_10" else 30,
        slate_size=slate_size,
        items=items,
        context=context,
    )


@register("coat_clicks")
def coat_clicks(
    ratings: ArrayLike | None = None,
    *,
    user_features: bool = False,
    slate_size: int = 1,
    data_dir: PathLike | None = None,
) -> Environment:
    """Users who click coats that they would rate 4 or more, each at most once (the study of state encoders).

    The ratings ``R`` are those of a matrix factorisation with inverse propensities (Huang et al., SIGIR 2022). A
    user ``u`` clicks coat ``a`` if ``round(R[u, a]) >= 4`` and ``a`` was not shown before; nobody leaves before the
    session is cut after 10 coats. Policies see the coats shown so far and which of them were clicked. Rounding is to
    the nearest even number, as NumPy does it.

    Args:
      ratings: ``f32[U, N]`` of any users and items; by default those of Coat, which the user brings.
      user_features: as for :func:`coat`.
      slate_size: coats shown at once; the original shows 1.
      data_dir: where data sets lie that the user brings. Default: ``RECJAX_DATA``.

    Raises:
      ValueError: the files are not there, or an argument is not one of those above.
    """
    table, items, context = _known("factorised", ratings, user_features, data_dir)
    return matrix(
        np.round(table),
        click_from=LIKED,
        repeats=False,
        max_steps=10,
        slate_size=slate_size,
        ratings=False,
        items=items,
        context=context,
    )


def _known(
    name: str, ratings: ArrayLike | None, user_features: bool, data_dir: PathLike | None
) -> tuple[np.ndarray, Items | None, np.ndarray | None]:
    """Ratings, and what a platform knows of items and users: of Coat, or the given ones, of which it knows nothing.

    Popularity counts the ratings that users chose to give.
    """
    if ratings is None:
        dataset = load("coat", data_dir=data_dir)
        return completed(name, data_dir), item_features(dataset), dataset.context if user_features else None
    if user_features:
        raise ValueError("user_features=True shows those of Coat's own users; with other ratings it must be False.")
    return np.asarray(ratings), None, None
