"""H.264 parameter sets: two encoders' pictures in one track, each decoded with its own. Layouts: ITU-T H.264 7.3.2,
ISO/IEC 14496-15 5.3.3.1."""

from dataclasses import dataclass

SPS, PPS = 7, 8  # kinds of H.264 units: sequence and picture parameter set
_LARGEST_ID = 31  # of a sequence parameter set
# What x264 must leave out to stay within a profile, by the profile's number.
_FEATURES = {66: ":8x8dct=0:cabac=0:weightp=0", 77: ":8x8dct=0", 88: ":8x8dct=0", 100: "", 110: "", 122: "", 244: ""}


@dataclass(frozen=True)
class ParameterSets:
    """What a track says once about all of its pictures.

    header: the bytes as they were read. length_bytes: of the length before each unit in a packet; 0: units are set
    apart by start codes.
    """

    header: bytes
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    length_bytes: int

    @property
    def features(self) -> str | None:
        """x264's parameters that keep new pictures within the track's profile, or None for one it does not write."""
        return _FEATURES.get(self.sps[0][1])

    @property
    def free_id(self) -> int | None:
        """An id that neither kind of set has yet, or None."""
        used = [_id(unit[4:]) for unit in self.sps] + [_id(unit[1:]) for unit in self.pps]
        return max(used) + 1 if max(used) < _LARGEST_ID else None


def read_parameter_sets(header: bytes | None) -> ParameterSets | None:
    """The sets in a track's header, or None where it holds none that can be used."""
    try:
        if header and header[0] == 1:
            sps, at = _listed(header, 6, header[5] & 31)
            pps, _ = _listed(header, at + 1, header[at])
            found = ParameterSets(bytes(header), sps, pps, (header[4] & 3) + 1)
        else:
            units = split_units(header or b"")
            sps, pps = (tuple(unit for unit in units if unit[0] & 31 == kind) for kind in (SPS, PPS))
            found = ParameterSets(bytes(header or b""), sps, pps, 0)
        return found if found.sps and found.pps and found.free_id is not None else None
    except IndexError:
        return None


def with_more(found: ParameterSets, new: ParameterSets) -> bytes:
    """A track's header with the sets of both, in the form of the first."""
    if not found.length_bytes:
        return found.header + b"".join(b"\0\0\0\1" + unit for unit in (*new.sps, *new.pps))
    head = bytearray(found.header[:5])
    head[3] = max(unit[3] for unit in (*found.sps, *new.sps))  # the highest level
    _, at = _listed(found.header, 6, found.header[5] & 31)
    _, end = _listed(found.header, at + 1, found.header[at])
    sps, pps = (*found.sps, *new.sps), (*found.pps, *new.pps)
    body = bytes([0xE0 | len(sps)]) + _with_lengths(sps) + bytes([len(pps)]) + _with_lengths(pps)
    return bytes(head) + body + found.header[end:]


def split_units(data: bytes) -> list[bytes]:
    """The units between start codes."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts[1:] if part]


def packet_of(units: list[bytes], length_bytes: int) -> bytes:
    """A packet of these units in a track's own form."""
    if not length_bytes:
        return b"".join(b"\0\0\0\1" + unit for unit in units)
    return b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units)


def _listed(data: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    units = []
    for _ in range(count):
        length = int.from_bytes(data[at : at + 2], "big")
        units.append(bytes(data[at + 2 : at + 2 + length]))
        if len(units[-1]) != length or length < 4:
            raise IndexError("a parameter set ends early")
        at += 2 + length
    return tuple(units), at


def _with_lengths(units: tuple[bytes, ...]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def _id(data: bytes) -> int:
    """The first number of a set's content, as an Exp-Golomb code. Raises IndexError where it ends early."""
    bits = "".join(f"{byte:08b}" for byte in data[:8])
    zeros = len(bits) - len(bits.lstrip("0"))
    if 2 * zeros >= len(bits):
        raise IndexError("a parameter set has no id")
    return int(bits[zeros : 2 * zeros + 1], 2) - 1
