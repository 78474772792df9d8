"""Which columns of a log file hold what, as options that a file and a command line can give."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recjax._files import write_text

if TYPE_CHECKING:
    from recjax.types import Behaviour


@dataclass(frozen=True)
class LogSchema:
    """Which columns of a log file hold what, and how it is written. Columns that are None are guessed."""

    user: str | None = None
    """Your own file: column of users. Columns that you do not give are guessed when their names are usual."""
    item: str | None = None
    """Column of items."""
    time: str | None = None
    """Column of times."""
    rating: str | None = None
    """Column of ratings, or of likes as 1 and 0."""
    behaviour: str | None = None
    """Column of words that say what happened."""
    behaviours: tuple[str, ...] = ()
    """What the words mean, such as add_to_cart=cart; or, without such a column, one behaviour for every row."""
    propensity: str | None = None
    """Column of the probabilities with which items were shown."""
    title: str | None = None
    """Column of titles, in the file of --items, else in the data file."""
    categories: str | None = None
    """Column of lists of categories, in the same file."""
    category_separator: str = "|"
    """What stands between categories."""
    numeric: tuple[str, ...] = ()
    """Columns of numbers that describe items, in the same file."""
    items_key: str | None = None
    """Column of items in the file of --items (default: named as in the data file)."""
    separator: str | None = None
    """What stands between fields (default: a comma in .csv, a tab in .tsv)."""
    header: bool = True
    """Whether the first line names the columns; if not, their names are 0, 1, 2, and so on."""
    quotes: bool = True
    """Whether quotes stand around fields."""
    time_format: str = "auto"
    """How times are written: s, ms, us, ns, iso, or a pattern such as %m/%d/%Y."""
    on_bad: tuple[str, ...] = ("duplicate",)
    """Kinds of rows to leave out, such as duplicate or bad_time; drop for all kinds, raise for none."""
    allow: tuple[str, ...] = ()
    """Kinds of rows to keep as they are: duplicate, negative_rating, doubtful_user, doubtful_item."""

    def given(self) -> dict[str, Any]:
        """The fields that are not as by default."""
        default = LogSchema()
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }

    def over(self, other: LogSchema) -> LogSchema:
        """This schema, and what ``other`` says where this one says nothing."""
        return dataclasses.replace(other, **self.given())


def read_schema(path: str | os.PathLike[str]) -> tuple[LogSchema, str | None]:
    """A schema from a JSON or TOML file, and the file of items that it may name as ``items``.

    Raises:
      ValueError: the file is missing, is neither, has a field that a schema does not have, or one of another type.
    """
    path = Path(path)
    is_toml = path.suffix.lower() == ".toml"
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if is_toml else json.loads(text)
    except OSError as error:
        raise ValueError(f"Cannot read the schema {path}: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"The schema {path} is not {'TOML' if is_toml else 'JSON'}: {error}.") from None
    default: dict[str, Any] = {"items": None, **dataclasses.asdict(LogSchema())}
    if not isinstance(values, dict) or not values.keys() <= default.keys():
        given = sorted(values.keys() - default.keys()) if isinstance(values, dict) else values
        raise ValueError(f"The schema {path} has {given}, which is no field of one; it may have {', '.join(default)}.")
    for name, value in values.items():
        values[name] = _checked(value, default[name], f"The schema {path}: {name}")
    items = values.pop("items", None)
    return LogSchema(**values), items


def _checked(value: Any, default: Any, where: str) -> Any:
    """A value of the type of its default; None stands for an optional text."""
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise ValueError(f"{where} is {value!r}; it must be a list of texts.")
        return tuple(value)
    if not (value is None and default is None) and type(value) is not (bool if isinstance(default, bool) else str):
        raise ValueError(
            f"{where} is {value!r}; it must be {'true or false' if isinstance(default, bool) else 'text'}."
        )
    return value


def write_schema(path: str | os.PathLike[str], schema: LogSchema, items: str | None = None) -> None:
    """Writes what a schema says, as JSON that :func:`read_schema` reads."""
    values = schema.given() | ({} if items is None else {"items": items})
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def behaviours_of(given: Sequence[str], *, has_column: bool) -> Mapping[str, Behaviour] | Behaviour:
    """What words mean, or the behaviour of every event; what words usually mean where nothing is given.

    >>> behaviours_of(["view=view,add_to_cart=cart"], has_column=True)["add_to_cart"].name
    'CART'
    >>> behaviours_of(["purchase"], has_column=False).name
    'PURCHASE'

    Args:
      given: ``word=behaviour`` each, or several with commas between them; one behaviour alone is that of every event.
      has_column: whether there is a column of words.

    Raises:
      ValueError: one of them is neither, or there is no such behaviour.
    """
    from recjax.data.columns import BEHAVIOURS  # Only here: schemas are options of a command line that starts at once.

    parts = [part.strip() for text in given for part in text.split(",") if part.strip()]
    if not parts:
        return BEHAVIOURS
    if not has_column:
        if len(parts) > 1 or "=" in parts[0]:
            raise ValueError(f"behaviours is {', '.join(parts)}, but no column of words is named; name it: behaviour.")
        return _behaviour(parts[0], parts[0])
    words = {}
    for part in parts:
        word, equals, meaning = part.rpartition("=")
        if not equals or not word.strip():
            raise ValueError(f"behaviours has {part!r}; write word=behaviour, such as add_to_cart=cart.")
        words[word.strip()] = _behaviour(meaning, part)
    return {**BEHAVIOURS, **words}


def _behaviour(name: str, where: str) -> Behaviour:
    from recjax.types import Behaviour

    known = {behaviour.name.lower(): behaviour for behaviour in Behaviour}
    if name.strip().lower() not in known:
        raise ValueError(f"behaviours has {where!r}, but there is no behaviour {name!r}; there are {', '.join(known)}.")
    return known[name.strip().lower()]
