"""From a file to a report by one command: logs as people have them, each taken through `recjax loop`.

    python experiments/loop/own_data.py                       # 13 files of 40,000 rows
    python experiments/loop/own_data.py --files big           # one of 10,000,000 rows
    python experiments/loop/own_data.py --smoke               # two small files

The files hold one generated log: users of two kinds, who mostly take items of their own half of the catalogue, written
in different ways. Prints, for each file, the options that the command needs beside `--data`, seconds and peak memory
of the command, and what the simulator's fit learned of users beyond item + user bias; or the one line with which the
command refuses the file. Expected: everything but `bad_rows` ends in a report, with a gain whose interval lies above 0.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runner import Options, Study, run

COMMAND = (sys.executable, "-c", "from recjax.cli import main; main()")
LOOP = (
    *("--quiet", "--seeds", "2", "--steps", "50", "--chunk", "25"),
    *("--eval-every", "50", "--eval-steps", "25", "--users", "64", "--eval-users", "64", "--training.epochs", "2"),
)
"""A short loop: the question is whether there is one."""

BIG = 10_000_000


@dataclasses.dataclass(frozen=True)
class Config(Options):
    seeds: int = 1
    files: tuple[str, ...] = ()
    """Which files (default: all but the big one)."""
    rows: int = 40_000
    """Rows of each file but the big one."""
    agent: tuple[str, ...] = ("random", "popularity", "dqn")
    """Policies that are compared."""


class File(NamedTuple):
    """How a log is written, and the options that it is read with."""

    name: str
    write: Callable[[pl.DataFrame, Path], None]
    options: tuple[str, ...] = ()


def log(rows: int, seed: int) -> pl.DataFrame:
    """``rows`` events of users of two kinds; nine of ten are with items of the half that the kind likes."""
    rng = np.random.default_rng(seed)
    users, items = max(50, rows // 100), max(40, min(rows // 100, 20_000))
    user = rng.integers(0, users, rows)
    own = rng.random(rows) < 0.9
    # Items of a half are the rarer the later they come.
    item = (items // 2 * rng.random(rows) ** 2).astype(np.int64)
    item += np.where((user % 2 == 1) == own, items // 2, 0)
    stars = np.where(own, 3, 1) + rng.integers(0, 3, rows)
    seconds = np.sort(rng.integers(0, 90 * 24 * 3600, rows)) + 1_700_000_000
    return pl.DataFrame({"user": user, "item": item, "seconds": seconds, "own": own, "stars": stars})


def times(form: str, zone: str = "") -> pl.Expr:
    return pl.from_epoch("seconds").dt.strftime(form) + zone


USER, ITEM = pl.col("user").alias("user_id"), pl.col("item").alias("item_id")
UNIX = pl.col("seconds").alias("timestamp")


def csv(*columns: pl.Expr, **options: Any) -> Callable[[pl.DataFrame, Path], None]:
    return lambda frame, path: frame.select(columns).write_csv(path, **options)


def write_titles(frame: pl.DataFrame, path: Path) -> None:
    """Ratings, and beside them a file of items."""
    csv(USER, ITEM, pl.col("stars").alias("rating"), UNIX)(frame, path)
    title = pl.format("Film {}", "item").alias("title")
    genre = pl.when(pl.col("item") % 3 == 0).then(pl.lit("Drama|Crime")).otherwise(pl.lit("Comedy")).alias("genres")
    frame.unique("item").select(ITEM, title, genre).write_csv(path.with_name("items.csv"))


def write_shown(frame: pl.DataFrame, path: Path) -> None:
    """Impressions: what is of the own half is shown nine times as often, and taken twelve times as often."""
    chance = np.where(frame["own"].to_numpy(), 0.6, 0.05)
    taken = np.random.default_rng(1).random(frame.height) < chance
    event = pl.Series("event", np.where(taken, "click", "impression"))
    csv(USER, ITEM, pl.col("seconds").alias("ts"), event, pl.when("own").then(0.9).otherwise(0.1).alias("propensity"))(
        frame, path
    )


def write_bad(frame: pl.DataFrame, path: Path) -> None:
    """Every hundredth user is missing, every fiftieth time is none."""
    row = pl.int_range(pl.len())
    user = pl.when(row % 100 == 7).then(None).otherwise("user").alias("user_id")
    time = pl.when(row % 50 == 3).then(pl.lit("yesterday")).otherwise(times("%Y-%m-%d %H:%M:%S")).alias("timestamp")
    csv(user, ITEM, time)(frame, path)


def write_behaviours(frame: pl.DataFrame, path: Path) -> None:
    """A shop: seven of ten events are views, two carts, one a purchase."""
    words = pl.Series(["view"] * 7 + ["add_to_cart"] * 2 + ["checkout"])
    event = words.sample(frame.height, with_replacement=True, seed=0).alias("event")
    csv(USER.alias("visitor"), ITEM.alias("product"), UNIX, event)(frame, path)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Numbers as ids, and times that are times."""
    frame.select(USER, ITEM, pl.from_epoch("seconds").alias("date")).write_parquet(path)


