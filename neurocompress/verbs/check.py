"""The verb check: whether a network fits a chip, and how little compression makes it fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..chip.profile.features import features, readout_on, with_conventions
from ..chip.profile.incoming import on_chip_alone
from ..chip.profile.load import Profile, load_profile
from ..fit.check import Fit, check_fit, fit_of, left_to_data, plan_of, with_rounding
from ..fit.compression_search import Found, mildest_of_weights, one_width, prunes
from ..network.assumed import aloud
from ..network.conventions import Overrides
from ..network.encoder import InputMode
from ..network.graph import Network
from ..network.readout import Mode, Tail
from ..progress import Progress, silent
from .load import load

if TYPE_CHECKING:
    from ..chip.profile.schema import FanInPolicy
    from .models import Model


def check(
    model: Model, target: str | Path, *, bits: int | Mapping[str, int] | None = None,
    sparsity: float | Mapping[str, float] | None = None, chips: int | None = None,
    fan_in_policy: FanInPolicy | None = None, input: InputMode = "auto", preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), readout: Mode = "auto",
    progress: Progress | None = None,
) -> Fit:
    """Whether a network fits a chip: no data, no torch. Raises `Refused` for input that can't be read.

    bits, sparsity: of all layers, or by patterns of their names, {"fc*": 0.75}. chips: instead of the profile's number.
    fan_in_policy: instead of the profile's, what becomes of neurons with too many synapses: "refuse", "prune", "split"
    or "join". input: how values reach the chip; with "host" the layers that the host computes are not counted,
    otherwise all are. preset, dt, reset, convention: as `load`. readout: where the class
    is read (see `network.ends.tail`).
    """
    tell = progress or silent
    tell("reading the model", 0, 0)
    network, profile, ends, said = _for_chip(
        target, load(model, preset=preset, dt=dt, reset=reset, convention=convention), input, readout)
    tell("placing the layers on cores", 0, 0)
    found = with_rounding(check_fit(network, profile, bits, sparsity, chips=chips, policy=fan_in_policy))
    return replace(found, notes=(*said, *found.notes), read_by=ends.by, host=tuple(ends.host))


def _for_chip(
    target: str | Path, network: Network, input: InputMode, readout: Mode
) -> tuple[Network, Profile, Tail, tuple[str, ...]]:
    """The part of the network that lies on the chip with the conventions that `deploy` gives it there, how it ends, and
    a sentence for each change."""
    profile = load_profile(target)
    loud = aloud(network.notes)
    network, alone = on_chip_alone(network, profile, input)
    ends = readout_on(network, profile, readout)
    network, said = with_conventions(ends.chip, features(profile), profile.title)
    return network, profile, ends, (*loud, *alone, *ends.said, *said)


def check_compressed(
    model: Model, target: str | Path, *, bits: int | Mapping[str, int] | None = None, chips: int | None = None,
    fan_in_policy: FanInPolicy | None = None, input: InputMode = "auto", preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), readout: Mode = "auto",
    progress: Progress | None = None,
) -> tuple[Fit, Found]:
    """The mildest compression with which a network fits a chip, estimated from its weights: no data, no torch.

    bits: for all layers; without it the chip's default and all that are fewer are tried. The fit is that of the
    compressed network; where nothing fits, that of the network as it is. Where its loss is beyond the bound by the
    weights alone, the verdict is left to deploy, which has data. input, preset, dt, reset, convention,
    readout: as `check`. Raises `Refused`.
    """
    tell = progress or silent
    tell("reading the model", 0, 0)
    network, profile, ends, said = _for_chip(
        target, load(model, preset=preset, dt=dt, reset=reset, convention=convention), input, readout)
    tell("searching the mildest compression that fits", 0, 0)
    bits = one_width(bits)
    plan = plan_of(network, profile, bits, chips=chips, policy=fan_in_policy)
    found = mildest_of_weights(plan, bits, fan_in_pruned=prunes(plan, fan_in_policy))
    fit = fit_of(plan if found.walls else found.plan)
    if found.loss and not found.walls:
        fit = left_to_data(fit, plan, found.said if found.beyond else "")
    return replace(fit, notes=(*said, *fit.notes), read_by=ends.by, host=tuple(ends.host)), found
