"""What fine-tuning recovers after one-shot compression of examples/digits.

    python -m benchmarks.finetuning [--seeds N]

The network is compressed in one shot on the 128 calibration digits, then fine-tuned on those alone or on all 1347
training digits, and tested on the 450 held-out ones. Prints accuracy in percent, mean and standard deviation over
seeds of the fine-tuning. One core, about eight minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from examples.train_digits import encode
from neurocompress import load
from neurocompress.compression.finetuning.finetune import Constraint, finetune
from neurocompress.compression.oneshot import compress_network
from neurocompress.compression.recipe import Recipe
from neurocompress.data import load_spikes
from neurocompress.data.calibration import CalibrationSet
from neurocompress.network.graph import Network
from neurocompress.simulation.float import simulate

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"
METHODS = ("magnitude", "sbc")
POINTS = [
    *({"sparsity": s} for s in (0.9, 0.95, 0.98)),
    *({"bits": b} for b in (3, 2)),
    {"sparsity": 0.9, "bits": 3},
    {"sparsity": 0.9, "bits": 2},
]
EPOCHS, LEARNING_RATE = 20, 0.02


def training_digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1347 digits that are not test digits, as spikes drawn anew, and their labels."""
    images, labels = load_digits(return_X_y=True)
    train, _, train_labels, _ = train_test_split(images, labels, test_size=450, stratify=labels, random_state=0)
    return encode(train, np.random.default_rng(1)), train_labels


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of compressed digits networks before and after fine-tuning.")
    parser.add_argument("--seeds", type=int, default=2, help="fine-tuning runs for each figure [2]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load(DIGITS / "digits.nir")
    calibration = load_spikes(DIGITS / "digits_calibration.npz", (64,), need_labels=True)
    test = load_spikes(DIGITS / "digits_test.npz", (64,), need_labels=True)
    every, every_labels = training_digits()

    def accuracy(candidate: Network) -> float:
        counts = simulate(candidate, test.spikes)["output"].sum(axis=1)
        return 100 * float((counts.argmax(axis=1) == test.labels).mean())

    console = Console(width=140)
    table = Table(title=f"examples/digits, float {accuracy(network):.2f} %: held-out accuracy, {options.seeds} seeds")
    for heading in ("compressed to", "method", "one shot", "128, teacher", "1347, labels", "1347, teacher"):
        table.add_column(heading)
    for point in POINTS:
        said = ", ".join(f"{100 * v:g} % zeros" if k == "sparsity" else f"{v} bit" for k, v in point.items())
        for method in METHODS:
            # plain rounding goes by its own name
            named = "rtn" if method == "magnitude" and "sparsity" not in point else method
            few = CalibrationSet.of(calibration.spikes, EPOCHS, None, 2)
            found = compress_network(network, few, Recipe(method=named, distill=0, **point))
            constraints = {name: Constraint.of(layer) for name, layer in found.layers.items()}

            def tuned(data, teacher, start=found.network, constraints=constraints) -> str:  # type: ignore[no-untyped-def]
                reached = [
                    accuracy(finetune(start, constraints, data, teacher=teacher, epochs=EPOCHS,
                                      learning_rate=LEARNING_RATE, seed=seed))
                    for seed in range(options.seeds)
                ]
                return f"{np.mean(reached):.2f} ± {np.std(reached):.2f}"

            row = (said, named, f"{accuracy(found.network):.2f}", tuned(few, network),
                   tuned(CalibrationSet.of(every, EPOCHS, every_labels), None),
                   tuned(CalibrationSet.of(every, EPOCHS), network))
            table.add_row(*row)
            console.print(" | ".join(row))
    console.print(table)


if __name__ == "__main__":
    main()
