"""An operator of somebody else: Snake, x + sin(a x)^2 / a with an `a` for every channel, the last axis."""

from graphprune.plugin import Record, Shaping, Visit, broadcast, same


def snake(visit: Visit) -> None:
    """Every element for itself; `a` broadcasts to x, so that its slots go with the channels."""
    visit.roles(1, "scale")
    visit.out(broadcast(visit, [0, 1]))


SNAKE = Record(
    ops=("com.example:Snake",),
    transfer=snake,
    labels="a broadcasts to x",
    exactness="parallel",
    edits="slices a",
    shaping=Shaping(same),
    body="""
    <domain: "com.example", opset_import: ["": 18]>
    Snake (x, a) => (y) {
        turned = Mul(x, a)
        wave = Sin(turned)
        square = Mul(wave, wave)
        added = Div(square, a)
        y = Add(x, added)
    }""",
)
