"""The state of `fit`, `evaluate` and `predict_block`: this header, then a body of numbers; all little-endian."""

# Task char(8), token char(16), rows int64, sum of losses float64, correct answers int64.
HEADER = "<8s16sqdq"
