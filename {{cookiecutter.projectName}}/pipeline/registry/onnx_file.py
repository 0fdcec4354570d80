"""Check of an ONNX file before the inference database stores it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from database.python.onnx_operators import OWN_SETS, refuse_foreign_operators

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

# A value of the database holds 1 GB, and its hexadecimal text is twice as long.
MOST_BYTES = 500_000_000
MOST_NODES = 20_000


def refusal(content: bytes) -> str | None:
    """Return the reason why a file must not be loaded into a database, None when it may.

    A tensor outside the file would be read from the server's folder.
    """
    import onnx

    if len(content) > MOST_BYTES:
        return f"its ONNX file has {len(content):,} bytes; at most {MOST_BYTES:,} are allowed"
    try:
        model = onnx.load_from_string(content)
    except Exception:
        # The parser raises an exception of its own for other bytes.
        return "its file is not an ONNX file"
    try:
        refuse_foreign_operators(content)
    except ValueError as error:
        return str(error)
    nodes = [*_nodes(model)]
    if len(nodes) > MOST_NODES:
        return f"its ONNX file has {len(nodes):,} operators; at most {MOST_NODES:,} are allowed"
    foreign = [f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in OWN_SETS]
    if foreign:
        return f"its ONNX file has the operator {foreign[0]}; only those of ai.onnx and ai.onnx.ml are allowed"
    outside = [tensor.name for tensor in _tensors(model, nodes) if _is_outside(tensor)]
    if not outside:
        return None
    return (
        f"its tensor {outside[0]!r} is not in the ONNX file but in another one; log the model again with "
        "mlflow.onnx.log_model(…, save_as_external_data=False)"
    )


def _is_outside(tensor: "TensorProto") -> bool:
    return tensor.data_location == tensor.EXTERNAL or len(tensor.external_data) > 0


def _nodes(model: "ModelProto") -> Iterator["NodeProto"]:
    """Yield the nodes of the graph, of the graphs in their attributes, and of functions."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        node = nodes.pop()
        yield node
        nodes += [inner for graph in _graphs([node]) for inner in graph.node]


def _graphs(nodes: "list[NodeProto]") -> "list[GraphProto]":
    """Return the graphs in the attributes of nodes, such as the branches of If."""
    attributes = [attribute for node in nodes for attribute in node.attribute]
    return [graph for attribute in attributes for graph in (*attribute.graphs, attribute.g)]


def _tensors(model: "ModelProto", nodes: "list[NodeProto]") -> Iterator["TensorProto"]:
    """Yield the weights and the constants of all graphs."""
    for graph in (model.graph, *_graphs(nodes)):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (*attribute.tensors, attribute.t)
        for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
            yield from (sparse.values, sparse.indices)
