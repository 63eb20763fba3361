"""Print the table of all metrics for docs/metrics.md, made from the list of metrics.

    python docs/metric_table.py

``tests/promises/test_readme.py`` holds the page to it.
"""

from tiedae_cli.model.metrics import METRICS, Metric

HEAD = "| JSON key | column | meaning | data |\n|---|---|---|---|"


def main() -> None:
    """Print the table."""
    print(table())


def table() -> str:
    """Return the table as Markdown: one row per metric."""
    return "\n".join([HEAD, *map(row, METRICS)])


def row(metric: Metric) -> str:
    """Return one line of the table."""
    return f"| `{metric.name}` | {metric.title(images=True)} | {metric.meaning} | {'images' if metric.images_only else 'all'} |"


if __name__ == "__main__":
    main()
