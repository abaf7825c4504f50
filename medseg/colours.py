"""Which colour a label has, the same in every picture, in the viewer and in what is exported."""

# Distinct to people who see no red or no green, on grey and on black: after Okabe and Ito (2008), brightened.
COLOURS = ("#ffb000", "#56b4e9", "#e8590c", "#2dd4a7", "#d16ba5", "#fff3a0", "#7a5fe8", "#cfd8dc")
_PALER = (0.0, 0.4, 0.65)


def find_parts(number: int) -> tuple[int, int, int]:
    """Return red, green and blue of a label's colour, 0 to 255."""
    colour = find_colour(number)
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def find_colour(number: int) -> str:
    """Return the colour of a label as `#rrggbb`: eight colours, then the same ones paler, then those again.

    Parameters
    ----------
    number : int
        Of the label, 1 or more.
    """
    colour = COLOURS[(number - 1) % len(COLOURS)]
    white = _PALER[(number - 1) // len(COLOURS) % len(_PALER)]
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * white):02x}" for part in parts)
