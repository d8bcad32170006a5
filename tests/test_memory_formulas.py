"""Memory formulas agree with the published figures, and with a plain count of what they describe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from literal_core import nengo, nxtf

from neurocompress.chip.profile.memory_formulas import (
    FORMULAS,
    index_bits,
    nengo_loihi_words,
    nxtf_words,
    spynnaker_block,
    stored_bits,
)


@pytest.mark.parametrize(("fan_out", "index", "nxtf", "nengo"), [(64, 6, 9, 9), (256, 8, 34, 36), (1024, 10, 134, 144)])
def test_8_bit_dense_lists_take_the_published_words(fan_out: int, index: int, nxtf: int, nengo: int) -> None:
    assert nxtf_words(fan_out, 8, index) == nxtf
    assert nengo_loihi_words(fan_out, 8) == nengo
    dense, _ = FORMULAS["nxtf-and-nengo-loihi"](1, fan_out, fan_out, fan_out, 8, 0)
    assert dense == max(nxtf, nengo) * 64


@pytest.mark.parametrize(("fan_out", "axons"), [(64, 1820)])
def test_a_core_holds_the_published_number_of_dense_axons(fan_out: int, axons: int) -> None:
    assert 16384 // int(nengo_loihi_words(fan_out, 8)) == axons


def test_a_core_holds_the_published_number_of_sparse_axons() -> None:
    assert 16384 // int(nengo_loihi_words(64, 8 + 10)) == 862


def test_a_dense_matrix_of_spinnaker_1_takes_the_published_bytes() -> None:
    assert spynnaker_block(256, 4 * (256 + 3), per_core=256) == 265_232


@given(sources=st.lists(st.integers(1, 700), min_size=1, max_size=4), row=st.integers(1, 256),
       per_core=st.integers(1, 256))
def test_blocks_of_spinnaker_1_equal_a_walk_through_its_memory(sources: list[int], row: int, per_core: int) -> None:
    address, found = 8, np.int64(8)
    for n in sources:
        found = spynnaker_block(n, 4 * (row + 3), per_core, found)
        atoms = min(n, per_core)
        for _ in range(0, n, atoms):  # a matrix for each core before, the last as large as the others
            while address % 16:
                address += 1
            for _ in range(atoms):
                address += 3 * 4  # the header of a row
                address += row * 4
    assert found == address


def test_no_matrix_of_spinnaker_1_takes_nothing() -> None:
    assert spynnaker_block(256, [0, 16], 256).tolist() == [8, 16 + 256 * 16]


@pytest.mark.parametrize(("name", "arguments", "dense", "thin"), [
    ("spynnaker-rows", (1, 256, 256, 256, 16, 0), 4 * 259 * 8, 4 * 259 * 8),
    ("signed-pairs", (1, 256, 128, 256, 6, 0), 128 * 2 * 6, 128 * 2 * 6),  # one column of 256 rows
    ("crossbar-rows", (1, 7, 7, 7, 1, 0), 256, 256),
    ("crossbar-rows", (1, 7, 0, 7, 1, 0), 0, 0),
    ("synapse-words", (1, 128, 64, 128, 8, 0), 32 + 128 * 8, 32 + 64 * 16),  # 8 + 7 bits in a word of 16
    ("synapse-words", (1, 512, 64, 512, 8, 0), 32 + 512 * 8, 32 + 64 * 32),  # 8 + 9 bits in a word of 32
    ("synapse-words", (3, 4, 12, 256, 8, 1), 32 + 12 * 16, 32 + 12 * 32),
    ("synapse-words", (1, 4, 4, 65536, 16, 1), 32 + 4 * 24, 32 + 4 * 64),
])
def test_lists_take_what_their_description_says(
    name: str, arguments: tuple[int, ...], dense: int, thin: int
) -> None:
    assert [int(bits) for bits in FORMULAS[name](*arguments)] == [dense, thin]


@given(n=st.integers(0, 3000), bits=st.integers(1, 24), prefix=st.integers(0, 10), runs=st.integers(1, 9))
def test_words_equal_a_count_block_by_block(n: int, bits: int, prefix: int, runs: int) -> None:
    assert nengo_loihi_words(n, bits) == nengo(n, bits)
    assert nxtf_words(n, bits, prefix, runs) == nxtf(n, bits, prefix, runs)


@given(
    name=st.sampled_from(sorted(FORMULAS)), runs=st.integers(1, 8), length=st.integers(1, 300),
    share=st.floats(0, 1), bits=st.integers(2, 16), delay=st.integers(0, 6),
)
def test_fewer_bits_and_fewer_weights_never_need_more(
    name: str, runs: int, length: int, share: float, bits: int, delay: int
) -> None:
    kept = round(share * runs * length)
    dense, thin = FORMULAS[name](runs, length, kept, 1024, bits, delay)
    less_dense, less_thin = FORMULAS[name](runs, length, kept, 1024, bits - 1, delay)
    _, thinner = FORMULAS[name](runs, length, max(kept - 1, 0), 1024, bits, delay)
    word = 64 if name.startswith("nxtf") else 0  # NxTF adds a word to lists that end near a word's end
    assert less_dense <= dense + word
    assert less_thin <= thin + word
    assert thinner <= thin + word
    if name != "crossbar-rows":  # one bit for each neuron, whatever the weights
        assert min(dense, thin) >= kept * bits


@given(st.integers(1, 5000))
def test_an_index_names_every_neuron(neurons: int) -> None:
    bits = int(index_bits(neurons))
    assert 2**bits >= neurons
    assert bits == 1 or 2 ** (bits - 1) < neurons


def test_arrays_are_counted_element_by_element() -> None:
    n = np.array([0, 1, 60, 61, 64, 65, 1024])
    assert nengo_loihi_words(n, 8).tolist() == [nengo(int(k), 8) for k in n]


def test_a_width_the_chip_lacks_is_stored_in_the_next_one() -> None:
    allowed = [1, 2, 3, 4, 5, 6, 8]
    assert [stored_bits(b, allowed) for b in (1, 6, 7, 8, 16)] == [1, 6, 8, 8, 8]
