"""Refusal of ONNX files before the inference database stores them."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.registry import onnx_file


def outside(name: str = "weights") -> TensorProto:
    """Return a tensor that lies in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "global/1260"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(*nodes, initializers=(), functions=()) -> bytes:
    """Return a file with these nodes behind an Identity from x to y."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph([*nodes, helper.make_node("Identity", ["x"], ["y"])], "graph", value[:1], value[1:],
                              initializers)  # fmt: skip
    return helper.make_model(graph, functions=functions).SerializeToString()


def branch(*nodes, initializers=()):
    """Return a node that holds a graph."""
    graph = helper.make_graph(list(nodes), "branch", [], [], initializers)
    return helper.make_node("If", ["x"], ["z"], then_branch=graph)


INSIDE = numpy_helper.from_array(np.ones((1, 4), "f4"), "weights")
FOREIGN = helper.make_node("Read", ["x"], ["z"], domain="com.example")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (model(initializers=[INSIDE]), None),
        (model(branch(helper.make_node("Constant", [], ["z"], value=INSIDE))), None),
        (model(initializers=[outside()]), "its tensor 'weights' is not in the ONNX file"),
        (model(helper.make_node("Constant", [], ["z"], value=outside("constant"))), "its tensor 'constant' is not in"),
        (model(branch(initializers=[outside("inner")])), "its tensor 'inner' is not in the ONNX file"),
        (model(branch(branch(initializers=[outside("deep")]))), "its tensor 'deep' is not in the ONNX file"),
        (model(FOREIGN), "the operator com.example.Read; only those of ai.onnx and ai.onnx.ml"),
        (model(branch(FOREIGN)), "the operator com.example.Read"),
        (
            model(functions=[helper.make_function("ai.onnx", "F", ["x"], ["z"], [FOREIGN], [])]),
            "the operator com.example.Read",
        ),
        (b"no file", "its file is not an ONNX file"),
    ],
)
def test_a_file_that_is_not_alone_is_refused(content: bytes, reason: str | None) -> None:
    refusal = onnx_file.refusal(content)
    assert refusal == reason or (reason is not None and reason in (refusal or ""))


def test_a_file_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_NODES", 2)
    assert "has 3 operators; at most 2 are allowed" in (onnx_file.refusal(model(branch(branch()))) or "")
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 20)
    assert "at most 20 are allowed" in (onnx_file.refusal(model()) or "")
