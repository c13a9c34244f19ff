"""Registers the four example workflows, runs each once and serves them.

Run it: ``python examples/workflows/example_flows.py``, then trigger them in the dashboard. Ctrl+C
ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfect import Flow, listen

if TYPE_CHECKING or __package__:
    from .churn_model import churn_model
    from .daily_sales_etl import daily_sales_etl
    from .executive_report import executive_report
    from .infrastructure_health import infrastructure_health
else:
    from churn_model import churn_model
    from daily_sales_etl import daily_sales_etl
    from executive_report import executive_report
    from infrastructure_health import infrastructure_health

# In this order: the report reads the warehouse that the ETL fills, the health check looks at it.
FLOWS: list[Flow[..., Any]] = [
    daily_sales_etl,
    churn_model,
    infrastructure_health,
    executive_report,
]


def main() -> None:
    """Run every flow once, then wait for what is triggered."""
    for flow in FLOWS:
        flow()
    print("Serving:", ", ".join(flow.name for flow in FLOWS), "(Ctrl+C ends)", flush=True)
    listen()


if __name__ == "__main__":
    main()
