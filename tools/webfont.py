"""Cut a font down to the characters that are used. Shared by the Sphinx extensions."""

from fontTools import subset


def save_subset(font, text, target, **options):
    """Write these characters of a fontTools font to `target` as woff2. The font is changed."""
    subsetter = subset.Subsetter(subset.Options(name_IDs=["*"], hinting=False, **options))
    subsetter.populate(text=text)
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(target)
