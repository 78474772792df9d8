"""What a person sees of a study: tables, plots, the one-file page, TensorBoard files.

Everything is drawn from the plain results that ``metrics.json`` holds; :func:`write` makes them of runs in Python.
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.report.comparison import comparison_rows, option_rows, pairing_text, run_names
    from recjax.report.comparison_page import render_comparison, write_comparison
    from recjax.report.html import PAGE_FILE, render, write, write_page
    from recjax.report.loggers import Logger, check_loggers, logged, loggers
    from recjax.report.results import (
        CATALOGUE_METRICS,
        METRICS_FILE,
        RESPONSE_METRICS,
        TABLE_METRICS,
        final_values,
        read_results,
        results_of,
        write_json,
    )
    from recjax.report.tables import (
        REACHED,
        interval_text,
        number,
        policy_rows,
        ranking_caption,
        ranking_rows,
        reached_rows,
    )
    from recjax.report.tensorboard import TensorBoard
    from recjax.report.terminal import rich_table

__all__ = [
    "CATALOGUE_METRICS",
    "METRICS_FILE",
    "PAGE_FILE",
    "REACHED",
    "RESPONSE_METRICS",
    "TABLE_METRICS",
    "Logger",
    "TensorBoard",
    "check_loggers",
    "comparison_rows",
    "final_values",
    "interval_text",
    "logged",
    "loggers",
    "number",
    "option_rows",
    "pairing_text",
    "policy_rows",
    "ranking_caption",
    "ranking_rows",
    "reached_rows",
    "read_results",
    "render",
    "render_comparison",
    "results_of",
    "rich_table",
    "run_names",
    "write",
    "write_comparison",
    "write_json",
    "write_page",
]

lazy(__name__)
