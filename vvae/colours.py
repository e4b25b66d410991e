"""The colours of all pictures that are drawn."""

PAPER, INK, GREY, BAND, BLUE, RED = "#ffffff", "#1c1f24", "#69707a", "#e6ebf2", "#2463a8", "#c8442c"
