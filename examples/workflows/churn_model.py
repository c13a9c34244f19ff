"""Churn Model Retraining: fit a model, measure it, and deploy it only if it is the better one.

Run it: ``python examples/workflows/churn_model.py``. The model is a logistic regression, fitted by
gradient descent in plain Python. The first run writes the customers it then learns from; put a
``customers.csv`` of your own with the same columns into the folder and it is used instead.
"""

from __future__ import annotations

import csv
import json
import math
import random
import zlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import mul
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING, Any

from perfect import CronSchedule, TaskResult, flow, progress, task

if TYPE_CHECKING or __package__:
    from .workspace import as_csv, put, workspace
else:
    from workspace import as_csv, put, workspace

NUMBERS = ["tenure_months", "monthly_charge", "support_calls", "late_payments", "days_since_login"]
CONTRACTS = ["monthly", "yearly", "two-year"]
COLUMNS = ["customer_id", *NUMBERS, "contract", "churned"]
FEATURES = [*NUMBERS, *(f"contract {name}" for name in CONTRACTS[1:])]

EPOCHS, RATE, MOMENTUM, PENALTY = 120, 0.5, 0.9, 0.001
MARGIN = 0.001  # AUC; a model that is better by less than this is not worth a deployment

Vector = list[float]


@dataclass
class Customer:
    """A customer as the file has it; a number that is missing is None."""

    id: str
    numbers: list[float | None]
    contract: str
    churned: bool


@dataclass
class Model:
    """Everything that scoring needs.

    Attributes:
        fill: what stands in for a missing number.
        mean, spread: of each feature, to bring it to scale.
        weights: one for each feature; `bias` is added.
    """

    features: list[str]
    fill: Vector
    mean: Vector
    spread: Vector
    weights: Vector
    bias: float

    def inputs(self, customer: Customer) -> Vector:
        """The customer's features, to scale."""
        raw = [f if n is None else n for n, f in zip(customer.numbers, self.fill, strict=True)]
        raw += [float(customer.contract == name) for name in CONTRACTS[1:]]
        return [(r - m) / s for r, m, s in zip(raw, self.mean, self.spread, strict=True)]

    def score(self, customers: list[Customer]) -> Vector:
        """How likely each customer is to leave, 0 to 1."""
        return [
            sigmoid(sum(map(mul, self.weights, self.inputs(customer)), self.bias))
            for customer in customers
        ]


@dataclass
class Measured:
    """How well scores tell who left."""

    auc: float
    accuracy: float


@task(estimated_time=200)
def load_customers(folder: Path, count: int) -> list[Customer]:
    """Load the customers and who of them left"""
    path = folder / "customers.csv"
    if not path.exists():
        put(path, as_csv([COLUMNS, *_invented(count)]))
        print(f"Wrote {count:,} customers to {path}")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path}: its columns are {reader.fieldnames}, not {COLUMNS}")
        customers = [
            Customer(
                row["customer_id"],
                [float(row[name]) if row[name] else None for name in NUMBERS],
                row["contract"],
                row["churned"] == "1",
            )
            for row in reader
        ]
    print(f"Read {len(customers):,} customers from {path}")
    return customers


@task(estimated_time=50)
def check_customers(customers: list[Customer]) -> TaskResult:
    """Check that there is enough to learn from"""
    left = sum(customer.churned for customer in customers)
    unknown = {customer.contract for customer in customers} - set(CONTRACTS)
    table: list[dict[str, Any]] = []
    for position, name in enumerate(NUMBERS):
        column = [customer.numbers[position] for customer in customers]
        known = [number for number in column if number is not None]
        table.append(
            {
                "column": name,
                "missing": len(column) - len(known),
                "least": min(known, default=None),
                "median": median(known) if known else None,
                "most": max(known, default=None),
            }
        )
    problems = [f"unknown contract {name!r}" for name in sorted(unknown)]
    problems += [
        f"{row['column']} is mostly missing" for row in table if 2 * row["missing"] > len(customers)
    ]
    if min(left, len(customers) - left) < 50:
        problems.append(f"{left} of {len(customers)} left: 50 of each kind are the least")
    note = "; ".join(problems) or f"{left:,} of {len(customers):,} customers left"
    print(note)
    return TaskResult(passed=not problems, note=note, table=table)


@task(estimated_time=20)
def split(customers: list[Customer]) -> tuple[list[Customer], list[Customer]]:
    """Hold every fifth customer back for the examination"""
    # By a hash of the id: a customer is always on the same side, so no earlier model has learned
    # from one that it is examined with.
    parts: tuple[list[Customer], list[Customer]] = ([], [])
    for customer in customers:
        parts[zlib.crc32(customer.id.encode()) % 5 == 0].append(customer)
    print(f"{len(parts[0]):,} customers to learn from, {len(parts[1]):,} to be examined with")
    return parts


