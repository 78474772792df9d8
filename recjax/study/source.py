"""The log of a study: a named data set or your own file, loaded and checked before anything is trained."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from recjax import data, envs
from recjax.data import Dataset, LogFile
from recjax.study.config import StudyConfig

LEAST_EVENTS = 3
"""Events of a user that is held out from: one to learn from, one to tune on, one to report on."""


class Source(NamedTuple):
    """A log that a study can be made of.

    Attributes:
      config: the study; the schema holds everything that was guessed, so that it is read the same way again.
      dataset: the log, in which items that were only shown are events too; None where the environment has no log.
      file: how the file was read, None for a named data set.
    """

    config: StudyConfig
    dataset: Dataset | None
    file: LogFile | None


def open_source(config: StudyConfig) -> Source:
    """Loads the log of a study, where its environment is ``logged``.

    Raises:
      ValueError: there is no such data set or file, it cannot be read, options do not fit it, it tells nothing of
        what users like (see :func:`recjax.envs.read_evidence`), or no user has :data:`LEAST_EVENTS` events.
    """
    file = None
    given = ", ".join([*config.schema.given(), *(["items"] if config.items_file else [])])
    if config.env != "logged":
        if given:
            raise ValueError(f"env={config.env!r} reads no file, so nothing can be said of its columns ({given}).")
        return Source(config, None, None)
    if config.data not in data.datasets and data.is_log_file(config.data):
        file = data.read_log(config.data, config.schema, config.items_file)
        config, dataset = dataclasses.replace(config, schema=file.schema), file.dataset
    else:
        if given:
            raise ValueError(
                f"data={config.data!r} is no file, so nothing can be said of its columns ({given}). Files end in"
                " .csv, .tsv, .jsonl, .parquet and the like; named data sets know their own."
            )
        dataset = data.load(config.data, data_dir=config.data_dir)
    envs.read_evidence(dataset, config.preference)
    _check_size(dataset, config)
    return Source(config, dataset, file)


def _check_size(dataset: Dataset, config: StudyConfig) -> None:
    if config.max_events < 1:
        raise ValueError(f"max_events is {config.max_events}; models must learn from 1 event or more.")
    if dataset.num_items < config.slate_size:
        raise ValueError(
            f"{dataset.name} has {dataset.num_items} items, fewer than a slate of slate_size={config.slate_size}."
        )
    most = int(np.bincount(data.without_impressions(dataset).interactions.user, minlength=1).max())
    if most < LEAST_EVENTS:
        raise ValueError(
            f"No user of {dataset.name} has {LEAST_EVENTS} events (the most is {most}), so there are no histories to"
            " learn from and no next items to test on. Check which column holds users."
        )
