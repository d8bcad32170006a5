"""What synapses cost in a core's memory: the public formulas, as functions of integer arrays.

A core stores one list of synapses for each axon that ends in it. A list stored dense holds every weight of a few
runs of consecutive neurons, zeros included; a list stored sparse holds the weights that are not zero, each with
the index of its neuron.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Formula = Callable[..., tuple[Ints, Ints]]

WORD = 64  # bits
HEADER = 10  # bits that begin a block: 4 name its format, 6 count its synapses
BLOCK_HEADER = 8  # bytes before the first matrix of SpiNNaker 1
ROW_HEADER = 3  # words of 32 bit that begin a row of SpiNNaker 1
SOURCE_WORD = 32  # bits assumed for each source of SpiNNaker 2
CROSSBAR_COLUMNS = 256  # neurons that an axon of TrueNorth passes


def _ceil_div(a: Ints, b: int) -> Ints:
    return -(-a // b)


def index_bits(neurons: ArrayLike, least: int = 1) -> Ints:
    """Bits that name one of `neurons` neurons, at least `least`; int64 array of the same shape."""
    needed = np.ceil(np.log2(np.maximum(np.asarray(neurons, dtype=np.int64), 1))).astype(np.int64)
    return np.maximum(needed, least)


def nengo_loihi_words(n: ArrayLike, bits: ArrayLike) -> Ints:
    """64-bit words of one list of n synapses of `bits` bits each (index included when stored sparse).

    Blocks of at most 64 synapses, each with a header of 10 bits and rounded up to whole words.
    8 bit dense: 64, 256, 1024 synapses take 9, 36, 144 words.
    Source: nengo/nengo-loihi @e564f66ecbd0, nengo_loihi/block.py bits_per_axon.
    """
    n, bits = np.asarray(n, dtype=np.int64), np.asarray(bits, dtype=np.int64)
    whole, rest = n // 64, n % 64
    return whole * _ceil_div(64 * bits + HEADER, WORD) + np.where(rest > 0, _ceil_div(rest * bits + HEADER, WORD), 0)


def nxtf_words(n: ArrayLike, bits: ArrayLike, prefix: ArrayLike = 0, runs: ArrayLike = 1) -> Ints:
    """64-bit words of one list of `runs` runs of n synapses of `bits` bits each.

    Entries of at most 60 synapses within one run, each with a header of 10 bits and, stored dense, a prefix (the
    index of its first neuron, 6 to 10 bits). The list is rounded up to words, plus one word when its last word
    holds 0 or at least 59 bits. 8 bit dense: 64, 256, 1024 synapses take 9, 34, 134 words.
    Source: intel-nrc-ecosystem/models @3dc53bfcfae1, nxsdk_modules_ncl/dnn/src/data_structures.py SynEntry and
    SynapseGroup; optimization.py maxNumSynPerSynEntry 60.
    """
    n, bits = np.asarray(n, dtype=np.int64), np.asarray(bits, dtype=np.int64)
    prefix, runs = np.asarray(prefix, dtype=np.int64), np.asarray(runs, dtype=np.int64)
    total = runs * (_ceil_div(n, 60) * (HEADER + prefix) + n * bits)
    rest = total % WORD
    words = _ceil_div(total, WORD) + ((rest == 0) | (rest >= 59))
    return np.where(runs * n > 0, words, 0)


def nxtf_and_nengo_loihi(
    runs: ArrayLike, length: ArrayLike, nonzero: ArrayLike, neurons: ArrayLike, bits: int, delay_bits: int
) -> tuple[Ints, Ints]:
    """Loihi 1: the larger of what NxTF and nengo-loihi count. Index 6 to 12 bits, delays of 0 or 3 to 6 bits."""
    index = index_bits(neurons, least=6)
    delay = max(delay_bits, 3) if delay_bits else 0
    runs, length = np.asarray(runs, dtype=np.int64), np.asarray(length, dtype=np.int64)
    dense = np.maximum(
        nxtf_words(length, bits + delay, index, runs), runs * nengo_loihi_words(length, bits + delay)
    )
    sparse = np.maximum(
        nxtf_words(nonzero, bits + delay + index), nengo_loihi_words(nonzero, bits + delay + index)
    )
    return dense * WORD, sparse * WORD


def weight_and_index_bits(
    runs: ArrayLike, length: ArrayLike, nonzero: ArrayLike, neurons: ArrayLike, bits: int, delay_bits: int
) -> tuple[Ints, Ints]:
    """A lower estimate for a chip whose encoding is not public: weight (and delay) bits, plus index bits if sparse."""
    each = bits + delay_bits
    dense = np.asarray(runs, dtype=np.int64) * np.asarray(length, dtype=np.int64) * each
    return dense, np.asarray(nonzero, dtype=np.int64) * (each + index_bits(neurons))


def synapse_words(
    runs: ArrayLike, length: ArrayLike, nonzero: ArrayLike, neurons: ArrayLike, bits: int, delay_bits: int
) -> tuple[Ints, Ints]:
    """SpiNNaker 2, an estimate: its encoding is not public. One word of 32 bit for each source (where its list is, how
    long it is); then every synapse that is not zero in a word of 16, 32 or 64 bit with its delay and index, or every
    weight of the list in whole bytes with its delay (zeros included, no index)."""
    n, index = np.asarray(nonzero, dtype=np.int64), index_bits(neurons)
    word = np.maximum(16, 1 << index_bits(bits + index + delay_bits))
    dense = np.asarray(runs, dtype=np.int64) * np.asarray(length, dtype=np.int64) * 8 * -(-(bits + delay_bits) // 8)
    return dense + SOURCE_WORD, n * word + SOURCE_WORD


def spynnaker_rows(
    runs: ArrayLike, length: ArrayLike, nonzero: ArrayLike, neurons: ArrayLike, bits: int, delay_bits: int
) -> tuple[Ints, Ints]:
    """SpiNNaker 1: a row of one word of 32 bit for each synapse that is not zero, and three words before them. A
    matrix has rows of one length and more of them than sources: see `spynnaker_block`.

    Source: sPyNNaker 7.4.1 synapse_io.py (header of 3 words), synapse_dynamics_static.py (one word per synapse).
    """
    row = 32 * (np.asarray(nonzero, dtype=np.int64) + ROW_HEADER)
    return row, row


def spynnaker_block(sources: int, longest: ArrayLike, per_core: int, end: ArrayLike | None = None) -> Ints:
    """Where the block of synapses of a SpiNNaker 1 core ends once one more matrix is in it, in bytes.

    sources: neurons that the matrix comes from, in cores of at most `per_core`; the last one is not trimmed. longest:
    bytes of its longest row, as which all are stored; no matrix where it is 0. end: where the block ended before, None
    when it is empty. Every core's rows begin at a multiple of 16 bytes: 256 onto 256 take 265,232 bytes.
    Source: sPyNNaker 7.4.1 population_vertex.py get_synapses_size, master_pop_table.py get_next_allowed_address.
    """
    row, at = np.asarray(longest, dtype=np.int64), np.asarray(BLOCK_HEADER if end is None else end, dtype=np.int64)
    rows = min(sources, per_core)
    for _ in range(-(-sources // rows) if rows else 0):
        at = np.where(row > 0, 16 * _ceil_div(at, 16) + rows * row, at)
    return at


def signed_pairs(
    runs: ArrayLike, length: ArrayLike, nonzero: ArrayLike, neurons: ArrayLike, bits: int, delay_bits: int
) -> tuple[Ints, Ints]:
    """BrainScaleS-2: two cells for each synapse that is not zero, one in an exciting row, one in an inhibiting row.

    Source: electronicvisions/hxtorch @3bfc7aadf33d perceptron/constants.h; grenade @6ac13f3ad4ae.
    """
    cells = 2 * bits * np.asarray(nonzero, dtype=np.int64)
    return cells, cells


def crossbar_rows(
    runs: ArrayLike, length: ArrayLike, nonzero: ArrayLike, neurons: ArrayLike, bits: int, delay_bits: int
) -> tuple[Ints, Ints]:
    """TrueNorth: a row of 256 bits for each axon, whatever is in it.

    Source: Merolla et al., Science 345:668, 2014, as quoted in mimarsinan @322ed19.
    """
    row = np.where(np.asarray(nonzero, dtype=np.int64) > 0, CROSSBAR_COLUMNS, 0)
    return row, row


#: Formulas that a profile may name. Each takes, for lists of synapses (arrays that broadcast): the runs of a list
#: and the length of one run when stored dense, the weights that are not zero, the neurons of the core, the stored
#: bits of a weight, the bits of a delay (0 without); and gives the bits of each list stored dense and stored sparse.
FORMULAS: dict[str, Formula] = {
    "nxtf-and-nengo-loihi": nxtf_and_nengo_loihi,
    "weight-and-index-bits": weight_and_index_bits,
    "synapse-words": synapse_words,
    "spynnaker-rows": spynnaker_rows,
    "signed-pairs": signed_pairs,
    "crossbar-rows": crossbar_rows,
}
#: Formulas whose lists lie in blocks with gaps: each takes the sources of a matrix, the bytes of its longest list for
#: each core, the most neurons of a core, and where the cores' blocks ended before; and gives where they end, in bytes.
BLOCKS: dict[str, Callable[..., Ints]] = {"spynnaker-rows": spynnaker_block}
#: Formulas that rest on no public encoding: what they say is an estimate.
ESTIMATES = frozenset({"weight-and-index-bits", "synapse-words"})


def stored_bits(bits: int, allowed: list[int]) -> int:
    """The width a weight of `bits` bits is stored in: the next allowed one, or the largest there is."""
    return min((b for b in allowed if b >= bits), default=max(allowed))
