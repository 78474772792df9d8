#!/usr/bin/env python3
"""Makes the pictures of the documentation; nothing is computed anew.

usage: gallery.py [--report RUN] [FOLDER]

Draws the plots of docs/gallery.md from experiments/results. With --report, takes pictures of the report of a run
instead, such as runs/loop; this needs Chromium. FOLDER is docs/images by default.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from recjax.eval import mean_interval

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
TEXT = "#7c858f"
"""Readable on white and on black, as the pages have both."""
COLOURS = ("#2f81c5", "#d1662b", "#3f9a6b", "#9268c4", "#b0862b", TEXT)
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "recjax", "font.size": 11, "font.family": "sans-serif",
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip


def results(study: str) -> list[dict[str, Any]]:
    """Every result of a study: its ``condition``, ``seed`` and what it ``found``."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / study).glob("*.json"))]


def dots(axis: Axes, found: dict[str, list[float]]) -> None:
    """One line a name, best first: the mean, and the range over seeds."""
    ordered = sorted(found.items(), key=lambda item: np.mean(item[1]))
    for row, (_, values) in enumerate(ordered):
        axis.plot([min(values), max(values)], [row, row], color=COLOURS[0], linewidth=3, alpha=0.5)
        axis.plot(np.mean(values), row, "o", color=COLOURS[0])
    axis.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axis.set_xlim(left=0)
    axis.grid(axis="x", alpha=0.25)


def sequence_models() -> Figure:
    """NDCG@10 of each model on each data set."""
    sets = {"ml-1m": "MovieLens-1M", "ml-100k": "MovieLens-100K", "amazon-beauty": "Amazon Beauty"}
    names = {
        "sasrec": "SASRec", "hstu": "HSTU", "gru4rec": "GRU4Rec", "bert4rec": "BERT4Rec", "als": "ALS", "ease": "EASE",
        "bpr": "BPR-MF", "item_knn": "item kNN", "user_knn": "user kNN", "popularity": "popularity",
    }  # fmt: skip
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in sets}
    for result in results("sequence_models"):
        condition = result["condition"]
        found[condition["data"]][names[condition["model"]]].append(result["found"]["test"]["NDCG@10"])
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.3), layout="constrained")
    for axis, (name, title) in zip(axes, sets.items(), strict=True):
        dots(axis, found[name])
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("NDCG@10")
    return figure


def cold_start() -> Figure:
    """HR@10 of cold and of warm items, by what is known of items."""
    found: dict[str, dict[str, list[float]]] = {part: defaultdict(list) for part in ("cold", "warm")}
    for result in results("cold_start"):
        for name, row in result["found"]["rows"].items():
            for part in found:
                found[part][name].append(row[part]["HR@10"])
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 2.8), layout="constrained")
    for axis, (part, title) in zip(axes, {"cold": "items never trained", "warm": "other items"}.items(), strict=True):
        dots(axis, found[part])
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("HR@10")
    return figure


def few_shot() -> Figure:
    """AUC after so many examples."""
    names = {
        "low-rank": "SmolLM2, low rank", "text": "MiniLM's vectors, regression",
        "likes of the item": "likes of the item", "gru": "GRU of ids", "attention": "transformer of ids",
    }  # fmt: skip
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results("few_shot"):
        condition = result["condition"]
        found[condition["way"]][condition["shots"]].append(result["found"]["auc"])
    figure, axis = plt.subplots(figsize=(6.5, 3.3), layout="constrained")
    for colour, (way, name) in zip(COLOURS, names.items(), strict=False):
        shots = sorted(found[way])
        axis.plot(shots, [np.mean(found[way][count]) for count in shots], "o-", color=colour, label=name)
    axis.axhline(found["likes of the user"][0][0], color=TEXT, linestyle=":", label="likes of the user, counted")
    axis.set_xscale("log", base=4)
    axis.set_xticks([16, 64, 256], ["16", "64", "256"])
    axis.minorticks_off()
    axis.set_xlabel("examples")
    axis.set_ylabel("AUC")
    figure.legend(loc="outside right upper", fontsize=10)
    return figure


def new_items_in_the_loop() -> Figure:
    """Satisfaction with a slate at the end of each round, by what is known of new items."""
    every = results("new_items_in_the_loop")
    names = ("oracle", "texts", "random vectors", "ids")
    figure, axis = plt.subplots(figsize=(6.5, 3.3), layout="constrained")
    for colour, name in zip((TEXT, *COLOURS), names, strict=False):
        ends = [[result["found"]["rows"][name][f"round {n}, end"] for result in every] for n in range(1, 6)]
        means = [mean_interval([found["satisfaction_per_slate"] for found in end]) for end in ends]
        shift = 0.06 * (names.index(name) - 1.5)
        axis.errorbar(
            np.arange(1, 6) + shift, [m.mean for m in means], [m.half_width for m in means],
            color=colour, label=name, capsize=3, marker="o", markersize=4,
        )  # fmt: skip
    axis.set_xticks(range(1, 6))
    axis.set_xlabel("round")
    axis.set_ylabel("satisfaction per slate")
    figure.legend(loc="outside right upper", fontsize=10)
    return figure


PLOTS = (sequence_models, cold_start, few_shot, new_items_in_the_loop)


class Picture(NamedTuple):
    """What a picture of a report leaves out, as a CSS selector, and how high it is in pixels."""

    hidden: str
    height: int


PICTURES = {
    "report": Picture("main > section, main > section ~ *", 905),
    "slates": Picture(
        "main > :not(section), section > :not(#slates):not(#slates ~ *), #journey, #journey ~ *",
        800,
    ),
}


def take_pictures(page: Path, folder: Path) -> None:
    """The beginning of a report, and what users saw, each as one picture."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("There is neither chromium nor google-chrome to take pictures with.")
    command = [browser, "--headless", "--disable-gpu", "--hide-scrollbars"]
    command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    text = page.read_text(encoding="utf-8")
    for name, picture in PICTURES.items():
        style = f"<style>{picture.hidden} {{ display: none !important; }}</style>"
        with tempfile.TemporaryDirectory() as place:
            part, taken = Path(place) / "part.html", Path(place) / "part.png"
            part.write_text(text.replace("</head>", f"{style}</head>", 1), encoding="utf-8")
            options = [f"--window-size=1120,{picture.height}", f"--screenshot={taken}", part.as_uri()]
            subprocess.run([*command, *options], check=True, capture_output=True)
            Image.open(taken).convert("RGB").quantize(256).save(folder / f"{name}.png", optimize=True)


def main() -> None:
    """The command line; see the text at the top of the file."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--report", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "images")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.report is not None:
        take_pictures(options.report / "report.html", options.folder)
        return
    with mpl.rc_context(STYLE):
        for plot in PLOTS:
            figure = plot()
            figure.savefig(options.folder / f"{plot.__name__}.svg", transparent=True, metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    main()