@task(estimated_time=1200)
def train(customers: list[Customer]) -> Model:
    """Fit a logistic regression by gradient descent"""
    model = _unfitted(customers)
    # A constant 1 as last input makes the bias a weight like the others.
    inputs = [[*model.inputs(customer), 1.0] for customer in customers]
    labels = [float(customer.churned) for customer in customers]
    width = len(FEATURES) + 1
    weights, velocity = [0.0] * width, [0.0] * width
    for epoch in range(1, EPOCHS + 1):
        gradient, loss = [0.0] * width, 0.0
        for x, label in zip(inputs, labels):
            chance = sigmoid(sum(map(mul, weights, x)))
            error = chance - label
            gradient = [g + error * value for g, value in zip(gradient, x)]
            loss -= math.log(max(chance if label else 1 - chance, 1e-12))
        for i in range(width):
            slope = gradient[i] / len(inputs) + PENALTY * weights[i]
            velocity[i] = MOMENTUM * velocity[i] - RATE * slope
            weights[i] += velocity[i]
        if epoch % 20 == 0:
            print(f"epoch {epoch:3}: loss {loss / len(inputs):.4f}")
        progress(epoch / EPOCHS)
    model.weights, model.bias = weights[:-1], weights[-1]
    for name, weight in sorted(zip(FEATURES, model.weights), key=lambda pair: -abs(pair[1])):
        print(f"{weight:+.3f}  {name}")
    return model


@task(estimated_time=50)
def measure(model: Model, customers: list[Customer]) -> Measured:
    """Measure a model with customers it has not seen"""
    labels = [customer.churned for customer in customers]
    scores = model.score(customers)
    right = sum((score >= 0.5) == label for score, label in zip(scores, labels))
    return Measured(auc(scores, labels), right / len(labels))


@task(estimated_time=50)
def measure_baseline(learned: list[Customer], examined: list[Customer]) -> Measured:
    """Measure what needs no model: the best single number, and betting on the majority"""
    plain = _unfitted(learned)
    labels = [customer.churned for customer in learned]
    columns = list(zip(*(plain.inputs(customer) for customer in learned)))
    single = [auc(column, labels) for column in columns]
    best = max(range(len(single)), key=lambda i: abs(single[i] - 0.5))
    sign = 1 if single[best] > 0.5 else -1
    labels = [customer.churned for customer in examined]
    left = sum(labels)
    print(f"The best single number is {FEATURES[best]}")
    return Measured(
        auc([sign * plain.inputs(customer)[best] for customer in examined], labels),
        max(left, len(labels) - left) / len(labels),
    )


@task(estimated_time=20)
def compare(new: Measured, baseline: Measured, previous: Measured | None) -> TaskResult:
    """Refuse a model that is worse than none"""
    measured = {"baseline": baseline, "deployed so far": previous, "new": new}
    for name, values in measured.items():
        if values is not None:
            print(f"{name:15}  AUC {values.auc:.4f}  accuracy {values.accuracy:.1%}")
    passed = new.auc > baseline.auc
    return TaskResult(
        passed=passed,
        note=f"AUC {new.auc:.4f}, {'above' if passed else 'NOT above'} the baseline {baseline.auc:.4f}",
        table=[
            {"model": name, "AUC": round(values.auc, 4), "accuracy": round(values.accuracy, 4)}
            for name, values in measured.items()
            if values is not None
        ],
    )


@task(estimated_time=20)
def deploy(path: Path, model: Model, measured: Measured) -> None:
    """Put the new model in the place of the old one"""
    body = {
        "trained": datetime.now(UTC).isoformat(timespec="seconds"),
        "measured": asdict(measured),
        "model": asdict(model),
    }
    put(path, json.dumps(body, indent=1))
    print(f"Deployed {path}")


@task(estimated_time=50)
def verify_deployment(path: Path, expected: Model, customers: list[Customer]) -> TaskResult:
    """Load the deployed model as its users do and compare its scores"""
    deployed = load_model(path)
    if deployed is None:
        return TaskResult(passed=False, note=f"no model can be read from {path}")
    pairs = list(zip(deployed.score(customers), expected.score(customers), strict=True))
    worst = max(abs(ours - theirs) for ours, theirs in pairs)
    note = f"{len(pairs):,} customers scored, largest difference {worst:.1g}"
    print(note)
    return TaskResult(
        passed=worst < 1e-9,
        note=note,
        table=[
            {"customer": customer.id, "deployed": ours, "expected": theirs}
            for customer, (ours, theirs) in list(zip(customers, pairs))[:5]
        ],
    )


