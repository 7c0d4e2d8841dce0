"""All thresholds, with the values measured on each side.

Measured on synthetic pairs (``python dev.py bench --stitch``): photographs with drifts of up to 9 % in size and 5 %
in position, mild tones, nights and sepia, 20 and 40 % replaced, noise and JPEG. Measure the real service's answers
before trusting a number there.
"""

ALIGNED = 0.1
"""Least share of agreeing blocks for an aligned edit. True pairs (200): 0.14 and more; unrelated pairs (50): 0.018
and less.
"""

DETAIL = 0.05
"""Least share of blocks with detail for a verdict. True pairs: 0.49 and more; a plain wall: 0."""

BLOCK_AGREES = 0.6
"""Least correlation of a block that agrees."""

LEAST_ALIKE, SURELY_ALIKE = 0.5, 0.9
"""Correlations of a pixel's surroundings: no weight in the last fit below the first, full weight above the second.
0.3 to 0.6 and 0.7 to 0.9 leave a worst corner error of 0.36 to 0.45 px in 200 pairs; without these weights 1.4 px.
"""

MOST_SCALE, MOST_SHIFT = 1.27, 0.17
"""Largest size (and inverse) relative to the place, and largest shift in shares of it, in the search. Largest drift
of the pairs: 1.09 and 0.05.
"""

PLACE_SHAPE = 0.12
"""Largest deviation of an edit's shape from its place's. A 3:2 photo answered as 4:3 is 11.5 % off."""

SERVICE_SHAPE = 0.02
"""Largest deviation of an answer from a shape of the service, in logarithms of ratios. Neighbours are 0.23 and more
apart.
"""

MASK_SHAPE = 0.01
"""Largest deviation of a mask's shape from its picture's; above rounding to whole pixels."""

LEAST_UNCHANGED = 0.03
"""Least unchanged share of the grid for a colour fit."""

LEAST_GAIN, MOST_GAIN = 0.8, 1.25
"""Gains beyond these are a colour edit, no drift. Drifts: 0.93 to 1.07; nights: 1.4 and more."""

MOST_OFFSET = 0.12
"""Largest drift of a channel's mean, in units of 0 to 1. Drifts: up to 0.06."""

MOST_FIELD = 0.08
"""Largest local correction, in units of 0 to 1. Spatial drifts of the pairs: up to 0.055."""

GAIN_PULL = 0.0001
"""Variance that regularises a gain to 1: that of sensor noise. Detail of a photo has ten times as much and more."""

PLANE_PULL = 0.002
"""Variance that regularises the slopes of the local correction to 0, for unchanged pixels in a narrow strip; in
squares of the longer side. Unchanged pixels all over a picture have 0.03 and more. Median seam of the benchmark:
1.31 levels with the plane, 1.49 without; 1.19 are noise and softness of the answers.
"""

FIELD_MASS = 0.005
"""Share of unchanged pixels around a cell at which its mean counts as much as a wider area's."""

ALIKE = 0.55
"""Largest mean difference of two patches without tone that show the same shapes: a first guess, refined later."""

CHANGED, CLEARLY_CHANGED, SURELY_CHANGED = 0.022, 0.04, 0.06
"""Differences in units of 0 to 1: above the first a pixel may be changed, if its component has one above the second;
above the third it is changed in any picture. Noise and JPEG leave 0.01 (median) after smoothing.
"""

EDGE_SLACK = 0.5
"""Allowed difference at an edge, in steps between neighbouring pixels: half a pixel of blur or shift."""

SPECK, HOLE = 0.0001, 0.01
"""Components below the first are dropped, holes below the second closed, in shares of the grid."""

FULLY_MASKED = 0.99
"""From this value a mask covers a pixel, in the search for an erased picture."""

ERASED_INSIDE, ERASED_OUTSIDE = 0.995, 0.2
"""An erased picture is exactly black in at least the first share of the mask, and in at most the second of 3 px
around it.
"""
