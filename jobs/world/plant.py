"""The trouble of the demonstration's web: each kind, how often, and what must become of it."""

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from jobs.world import captions, draw
from jobs.world.draw import Drawing
from jobs.world.folder import (
    ARRIVES,
    CUT,
    DROPPED,
    FAILS,
    HEALS,
    ONE_STAYS,
    UNMATCHED,
    UNREAD,
    WEB,
    Building,
)

PLACEHOLDER_URLS = 30
RETRIES = 1
"""Of the settings of a run in this web: what heals fails for a whole round."""
_BOMB_SIDE = 12_000


@dataclass
class Planter:
    """Plants into one building, each image drawn for its own key."""

    building: Building
    seed: int
    rng: random.Random
    drawn: int = 0

    def drawing(self, *, min_pixels: int = 160) -> Drawing:
        """The next drawing; classes take turns, so that each is as frequent as the next."""
        number, self.drawn = self.drawn, self.drawn + 1
        colours = list(draw.COLOURS)
        return Drawing(
            key=f"{self.seed}:web:{number}",
            colour=colours[number % len(colours)],
            shape=draw.SHAPES[number // len(colours) % len(draw.SHAPES)],
            pattern=self.rng.choice(draw.PATTERNS),
            size=self.rng.choice(list(draw.SIZES)),
            side=self.rng.choice(draw.SIDES),
            min_pixels=min_pixels,
        )

    def caption(self, drawing: Drawing) -> str:
        return captions.caption_of(drawing, self.rng)

    def trouble(self, pairs: int) -> None:
        """Every kind of trouble, more of each in a larger web."""
        few, some = max(2, min(8, pairs // 500)), max(2, pairs // 100)
        self._statuses(few, some)
        self._connections(few)
        self._redirects(few, some)
        self._bodies(few)
        self._odd_but_good(few)
        self._placeholder()
        self._flats(few)
        self._texts(few)
        self._copies(some)

    def crowd(self, count: int) -> None:
        """`count` pictures whose captions hold one query, and the same one.

        Links are dead among them: the query is short after the first round, and has more to draw.
        """
        for number in range(count):
            key, pattern = f"{self.seed}:crowd:{number}", self.rng.choice(draw.PATTERNS)
            path = f"/img/wallpaper/{number:05d}.jpg"
            picture = draw.render(Drawing(key, None, None, pattern))
            self.building.put(path, draw.jpeg(picture, 88))
            caption = captions.crowded_caption(number, self.rng)
            if number % 4:
                self.building.plant("crowded", CUT, path, caption)
            else:
                self.building.plant("crowded_404", FAILS, path, caption)
                self.building.route(path, "status", status=404, empty=True)

    def good(self, count: int) -> None:
        """`count` drawings that must arrive, in the formats that the web uses."""
        for _ in range(count):
            drawing = self.drawing()
            form = self.rng.choices(("jpg", "png", "webp", "rgba"), (90, 3, 4, 3))[0]
            suffix = "png" if form == "rgba" else form
            path = f"/img/{self.drawn % 64:02x}/{drawing.colour}-{self.drawn:06d}.{suffix}"
            data = draw.encode(draw.render(drawing), form, self.rng.randint(85, 95))
            self.building.put(path, data)
            self.building.plant("drawing", ARRIVES, path, self.caption(drawing))

    def _one(
        self, kind: str, expect: str, *, suffix: str = "jpg", caption: str | None = None
    ) -> tuple[str, bytes]:
        """Plant one drawing of `kind`; its path, and its bytes, which are also in the web."""
        drawing = self.drawing()
        data = draw.jpeg(draw.render(drawing), 90)
        path = f"/img/{kind}/{self.drawn:05d}.{suffix}"
        self.building.put(path, data)
        self.building.plant(kind, expect, path, caption or self.caption(drawing))
        return path, data

    def _routed(self, kind: str, expect: str, count: int, do: str, **how: object) -> None:
        for _ in range(count):
            path, _data = self._one(kind, expect)
            self.building.route(path, do, **how)

    def _statuses(self, few: int, some: int) -> None:
        self._routed("dead_404", FAILS, some, "status", status=404, empty=True)
        self._routed("dead_410", FAILS, few, "status", status=410, empty=True)
        self._routed("error_500", FAILS, few, "status", status=500, empty=True)
        self._routed("flaky_503", ARRIVES, few, "flaky")
        # As often as one round asks.
        self._routed("healing_503", HEALS, few, "flaky", times=RETRIES + 1)
        for name, value in (
            ("X-Robots-Tag", "noai"),
            ("X-Robots-Tag", "noindex, nofollow"),
            ("X-Robots-Tag", "none"),
            ("tdm-reservation", "1"),
        ):
            self._routed("opt_out", FAILS, 1, "status", status=200, headers={name: value})

    def _connections(self, few: int) -> None:
        for do in ("silent", "stall", "drip"):
            self._routed(f"stall_{do}", FAILS, max(1, few // 2), do)
        self._routed("short_body", FAILS, few, "short")
        self._routed("huge_body", FAILS, 1, "huge")

    def _redirects(self, few: int, some: int) -> None:
        for number in range(some):
            path, _ = self._one("redirect", ARRIVES)
            target = f"/img/moved/{number:04d}.jpg"
            file = self.building.folder / WEB / path.lstrip("/")
            self.building.put(target, file.read_bytes())
            file.unlink()
            self.building.route(path, "redirect", to=target)
        for _ in range(few):
            path, _ = self._one("redirect_loop", FAILS)
            self.building.route(path, "redirect", to=path)
        # Port 81 of loopback is nobody's, and is not among the hosts that the settings allow.
        self._routed("redirect_forbidden", FAILS, 2, "redirect", to="http://127.0.0.1:81/a.jpg")
        for number in range(2):
            url, drawing = f"http://127.0.0.1:81/img/{number}.jpg", self.drawing()
            self.building.plant("forbidden_host", FAILS, url, self.caption(drawing))

    def _bodies(self, few: int) -> None:
        page = b"<!doctype html><html><title>Gone</title><p>The image has moved.</p></html>\n" * 9
        for number in range(2 * few):
            is_labelled_as_image = number % 2 == 1
            kind = "html_as_jpeg" if is_labelled_as_image else "html_page"
            path, _ = self._one(kind, FAILS)
            self.building.put(path, page)
            if not is_labelled_as_image:
                self.building.route(path, "status", status=200, type="text/html; charset=utf-8")
        for _ in range(few):
            path, data = self._one("truncated_jpeg", FAILS)
            self.building.put(path, data[: len(data) // 2])
        for kind, picture in (
            ("bomb", Image.new("1", (_BOMB_SIDE, _BOMB_SIDE))),
            ("too_small", Image.new("RGB", (8, 8), (200, 30, 30))),
            ("too_long", draw.render(self.drawing()).resize((900, 60))),
        ):
            path, _ = self._one(kind, FAILS, suffix="png")
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            self.building.put(path, buffer.getvalue())

    def _odd_but_good(self, few: int) -> None:
        for _ in range(few):
            path, _ = self._one("gzip_body", ARRIVES)
            self.building.route(path, "gzip")
        for number in range(few):
            drawing = self.drawing()
            path = f"/img/odd/the shape n\u00b0{number} caf\u00e9.jpg"
            self.building.put(path, draw.jpeg(draw.render(drawing), 90))
            self.building.plant("odd_url", ARRIVES, path + "?w=1&h=2", self.caption(drawing))
        for _ in range(few):
            path, data = self._one("sideways", ARRIVES)
            exif = Image.Exif()
            exif[0x0112] = 6  # orientation: turn by 90 degrees to see it upright
            turned = Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_90)
            self.building.put(path, draw.jpeg(turned, 90, exif))

    def _placeholder(self) -> None:
        picture = Image.new("RGB", (240, 180), (238, 238, 238))
        pen = ImageDraw.Draw(picture)
        pen.rectangle((70, 40, 170, 140), outline=(120, 120, 120), width=4)
        pen.line((70, 40, 170, 140), fill=(120, 120, 120), width=4)
        pen.line((170, 40, 70, 140), fill=(120, 120, 120), width=4)
        data = draw.jpeg(picture, 90)
        for number in range(PLACEHOLDER_URLS):
            path = f"/img/hosted/{number:03d}.jpg"
            self.building.put(path, data)
            caption = captions.placeholder_caption(self.drawing(), number, self.rng)
            self.building.plant("placeholder", DROPPED, path, caption)

    def _flats(self, few: int) -> None:
        for number in range(few):
            drawing = self.drawing()
            red, green, blue = draw.COLOURS[str(drawing.colour)]
            picture = draw.flat((red // (number + 1), green // (number + 1), blue))
            path = f"/img/flat/{number:03d}.png"
            self.building.put(path, draw.encode(picture, "png", 90))
            self.building.plant("flat", ARRIVES, path, self.caption(drawing))

    def _texts(self, few: int) -> None:
        for language, sentences in captions.FOREIGN.items():
            for number in range(2 * few):
                caption = sentences[number % len(sentences)]
                self._one(f"foreign_{language}", UNREAD, caption=caption)
        for number in range(2 * few):
            caption = captions.UNMATCHED[number % len(captions.UNMATCHED)]
            self._one("unmatched", UNMATCHED, caption=caption)

    def _copies(self, some: int) -> None:
        for number in range(3 * some):
            how = ("exact", "recompressed", "resized")[number % 3]
            drawing = self.drawing(min_pixels=220)
            picture, caption = draw.render(drawing), self.caption(drawing)
            data = draw.jpeg(picture, 92)
            other = _copied(picture, data, how)
            urls = []
            for place, content in (("first", data), ("second", other)):
                path = f"/img/{place}/{how}-{number:04d}.jpg"
                self.building.put(path, content)
                urls.append(self.building.plant(f"copy_{how}", ONE_STAYS, path, caption))
                caption = captions.other_caption(drawing, caption, self.rng)
            self.building.copies.append({"of": urls[0], "url": urls[1], "how": how})


def _copied(picture: Image.Image, data: bytes, how: str) -> bytes:
    """The same picture as another page would store it."""
    if how == "recompressed":
        return draw.jpeg(picture, 60)
    if how == "resized":
        smaller = (picture.width * 3 // 4, picture.height * 3 // 4)
        return draw.jpeg(picture.resize(smaller, Image.Resampling.LANCZOS), 88)
    return data
