"""Rectangles with sub-pixel edges, in pixel coordinates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; (0, 0) is the upper left corner of the upper left pixel. May exceed the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of_size(cls, width: float, height: float) -> Box:
        return cls(0.0, 0.0, float(width), float(height))

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> Box:
        """A box of this size centred at (x, y)."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def cut(self, other: Box) -> Box | None:
        """The intersection; None if empty."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Box(left, top, right, bottom) if left < right and top < bottom else None

    def seen_from(self, frame: Box, width: float, height: float) -> Box:
        """This box in the pixels of a ``width`` x ``height`` picture laid over ``frame``."""
        across, down = width / frame.width, height / frame.height
        return Box(
            (self.left - frame.left) * across,
            (self.top - frame.top) * down,
            (self.right - frame.left) * across,
            (self.bottom - frame.top) * down,
        )

    def moved(self, x: float, y: float) -> Box:
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    def edges(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom
