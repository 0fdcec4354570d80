"""The sets of operators that an ONNX file imports, read from its bytes: the database has no package for ONNX files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The operators of ONNX itself; others are code that somebody adds to ONNX Runtime.
OWN_SETS = ("", "ai.onnx", "ai.onnx.ml")
NOT_ONNX = "the file is not an ONNX file"
# Fields of the messages in onnx.proto: ModelProto's opset_import and functions, FunctionProto's opset_import, and
# OperatorSetIdProto's domain. A node may only use an operator of an imported set.
MODEL_IMPORT, MODEL_FUNCTION, FUNCTION_IMPORT, DOMAIN = 8, 25, 9, 1


def refuse_foreign_operators(content: "bytes | memoryview") -> None:
    """Raise ValueError when an ONNX file, or a function in it, imports other operators than those of ONNX itself."""
    for number, value in message_fields(memoryview(content)):
        if number == MODEL_IMPORT:
            refuse_foreign_set(value)
        elif number == MODEL_FUNCTION:
            for inner_number, inner in message_fields(value):
                if inner_number == FUNCTION_IMPORT:
                    refuse_foreign_set(inner)


def refuse_foreign_set(identifier: memoryview) -> None:
    """Raise ValueError unless an identifier of a set of operators (OperatorSetIdProto) names one of ONNX itself."""
    for number, domain in message_fields(identifier):
        name = bytes(domain).decode(errors="replace")
        if number == DOMAIN and name not in OWN_SETS:
            raise ValueError(
                f"the ONNX file imports the operators of {name[:100]!r}; "
                "only those of ai.onnx and ai.onnx.ml are allowed"
            )


def message_fields(message: memoryview) -> "Iterator[tuple[int, memoryview]]":
    """Yield number and content of each field of a protocol buffer's message; content is empty for plain numbers.

    Source: the encoding of protocol buffers (key = number << 3 | wire type). Raises ValueError for other bytes.
    """
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = varint(message, place)
            yield key >> 3, memoryview(b"")
            continue
        if kind not in (1, 2, 5):
            raise ValueError(NOT_ONNX)
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, place = varint(message, place)
        if size > len(message) - place:
            raise ValueError(NOT_ONNX)
        yield key >> 3, message[place : place + size]
        place += size


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the number of variable length at a place, and the place after it. Raises ValueError."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError(NOT_ONNX)
