"""The colours of all pictures that are drawn."""

PAPER, INK, GREY, BAND, BLUE, RED = "#ffffff", "#1c1f24", "#69707a", "#e6ebf2", "#2463a8", "#c8442c"

SERIES = (BLUE, RED, "#3a8f5c", "#e3a63a", "#7b52a8", "#3aa0b0", GREY)
"""Of things that are drawn side by side, in this order."""