FILES = (
    File("iso_times.csv", csv(USER, ITEM, times("%Y-%m-%dT%H:%M:%S", "+02:00").alias("created_at"))),
    File("unicode_ids.csv", csv(pl.format("Žofie {}", USER).alias("user"), pl.format("映画 {}", ITEM).alias("item"))),
    File("table.parquet", write_table),
    File(
        "behaviours.csv",
        write_behaviours,
        ("--behaviours", "add_to_cart=cart,checkout=purchase"),
    ),
    File("pairs.csv", csv(USER, ITEM)),
    File("likes.csv", csv(USER, ITEM, (pl.col("stars") > 2).cast(pl.Int8).alias("liked"), UNIX)),
    File("ratings.csv", write_titles, ("--items", "items.csv")),
    File("lines.jsonl", lambda frame, path: frame.select(USER, ITEM, UNIX).write_ndjson(path)),
    File("compressed.csv.gz", csv(USER, ITEM, UNIX, compression="gzip", check_extension=False)),
    File("bad_rows.csv", write_bad),
    File("bad_rows_dropped.csv", write_bad, ("--on-bad", "drop")),
    File("impressions.csv", write_shown),
    File(
        "unusual.csv",
        csv(USER.alias("wer"), ITEM.alias("was"), times("%d.%m.%Y %H:%M").alias("wann"), separator=";"),
        ("--user", "wer", "--item", "was", "--time", "wann", "--time-format", "%d.%m.%Y %H:%M", "--separator", ";"),
    ),
    File("big.csv", csv(USER, ITEM, UNIX)),
)  # fmt: skip


def take(file: File, rows: int, seed: int, agent: tuple[str, ...]) -> dict[str, Any]:
    """Writes a file and runs the command on it."""
    with tempfile.TemporaryDirectory() as folder:
        file.write(log(rows, seed), Path(folder, file.name))
        arguments = [*COMMAND, "loop", "--data", file.name, *file.options, "--out", "run", "--seed", str(seed), *LOOP]
        arguments += ["--agent", *agent]
        begun = time.monotonic()
        with subprocess.Popen(
            arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as process:  # fmt: skip
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begun
        found = {"seconds": seconds, "gib": usage.ru_maxrss / 2**20, "rows": rows, "status": process.returncode}
        if process.returncode:
            return {**found, "line": said.strip().splitlines()[-1]}
        assert Path(folder, "run", "report.html").is_file()
        fit = json.loads(Path(folder, "run", "metrics.json").read_text(encoding="utf-8"))["simulator"]["fit"]
        return {**found, "gain": fit["gain"], "feedback": fit["feedback"]}


def main(study: Study) -> None:
    config = study.config
    assert isinstance(config, Config)
    names = [file.name.split(".")[0] for file in FILES]
    chosen = config.files or tuple(names[:-1])
    if unknown := set(chosen) - set(names):
        raise SystemExit(f"There is no file {sorted(unknown)}; there are {', '.join(names)}.")
    lines = []
    for file, name in zip(FILES, names, strict=True):
        if name in chosen:
            rows = BIG if name == "big" else config.rows
            results = study.grid(
                [{"file": name, "rows": rows}],
                lambda condition, seed, file=file: take(file, condition["rows"], seed, config.agent),
                without=("files", "rows"),
            )
            lines.append((cells(file, results[0].found), results))
    headings = ["file", "options", "s", "GiB", "fit", "learned beyond item + user bias, nats, or what was said"]
    study.show("From a file to a report by one command", headings, lines, left=2)


def cells(file: File, found: dict[str, Any]) -> list[str]:
    """A line of the table."""
    options = " ".join(option if " " not in option else repr(option) for option in file.options)
    start = [file.name, options, f"{found['seconds']:.0f}", f"{found['gib']:.1f}"]
    if found["status"]:
        return [*start, "–", found["line"]]
    gain = found["gain"]
    return [*start, found["feedback"], f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"]


if __name__ == "__main__":
    run(__file__, __doc__, Config, main, files=("iso_times", "bad_rows"), rows=1000, agent=("random",))