@flow(
    name="Churn Model Retraining",
    description="Train, examine and deploy the model that tells which customers will leave",
    tags={"team": "ml", "domain": "customers", "version": "v1.0"},
    schedule=CronSchedule("0 3 * * SUN"),
)
def churn_model(folder: str | None = None, customers: int = 8000) -> dict[str, Any]:
    """Retrain the model; the deployed one stays unless the new one is better.

    Args:
        folder: where customers and model are; default: ``examples`` in perfect's home.
        customers: how many to invent where there is no ``customers.csv``.
    """
    path = workspace(folder)
    model_path = path / "churn_model.json"
    everyone = load_customers(path, customers)
    check_customers(everyone)
    learned, examined = split(everyone)
    previous = load_model(model_path)
    model = train(learned)

    new, baseline = measure(model, examined), measure_baseline(learned, examined)
    so_far = None if previous is None else measure(previous, examined)
    compare(new, baseline, so_far)
    if previous is None or so_far is None or new.auc > so_far.auc + MARGIN:
        deploy(model_path, model, new)
        verify_deployment(model_path, model, examined)
    else:
        print(f"The deployed model stays: {new.auc:.4f} is not better than {so_far.auc:.4f}")
        verify_deployment(model_path, previous, examined)
    return {
        "customers": len(everyone),
        "auc": new.auc,
        "accuracy": new.accuracy,
        "baseline auc": baseline.auc,
        "previous auc": None if so_far is None else so_far.auc,
        "deployed": so_far is None or new.auc > so_far.auc + MARGIN,
        "model": str(model_path),
    }


def load_model(path: Path) -> Model | None:
    """The deployed model, or None if there is none that fits today's features."""
    try:
        model = Model(**json.loads(path.read_text(encoding="utf-8"))["model"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        print(f"{path} is no model: {type(error).__name__}: {error}")
        return None
    sizes = [len(part) for part in (model.fill, model.mean, model.spread, model.weights)]
    if model.features != FEATURES or sizes != [len(NUMBERS), *[len(FEATURES)] * 3]:
        print(f"{path} was made for other features: {model.features}")
        return None
    return model


def sigmoid(x: float) -> float:
    """The logistic function, by tanh, which does not overflow."""
    return 0.5 + 0.5 * math.tanh(0.5 * x)


def auc(scores: list[float] | tuple[float, ...], labels: list[bool]) -> float:
    """The area under the ROC curve: how often one who left scores above one who stayed.

    By the ranks (Mann and Whitney 1947); equal scores share theirs.
    """
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, start = 0.0, 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        ranks += (start + end + 1) / 2 * sum(labels[i] for i in order[start:end])
        start = end
    left = sum(labels)
    return (ranks - left * (left + 1) / 2) / (left * (len(labels) - left))


def _unfitted(customers: list[Customer]) -> Model:
    """A model that knows how its inputs are scaled and nothing else."""
    count = len(FEATURES)
    known = (
        [n for n in column if n is not None] for column in zip(*(c.numbers for c in customers))
    )
    fill = [median(column) for column in known]
    model = Model(FEATURES, fill, [0.0] * count, [1.0] * count, [0.0] * count, 0.0)
    columns = list(zip(*(model.inputs(customer) for customer in customers)))
    model.mean = [fmean(column) for column in columns]
    model.spread = [pstdev(column) or 1.0 for column in columns]
    return model


def _invented(count: int) -> list[list[object]]:
    """Customers who leave for reasons that a model can find, and by chance."""
    chance = random.Random("customers")
    rows: list[list[object]] = []
    for number in range(count):
        tenure = min(72, int(chance.expovariate(1 / 24)) + 1)
        charge = round(max(9.0, chance.gauss(60, 22)), 2)
        calls = int(chance.expovariate(1 / 1.3))
        late = int(chance.expovariate(1 / 0.7))
        idle = int(chance.expovariate(1 / 12))
        contract = chance.choices(CONTRACTS, (55, 30, 15))[0]
        wish = (
            {"monthly": -0.9, "yearly": -1.9, "two-year": -2.9}[contract]
            - 0.035 * tenure
            + 0.012 * (charge - 60)
            + 0.35 * calls
            + 0.45 * late
            + 0.025 * idle
        )
        numbers: list[object] = [tenure, charge, calls, late, idle]
        for position in (1, 4):
            if chance.random() < 0.02:
                numbers[position] = ""
        rows.append([f"C{number:05}", *numbers, contract, int(chance.random() < sigmoid(wish))])
    return rows


if __name__ == "__main__":
    print(churn_model())
