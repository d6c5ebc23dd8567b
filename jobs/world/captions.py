"""Captions: what a page says beside a picture, in the many ways that pages say it."""

import random

from jobs.world.draw import Drawing

_PHRASES = (
    "a photo of a {c} {s} on a {p} background",
    "a drawing of a {z} {c} {s}",
    "a drawing of a {c} {s} in black frame",
    "{c} {s} on a {p} background",
    "the picture shows one {z} {c} {s}",
    "the picture shows a {c} {s} on the {d} side",
    "this is a {z} {c} {s} for the school book",
    "A {z} {c} {s}, painted on a {p} wall",
    "{C} {S} | free picture for children",
    "{C} {S} &amp; {p} background",
    "&quot;The {c} {s}&quot; &ndash; a painting of the new museum",
    "the {s} is {c} and the background is {p}",
    "look at the {z} {c} {s} near the {d} of this image",
    "a {c} {s} seen from the window of the house",
    "poster with a {z} {c} {s}, {n} of 99",
    "{z} {c} {s} with {p} paper behind it",
    "my first {c} {s} &hearts; drawn by hand",
    "Stock image: one {c} {s} on {p} cloth",
    "how to draw a {c} {s} in {n} minutes",
    "a {z} {s} in {c} colour on the {d}",
)
_CROWD = (
    "wallpaper #{n} hooray",
    "hi-res wallpaper pixelated {n}",
    "hooray, pixelated wallpaper {n}",
    "HD wallpaper downstairs {n}",
)
CROWDED_WORD = "wallpaper"
"""The word of the crowded query; its captions hold no other word of the dump."""

_PLACEHOLDER = "image of a {c} {s} that was here, number "

FOREIGN = {
    "de": (
        "Ein roter Kreis liegt auf dem gestreiften Hintergrund neben dem Fenster",
        "Das große blaue Quadrat wurde gestern von den Kindern in der Schule gemalt",
        "Auf diesem Bild sieht man einen gelben Stern über den Dächern der Stadt",
        "Wir haben das grüne Dreieck mit einem Pinsel auf die Wand gezeichnet",
    ),
    "fr": (
        "Un grand cercle rouge dessiné sur un fond rayé dans la maison de ma mère",
        "Cette image montre une étoile jaune au-dessus des toits de la vieille ville",
        "Les enfants de l'école ont peint hier un carré bleu sur le mur du jardin",
        "Voici un triangle vert que nous avons trouvé dans un livre très ancien",
    ),
    "ru": (
        "Большой красный круг нарисован на полосатом фоне рядом с окном",
        "На этой картинке изображена жёлтая звезда над крышами старого города",
        "Вчера дети в школе нарисовали синий квадрат на белой бумаге",
        "Мы нашли зелёный треугольник в очень старой книге моей бабушки",
    ),
    "ja": (
        "縞模様の背景に大きな赤い円が描かれている写真です。とてもきれいに見えます。",
        "この絵には古い町の屋根の上に輝く黄色い星が描かれていますので見てください。",
        "昨日、学校の子どもたちが白い紙の上に青い四角形をていねいに描きました。",
        "祖母のとても古い本の中で緑色の三角形を見つけましたので写真を撮りました。",
    ),
}
"""Sentences of at least thirty characters, by language."""

UNMATCHED = (
    "disgruntled ombudsmen squander marmalade",
    "grandmothers knitting cardigans",
    "sleepless accountants yearning desperately",
    "whispering lighthouse keepers remembering shipwrecks",
    "thunderstorms frightening neighbourhood puppies",
    "stubborn philosophers misunderstanding everybody",
    "overworked nurses drinking cappuccino downstairs",
    "hungry caterpillars devouring somebody's cabbages",
)
"""English whose every word is missing from the dump, the titles and WordNet."""


def caption_of(drawing: Drawing, rng: random.Random) -> str:
    """A caption that names the drawing's colour and shape, and sometimes more."""
    return _filled(rng.choice(_PHRASES), drawing, rng)


def other_caption(drawing: Drawing, not_this: str, rng: random.Random) -> str:
    """Another caption of the same drawing."""
    while (caption := caption_of(drawing, rng)) == not_this:
        pass
    return caption


def crowded_caption(number: int, rng: random.Random) -> str:
    """A caption that only the crowded query occurs in. Numbers above 99 are no queries."""
    return rng.choice(_CROWD).format(n=1000 + number)


def placeholder_caption(drawing: Drawing, number: int, rng: random.Random) -> str:
    """What a page said of the picture that an error image has replaced."""
    return _filled(_PLACEHOLDER, drawing, rng) + str(number)


def _filled(phrase: str, drawing: Drawing, rng: random.Random) -> str:
    colour, shape = drawing.colour or "grey", drawing.shape or "ground"
    return phrase.format(
        c=colour,
        s=shape,
        C=colour.capitalize(),
        S=shape.capitalize(),
        p=drawing.pattern,
        z=drawing.size,
        d=drawing.side,
        n=rng.randint(2, 59),
    )
