"""An operator of somebody else with an attribute: Warm, x sigmoid(beta x), which is like Swish."""

from graphprune.plugin import like

WARM = like(
    "Swish",
    "com.example:Warm",
    body="""
    <domain: "com.example", opset_import: ["": 18]>
    Warm <beta: float> (x) => (y) {
        factor = Constant <value_float: float = @beta> ()
        scaled = Mul(x, factor)
        gate = Sigmoid(scaled)
        y = Mul(x, gate)
    }""",
)
