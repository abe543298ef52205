"""The seven expressions, in the order of the checkpoint, and the colour of each.

The order is that of FER2013's class folders sorted by name, as in torchvision's `ImageFolder`. The last
layer of the network has the same order.
"""

EXPRESSIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

# The two annotations of FER2013 that weights can follow: the majority of ten FER+ annotators, and
# FER2013's own single label.
FERPLUS, FER2013 = "ferplus", "fer2013"
ANNOTATIONS: tuple[str, ...] = (FERPLUS, FER2013)

# Stands in for the expression of a face whose best probability is too low to name one.
UNSURE = "unsure"
LABELS: tuple[str, ...] = (*EXPRESSIONS, UNSURE)

# Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color), sRGB; grey stands for neutral.
COLORS_RGB: dict[str, tuple[int, int, int]] = {
    "angry": (213, 94, 0),  # vermillion
    "disgust": (0, 158, 115),  # bluish green
    "fear": (204, 121, 167),  # reddish purple
    "happy": (240, 228, 66),  # yellow
    "neutral": (170, 170, 170),
    "sad": (0, 114, 178),  # blue
    "surprise": (86, 180, 233),  # sky blue
}
UNSURE_RGB = (70, 76, 86)  # much darker than neutral's grey: a contrast of 3.7 to 1


def color_bgr(expression: str) -> tuple[int, int, int]:
    """Return the colour of an expression, or of `UNSURE`, in OpenCV's channel order."""
    red, green, blue = UNSURE_RGB if expression == UNSURE else COLORS_RGB[expression]
    return blue, green, red


def needs_dark_text(expression: str) -> bool:
    """Return whether dark text is easier to read than white on the colour of an expression or of `UNSURE`.

    Source: the contrast ratio of WCAG 2.2, which rests on relative luminance.
    """
    shares = [channel / 255 for channel in color_bgr(expression)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    return (luminance + 0.05) / 0.056 > 1.05 / (luminance + 0.05)  # nearly black against white


def color_hex(expression: str) -> str:
    """Return the colour of an expression, or of `UNSURE`, as matplotlib takes it, `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*(UNSURE_RGB if expression == UNSURE else COLORS_RGB[expression]))
