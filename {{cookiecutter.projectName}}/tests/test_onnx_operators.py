"""The sets of operators of an ONNX file, read from its bytes, are those that the package onnx reads."""

import onnx
import pytest
from onnx import TensorProto, helper

from database.python.onnx_operators import refuse_foreign_operators

VALUE = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])


def model(*domains: str, of_function: tuple[str, ...] = ()) -> bytes:
    """Return a model that imports sets of operators; with `of_function` it has a function that imports others."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [VALUE],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    functions = []
    if of_function:
        imports = [helper.make_opsetid(domain, 1) for domain in of_function]
        functions = [helper.make_function("ai.onnx", "f", ["a"], ["b"], [], imports)]
    imports = [helper.make_opsetid(domain, 17) for domain in domains]
    made: bytes = helper.make_model(graph, opset_imports=imports, functions=functions).SerializeToString()
    return made


def test_own_operators_are_allowed() -> None:
    refuse_foreign_operators(model("", "ai.onnx", "ai.onnx.ml", of_function=("", "ai.onnx.ml")))


@pytest.mark.parametrize(
    "content", [model("", "com.microsoft"), model("", "ai.onnx.ml.x"), model("", of_function=("", "of.mine"))]
)
def test_other_operators_are_refused(content: bytes) -> None:
    assert onnx.load_from_string(content)
    with pytest.raises(ValueError, match="imports the operators of"):
        refuse_foreign_operators(content)


@pytest.mark.parametrize("content", [b"\x42", b"\xff" * 20, b"\x42\x7fx", b"\x43"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        refuse_foreign_operators(content)
