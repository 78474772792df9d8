"""What columns hold, guessed from the names that they usually have."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from recjax.data.columns import no_column
from recjax.data.log_schema import LogSchema

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (
        *("user", "userid", "uid", "visitor", "visitorid", "customer", "customerid", "member", "memberid", "client"),
        *("clientid", "account", "accountid", "reviewerid", "personid", "username", "session", "sessionid"),
    ),
    "item": (
        *("item", "itemid", "iid", "product", "productid", "movie", "movieid", "film", "filmid", "article"),
        *("articleid", "asin", "sku", "track", "trackid", "song", "songid", "book", "bookid", "isbn", "video"),
        *("videoid", "content", "contentid", "game", "gameid", "newsid", "listingid", "recipeid", "businessid"),
    ),
    "time": (
        *("time", "timestamp", "ts", "datetime", "date", "eventtime", "eventtimestamp", "createdat", "unixtime"),
        *("unixreviewtime", "reviewtime", "day", "when"),
    ),
    "rating": ("rating", "ratings", "stars", "score", "overall", "reviewrating", "liked", "like", "islike"),
    "behaviour": ("behaviour", "behavior", "event", "eventtype", "action", "actiontype", "interaction", "type"),
    "propensity": ("propensity", "propensityscore", "pscore"),
    "title": ("title", "itemtitle", "itemname", "producttitle", "productname", "movietitle", "trackname"),
    "categories": ("genres", "genre", "categories", "category", "tags"),
}
"""Names that are tried, in their order; only letters and digits count, in any case."""

OF_LOGS = ("user", "item", "time", "rating", "behaviour", "propensity")
"""What is looked for in a log."""


def guess_log(schema: LogSchema, names: Sequence[str], source: str) -> tuple[LogSchema, dict[str, str]]:
    """The columns of a log.

    Args:
      schema: whose columns that are None are guessed.
      names: of the columns of the file.
      source: the file, for errors.

    Returns:
      The schema with what was guessed, and what was guessed.

    Raises:
      ValueError: a column is not there, or that of users or of items is not given and cannot be guessed.
    """
    guessed = _guess(schema, names, OF_LOGS, source)
    for what in ("user", "item"):
        if getattr(schema, what) is None and what not in guessed:
            raise ValueError(
                f"{source}: no column has a usual name for {what}s; the columns are {list(names)}. Say which one holds"
                f" them: --{what} on the command line, {what}= in a LogSchema."
            )
    return dataclasses.replace(schema, **guessed), guessed  # type: ignore[arg-type]


def guess_items(
    schema: LogSchema, names: Sequence[str], source: str, *, in_log: bool
) -> tuple[LogSchema, dict[str, str]]:
    """The columns of a file of items, or what a log holds of its items (only titles are guessed there).

    Args:
      schema: the schema, in which the columns of the log are known.
      names: of the columns of the file.
      source: the file, for errors.
      in_log: whether the file is the log.

    Returns:
      The schema with what was guessed, and what was guessed.

    Raises:
      ValueError: a column is not there, or that of items is not given and cannot be guessed.
    """
    for column in schema.numeric:
        if column not in names:
            raise no_column(column, names, source)
    if in_log:
        known = tuple(getattr(schema, what) for what in OF_LOGS)
        guessed = _guess(schema, names, ("title",), source, known)
        if schema.categories is not None and schema.categories not in names:
            raise no_column(schema.categories, names, source)
        return dataclasses.replace(schema, **guessed), guessed  # type: ignore[arg-type]
    key = schema.items_key or (schema.item if schema.item in names else _usual("item", names, ()))
    if key is None or key not in names:
        raise no_column(schema.items_key or schema.item or "item", names, source, " Name it with items_key.")
    guessed = _guess(schema, names, ("title", "categories"), source, (key,), more=("name",))
    if key != schema.items_key:
        guessed = {"items_key": key} | guessed
    return dataclasses.replace(schema, **guessed), guessed  # type: ignore[arg-type]


def _guess(
    schema: LogSchema,
    names: Sequence[str],
    wanted: Sequence[str],
    source: str,
    taken: Sequence[str | None] = (),
    more: Sequence[str] = (),
) -> dict[str, str]:
    """What can be guessed of ``wanted`` where the schema says nothing; ``more`` are further names of the first."""
    given = {what: getattr(schema, what) for what in wanted}
    for column in given.values():
        if column is not None and column not in names:
            raise no_column(column, names, source)
    used = {*taken, *given.values()}
    guessed: dict[str, str] = {}
    for what, column in given.items():
        found = None if column is not None else _usual(what, names, used, more if what == wanted[0] else ())
        if found is not None:
            guessed[what] = found
            used.add(found)
    return guessed


def _usual(
    what: str, names: Sequence[str], used: Sequence[str | None] | set[str | None], more: Sequence[str] = ()
) -> str | None:
    plain = {re.sub(r"[\W_]", "", name).lower(): name for name in reversed(names) if name not in used}
    return next((plain[name] for name in (*USUAL_NAMES[what], *more) if name in plain), None)
