"""AEDAT files, jAER's and iniVation's format of event recordings: version 2.0 and 3.1.

Source: docs.inivation.com, "AEDAT 2.0" and "AEDAT 3.1". DVS128 addresses: jAER's DVS128 class.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..errors import refuse
from .events import MAX_RECORDING, Events

#: A packet of version 3.1 begins with: type, source, event size, timestamp offset, timestamp overflow, capacity,
#: number of events, number of valid ones.
PACKET = struct.Struct("<hhiiiiii")

#: Packet type of version 3.1 that holds polarity events, 8 bytes each.
POLARITY = 1

CUT = "The file is cut off or no event recording: fetch it again"


def read_aedat2(path: str | Path) -> Events:
    """A DVS128 recording of version 2.0, as CIFAR10-DVS is published; times as in the file.

    Big-endian pairs of 32 bits, address and microseconds: bits 1-7 of the address are the column, 8-14 the row, from
    the lower right; bit 0 is 1 for OFF. The sensor lay on its side: columns become rows, so that x and y run from
    the upper left of the upright image. Bit 15 marks an external event, which is no pixel's.
    Raises `Refused` for another version, addresses beyond 16 bits and bytes left over.
    """
    version, data = _open(path)
    if version != "2.0":
        raise refuse(f"it is AEDAT {version}, expected 2.0", file=str(path),
                     fix="Fetch the recording as its authors published it")
    if len(data) % 8:
        raise refuse(f"{len(data)} bytes of events are no whole number of 8 bytes", file=str(path), fix=CUT)
    address, t_us = np.frombuffer(data, dtype=">u4").reshape(-1, 2).T
    if address.max(initial=0) > 0xFFFF:
        raise refuse(f"event {int(np.argmax(address > 0xFFFF))} has an address beyond 16 bits", file=str(path),
                     fix="This is no recording of a DVS128, or it is damaged: fetch it again")
    pixel = address < 0x8000
    address, t_us = address[pixel], t_us[pixel]
    row, column = address >> 8 & 127, address >> 1 & 127
    return Events((127 - row).astype(np.uint8), (127 - column).astype(np.uint8), (1 - (address & 1)).astype(np.uint8),
                  t_us.astype(np.int64))


def read_aedat3(path: str | Path) -> Events:
    """The polarity events of a recording of version 3.1, as DVS128-Gesture is published; times as in the file.

    Little-endian packets: a header of 28 bytes, then `capacity` events. An event is 32 bits (bit 0 valid, 1 polarity,
    2-16 y, 17-31 x) and 31 bits of microseconds; the packet's overflow count stands above these.
    Events that are marked as not valid are left out. Raises `Refused` for another version and cut packets.
    """
    version, data = _open(path)
    if version != "3.1":
        raise refuse(f"it is AEDAT {version}, expected 3.1", file=str(path),
                     fix="Fetch the recording as its authors published it")
    words, times = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    at = 0
    while at < len(data):
        if at + PACKET.size > len(data):
            raise refuse(f"its last packet header has {len(data) - at} bytes of {PACKET.size}", file=str(path), fix=CUT)
        kind, _, size, _, overflow, capacity, number, _ = PACKET.unpack_from(data, at)
        at += PACKET.size
        if not (size >= 0 and 0 <= number <= capacity and overflow >= 0) or (kind == POLARITY and size != 8):
            raise refuse(f"the packet header at byte {at - PACKET.size} makes no sense", file=str(path), fix=CUT)
        if at + capacity * size > len(data):
            raise refuse(f"its last packet has {len(data) - at} bytes of {capacity * size}", file=str(path), fix=CUT)
        if kind == POLARITY:
            word, t_us = np.frombuffer(data, "<u4", 2 * number, at).reshape(-1, 2).T
            valid = (word & 1).astype(bool)
            words.append(word[valid])
            times.append(t_us[valid].astype(np.int64) + (overflow << 31))
        at += capacity * size
    word, t_us = np.concatenate(words), np.concatenate(times)
    x, y, p = word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1
    return Events(x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), t_us)


def _open(path: str | Path) -> tuple[str, memoryview]:
    """Version and events of an AEDAT file, after its header: lines that begin with '#'."""
    file = str(path)
    try:
        if Path(path).stat().st_size > MAX_RECORDING:
            raise refuse(f"it holds {Path(path).stat().st_size} bytes, at most {MAX_RECORDING} are read", file=file,
                         fix="Split the recording")
        data = Path(path).read_bytes()
    except OSError as error:
        raise refuse(f"it can not be read ({error.strerror})", file=file, fix="Check the path") from error
    start, version = 0, ""
    while data[start : start + 1] == b"#":
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start:end].strip()
        if line.startswith(b"#!AER-DAT"):
            version = line[len(b"#!AER-DAT") :][:8].decode("ascii", "replace")
        start = end
        if line == b"#!END-HEADER":
            break
    if not version:
        raise refuse("it does not begin with '#!AER-DAT'", file=file, fix="Give an .aedat file of version 2.0 or 3.1")
    return version, memoryview(data)[start:]
