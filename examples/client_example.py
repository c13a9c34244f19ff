"""A client of Perfect: four workflows, called once and then served.

Start a backend (``perfect server``), then run ``python examples/client_example.py`` and open the
dashboard: the four runs are there, and each flow can be triggered again. Ctrl+C ends the client.
The workflows themselves are in the folder ``workflows``, one file each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfect.sdk import listen

# A script finds its neighbours by their plain names, a module of a package by relative ones.
if TYPE_CHECKING or __package__:
    from .workflows.churn_model import churn_model
    from .workflows.daily_sales_etl import daily_sales_etl
    from .workflows.executive_report import executive_report
    from .workflows.infrastructure_health import infrastructure_health
else:
    from workflows.churn_model import churn_model
    from workflows.daily_sales_etl import daily_sales_etl
    from workflows.executive_report import executive_report
    from workflows.infrastructure_health import infrastructure_health


def main() -> None:
    """Call the flows as the functions they are; each call is a run in the dashboard."""
    sales = daily_sales_etl()
    model = churn_model()
    health = infrastructure_health()
    report = executive_report()

    print()
    print(f"Sales    {sales['loaded']:,} orders loaded, {sales['rejected']:,} rows rejected")
    print(f"Churn    AUC {model['auc']:.3f}, the baseline has {model['baseline auc']:.3f}")
    print(f"Health   {health['note']}")
    print(f"Report   {report['report']}")
    print("Listening for executions from the dashboard; Ctrl+C ends", flush=True)
    listen()


if __name__ == "__main__":
    main()
