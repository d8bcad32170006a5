"""Fixtures: where the shared recordings and models are, and what must never be skipped in CI; a bundle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import DIGITS, EXAMPLE, Run, runner

SHARED = Path(os.environ.get("NEUROCOMPRESS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def skip_unless_ci(reason: str) -> None:
    """Skip on a newcomer's machine; fail in CI, where everything a test needs must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: this test must run)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and models that nobody here wrote."""
    if not (SHARED / "models").is_dir():
        skip_unless_ci(f"needs the shared recordings and models; set NEUROCOMPRESS_SHARED (looked in {SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def lava() -> str:
    """A Python 3.10 with Lava; made with uv when NEUROCOMPRESS_LAVA_PYTHON names none."""
    from neurocompress.errors import Refused
    from neurocompress.targets.lava.interpreter import lava_python

    try:
        return lava_python()
    except Refused as refused:
        skip_unless_ci(str(refused))
        raise


@pytest.fixture(autouse=True)
def silent_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a verb prints on stderr does not depend on how long it takes here: progress lines begin late."""
    monkeypatch.setattr("neurocompress.report.text.terminal_progress.FIRST_S", 1e9)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line; a function from arguments to what a user sees."""
    return runner(capsys)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny tensors: threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of the shipped digits, with labels."""
    from neurocompress.data.spikes import load_spikes

    path = tmp_path_factory.mktemp("four") / "four.npz"
    load_spikes(EXAMPLE / "digits_test.npz").first(4).save(path)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, four: Path) -> Path:
    """A bundle of the shipped example; tests copy it before they break it."""
    from neurocompress import deploy

    folder = tmp_path_factory.mktemp("made") / "bundle"
    deploy(DIGITS, "loihi2", data=four, out=folder, method="rtn")
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundle"))
