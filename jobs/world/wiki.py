"""The queries' sources: a Wikipedia dump, its page views and a WordNet, all of our own making."""

import bz2
import gzip
import random
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from jobs.world.draw import COLOURS, PATTERNS, SHAPES, SIDES, SIZES

DUMP = "enwiki-demo-pages-articles.xml.bz2"
PAGEVIEWS = "pageviews.gz"
WORDNET = "wordnet"

_TOWNS = [
    "Aldham",
    "Bexley",
    "Corfield",
    "Dunmere",
    "Eastling",
    "Farnhope",
    "Glenmoor",
    "Hartsea",
    "Ingleby",
    "Kelworth",
    "Lowick",
    "Marden",
    "Norwell",
    "Ottery",
]

_SENTENCES = (
    "The [[{c}]] [[{s}]] is a '''{c} {s}''' and it was first painted on a {p} wall in [[{t}]].",
    "A photo of a {c} {s} on a {p} background hangs in the new museum.",
    "One drawing of a {z} {c} {s} was found in a school book.",
    "This picture shows one {z} {c} {s}, and the picture is from the school of {t}.",
    "The image of a {c} {s} that was here is on the {d} side of the {p} wall.",
    "A {c} {s} seen from the window of the house has {p} paper behind it.",
    "Look at the {z} {c} {s} near the {d} of this image, on the {d} side.",
    "A poster with a {z} {c} {s} is a stock image, and {p} cloth is behind it.",
    "My first {c} {s} was drawn by hand for the children of {t}.",
    "How to draw a {c} {s} in {n} minutes is the first page of this school book.",
    "In {t} the {s} is {c} and the background is {p}.",
    "A {z} {s} in {c} colour is on the {d} of the poster, and the frame is black.",
    "The free picture of the {c} {s} for children has number {n} in the museum.",
    "A painting of the {c} {s} is in a black frame near the window of the museum.",
    "Each {z} [[{s}|{s}s]] with a {p} background may be {c}, or [[{c2}|{c2}]] by the {d} side.",
    "Stock paper and {p} cloth were painted {c}, and the {c} {s} was drawn in black.",
    "Every [[wallpaper]] in the house of {t} was drawn by hand.",
    "This wallpaper is old, and that wallpaper is new.",
    "The museum of {t} has {n} paintings of a {c} {s}; one is {z}.",
    "It was seen in {t} that a {c} {s} looks {z} on a {p} background.",
)
_REFERENCES = (
    "<ref>{{{{cite book|title=On the {c} {s}|author=A. Writer|year=19{n}|pages={n}}}}}</ref>",
    '<ref name="{c}{s}">The {s} of {t}, page {n}.</ref>',
    "<!-- the {s} needs a source -->",
    "{{{{citation needed|date=May 20{n}}}}}",
)
_TABLE = """{{| class="wikitable sortable"
|-
! Shape !! Colour !! Number
|-
| [[{s}]] || {c} || {n}
|-
| style="width:40%" | {c2} {s} || {p} || {n}
|}}"""

_SYNSETS: dict[str, list[tuple[str, ...]]] = {
    "noun": [
        *[(shape,) for shape in SHAPES],
        *[(colour, f"{colour}ness") for colour in COLOURS],
        ("polygon", "polygonal_shape"),
        ("plane_figure", "two-dimensional_figure"),
        ("geometric_shape",),
        ("pentagram",),
        ("ellipse", "oval"),
        ("line_drawing",),
        ("oil_painting",),
        ("background", "ground"),
        ("picture_frame",),
        ("museum",),
        ("poster", "placard", "bill"),
        ("window",),
        ("school_book", "schoolbook", "text_edition"),
        ("tint", "shade", "tone"),
    ],
    "verb": [("draw",), ("paint",), ("look", "look_at"), ("colour", "colour_in"), ("hang_up",)],
    "adj": [
        *[(size,) for size in SIZES],
        *[(pattern,) for pattern in PATTERNS],
        ("hand-drawn", "drawn_by_hand"),
        ("round", "circular"),
        ("three-sided",),
    ],
    "adv": [("by_hand",), ("in_colour",), ("side_by_side",), ("sideways",)],
}
_LEX = {"noun": ("n", 25), "verb": ("v", 36), "adj": ("a", 0), "adv": ("r", 2)}


@dataclass(frozen=True)
class _Page:
    title: str
    namespace: int
    text: str
    redirect: str | None = None


def write_wiki(folder: Path, seed: int) -> dict[str, list[str]]:
    """Write the dump, the page views and the WordNet; say which titles must (not) be queries."""
    rng = random.Random(f"{seed}:wiki")
    titles = _titles()
    pages = [_Page(title, 0, _article(title, rng)) for title in titles]
    pages += [
        _Page(f"{colour.capitalize()} disc", 0, "", f"{colour.capitalize()} circle")
        for colour in COLOURS
    ]
    pages.append(_Page("Talk:Circle", 1, "Is a circle a polygon with gibberish sides? ~~~~"))
    pages.append(_Page("Template:Infobox shape", 10, "<includeonly>{{{name}}}</includeonly>"))
    rng.shuffle(pages)
    (folder / DUMP).write_bytes(bz2.compress(_dump(pages).encode()))
    popular, obscure = _write_pageviews(folder / PAGEVIEWS, titles, rng)
    _write_wordnet(folder / WORDNET)
    # A bigram can bring an unpopular title of two words back in; the longer ones stay out.
    return {"titles_above": popular, "titles_below": [t for t in obscure if " of " in t]}


