"""The figures that "Spiking Brain Compression" (arXiv 2506.03996v3) published, table by table, as data.

Accuracies are percent of the test set.
Table 2 heads GPTQ's column "ExactOBS"; section 4.2 says that it is GPTQ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neurocompress.errors import refuse

Row = tuple[float, ...]

#: What follows a method's name where its network was trained on with its zeros kept.
TUNED = " + fine-tuning"


@dataclass(frozen=True)
class Table:
    """One network's part of one table of the paper.

    points: sparsities in percent, bits, or numbers of calibration samples, by kind. base: accuracy before.
    accuracy: by method, one for each point. deviation: of the accuracies, where published.
    operations: synaptic operations per sample in millions, before and at each point.
    sparsity: percent, of the tables whose points are something else. epochs: of fine-tuning, at each point.
    """

    number: str
    dataset: str
    network: str
    kind: str
    points: tuple[float, ...]
    base: float
    accuracy: dict[str, Row]
    deviation: Row = ()
    operations: tuple[float, ...] = ()
    sparsity: float = 0.0
    epochs: tuple[int, ...] = ()
    note: str = ""

    def only(self, points: Sequence[float]) -> Table:
        """The rows of these points. Raises `Refused` for points that it does not have."""
        unknown = [f"{p:g}" for p in points if p not in self.points]
        if unknown:
            raise refuse(f"the table has no points {', '.join(unknown)}",
                         fix=f"Choose among {', '.join(f'{p:g}' for p in self.points)}")
        keep = [k for k, p in enumerate(self.points) if p in points]
        return replace(
            self, points=tuple(self.points[k] for k in keep),
            accuracy={method: tuple(row[k] for k in keep) for method, row in self.accuracy.items()},
            deviation=tuple(self.deviation[k] for k in keep if self.deviation),
            epochs=tuple(self.epochs[k] for k in keep if self.epochs),
            operations=(*self.operations[:1], *(self.operations[k + 1] for k in keep if self.operations)))

    @property
    def methods(self) -> tuple[str, ...]:
        if self.kind == "quantization":
            return "rtn", "gptq", "sbc-paper", "sbc"
        if self.kind == "finetuning":
            return "sbc-paper", "sbc-paper" + TUNED, "sbc", "sbc" + TUNED
        return ("magnitude", "exact-obs", "sbc-paper", "sbc") if self.kind == "pruning" else ("sbc-paper", "sbc")


SPARSITIES = (80.0, 90.0, 95.0, 97.0, 98.0)
IMAGENET = (50.0, 66.67, 75.0)
UNSAID = "The paper does not say at which sparsity"


def _pruning(number: str, dataset: str, network: str, points: tuple[float, ...], base: float, **accuracy: Row) -> Table:
    return Table(number, dataset, network, "pruning", points, base,
                 {name.replace("_", "-"): row for name, row in accuracy.items()})


def _bits(dataset: str, network: str, base: float, rtn: Row, gptq: Row, sbc: Row) -> Table:
    return Table("2", dataset, network, "quantization", (4, 3, 2), base, {"rtn": rtn, "gptq": gptq, "sbc-paper": sbc})


TABLES: dict[str, Table] = {
    "nmnist-pruning": _pruning(
        "5", "nmnist", "2FC", SPARSITIES, 98.31, magnitude=(65.39, 29.40, 35.13, 26.94, 25.60),
        exact_obs=(98.16, 98.01, 96.91, 91.59, 53.24), sbc_paper=(98.13, 98.10, 97.63, 96.72, 93.97)),
    "cifar10dvs-pruning": _pruning(
        "5", "cifar10dvs", "4Conv+2FC", SPARSITIES, 71.50, magnitude=(69.70, 65.70, 29.10, 10.90, 10.00),
        exact_obs=(70.50, 67.50, 58.40, 36.60, 20.70), sbc_paper=(71.50, 69.40, 66.40, 61.30, 49.80)),
    "dvs128gesture-pruning": _pruning(
        "5", "dvs128gesture", "5Conv+2FC", SPARSITIES, 95.14, magnitude=(92.36, 79.86, 35.13, 9.03, 8.33),
        exact_obs=(95.13, 93.40, 92.70, 89.93, 85.76), sbc_paper=(95.48, 94.44, 94.10, 93.40, 90.63)),
    "asldvs-pruning": _pruning(
        "5", "asldvs", "4Conv+1FC", SPARSITIES, 96.53, magnitude=(88.11, 36.48, 11.76, 7.19, 6.08),
        exact_obs=(95.51, 93.41, 87.52, 77.23, 62.78), sbc_paper=(95.73, 93.72, 89.12, 81.40, 70.30)),
    "cifar100-pruning": _pruning(
        "6", "cifar100", "VGG16-SNN", (68.30, 89.91, 95.69), 71.40,
        exact_obs=(70.63, 65.89, 41.46), sbc_paper=(70.63, 66.44, 48.93)),
    "sew-resnet18-pruning": _pruning(
        "6", "imagenet", "SEW-ResNet18", IMAGENET, 63.18,
        exact_obs=(62.49, 60.71, 57.34), sbc_paper=(62.61, 61.03, 58.94)),
    "sew-resnet50-pruning": _pruning(
        "6", "imagenet", "SEW-ResNet50", IMAGENET, 67.78,
        exact_obs=(66.75, 62.97, 55.50), sbc_paper=(66.88, 63.86, 58.50)),
    "sew-resnet152-pruning": _pruning(
        "6", "imagenet", "SEW-ResNet152", IMAGENET, 69.26,
        exact_obs=(67.88, 61.06, 46.19), sbc_paper=(67.88, 62.53, 51.30)),
    "sdt-pruning": _pruning(
        "8", "imagenet", "Spike-driven Transformer 6-512", IMAGENET, 73.89,
        exact_obs=(71.68, 63.40, 49.31), sbc_paper=(71.88, 64.27, 50.91)),
    "nmnist-quantization": _bits(
        "nmnist", "2FC", 98.31, (97.58, 62.26, 20.34), (98.16, 97.33, 64.29), (98.14, 97.81, 92.40)),
    "cifar10dvs-quantization": _bits(
        "cifar10dvs", "4Conv+2FC", 71.50, (66.40, 52.70, 20.50), (70.30, 67.56, 59.40), (69.96, 69.64, 60.70)),
    "dvs128gesture-quantization": _bits(
        "dvs128gesture", "5Conv+2FC", 95.14, (87.15, 78.47, 53.82), (86.67, 81.25, 62.78), (87.43, 81.88, 64.79)),
    "cifar10dvs-operations": Table(
        "3", "cifar10dvs", "4Conv+2FC", "operations", (90.0,), 71.50, {"sbc-paper": (69.40,)},
        operations=(119.2, 25.51)),
    "cifar100-operations": Table(
        "3", "cifar100", "VGG16-SNN", "operations", (89.91,), 71.05, {"sbc-paper": (68.96,)},
        operations=(107.95, 35.85), note="The published network was fine-tuned after pruning."),
    "sew-resnet18-operations": Table(
        "3", "imagenet", "SEW-ResNet18", "operations", (72.26,), 63.18, {"sbc-paper": (60.38,)},
        operations=(1134.40, 697.24), note="The published network was fine-tuned after pruning."),
    "cifar100-finetuning": Table(
        "7", "cifar100", "VGG16-SNN", "finetuning", (68.30, 89.91, 95.69), 71.40,
        {"sbc-paper": (70.63, 66.44, 48.93), "sbc-paper" + TUNED: (71.10, 68.96, 63.34)}, epochs=(25, 50, 50),
        note="Pruned while training: LTH-IMP 69.08, 68.90, 68.00 %; LTH-EB 67.35, 65.82, 61.90 %."),
    "sew-resnet18-finetuning": Table(
        "7", "imagenet", "SEW-ResNet18", "finetuning", (64.74, 70.71, 72.26, 78.92), 63.18,
        {"sbc-paper": (61.36, 60.31, 59.86, 56.48), "sbc-paper" + TUNED: (61.90, 60.82, 60.38, 58.46)},
        epochs=(5, 1, 1, 1), note="Pruned while training: STDS 61.51, 61.30, 59.93 % at 65.21, 70.71, 78.92 %; "
        "UPF 61.89, 60.00 % at 64.74, 72.26 %."),
    "cifar10dvs-calibration": Table(
        "4", "cifar10dvs", "4Conv+2FC", "calibration", (10, 90, 900, 9000), 71.50,
        {"sbc-paper": (49.64, 61.90, 63.84, 64.04)}, (1.27, 0.21, 0.49, 0.35), sparsity=96.0,
        note=f"{UNSAID}: at 95 and 97 % its Table 5 has 66.40 and 61.30 %."),
    "cifar100-calibration": Table(
        "4", "cifar100", "VGG16-SNN", "calibration", (100, 1000, 10000), 71.40,
        {"sbc-paper": (62.19, 65.80, 66.42)}, (0.43, 0.07, 0.17), sparsity=89.91,
        note=f"{UNSAID}: at 89.91 % its Table 6 has 66.44 %."),
    "sew-resnet18-calibration": Table(
        "4", "imagenet", "SEW-ResNet18", "calibration", (100, 1000, 10000, 50000), 63.18,
        {"sbc-paper": (49.35, 55.06, 55.89, 55.89)}, (0.19, 0.12, 0.11, 0.04), sparsity=78.92,
        note=f"{UNSAID}: at 78.92 % its Table 7 has 56.48 %."),
}
