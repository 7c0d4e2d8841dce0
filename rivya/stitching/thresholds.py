"""Every number that decides something about an edit, with what was measured on each side of it.

Measured on synthetic pairs (``python dev.py bench --stitch``): photographs with a drift of up to 9 % in size and 5 % in
place, mild tones, nights and sepia, 20 and 40 % replaced, noise and JPEG. Answers of the real service may differ:
measure anew on them before a number is trusted there.
"""

ALIGNED = 0.1
"""Least share of blocks that agree, for an edit to count as aligned. 200 true pairs: 0.14 and more; 50 unrelated pairs:
0.018 and less."""

DETAIL = 0.05
"""Least share of blocks with detail, for anything to be said. True pairs: 0.49 and more; a plain wall: 0."""

BLOCK_AGREES = 0.6
"""Least correlation of a block that agrees."""

LEAST_ALIKE, SURELY_ALIKE = 0.5, 0.9
"""Correlations of a pixel's surroundings: up to the first it has no weight in the last fit, from the second on its full
weight. 0.3 to 0.6 for the first and 0.7 to 0.9 for the second leave a worst corner error of 0.36 to 0.45 px in 200
pairs; without these weights it is 1.4 px."""

MOST_SCALE, MOST_SHIFT = 1.27, 0.17
"""Largest size against the place (and its inverse), and largest shift in shares of the place, that are searched.
Largest drift of the pairs: 1.09 and 0.05."""

PLACE_SHAPE = 0.12
"""How far the shape of an edit may be from that of its place. A 3:2 photo answered as 4:3 is 11.5 % off."""

SERVICE_SHAPE = 0.02
"""How far an answer may be from a shape of the service, in logarithms of ratios. Neighbouring shapes are 0.23 and more
apart."""

MASK_SHAPE = 0.01
"""How far the shape of a mask may be from that of its picture; rounding of whole pixels stays below."""

LEAST_UNCHANGED = 0.03
"""Least share of the grid that tells of the colours."""

LEAST_GAIN, MOST_GAIN = 0.8, 1.25
"""Gains beyond these are an edit of the colours and no drift. Drifts: 0.93 to 1.07; nights: 1.4 and more."""

MOST_OFFSET = 0.12
"""Largest change of the mean of a channel that is a drift, in units of 0 to 1. Drifts: up to 0.06."""

MOST_FIELD = 0.08
"""Largest local correction, in units of 0 to 1. Spatial drifts of the pairs: up to 0.055."""

GAIN_PULL = 0.0001
"""Variance that pulls a gain to 1: that of sensor noise. Detail of a photo has ten times as much and more."""

PLANE_PULL = 0.002
"""Variance that pulls the slopes of the local correction to 0, where what is unchanged lies in a narrow strip; in
squares of the longer side. Unchanged pixels all over a picture have 0.03 and more. With the
plane the median seam of the benchmark is 1.31 levels, without it 1.49; 1.19 are noise and softness of the answers."""

FIELD_MASS = 0.005
"""Share of unchanged pixels around a cell at which its own mean counts as much as that of a wider area."""

ALIKE = 0.55
"""Largest mean difference of two patches without tone that show the same shapes: only a first guess, refined by what
follows."""

CHANGED, CLEARLY_CHANGED, SURELY_CHANGED = 0.022, 0.04, 0.06
"""Differences in units of 0 to 1: from the first on a pixel may be changed, a part must have one above the second, and
above the third it is changed whatever the rest of the picture is like. Noise and JPEG leave 0.01 (median) after
smoothing."""

EDGE_SLACK = 0.5
"""How much an edge may differ, in steps between neighbouring pixels: half a pixel of blur or shift."""

SPECK, HOLE = 0.0001, 0.01
"""Parts smaller than the first are dropped, holes smaller than the second are closed, in shares of the grid."""

FULLY_MASKED = 0.99
"""From this on a mask covers a pixel, in the search for an erased picture."""

ERASED_INSIDE, ERASED_OUTSIDE = 0.995, 0.2
"""An erased picture is exactly black in so much of the mask, and in no more than so much of 3 px around it."""