def _titles() -> list[str]:
    shapes = [shape.capitalize() for shape in SHAPES]
    colours = [colour.capitalize() for colour in COLOURS]
    classes = [f"{colour} {shape}" for colour in colours for shape in SHAPES]
    rest = [
        *[f"{shape} (geometry)" for shape in shapes],
        *[f"{pattern.capitalize()} background" for pattern in PATTERNS],
        "Wallpaper",
        "Museum of shapes",
        "AC/DC & the circle",
    ]
    local = [f"{name} of {town}" for town in _TOWNS for name in classes[:: len(SHAPES) - 4]]
    return [*shapes, *colours, *classes, *rest, *local[:300]]


def _article(title: str, rng: random.Random) -> str:
    """About five kilobytes of wikitext."""
    parts = [
        _filled("{{{{Infobox shape\n| name = {s}\n| colour = {{{{color|{c}}}}}\n}}}}", rng),
        f"'''{title}''' is a subject of this [[encyclopedia]].",
        _filled("[[File:{c} {s}.jpg|thumb|left|A {c} [[{s}]] in {t}]]", rng),
    ]
    for heading in ("History", "Use", "In art", "See also"):
        parts.append(f"== {heading} ==")
        for _ in range(2):
            sentences = [_filled(rng.choice(_SENTENCES), rng) for _ in range(5)]
            sentences.insert(rng.randrange(5), _filled(rng.choice(_REFERENCES), rng))
            parts.append(" ".join(sentences))
        if heading == "Use":
            parts.append(_filled(_TABLE, rng))
            parts.append(_filled("* ''the {c} {s}''\n* 5 &lt; 6 &nbsp;and {n}&ndash;{n}", rng))
    parts.append("== References ==\n{{reflist}}")
    parts.append(_filled("[[Category:{s}s]]\n[[Category:Things that are {c}]]", rng))
    return "\n\n".join(parts)


def _filled(text: str, rng: random.Random) -> str:
    colours = list(COLOURS)
    return text.format(
        c=rng.choice(colours),
        c2=rng.choice(colours),
        s=rng.choice(SHAPES),
        p=rng.choice(PATTERNS),
        z=rng.choice(list(SIZES)),
        d=rng.choice(SIDES),
        t=rng.choice(_TOWNS),
        n=rng.randint(10, 59),
    )


def _dump(pages: list[_Page]) -> str:
    head = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" '
        'xml:lang="en">\n  <siteinfo>\n    <sitename>Wikipedia</sitename>\n'
        "    <dbname>enwiki</dbname>\n    <generator>MediaWiki 1.39.0</generator>\n"
        '    <case>first-letter</case>\n    <namespaces>\n      <namespace key="0" '
        'case="first-letter" />\n      <namespace key="1" case="first-letter">Talk</namespace>\n'
        "    </namespaces>\n  </siteinfo>\n"
    )
    return head + "".join(_xml(page, number) for number, page in enumerate(pages, 1)) + _TAIL


_TAIL = "</mediawiki>\n"


def _xml(page: _Page, number: int) -> str:
    redirect, text = "", page.text
    if page.redirect is not None:
        redirect = f'    <redirect title="{escape(page.redirect)}" />\n'
        text = f"#REDIRECT [[{page.redirect}]]"
    return (
        f"  <page>\n    <title>{escape(page.title)}</title>\n    <ns>{page.namespace}</ns>\n"
        f"    <id>{number}</id>\n{redirect}    <revision>\n      <id>{9000 + number}</id>\n"
        "      <timestamp>2024-01-01T00:00:00Z</timestamp>\n"
        "      <contributor>\n        <username>Demo</username>\n      </contributor>\n"
        "      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(text.encode())}" xml:space="preserve">{escape(text)}</text>\n'
        "    </revision>\n  </page>\n"
    )


def _write_pageviews(
    path: Path, titles: list[str], rng: random.Random
) -> tuple[list[str], list[str]]:
    """Every third title has its hundred views only from both domains together."""
    lines, popular, obscure = [], [], []
    for number, title in enumerate(titles):
        name = title.replace(" ", "_")
        if number % 5 == 4:
            obscure.append(title)
            lines += [f"en {name} {rng.randint(1, 40)} 0", f"de {name} 90000 0"]
            continue
        popular.append(title)
        if number % 3 == 0:
            lines += [f"en {name} 60 0", f"en.m {name} {rng.randint(45, 90)} 0"]
        else:
            lines.append(f"en {name} {rng.randint(120, 9000)} 0")
    lines += ["en Main_Page 123456 0", "en.m.d circle 500 0", "fr Cercle 4000 0"]
    lines += ["", "en", "en Circle", "en Red_square many 0", "en  44 0", "en Blue star 3 0"]
    rng.shuffle(lines)
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode(), mtime=0))
    return popular, obscure


def _write_wordnet(folder: Path) -> None:
    """The database format of wndb(5WN): every line begins with its own byte offset."""
    folder.mkdir()
    for part, synsets in _SYNSETS.items():
        kind, lex = _LEX[part]
        body = "".join(
            f"  {number} {line}  \n"
            for number, line in enumerate(
                ("A demonstration file in the format of WordNet's database.", "Made by wit."), 1
            )
        )
        for words in synsets:
            lemmas = " ".join(f"{word} 0" for word in words)
            frames = "01 + 02 00 " if part == "verb" else ""
            body += (
                f"{len(body):08d} {lex:02d} {kind} {len(words):02x} {lemmas} 000 {frames}"
                f"| {words[0].replace('_', ' ')}, as it is known in the demonstration  \n"
            )
        (folder / f"data.{part}").write_text(body, encoding="ascii")
