"""Data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recjax.data.sources import LocalFile, Source, brought, obtain
from recjax.registry import Registry

if TYPE_CHECKING:
    from recjax.data.schema import Dataset

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class NamedSet:
    """A data set that recjax knows how to get and read.

    Attributes:
      name: to load it by.
      summary: what it is, in one line.
      terms: under which terms its owner gives it.
      origin: whose it is, and the paper to cite.
      parse: for fetched sets ``(source, path, **options) -> Dataset``, for those that the
        user brings ``({file name: path}, **options) -> Dataset``.
      sources: where it can be fetched from, in order of preference; empty if it cannot.
      files: what the user must bring; empty if it can be fetched.
    """

    name: str
    summary: str
    terms: str
    origin: str
    parse: Callable[..., Dataset]
    sources: tuple[Source, ...] = ()
    files: tuple[LocalFile, ...] = ()

    @property
    def fetchable(self) -> bool:
        """Whether :func:`fetch` can get it; if not, the user must bring it."""
        return bool(self.sources)

    def fetch(self, data_dir: PathLike | None = None, cache_dir: PathLike | None = None) -> tuple[Path, ...]:
        """Makes sure that the files are there; see :func:`fetch`."""
        if self.fetchable:
            return (obtain(self.name, self.sources, cache_dir)[1],)
        return tuple(brought(self.name, self.files, data_dir).values())

    def __call__(self, data_dir: PathLike | None = None, cache_dir: PathLike | None = None, **options: Any) -> Dataset:
        """Loads the data set; see :func:`load`."""
        if self.fetchable:
            return self.parse(*obtain(self.name, self.sources, cache_dir), **options)
        return self.parse(brought(self.name, self.files, data_dir), **options)


datasets: Registry = Registry("data set")
"""Data sets by name. Your own: ``datasets.register("mine", load_mine)``, a function with the arguments
``data_dir``, ``cache_dir`` and options of its own that returns a :class:`Dataset`."""

register = datasets.register


def load(name: str, data_dir: PathLike | None = None, cache_dir: PathLike | None = None, **options: Any) -> Dataset:
    """A data set by name, fetched on first use.

    Args:
      name: see ``list(datasets)``.
      data_dir: where data sets lie that the user brings. Default: ``RECJAX_DATA``.
      cache_dir: where fetched files are kept. Default: ``RECJAX_CACHE``, else the user's cache directory.
      **options: of the data set (``open-bandit``: ``policy``, ``campaign``).

    Raises:
      ValueError: there is no such data set, it cannot be had (the message says from where
        and how to bring it), or a file is not what it should be.
    """
    return datasets.make(name, data_dir=data_dir, cache_dir=cache_dir, **options)


def fetch(name: str, data_dir: PathLike | None = None, cache_dir: PathLike | None = None) -> tuple[Path, ...]:
    """Makes sure that the files of a named data set are on this machine and have the right checksums.

    Returns:
      Their paths.

    Raises:
      ValueError: as :func:`load`; also for data sets that were registered as a bare function.
    """
    chosen = datasets[name]
    if not isinstance(chosen, NamedSet):
        raise ValueError(f"The data set {name!r} was registered as a function, which has no files to fetch; load it.")
    return chosen.fetch(data_dir, cache_dir)
