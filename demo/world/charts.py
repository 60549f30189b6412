"""The ``chart`` family: vertical and horizontal bars, pies and lines of three or four values from 1 to 9."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from demo.world.canvas import POSITIONS, Canvas, character_class, color_class, ink
from demo.world.pictures import Picture, Question, combination_split
from demo.world.vocabulary import BAR_LABELS, COLOR_NAMES, COLORS, GRID, PATCH, Split

DARK = (20, 20, 20)
AXIS = (90, 90, 90)
TEXT_SIZE = 17


@dataclass(frozen=True)
class Series:
    """What a chart shows. ``multicolored``: each mark in its own colour, else all in ``colors[0]``."""

    form: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    colors: tuple[str, ...]
    multicolored: bool

    @property
    def highest(self) -> int:
        return self.values.index(max(self.values))

    @property
    def lowest(self) -> int:
        return self.values.index(min(self.values))

    def position(self, index: int) -> int:
        """The dense class of ``highest``, ``lowest`` or neither."""
        return {self.highest: POSITIONS["highest"], self.lowest: POSITIONS["lowest"]}.get(index, 0)

    def color(self, index: int) -> str:
        return self.colors[index if self.multicolored else 0]


def draw_chart(rng: Random, split: Split) -> Picture:
    """A chart whose values and first colour belong to ``split``."""
    series = _series(rng, split)
    canvas = Canvas.plain(rng)
    {"column": _columns, "bar": _bars, "pie": _pie, "line": _line}[series.form](canvas, series, rng)
    questions = _pie_questions(series) if series.form == "pie" else _labelled_questions(series)
    return Picture("chart", canvas.pixels(), tuple(questions), canvas.dense)


def _series(rng: Random, split: Split) -> Series:
    while True:
        form = rng.choices(("column", "bar", "pie", "line"), (0.36, 0.2, 0.26, 0.18))[0]
        count = 3 if form == "pie" or rng.random() < 0.6 else 4
        colors = rng.sample([name for name in COLOR_NAMES if name != "white"], count)
        labels = sorted(rng.sample(BAR_LABELS, count))
        values = rng.sample(range(1, 10), count)
        if form == "pie" and max(values) > 6 * min(values):
            continue
        if combination_split(*values, color_class(colors[0])) == split:
            multicolored = form == "pie" or (form != "line" and rng.random() < 0.65)
            return Series(form, tuple(labels), tuple(values), tuple(colors), multicolored)


def _mark(canvas: Canvas, series: Series, index: int, box: tuple[float, float, float, float]) -> None:
    canvas.mark(
        box,
        0.3,
        color=color_class(series.color(index)),
        object=series.values[index],
        first=character_class(series.labels[index]),
        position=series.position(index),
    )


def _columns(canvas: Canvas, series: Series, rng: Random) -> None:
    font, base, left, unit = rng.randrange(3), 78, 5 + rng.randint(0, 3), 5.6
    step = (91 - left) / len(series.values)
    canvas.draw.line((left - 2, base, 93, base), fill=AXIS)
    canvas.draw.line((left - 2, 6, left - 2, base), fill=AXIS)
    if rng.random() < 0.5:
        for value in (3, 6, 9):
            canvas.draw.line((left - 2, base - unit * value, 93, base - unit * value), fill=(200, 200, 200))
    for index, value in enumerate(series.values):
        center, top, half = left + step * (index + 0.5), base - unit * value, step * 0.36
        canvas.draw.rectangle((center - half, top, center + half, base - 1), fill=COLORS[series.color(index)])
        _mark(canvas, series, index, (center - half, top - 17, center + half, 96))
        canvas.text(str(value), (center, top - 9), font, TEXT_SIZE, DARK)
        canvas.text(series.labels[index], (center, base + 10), font, TEXT_SIZE, DARK)


def _bars(canvas: Canvas, series: Series, rng: Random) -> None:
    font, base, top, unit = rng.randrange(3), 21, 2 + rng.randint(0, 3), 6.2
    step = (93 - top) / len(series.values)
    canvas.draw.line((base, top - 1, base, 94), fill=AXIS)
    for index, value in enumerate(series.values):
        center, right, half = top + step * (index + 0.5), base + unit * value, step * 0.34
        canvas.draw.rectangle((base + 1, center - half, right, center + half), fill=COLORS[series.color(index)])
        _mark(canvas, series, index, (0, center - half, right + 15, center + half))
        canvas.text(str(value), (right + 8, center), font, TEXT_SIZE, DARK)
        canvas.text(series.labels[index], (10, center), font, TEXT_SIZE, DARK)


def _line(canvas: Canvas, series: Series, rng: Random) -> None:
    font, base, left, unit = rng.randrange(3), 78, 5 + rng.randint(0, 3), 5.4
    step = (91 - left) / len(series.values)
    canvas.draw.line((left - 2, base, 93, base), fill=AXIS)
    canvas.draw.line((left - 2, 6, left - 2, base), fill=AXIS)
    points = [(left + step * (index + 0.5), base - unit * value) for index, value in enumerate(series.values)]
    color = COLORS[series.color(0)]
    canvas.draw.line(points, fill=color, width=3)
    for index, (x, y) in enumerate(points):
        canvas.draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color)
        _mark(canvas, series, index, (x - step * 0.36, y - 21, x + step * 0.36, 96))
        canvas.text(str(series.values[index]), (x, y - 12), font, TEXT_SIZE, DARK)
        canvas.text(series.labels[index], (x, base + 10), font, TEXT_SIZE, DARK)


def _pie(canvas: Canvas, series: Series, rng: Random) -> None:
    font, angle, radius = rng.randrange(3), rng.uniform(0, 360), rng.randint(38, 44)
    x, y = 48 + rng.randint(-3, 3), 48 + rng.randint(-3, 3)
    for index, value in enumerate(series.values):
        sweep = 360 * value / sum(series.values)
        color = series.color(index)
        box = (x - radius, y - radius, x + radius, y + radius)
        canvas.draw.pieslice(box, angle, angle + sweep, fill=COLORS[color], outline=(240, 240, 240))
        for row in range(GRID):
            for column in range(GRID):
                dx, dy = column * PATCH + PATCH / 2 - x, row * PATCH + PATCH / 2 - y
                if math.hypot(dx, dy) < radius and (math.degrees(math.atan2(dy, dx)) - angle) % 360 < sweep:
                    canvas.label_patch(
                        row, column, color=color_class(color), object=value, position=series.position(index)
                    )
        middle = math.radians(angle + sweep / 2)
        at = (x + radius * 0.62 * math.cos(middle), y + radius * 0.62 * math.sin(middle))
        canvas.text(str(value), at, font, TEXT_SIZE, ink(color))
        angle += sweep


def _pie_questions(series: Series) -> list[Question]:
    largest, smallest = series.colors[series.highest], series.colors[series.lowest]
    most = f"{largest} is the largest with value {max(series.values)}"
    least = f"{smallest} is the smallest with value {min(series.values)}"
    slices = " and ".join(sorted(series.colors, key=COLOR_NAMES.index))
    questions = [
        Question("what is the highest value?", str(max(series.values)), "chart.extreme_value", most),
        Question("what is the lowest value?", str(min(series.values)), "chart.extreme_value", least),
        Question("what type of chart is this?", "pie chart", "chart.type", "it has slices"),
        Question("which color is the largest slice?", largest, "chart.extreme_color", most),
        Question("which color is the smallest slice?", smallest, "chart.extreme_color", least),
        Question("how many slices are there?", str(len(series.values)), "chart.count", f"{slices} are slices"),
    ]
    for color, value in zip(series.colors, series.values, strict=True):
        reads = f"{color} has the value {value}"
        questions += [
            Question(f"what is the value of the {color} slice?", str(value), "chart.value_by_color", reads),
            Question(f"how much is the {color} slice?", str(value), "chart.value_by_color", reads),
            Question(f"which color is the slice with value {value}?", color, "chart.color_by_value", reads),
        ]
        questions += [
            Question(
                f"is the {color} slice larger than the {other} slice?",
                _yes(value > than),
                "chart.compare",
                f"{color} is {value} and {other} is {than}",
            )
            for other, than in zip(series.colors, series.values, strict=True)
            if other != color
        ]
    return questions


def _labelled_questions(series: Series) -> list[Question]:
    form = "line" if series.form == "line" else "bar"
    noun = "point" if series.form == "line" else "bar"
    high, low = series.labels[series.highest], series.labels[series.lowest]
    most, least = (
        f"{high} is the highest with value {max(series.values)}",
        f"{low} is the lowest with value {min(series.values)}",
    )
    questions = [
        Question("what is the highest value?", str(max(series.values)), "chart.extreme_value", most),
        Question("what is the lowest value?", str(min(series.values)), "chart.extreme_value", least),
        Question("what type of chart is this?", f"{form} chart", "chart.type", f"it has {noun}s"),
        Question(f"which {noun} is the highest?", high, "chart.extreme_label", most),
        Question(f"which {noun} is the lowest?", low, "chart.extreme_label", least),
        Question(
            f"how many {noun}s are there?",
            str(len(series.values)),
            "chart.count",
            f"{' and '.join(series.labels)} are {noun}s",
        ),
    ]
    for label, value in zip(series.labels, series.values, strict=True):
        reads = f"{label} has the value {value}"
        questions += [
            Question(f"what is the value of {label}?", str(value), "chart.value_by_label", reads),
            Question(f"how much is {label}?", str(value), "chart.value_by_label", reads),
            Question(f"which {noun} has the value {value}?", label, "chart.label_by_value", reads),
        ]
        questions += [
            Question(
                f"is {label} greater than {other}?",
                _yes(value > than),
                "chart.compare",
                f"{label} is {value} and {other} is {than}",
            )
            for other, than in zip(series.labels, series.values, strict=True)
            if other != label
        ]
    return questions + (_line_questions(series) if series.form == "line" else _bar_questions(series))


def _line_questions(series: Series) -> list[Question]:
    first, last = series.values[0], series.values[-1]
    ends = f"{series.labels[0]} is {first} and {series.labels[-1]} is {last}"
    return [
        Question("what color is the line?", series.color(0), "chart.color", f"it has a {series.color(0)} line"),
        Question("does the line end higher than it starts?", _yes(last > first), "chart.trend", ends),
    ]


def _bar_questions(series: Series) -> list[Question]:
    upright, side = ("vertical", "bottom") if series.form == "column" else ("horizontal", "left")
    along = f"label {series.labels[0]} is on the {side}"
    questions = [Question("are the bars vertical or horizontal?", upright, "chart.orientation", along)]
    if not series.multicolored:
        paint = f"it has {series.color(0)} bars"
        return [*questions, Question("what color are the bars?", series.color(0), "chart.color", paint)]
    high, low = series.colors[series.highest], series.colors[series.lowest]
    most = f"{series.labels[series.highest]} is the highest and is {high}"
    least = f"{series.labels[series.lowest]} is the lowest and is {low}"
    questions += [
        Question("what color is the highest bar?", high, "chart.extreme_color", most),
        Question("what color is the lowest bar?", low, "chart.extreme_color", least),
    ]
    for label, value, color in zip(series.labels, series.values, series.colors, strict=True):
        found = f"{color} is {label} with value {value}"
        painted = f"bar {label} is {color} with value {value}"
        questions += [
            Question(f"what is the value of the {color} bar?", str(value), "chart.value_by_color", found),
            Question(f"what color is bar {label}?", color, "chart.color", painted),
        ]
    return questions


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"
