"""What a person sees of a study: tables, plots, the one-file page, TensorBoard files.

Everything is drawn from the plain results that ``metrics.json`` holds.
"""

from typing import TYPE_CHECKING

from recjax._lazy import lazy

if TYPE_CHECKING:
    from recjax.report.comparison import comparison_rows, option_rows
    from recjax.report.html import PAGE_FILE, render, write_page
    from recjax.report.loggers import Logger, check_loggers, logged, loggers
    from recjax.report.results import (
        CATALOGUE_METRICS,
        METRICS_FILE,
        RESPONSE_METRICS,
        TABLE_METRICS,
        final_values,
        read_results,
        write_json,
        write_text,
    )
    from recjax.report.tables import HEADINGS, interval_text, number, policy_rows, ranking_rows
    from recjax.report.tensorboard import TensorBoard
    from recjax.report.terminal import rich_table

__all__ = [
    "CATALOGUE_METRICS",
    "HEADINGS",
    "METRICS_FILE",
    "PAGE_FILE",
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
    "policy_rows",
    "ranking_rows",
    "read_results",
    "render",
    "rich_table",
    "write_json",
    "write_page",
    "write_text",
]

lazy(__name__)
