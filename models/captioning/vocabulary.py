"""WordPiece vocabularies of the caption model: what one must hold, and a small one to build and test with."""

import string
from collections.abc import Sequence

from voxelight.models.errors import BadInput

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_WORDS = """
a an the and or of on in at to by for from with without near next over under into onto off out up down around behind
front beside between through across along against above below inside outside top bottom side middle back left right is
are was has have there this that these it its his her their some many few several two three four five six one other
another each man woman person people boy girl child children baby group couple crowd player men women kid kids team
family standing sitting walking riding holding playing eating looking lying flying laying wearing running jumping
driving parked posing talking watching hanging filled covered surrounded made cut cooking swinging throwing catching
skiing surfing swimming sleeping grazing reading smiling working waiting carrying hitting taking using preparing
leaning resting dog cat horse cow sheep bird elephant zebra giraffe bear duck animal animals dogs cats horses cows
birds elephants zebras giraffes bears herd puppy kitten monkey fish car bus train truck plane airplane boat ship bike
bicycle motorcycle cars buses trucks boats wheel engine van taxi street road sidewalk city town building house tower
bridge station track tracks airport sign light traffic lights clock corner wall window door roof fence bench statue
church park parking store room kitchen bathroom bedroom living table chair bed couch desk sink toilet mirror counter
stove refrigerator lamp shelf floor carpet curtain shower cabinet microwave television tv screen computer laptop
keyboard mouse phone remote control camera book books paper magazine vase flower flowers bowl plate cup glass bottle
knife fork spoon food pizza sandwich cake bread meat cheese fruit apple apples orange oranges banana bananas vegetable
vegetables broccoli carrot carrots salad soup rice chicken donut donuts hot coffee wine beer water drink slice piece
pieces dinner lunch ball bat racket tennis baseball soccer football frisbee game field court skateboard ramp surfboard
snowboard skis slope kite kites umbrella umbrellas hat shirt suit tie dress jacket shoes glasses helmet bag bags
luggage suitcase backpack tree trees grass sky cloud clouds sun snow sand beach ocean sea wave waves lake river
mountain mountains hill forest rock rocks dirt plant plants leaf leaves garden rain day night red blue green yellow
white black brown gray pink purple gold silver dark bright colorful color large small big little tall long short old
young new full empty open closed clean dirty wet dry wooden metal plastic stone brick round square different various
cute beautiful very close view picture photo image background head hand hands face hair eyes mouth foot feet arm leg
tail nose body
"""


def small_vocabulary() -> tuple[str, ...]:
    """Return 512 entries: the special ones, characters alone and as continuations, and common words of captions.

    Any text of Latin letters and digits can be spelled with it. It stands in for the published vocabulary where a
    caption model has random weights.
    """
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(f"##{letter}" for letter in letters), *".,'-!?"]
    return tuple(dict.fromkeys([*SPECIAL, *pieces, *_WORDS.split()]))


def check_vocabulary(vocabulary: Sequence[str], size: int) -> None:
    """Refuse a vocabulary that does not fit a caption model.

    Parameters
    ----------
    vocabulary : entries in the order of their numbers
    size : how many the model knows

    Raises
    ------
    BadInput
        It has another size, an entry twice, or lacks one of the special entries.
    """
    remedy = "Give the vocabulary that belongs to the weights, one entry a line, in its own order."
    if len(vocabulary) != size:
        raise BadInput(f"a vocabulary of {len(vocabulary)} entries", f"{size}, as the caption model has", remedy)
    if len(set(vocabulary)) != size:
        raise BadInput(f"{size - len(set(vocabulary))} repeated entries of the vocabulary", "each entry once", remedy)
    if missing := [entry for entry in SPECIAL if entry not in vocabulary]:
        raise BadInput(f"a vocabulary without {', '.join(missing)}", f"one with {', '.join(SPECIAL)}", remedy)
