"""What a loaded model is: checked, complete, and with its weights still in their files."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphprune.errors import ModelError
from graphprune.ir.check import check
from graphprune.ir.limits import Limits
from graphprune.ir.load import load
from graphprune.ir.mapped import MappedTensor
from graphprune.ir.names import escape

from .hostile_cases import CASES, chain, cnn, floats, model, node, tensor, weight

make = helper.make_node


def built(case: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    next(c for c in CASES if c.id == case).build(folder)
    return folder / "model.onnx"


def written(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def linear(weights: TensorProto, rows: int) -> onnx.ModelProto:
    return chain(make("MatMul", ["x", "w"], ["y"]), weights=(weights,), x=(2, rows))


def values(model: ir.Model) -> dict[str, bytes]:
    return {name: value.const_value.tobytes() for name, value in model.graph.initializers.items()}  # type: ignore[union-attr]


@pytest.mark.parametrize("padding", range(8))
def test_big_weights_stay_in_the_file_at_any_alignment(padding: int, tmp_path: Path) -> None:
    proto = linear(tensor("w", 64, 64), 64)
    proto.producer_name = "p" * padding
    loaded = load(written(proto, tmp_path)).model.graph.initializers["w"].const_value
    assert isinstance(loaded, MappedTensor)
    array = loaded.numpy()
    assert array.flags.aligned
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, numpy_helper.to_array(weight(proto, "w")))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, ml_dtypes.bfloat16, ml_dtypes.int4, bool])
def test_mapped_weights_of_every_width(dtype: type, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 2, size=(128, 128)).astype(dtype)
    stored = ir.to_proto(ir.Tensor(array, name="w"))
    proto = chain(make("Shape", ["w"], ["s"]), make("Cast", ["s"], ["y"], to=1), weights=(stored,))
    proto.opset_import[0].version, proto.ir_version = 21, 10
    loaded = load(written(proto, tmp_path)).model.graph.initializers["w"].const_value
    assert isinstance(loaded, MappedTensor)
    np.testing.assert_array_equal(loaded.numpy(), array)
    assert loaded.tobytes() == stored.raw_data


def test_a_big_constant_attribute_is_mapped_and_serialises_whole(tmp_path: Path) -> None:
    proto = chain(
        make("Constant", [], ["w"], value=tensor("w", 64, 64)), make("MatMul", ["x", "w"], ["y"]), x=(2, 64)
    )
    loaded = load(written(proto, tmp_path)).model
    assert isinstance(loaded.graph[0].attributes["value"].value, MappedTensor)
    assert (
        ir.to_proto(loaded).graph.node[0].attribute[0].t.raw_data
        == proto.graph.node[0].attribute[0].t.raw_data
    )


def test_big_weights_inside_a_branch(tmp_path: Path) -> None:
    branches = {}
    for index, name in enumerate(("then_branch", "else_branch")):
        product = make("MatMul", ["x", "k"], [f"o{index}"])
        weights = [tensor("k", 64, 64, seed=index)]
        branches[name] = helper.make_graph([product], name, [], [floats(f"o{index}", 2, 64)], weights)
    proto = chain(make("If", ["c"], ["y"], **branches), x=(2, 64))
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    graphs = list(load(written(proto, tmp_path)).model.graphs())
    assert [len(graph.initializers) for graph in graphs] == [0, 1, 1]
    first = graphs[1].initializers["k"].const_value
    assert isinstance(first, MappedTensor)


def test_external_weights_stay_external_and_small_ones_come_in(tmp_path: Path) -> None:
    source = load(built("E38_subfolder", tmp_path / "m"))
    assert source.had_external
    assert source.external_files == (tmp_path / "m" / "sub" / "w.bin",)
    assert not isinstance(source.model.graph.initializers["w1"].const_value, ir.ExternalTensor)  # 864 bytes
    onnx.save(
        linear(tensor("w", 64, 64), 64), tmp_path / "big.onnx", save_as_external_data=True, location="big.bin"
    )
    source = load(tmp_path / "big.onnx")
    big = source.model.graph.initializers["w"].const_value
    assert isinstance(big, ir.ExternalTensor)
    assert source.bytes == sum(path.stat().st_size for path in (tmp_path / "big.onnx", tmp_path / "big.bin"))
    np.testing.assert_array_equal(big.numpy(), numpy_helper.to_array(tensor("w", 64, 64)))


@pytest.mark.parametrize("case", ["E05_symlink", "E07_hardlink"])
def test_links_can_be_allowed(case: str, tmp_path: Path) -> None:
    path = built(case, tmp_path / "m")
    assert load(path, Limits(allow_external_links=True)).had_external


def test_a_model_in_memory_is_checked_and_not_changed() -> None:
    proto = cnn()
    before = proto.SerializeToString()
    assert values(load(proto).model) == {t.name: t.raw_data for t in proto.graph.initializer}
    assert values(load(ir.from_proto(proto)).model).keys() == values(load(proto).model).keys()
    assert proto.SerializeToString() == before
    node(proto, "conv2").input[1] = "w1"
    with pytest.raises(ModelError, match="channels"):
        load(proto)


def test_shuffled_nodes_are_sorted(tmp_path: Path) -> None:
    loaded = load(built("C03_reversed", tmp_path)).model
    assert [n.name for n in loaded.graph] == ["conv1", "relu1", "conv2", "relu2", "gap", "flat", "fc"]


def test_a_declared_shape_that_lies_is_forgotten(tmp_path: Path) -> None:
    loaded = load(built("D39_value_info_lies", tmp_path)).model
    assert loaded.graph[0].outputs[0].shape is None


def test_sparse_initializers_become_dense(tmp_path: Path) -> None:
    path = built("D30_sparse", tmp_path)
    dense = load(path).model.graph.initializers["sw"].const_value
    assert dense is not None
    expected = np.zeros(12, np.float32)
    expected[[1, 4, 7]] = numpy_helper.to_array(tensor("v", 3))
    np.testing.assert_array_equal(dense.numpy(), expected.reshape(4, 3))


def test_an_output_of_unknown_rank_and_old_opsets_are_fine() -> None:
    assert load(chain(make("Relu", ["x"], ["y"]))).opset == 17
    proto = model(helper.make_graph([make("Relu", ["x"], ["y"])], "g", [floats("x", 1)], [floats("y", 1)]), 7)
    assert load(proto).opset == 7


def test_limits_are_arguments(tmp_path: Path) -> None:
    path = written(cnn(), tmp_path)
    for limits in (
        Limits(max_bytes=100),
        Limits(max_nodes=3),
        Limits(max_elements=100),
        Limits(max_proto_bytes=10),
    ):
        with pytest.raises(ModelError):
            load(path, limits)


def test_what_is_not_a_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="int"):
        load(7)  # type: ignore[arg-type]


def test_check_finds_what_a_pass_broke(tmp_path: Path) -> None:
    loaded = load(written(cnn(), tmp_path)).model
    check(loaded)
    bias = loaded.graph.initializers["b2"]
    bias.const_value = ir.tensor(np.zeros(7, np.float32), name="b2")
    with pytest.raises(ModelError, match="b2"):
        check(loaded)
    bias.shape = ir.Shape([7])
    with pytest.raises(ModelError, match="conv2"):
        check(loaded)


def test_check_leaves_the_tensors_alone(tmp_path: Path) -> None:
    loaded = load(written(linear(tensor("w", 64, 64), 64), tmp_path)).model
    before = loaded.graph.initializers["w"].const_value
    check(loaded)
    assert loaded.graph.initializers["w"].const_value is before


def test_propagated_constants_are_bounded() -> None:
    scalars = (("start", 0), ("end", 2**30), ("step", 1))
    weights = tuple(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in scalars)
    bomb = make("Range", [name for name, _ in scalars], ["c"])
    with pytest.raises(ModelError, match="too big"):
        load(chain(bomb, make("Cast", ["c"], ["y"], to=1), weights=weights))


def test_escape_shows_what_a_terminal_would_obey() -> None:
    assert escape("layer1.conv/weight:0") == "layer1.conv/weight:0"
    assert escape("ü漢") == "ü漢"
    assert escape("a\0\n\x1b[2J\u202e\u2028\ud800") == r"a\x00\n\x1b[2J\u202e\u2028\ud800"
