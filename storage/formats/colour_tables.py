"""Names and colours of labels for other programs: 3D Slicer and ITK-SNAP."""

from collections.abc import Mapping

from voxelight.medseg.colours import find_parts


def encode_slicer(names: Mapping[int, str]) -> str:
    """Encode a colour table of 3D Slicer (``.ctbl``): number, name, red, green, blue and opacity from 0 to 255."""
    rows = ["# Color table file for 3D Slicer", f"# {len(names) + 1} values", "0 Background 0 0 0 0"]
    rows += [
        f"{number} {_word(name)} {' '.join(map(str, find_parts(number)))} 255" for number, name in sorted(names.items())
    ]
    return "\n".join(rows) + "\n"


def encode_itk_snap(names: Mapping[int, str]) -> str:
    """Encode label descriptions of ITK-SNAP: number, colour, opacity, visibility in slices and in 3-D, and name."""
    rows = ["# ITK-SnAP Label Description File", '    0     0    0    0        0  0  0    "Clear Label"']
    for number, name in sorted(names.items()):
        red, green, blue = find_parts(number)
        quoted = name.replace('"', "'")
        rows.append(f'{number:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{quoted}"')
    return "\n".join(rows) + "\n"


def _word(name: str) -> str:
    """Return a name without spaces, which would part it in two for Slicer."""
    return "_".join(name.split()) or "unnamed"
