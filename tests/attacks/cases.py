"""A case: files made from (seed, number), and the command that reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from tests.attacks import bundle_files, data_files, nir_files, yaml_files
from tests.attacks.large import MODELS as LARGE
from tests.cli_runner import DIGITS

CHIPS = ("loihi1", "loihi2", "spinnaker2", "brainscales2", "tianjic", "truenorth", "xylo2", "speck")
PRESETS = ("nir", "norse", "snntorch", "spikingjelly", "sinabs", "rockpool", "spyx", "spinnaker2", "lava")

Command = list[object]


def _reading(rng: random.Random) -> Command:
    more: Command = []
    if rng.random() < 0.3:
        more += ["--preset", rng.choice(PRESETS)]
    if rng.random() < 0.3:
        more += ["--dt", rng.choice((1e-3, 1, 1e-4, 1e300, 1e-300, "nan", 0))]
    if rng.random() < 0.2:
        more += ["--reset", rng.choice(("zero", "subtract"))]
    return more + (["--json"] if rng.random() < 0.3 else [])


def model(folder: Path, rng: random.Random) -> Command:
    """A changed model, read by every verb."""
    path, more = nir_files.case(folder, rng), _reading(rng)
    turn = rng.random()
    if turn < 0.35:
        return ["inspect", path, *more]
    if turn < 0.8:
        ways: list[Command] = [[], [], [], ["--sparsity", 0.5], ["--bits", 4], ["--fit"]]
        return ["check", path, "--target", rng.choice(CHIPS), *rng.choice(ways), *more]
    shape = rng.choice(((3,), (2, 8, 8), (2,), (3, 10), (64,)))
    data = data_files.spikes(folder, rng, shape, whole=True)
    if turn < 0.9:
        return ["simulate", path, "--data", data, *more]
    if turn < 0.95:
        return ["compress", path, "--out", folder / "o.nir", "--method", rng.choice(("rtn", "magnitude")), "--bits", 4,
                *more]
    return ["deploy", path, "--target", rng.choice(CHIPS), "--data", data, "--method", "rtn", "--out", folder / "o",
            *more]


def profile(folder: Path, rng: random.Random) -> Command:
    path = yaml_files.profile(folder, rng)
    small = nir_files.bases()[rng.randrange(2)]
    nir_files.write(folder / "small.nir", small, random.Random(0))
    more: Command = ["--json"] if rng.random() < 0.2 else []
    if rng.random() < 0.4:
        return ["targets", path, *more]
    if rng.random() < 0.9:
        return ["check", folder / "small.nir", "--profile", path, *more]
    return ["deploy", folder / "small.nir", "--profile", path, "--method", "rtn", "--out", folder / "o", *more]


def recipe(folder: Path, rng: random.Random) -> Command:
    path = yaml_files.recipe(folder, rng)
    return ["compress", DIGITS, "--recipe", path, "--method", rng.choice(("rtn", "magnitude")), "--out",
            folder / "o.nir"]


def data(folder: Path, rng: random.Random) -> Command:
    path = data_files.spikes(folder, rng)
    return ["simulate", DIGITS, "--data", path, *(["--json"] if rng.random() < 0.2 else [])]


def events(folder: Path, rng: random.Random) -> Command:
    path = data_files.events(folder, rng)
    return ["events", path, "--dt", rng.choice((1e-3, 1e-3, 1e-6, 1e9, 1e-30)), "--steps",
            rng.choice((1, 5, 100, 10**9)),
            "--out", folder / "o.npz", *rng.choice(([], [], ["--shape", "1,34,34"], ["--shape", "2,300,300"],
                                                    ["--binary"]))]


def aedat(folder: Path, rng: random.Random) -> Command:
    return ["aedat", data_files.aedat(folder, rng)]


def bundle(folder: Path, rng: random.Random) -> Command:
    from tests.attacks.worker import base_bundles

    base = rng.choice(base_bundles())
    path = bundle_files.case(base, folder, rng)
    data = data_files.spikes(folder, rng, (3,), whole=True)
    turn = rng.random()
    if turn < 0.5:
        return ["simulate", path, "--data", data, "--engine", "emulator"]
    if turn < 0.8:
        return ["compare", path, base / "model.nir" if rng.random() < 0.5 else base, "--data", data]
    return ["inspect", path] if rng.random() < 0.5 else ["simulate", path, "--data", data]


#: Kinds of cases, and how many in a hundred are of each.
KINDS: dict[str, tuple[Callable[[Path, random.Random], Command], int]] = {
    "model": (model, 50), "profile": (profile, 14), "recipe": (recipe, 6), "data": (data, 12), "events": (events, 6),
    "aedat": (aedat, 2), "bundle": (bundle, 10),
}


#: Large files are read by these verbs; number chooses.
VERBS: tuple[Command, ...] = (["inspect"], ["check"])


def case(seed: int, number: int, folder: Path, kind: str | None = None) -> Command:
    """Writes the files of a case into `folder` and gives the command line that reads them."""
    rng = random.Random(f"{seed}:{number}")
    if kind in LARGE:
        return [*VERBS[number], LARGE[kind](folder), *(["--target", "loihi1"] if VERBS[number] == ["check"] else [])]
    drawn = rng.choices(list(KINDS), [share for _, share in KINDS.values()])[0]
    return KINDS[kind or drawn][0](folder, rng)
