"""Odd texts: captions as nobody writes them, made by a seed, of every kind of letter and sign."""

import random

PIECES = (
    *("a photo of a dog", "DOG", "it's", "IT'S", "they'll", "we'd've", "rock'n'roll", "'s", "''s"),
    *(
        "3 dogs",
        "1234567",
        "½",
        "Ⅷ",
        "２３",
        "٣",
        "c3po",
        "snake_case",
        "__",
        "e-mail",
        "...",
        "!!!",
    ),
    *(
        "&amp;",
        "&amp;amp;",
        "&lt;b&gt;",
        "&#39;s",
        "&nbsp;",
        "&",
        "<b>bold</b>",
        "http://a.bc/d?e=f",
    ),
    *(
        "🚲",
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🇩🇪",
        "☃️",
        "été",
        "e\u0301te\u0301",
        "Straße",
        "STRASSE",
        "ǅ",
        "ﬁne",
        "İstanbul",
    ),
    *(
        "自転車",
        "ﾊﾝｶｸ",
        "한국어",
        "한국",
        "দৃষ্টি",
        "हिन्दी",
        "ไทย",
        "العربية",
        "עברית",
        "Ελληνικά",
        "ΣΊΣΥΦΟΣ",
    ),
    *("“quoted”", "‘quoted’", "dog’s", "—", "–", "…", "№", "™", "x²", "½", "€", "\u00a0", "\u2003"),
    *("\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u3000", "\u200b", "\ufeff", "\u00ad"),
    *(
        "\x00",
        "\x01",
        "\x07",
        "\x1b[31m",
        "\x1c",
        "\x1f",
        "\x7f",
        "\x9f",
        "\ufffd",
        "\U0010ffff",
        "\ue000",
    ),
    *(
        "<|startoftext|>",
        "<|endoftext|>",
        "<|ENDOFTEXT|>",
        "<end_of_text>",
        "<start_of_text>",
        "</w>",
    ),
    *(
        "cafÃ©",
        "schÃ¶n",
        "â€œ",
        "Ł",
        "ø",
        "ß",
        "ſ",
        "'ſ",
        "ᾳ",
        "ŉ",
        "a" * 300,
        "🚲" * 60,
        "ab1" * 90,
    ),
)


def odd_texts(count: int, seed: int = 0) -> list[str]:
    """Each piece alone, then pieces side by side and apart, then single letters of all planes."""
    chance = random.Random(seed)
    texts = list(PIECES)
    while len(texts) < count:
        if chance.random() < 0.7:
            drawn = chance.choices(PIECES, k=chance.randint(2, 6))
            texts.append(chance.choice(("", " ", "  ")).join(drawn))
        else:
            codes = (chance.choice((0x250, 0x3000, 0x11000, 0x20000)) for _ in range(12))
            drawn = [chr(chance.randrange(1, code)) for code in codes]
            texts.append("".join(c for c in drawn if not "\ud800" <= c <= "\udfff"))
    return texts
