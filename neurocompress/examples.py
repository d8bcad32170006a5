"""Examples under `--help`: lines to copy. Those on examples/digits run as they stand in the project's folder."""

from __future__ import annotations

import re

DIGITS = "examples/digits/digits.nir"
TEST = "examples/digits/digits_test.npz"
CALIBRATION = "examples/digits/digits_calibration.npz"

#: By verb ("" is the command without one): what an example does, and its line without `neurocompress`.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("Does it fit?", f"check {DIGITS} --target loihi2"),
        ("Compress it, emulate the chip, write a Lava program and a report:",
         f"deploy {DIGITS} --target loihi2 --data {TEST} --out digits-loihi2"),
    ),
    "deploy": (
        ("Onto Loihi 2, calibrated and measured on data with labels:",
         f"deploy {DIGITS} --target loihi2 --data {TEST} --out digits-loihi2"),
        ("4 bits, half of the weights of layers fc* zero, rounded by GPTQ:",
         f"deploy {DIGITS} --target spinnaker2 --data {CALIBRATION} --method gptq --bits 4 --sparsity 'fc*=0.5' "
         "--out digits-spinnaker2"),
        ("A file from snnTorch; the mildest compression that fits one chip:",
         "deploy model.nir --target loihi1 --data spikes.npz --preset snntorch --fit"),
        ("Pictures, stored once, shown for 16 steps:",
         "deploy model.nir --target loihi2 --data pictures.npz --steps 16"),
        ("The smallest network that loses at most one point of accuracy:",
         "deploy model.nir --target tianjic --data spikes.npz --max-drop 1"),
    ),
    "check": (
        ("As it is:", f"check {DIGITS} --target loihi1"),
        ("With fewer bits and zeros, before they are computed:",
         f"check {DIGITS} --target loihi1 --bits 4 --sparsity 'fc1=0.75'"),
        ("What would have to be given up:", f"check {DIGITS} --target loihi1 --fit"),
        ("On a chip of your own:", "check model.nir --profile my-chip.yaml"),
    ),
    "compress": (
        ("4 bits and 80 % zeros:",
         f"compress {DIGITS} --data {CALIBRATION} --bits 4 --sparsity 0.8 --out digits-small.nir"),
        ("Into a budget of bytes, shared out by what each layer loses:",
         f"compress {DIGITS} --data {CALIBRATION} --budget 6KiB --out digits-6k.nir"),
        ("By magnitude, without data:", f"compress {DIGITS} --method magnitude --sparsity 0.5 --out digits-half.nir"),
    ),
    "simulate": (
        ("In floating point, with the spikes of one population written as well:",
         f"simulate {DIGITS} --data {TEST} --record lif1 --out spikes.npz"),
        ("What was deployed, in the chip's integers:", f"simulate digits-loihi2 --data {TEST} --engine emulator"),
        ("And in Lava:", f"simulate digits-loihi2 --data {TEST} --engine lava"),
    ),
    "inspect": (
        ("What is in it, and what was assumed:", f"inspect {DIGITS}"),
        ("Read as snnTorch means it:", f"inspect {DIGITS} --preset snntorch --dt 1e-3"),
    ),
    "compare": (
        ("The network and what was deployed of it:", f"compare {DIGITS} digits-loihi2 --data {TEST}"),
        ("Two models:", f"compare {DIGITS} digits-small.nir --data {TEST}"),
    ),
    "targets": (("All chips:", "targets"), ("One chip's limits, each with its source:", "targets loihi2")),
    "rules": (("All rules:", "rules"), ("One of them:", "rules NC207")),
    "presets": (("All platforms:", "presets"), ("One of them:", "presets snntorch")),
    "events": (
        ("200 recordings of N-MNIST, 300 steps of 1 ms:",
         "events nmnist/Test --dt 0.001 --steps 300 --limit 200 --out nmnist.npz"),
    ),
}

#: Columns of an example before it goes on in the next line.
WIDTH = 76


def epilog(verb: str) -> str:
    """The examples of a verb as click prints them: as they stand."""
    lines = ["\b", "Examples:"]
    for what, command in EXAMPLES.get(verb, ()):
        lines += [f"  # {what}", *_broken(f"  neurocompress {command}")]
    return "\n".join(lines) if len(lines) > 2 else ""


def _broken(line: str) -> list[str]:
    """A line in lines that a shell reads as one."""
    found: list[str] = []
    for word in re.findall(r"--\S+ [^\s-]\S*|\S+", line):  # an option stays with its value
        if found and len(found[-1]) + 1 + len(word) <= WIDTH - 2:
            found[-1] += f" {word}"
        else:
            found.append(f"  {word}" if not found else f"      {word}")
    return [f"{part} \\" for part in found[:-1]] + found[-1:]
