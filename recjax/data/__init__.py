"""Logs in, arrays out: readers, checks, named data sets, splits, histories, encoders.

>>> from recjax import data
>>> log = data.Interactions(user=[0, 0, 0], item=[4, 2, 0], time=[10, 30, 20], rating=[5, 3, 4])
>>> split = data.leave_one_out(log)
>>> split.train.item.tolist(), split.test.item.tolist()
([4], [2])
>>> print(split)
leave-one-out by time, ties in file order, users with >= 3 events; train 1, validation 1, test 1 events

Your own file: ``dataset, report = data.read("log.csv", data.Columns(time="timestamp"))``.
A named data set: ``data.load("ml-100k")``; ``list(data.datasets)`` names all.
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.cache import cache_directory
    from recjax.data import sets
    from recjax.data.columns import BEHAVIOURS, Columns
    from recjax.data.encoders import MultiHot, OneHot, Standardiser, Vocabulary, words
    from recjax.data.feature_files import FileReport, ItemColumns, with_item_file, with_user_file
    from recjax.data.features import item_features, item_texts, same_features, title_vocabulary
    from recjax.data.filters import draw_users, strongest, with_enough_events, with_items, without_impressions
    from recjax.data.histories import Sequences, last_histories, last_times, sequences, windows
    from recjax.data.ids import IdMap
    from recjax.data.log_files import LogFile, is_log_file, read_log
    from recjax.data.log_schema import LogSchema, read_schema, write_schema
    from recjax.data.named import NamedSet, datasets, fetch, load, register
    from recjax.data.next_items import NextItems, SeenItems, next_items, observations
    from recjax.data.offline import bandit_steps, transitions
    from recjax.data.readers import from_frame, read
    from recjax.data.schema import BEHAVIOUR_WEIGHTS, Dataset, Interactions, behaviour_weights, concatenate
    from recjax.data.sources import Download, LocalFile, UnavailableError, Wheel, data_directory
    from recjax.data.splits import Split, by_user, global_time, leave_one_out
    from recjax.data.usual_names import USUAL_NAMES
    from recjax.data.validate import KINDS, BadRowsError, Report
    from recjax.types import Behaviour

__all__ = [
    "BEHAVIOURS",
    "BEHAVIOUR_WEIGHTS",
    "KINDS",
    "USUAL_NAMES",
    "BadRowsError",
    "Behaviour",
    "Columns",
    "Dataset",
    "Download",
    "FileReport",
    "IdMap",
    "Interactions",
    "ItemColumns",
    "LocalFile",
    "LogFile",
    "LogSchema",
    "MultiHot",
    "NamedSet",
    "NextItems",
    "OneHot",
    "Report",
    "SeenItems",
    "Sequences",
    "Split",
    "Standardiser",
    "UnavailableError",
    "Vocabulary",
    "Wheel",
    "bandit_steps",
    "behaviour_weights",
    "by_user",
    "cache_directory",
    "concatenate",
    "data_directory",
    "datasets",
    "draw_users",
    "fetch",
    "from_frame",
    "global_time",
    "is_log_file",
    "item_features",
    "item_texts",
    "last_histories",
    "last_times",
    "leave_one_out",
    "load",
    "next_items",
    "observations",
    "read",
    "read_log",
    "read_schema",
    "register",
    "same_features",
    "sequences",
    "sets",
    "strongest",
    "title_vocabulary",
    "transitions",
    "windows",
    "with_enough_events",
    "with_item_file",
    "with_items",
    "with_user_file",
    "without_impressions",
    "words",
    "write_schema",
]

lazy(__name__)
