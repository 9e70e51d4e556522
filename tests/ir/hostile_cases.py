"""Hostile model files, built from nothing: one builder per way to hurt a reader.

Ids follow the classes of the design: A container, B model, C graph, D tensors and operators, E external data.
"""

# ruff: noqa: E501, PTH211 - the table below reads best one case a line
from __future__ import annotations

import gzip
import io
import itertools
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Build = Callable[[Path], None]
REJECT, OK = "reject", "ok"


@dataclass(frozen=True)
class Case:
    """`build` fills an empty folder; the model is `model.onnx` in it."""

    id: str
    expect: str
    build: Build


def tensor(name: str, *dims: int, seed: int = 0) -> TensorProto:
    """Random float weights."""
    return numpy_helper.from_array(np.random.default_rng(seed).normal(size=dims).astype(np.float32), name)


def ints(name: str, *values: int) -> TensorProto:
    """A constant int64 vector."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, *dims: int | str) -> onnx.ValueInfoProto:
    """A float graph input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def model(graph: onnx.GraphProto, opset: int = 17, domains: tuple[str, ...] = ()) -> onnx.ModelProto:
    """A model with the default operator set, and others at version 1."""
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def cnn(width: int = 8) -> onnx.ModelProto:
    """Conv, Relu, Conv, Relu, pooling, Gemm."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "gap"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "fc", transB=1),
    ]
    weights = [tensor("w1", width, 3, 3, 3), tensor("b1", width), tensor("w2", width, width, 3, 3)]
    weights += [tensor("b2", width), tensor("w3", 4, width), tensor("b3", 4)]
    return model(helper.make_graph(nodes, "g", [floats("x", 1, 3, 8, 8)], [floats("y", 1, 4)], weights))


def chain(
    *ops: onnx.NodeProto, weights: tuple[TensorProto, ...] = (), x: tuple[int, ...] = (4,)
) -> onnx.ModelProto:
    """Nodes between a float input x and an output y of unknown rank."""
    y = helper.make_value_info("y", helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    return model(helper.make_graph(list(ops), "g", [floats("x", *x)], [y], list(weights)))


def weight(proto: onnx.ModelProto, name: str) -> TensorProto:
    """An initializer by name."""
    return next(t for t in proto.graph.initializer if t.name == name)


def node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """A node by name."""
    return next(n for n in proto.graph.node if n.name == name)


def external(proto: onnx.ModelProto, name: str = "w1", **entries: object) -> TensorProto:
    """Turn an initializer into an external tensor with these entries; its bytes are dropped."""
    found = weight(proto, name)
    found.ClearField("raw_data")
    _point(found, entries)
    return found


def _point(found: TensorProto, entries: dict[str, object]) -> None:
    found.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        found.external_data.add(key=key, value=str(value))


def _file(make: Callable[[], bytes]) -> Build:
    return lambda folder: _ignore((folder / "model.onnx").write_bytes(make()))


def _ignore(_: object) -> None:
    """For builders that are one expression."""


def _proto(make: Callable[[], onnx.ModelProto]) -> Build:
    return _file(lambda: make().SerializeToString())


def _edit(edit: Callable[[onnx.ModelProto], object]) -> Build:
    """The CNN with one thing wrong."""

    def make() -> onnx.ModelProto:
        proto = cnn()
        edit(proto)
        return proto

    return _proto(make)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", cnn().SerializeToString())
    return buffer.getvalue()


def _link(target: str) -> Build:
    return lambda folder: os.symlink(target, folder / "model.onnx")


def _field(number: int, body: bytes) -> bytes:
    size, out = len(body), bytearray([number << 3 | 2])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes(out) + bytes([size]) + body


def _nested(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = _field(1, _field(5, _field(6, graph)))  # node { attribute { g } }
    return _field(7, graph)


def _nested_if(depth: int) -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["o0"])], "b0", [], [floats("o0", 1)])
    for level in range(1, depth + 1):
        other = helper.make_node("Identity", ["x"], [f"e{level}"])
        rest = helper.make_graph([other], f"e{level}", [], [floats(f"e{level}", 1)])
        branch = helper.make_node("If", ["c"], [f"o{level}"], then_branch=body, else_branch=rest)
        body = helper.make_graph([branch], f"b{level}", [], [floats(f"o{level}", 1)])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    output = floats(f"o{depth}", 1)
    return model(helper.make_graph(list(body.node), "g", [floats("x", 1), condition], [output]))


def _bytes_in_name() -> bytes:
    return cnn().SerializeToString().replace(b"relu1", b"r\xff\xfeu1")


def _functions(bodies: dict[str, list[str]], call: str) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(call, ["x"], ["y"], domain="loc")], "g", [floats("x", 1)], [floats("y", 1)]
    )
    proto = model(graph, domains=("loc",))
    for name, calls in bodies.items():
        nodes = []
        for index, callee in enumerate(calls):
            names = [f"t{index}" if index else "x"], [f"t{index + 1}"]
            nodes.append(helper.make_node(callee, *names, domain="" if callee == "Relu" else "loc"))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("loc", 1)]
        proto.functions.append(helper.make_function("loc", name, ["x"], [f"t{len(calls)}"], nodes, opsets))
    return proto


def _levels(count: int, calls: int = 10) -> dict[str, list[str]]:
    """Functions that each call the one before several times."""
    return {"F0": ["Relu"] * calls, **{f"F{i}": [f"F{i - 1}"] * calls for i in range(1, count)}}


def _laughs() -> onnx.ModelProto:
    return _functions(_levels(9), "F8")


def _dangling_capture() -> onnx.ModelProto:
    branches = {}
    for name in ("then_branch", "else_branch"):
        read = helper.make_node("Relu", ["nowhere"], [f"o_{name}"])
        branches[name] = helper.make_graph([read], name, [], [floats(f"o_{name}", 1)])
    proto = chain(helper.make_node("If", ["c"], ["y"], **branches))
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return proto


def _diamond(levels: int) -> onnx.ModelProto:
    nodes = []
    for level in range(levels):
        nodes += [
            helper.make_node("Relu", [f"x{level}" if level else "x"], [f"a{level}"]),
            helper.make_node("Tanh", [f"x{level}" if level else "x"], [f"b{level}"]),
            helper.make_node(
                "Add", [f"a{level}", f"b{level}"], [f"x{level + 1}" if level + 1 < levels else "y"]
            ),
        ]
    return chain(*nodes)


def _chain(length: int) -> onnx.ModelProto:
    names = ["x", *(f"t{i}" for i in range(1, length)), "y"]
    return chain(*(helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)))


def _fan(width: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], [f"t{i}"]) for i in range(width)]
    return chain(*nodes, helper.make_node("Sum", [f"t{i}" for i in range(width)], ["y"]))


def _sparse(values: TensorProto, indices: TensorProto) -> onnx.ModelProto:
    proto = chain(helper.make_node("MatMul", ["x", "sw"], ["y"]), x=(2, 4))
    values.name, indices.name = "sw", "sw_idx"
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3]))
    return proto


def _set(found: TensorProto, **fields: object) -> None:
    for name, value in fields.items():
        if name == "dims":
            del found.dims[:]
            found.dims.extend(value)  # type: ignore[arg-type]
        else:
            setattr(found, name, value)


def _typed(dtype: int, field: str, values: list[float]) -> Callable[[onnx.ModelProto], None]:
    def edit(proto: onnx.ModelProto) -> None:
        found = weight(proto, "b1")
        found.ClearField("raw_data")
        found.data_type = dtype
        getattr(found, field).extend(values)

    return edit


def _attribute(name: str, key: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def edit(proto: onnx.ModelProto) -> None:
        found = node(proto, name)
        kept = [a for a in found.attribute if a.name != key]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(key, value)])

    return edit


def _loop_forever() -> onnx.ModelProto:
    boolean = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("ci", "co")]
    step = helper.make_tensor_value_info("it", TensorProto.INT64, [])
    nodes = [helper.make_node("Identity", ["ci"], ["co"]), helper.make_node("Relu", ["v"], ["vo"])]
    body = helper.make_graph(nodes, "b", [step, boolean[0], floats("v", 4)], [boolean[1], floats("vo", 4)])
    trips = numpy_helper.from_array(np.array(2**62, np.int64), "n")
    go_on = numpy_helper.from_array(np.array(True), "c")
    return chain(helper.make_node("Loop", ["n", "c", "x"], ["y"], body=body), weights=(trips, go_on))


def _outside(
    place: Callable[[onnx.ModelProto], TensorProto] | None = None,
    *,
    prepare: Build | None = None,
    **entries: object,
) -> Build:
    """A CNN with w1 in w.bin, except for what `entries` say; `../secret.bin` exists."""

    def build(folder: Path) -> None:
        (folder.parent / "secret.bin").write_bytes(bytes(4096))
        (folder / "w.bin").write_bytes(
            np.random.default_rng(0).normal(size=512).astype(np.float32).tobytes()[:1728]
        )
        if prepare:
            prepare(folder)
        proto = cnn()
        fields = {"location": "w.bin", "offset": 0, "length": 864} | entries
        fields = {key: value for key, value in fields.items() if value is not None}
        if place is None:
            external(proto, **fields)
        else:
            _point(place(proto), fields)
        (folder / "model.onnx").write_bytes(proto.SerializeToString())

    return build


def _in_constant(proto: onnx.ModelProto) -> TensorProto:
    proto.graph.node.insert(
        0, helper.make_node("Constant", [], ["k"], value=TensorProto(dims=[8], data_type=1))
    )
    return proto.graph.node[0].attribute[0].t


def _in_sparse(proto: onnx.ModelProto) -> TensorProto:
    sparse = helper.make_sparse_tensor(tensor("sw", 3), ints("sw_idx", 1, 2, 3), [4, 3])
    sparse.values.ClearField("raw_data")
    proto.graph.sparse_initializer.append(sparse)
    return proto.graph.sparse_initializer[0].values


def _in_subgraph(proto: onnx.ModelProto) -> TensorProto:
    body = helper.make_graph([helper.make_node("Identity", ["k"], ["o"])], "b", [], [floats("o", 8)])
    body.initializer.append(TensorProto(dims=[8], data_type=1, name="k"))
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    return proto.graph.node[-1].attribute[0].g.initializer[0]


def _with_raw(proto: onnx.ModelProto) -> TensorProto:
    return weight(proto, "w1")


def _lie_about(value: Callable[[onnx.ModelProto], onnx.ValueInfoProto], dims: list[int]) -> Build:
    def edit(proto: onnx.ModelProto) -> None:
        value(proto).CopyFrom(floats(value(proto).name, *dims))

    return _edit(edit)


def _repeat(field: Callable[[onnx.ModelProto], object]) -> Build:
    """An element of a repeated field once more."""

    def edit(proto: onnx.ModelProto) -> None:
        repeated = field(proto)
        repeated.append(repeated[0])  # type: ignore[attr-defined,index]

    return _edit(edit)


def _metadata(proto: onnx.ModelProto) -> None:
    for value in ("1", "2"):
        proto.metadata_props.add(key="k", value=value)


def _reverse(proto: onnx.ModelProto) -> None:
    nodes = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


make = helper.make_node
CASES: tuple[Case, ...] = (
    Case("000_control", OK, _proto(cnn)),
    Case("A01_empty", REJECT, _file(lambda: b"")),
    Case("A02_missing", REJECT, lambda folder: None),
    Case("A03_truncated", REJECT, _file(lambda: cnn().SerializeToString()[:-1])),
    Case("A04_random", REJECT, _file(lambda: np.random.default_rng(0).bytes(4096))),
    Case("A06_zip", REJECT, _file(_zip)),
    Case("A07_gzip", REJECT, _file(lambda: gzip.compress(cnn().SerializeToString()))),
    Case("A09_elf", REJECT, _file(lambda: b"\x7fELF" + bytes(100))),
    Case("A10_trailing", REJECT, _file(lambda: cnn().SerializeToString() + bytes(range(200, 232)))),
    Case("A10_unknown_field", OK, _file(lambda: cnn().SerializeToString() + _field(15, b"abc"))),
    Case("A11_overlong_varint", REJECT, _file(lambda: b"\x08" + b"\xff" * 10 + b"\x01")),
    Case("A12_two_graphs", REJECT, _file(lambda: cnn().SerializeToString() * 2)),
    Case("A13_huge_length", REJECT, _file(lambda: b"\x3a" + b"\xff" * 8 + b"\x7f")),
    Case("A14_groups", REJECT, _file(lambda: b"\x0b" * 20_000)),
    Case("A16_nested_5000", REJECT, _file(lambda: _nested(5000))),
    Case("A17_nested_if", OK, _proto(lambda: _nested_if(20))),
    Case("A20_invalid_utf8", REJECT, _file(_bytes_in_name)),
    Case("A21_control_characters", OK, _edit(lambda m: setattr(node(m, "relu1"), "name", "a\0b\n\x1b[31mc"))),
    Case("A22_folder", REJECT, lambda folder: (folder / "model.onnx").mkdir()),
    Case("A23_fifo", REJECT, lambda folder: os.mkfifo(folder / "model.onnx")),
    Case("A24_device", REJECT, _link("/dev/zero")),
    Case("A25_dangling_link", REJECT, _link("nowhere")),
    Case("A26_link_loop", REJECT, _link("model.onnx")),
    Case("A27_text", REJECT, _file(lambda: onnx.printer.to_text(cnn()).encode())),
    Case("A28_ort_format", REJECT, _file(lambda: b"\x00\x00\x00\x00ORTM" + bytes(50))),
    Case("A29_segment", REJECT, _edit(lambda m: setattr(weight(m, "w2").segment, "end", 8))),
    Case("B01_no_graph", REJECT, _edit(lambda m: m.ClearField("graph"))),
    Case("B02_no_output", REJECT, _edit(lambda m: m.graph.ClearField("output"))),
    Case("B03_no_ir_version", REJECT, _edit(lambda m: m.ClearField("ir_version"))),
    Case("B04_future_ir", REJECT, _edit(lambda m: setattr(m, "ir_version", 99))),
    Case("B05_no_opset", REJECT, _edit(lambda m: m.ClearField("opset_import"))),
    Case("B06_opset_9999", REJECT, _edit(lambda m: setattr(m.opset_import[0], "version", 9999))),
    Case("B07_opset_negative", REJECT, _edit(lambda m: setattr(m.opset_import[0], "version", -1))),
    Case("B08_opset_twice", REJECT, _repeat(lambda m: m.opset_import)),
    Case("B08_two_spellings", OK, _edit(lambda m: m.opset_import.add(domain="ai.onnx", version=17))),
    Case("B08_two_versions", REJECT, _edit(lambda m: m.opset_import.add(domain="ai.onnx", version=16))),
    Case("B09_metadata_twice", REJECT, _edit(_metadata)),
    Case("B10_recursion", REJECT, _proto(lambda: _functions({"F": ["F"]}, "F"))),
    Case("B11_mutual_recursion", REJECT, _proto(lambda: _functions({"F": ["G"], "G": ["F"]}, "F"))),
    Case("B12_billion_laughs", REJECT, _proto(_laughs)),
    Case("B12_small_bomb", REJECT, _proto(lambda: _functions(_levels(5), "F4"))),
    Case("B12_deep_and_narrow", OK, _proto(lambda: _functions(_levels(11, 2), "F10"))),
    Case("B13_function", OK, _proto(lambda: _functions({"F": ["Relu", "G"], "G": ["Relu"]}, "F"))),
    Case("B14_undefined_function", REJECT, _proto(lambda: _functions({}, "Nope"))),
    Case("B15_undefined_in_function", REJECT, _proto(lambda: _functions({"F": ["Nope"]}, "F"))),
    Case("B16_custom_domain", OK, _edit(lambda m: (m.opset_import.add(domain="com.example", version=1),
                                                  setattr(node(m, "relu2"), "domain", "com.example")))),
    Case("B19_missing_input", REJECT, _edit(lambda m: node(m, "conv1").ClearField("input"))),
    Case("B20_extra_outputs", REJECT, _edit(lambda m: node(m, "relu1").output.extend(["q1", "q2"]))),
    Case("B21_unknown_op", REJECT, _edit(lambda m: setattr(node(m, "relu1"), "op_type", "Nope"))),
    Case("B22_attribute_twice", REJECT, _repeat(lambda m: m.graph.node[0].attribute)),
    Case("C01_cycle", REJECT, _edit(lambda m: node(m, "conv1").input.__setitem__(0, "r2"))),
    Case("C02_self_loop", REJECT, _proto(lambda: chain(make("Add", ["x", "y"], ["y"])))),
    Case("C03_reversed", OK, _edit(_reverse)),
    Case("C05_output_shadows_input", REJECT, _proto(lambda: chain(make("Relu", ["x"], ["x"]), make("Relu", ["x"], ["y"])))),
    Case("C06_produced_twice", REJECT, _repeat(lambda m: m.graph.node)),
    Case("C07_initializer_twice", REJECT, _repeat(lambda m: m.graph.initializer)),
    Case("C08_input_twice", REJECT, _repeat(lambda m: m.graph.input)),
    Case("C09_dangling_input", REJECT, _edit(lambda m: node(m, "conv2").input.__setitem__(0, "ghost"))),
    Case("C10_output_missing", REJECT, _edit(lambda m: m.graph.output.append(floats("ghost", 1)))),
    Case("C12_unnamed_output", REJECT, _edit(lambda m: setattr(m.graph.output[0], "name", ""))),
    Case("C13_no_output", REJECT, _edit(lambda m: node(m, "fc").ClearField("output"))),
    Case("C14_undefined_capture", REJECT, _proto(_dangling_capture)),
    Case("C15_initializer_shadows", REJECT, _edit(lambda m: setattr(weight(m, "b1"), "name", "c1"))),
    Case("C16_chain", OK, _proto(lambda: _chain(5000))),
    Case("C17_diamonds", OK, _proto(lambda: _diamond(400))),
    Case("C18_fan", OK, _proto(lambda: _fan(2000))),
    Case("D01_short", REJECT, _edit(lambda m: _set(weight(m, "w2"), raw_data=bytes(100)))),
    Case("D02_long", REJECT, _edit(lambda m: _set(weight(m, "w2"), raw_data=bytes(9000)))),
    Case("D03_misaligned", REJECT, _edit(lambda m: _set(weight(m, "w2"), raw_data=bytes(2303)))),
    Case("D04_negative_dim", REJECT, _edit(lambda m: _set(weight(m, "b1"), dims=[-8]))),
    Case("D05_two_negative_dims", REJECT, _edit(lambda m: _set(weight(m, "w2"), dims=[-8, -8, 3, 3]))),
    Case("D07_overflow", REJECT, _edit(lambda m: _set(weight(m, "b1"), dims=[2**61, 8, 8]))),
    Case("D08_no_data", REJECT, _edit(lambda m: _set(weight(m, "b2"), dims=[2**40], raw_data=b""))),
    Case("D09_16_gib", REJECT, _edit(lambda m: _set(weight(m, "b2"), dims=[2**32]))),
    Case("D10_zero_times_huge", REJECT, _edit(lambda m: _set(weight(m, "b2"), dims=[0, 2**62], raw_data=b""))),
    Case("D12_undefined_type", REJECT, _edit(lambda m: _set(weight(m, "w2"), data_type=0))),
    Case("D13_unknown_type", REJECT, _edit(lambda m: _set(weight(m, "w2"), data_type=9999))),
    Case("D14_wrong_field", REJECT, _edit(_typed(TensorProto.INT64, "float_data", [0.0] * 8))),
    Case("D15_raw_strings", REJECT, _edit(lambda m: _set(weight(m, "b1"), data_type=TensorProto.STRING))),
    Case("D16_short_field", REJECT, _edit(_typed(TensorProto.FLOAT, "float_data", [0.0] * 3))),
    Case("D17_rank_5000", REJECT, _edit(lambda m: _set(weight(m, "b1"), dims=[8] + [1] * 5000))),
    Case("D18_channels", REJECT, _edit(lambda m: _set(weight(m, "w2"), dims=[16, 4, 3, 3]))),
    Case("D19_bias", REJECT, _edit(lambda m: weight(m, "b2").CopyFrom(tensor("b2", 7)))),
    Case("D20_group_3", REJECT, _edit(_attribute("conv2", "group", 3))),
    Case("D21_group_0", REJECT, _edit(_attribute("conv2", "group", 0))),
    Case("D22_group_negative", REJECT, _edit(_attribute("conv2", "group", -1))),
    Case("D23_stride_0", REJECT, _edit(_attribute("conv2", "strides", [0, 0]))),
    Case("D25_pads_huge", REJECT, _edit(_attribute("conv2", "pads", [2**30] * 4))),
    Case("D26_kernel_lies", REJECT, _edit(_attribute("conv2", "kernel_shape", [5, 5]))),
    Case("D27_constant_of_shape", REJECT, _proto(lambda: chain(
        make("ConstantOfShape", ["s"], ["big"]), make("ReduceSum", ["big"], ["r"], keepdims=0),
        make("Add", ["x", "r"], ["y"]), weights=(ints("s", 2**20, 2**20),)))),
    Case("D28_expand", REJECT, _proto(lambda: chain(
        make("Expand", ["k", "s"], ["big"]), make("ReduceMax", ["big"], ["r"], keepdims=0),
        make("Add", ["x", "r"], ["y"]), weights=(tensor("k", 1), ints("s", 2**18, 2**18))))),
    Case("D29_range", REJECT, _proto(lambda: chain(
        make("Range", ["a", "b", "d"], ["big"]), make("Cast", ["big"], ["y"], to=1),
        weights=tuple(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in zip("abd", (0, 2**40, 1), strict=True))))),
    Case("D30_sparse", OK, _proto(lambda: _sparse(tensor("v", 3), ints("i", 1, 4, 7)))),
    Case("D31_sparse_range", REJECT, _proto(lambda: _sparse(tensor("v", 3), ints("i", 1, 4, 12)))),
    Case("D33_sparse_count", REJECT, _proto(lambda: _sparse(tensor("v", 5), ints("i", 1, 4, 7)))),
    Case("D35_sparse_unsorted", REJECT, _proto(lambda: _sparse(tensor("v", 3), ints("i", 4, 4, 1)))),
    Case("D37_infinite", OK, _edit(lambda m: weight(m, "w2").CopyFrom(
        numpy_helper.from_array(np.full((8, 8, 3, 3), np.inf, np.float32), "w2")))),
    Case("D39_value_info_lies", OK, _edit(lambda m: m.graph.value_info.append(floats("c1", 1, 16, 8, 8)))),
    Case("D40_output_lies", REJECT, _lie_about(lambda m: m.graph.output[0], [1, 7])),
    Case("D43_input_huge", REJECT, _lie_about(lambda m: m.graph.input[0], [1, 3, 2**31, 2**31])),
    Case("D44_no_type", REJECT, _edit(lambda m: m.graph.input[0].ClearField("type"))),
    Case("D45_int4_short", REJECT, _edit(lambda m: _set(weight(m, "b1"), data_type=TensorProto.INT4, dims=[9],
                                                     raw_data=bytes(3)))),
    Case("D46_reshape_overflow", REJECT, _proto(lambda: chain(
        make("Reshape", ["x", "s"], ["y"]), weights=(ints("s", 2**62, 4, -1),)))),
    Case("D46_reshape_count", REJECT, _proto(lambda: chain(
        make("Reshape", ["x", "s"], ["y"]), weights=(ints("s", 3, 2),)))),
    Case("D47_gather_range", REJECT, _proto(lambda: chain(
        make("Gather", ["w", "i"], ["t"]), make("Add", ["x", "t"], ["y"]), weights=(tensor("w", 4, 4), ints("i", 99))))),
    Case("D48_split_sum", REJECT, _proto(lambda: chain(
        make("Split", ["x", "s"], ["a", "b"], axis=1), make("Concat", ["a", "b"], ["y"], axis=1),
        weights=(ints("s", 4, 5),), x=(1, 8)))),
    Case("D49_concat_axis", REJECT, _proto(lambda: chain(make("Concat", ["x", "x"], ["y"], axis=3)))),
    Case("D50_perm", REJECT, _proto(lambda: chain(make("Transpose", ["x"], ["y"], perm=[0, 0]), x=(2, 2)))),
    Case("D51_batchnorm_length", REJECT, _proto(lambda: chain(
        make("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"]), x=(1, 8, 4, 4),
        weights=(tensor("s", 8), tensor("b", 8), tensor("m", 7), tensor("v", 8))))),
    Case("D52_endless_loop", OK, _proto(_loop_forever)),
    Case("D53_gemm_inner", REJECT, _edit(lambda m: weight(m, "w3").CopyFrom(tensor("w3", 4, 9)))),
    Case("D54_matmul_inner", REJECT, _proto(lambda: chain(
        make("MatMul", ["x", "w"], ["y"]), weights=(tensor("w", 5, 2),), x=(2, 4)))),
    Case("E00_control", OK, _outside()),
    Case("E01_dotdot", REJECT, _outside(location="../secret.bin")),
    Case("E02_dotdot_inside", REJECT, _outside(location="a/../../secret.bin")),
    Case("E03_dot_dotdot", REJECT, _outside(location="./../secret.bin")),
    Case("E04_absolute", REJECT, _outside(location="/etc/passwd")),
    Case("E05_symlink", REJECT, _outside(location="l", prepare=lambda f: os.symlink("../secret.bin", f / "l"))),
    Case("E06_folder_symlink", REJECT, _outside(location="d/secret.bin", prepare=lambda f: os.symlink("..", f / "d"))),
    Case("E07_hardlink", REJECT, _outside(location="h", prepare=lambda f: os.link(f.parent / "secret.bin", f / "h"))),
    Case("E08_missing", REJECT, _outside(location="gone.bin")),
    Case("E09_no_location", REJECT, _outside(location=None)),
    Case("E10_empty_location", REJECT, _outside(location="")),
    Case("E12_offset_past_end", REJECT, _outside(offset=99_999)),
    Case("E13_length_past_end", REJECT, _outside(offset=1000)),
    Case("E14_offset_negative", REJECT, _outside(offset=-16)),
    Case("E15_offset_text", REJECT, _outside(offset="abc")),
    Case("E16_length_huge", REJECT, _outside(length=2**60)),
    Case("E17_overflow", REJECT, _outside(offset=2**63 - 16)),
    Case("E18_offset_superscript", REJECT, _outside(offset="\u00b2")),
    Case("E19_length_short", REJECT, _outside(length=100)),
    Case("E20_length_long", REJECT, _outside(length=1728)),
    Case("E21_folder", REJECT, _outside(location="sub", prepare=lambda f: (f / "sub").mkdir())),
    Case("E22_fifo", REJECT, _outside(location="pipe", prepare=lambda f: os.mkfifo(f / "pipe"))),
    Case("E23_device", REJECT, _outside(location="zero", prepare=lambda f: os.symlink("/dev/zero", f / "zero"))),
    Case("E24_nul", REJECT, _outside(location="w.bin\0../secret.bin")),
    Case("E25_backslash", REJECT, _outside(location="..\\secret.bin")),
    Case("E26_drive", REJECT, _outside(location="C:w.bin")),
    Case("E27_unknown_keys", OK, _outside(__class__="evil", basepath="/", checksum="x")),
    Case("E29_memory_address", REJECT, _outside(location="*/_ORT_MEM_ADDR_/*", offset=4096)),
    Case("E30_unaligned", OK, _outside(offset=3)),
    Case("E31_long", REJECT, _outside(location="a" * 5000)),
    Case("E33_in_constant", REJECT, _outside(_in_constant, location="../secret.bin")),
    Case("E34_in_sparse", REJECT, _outside(_in_sparse, location="../secret.bin")),
    Case("E35_in_subgraph", REJECT, _outside(_in_subgraph, location="../secret.bin")),
    Case("E36_external_and_raw", REJECT, _outside(_with_raw)),
    Case("E38_subfolder", OK, _outside(location="./sub/w.bin", prepare=lambda f: (
        (f / "sub").mkdir(), (f / "w.bin").rename(f / "sub" / "w.bin")))),
)  # fmt: skip
