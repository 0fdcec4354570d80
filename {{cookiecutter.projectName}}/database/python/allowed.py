"""The Keras objects that an architecture or an optimizer may name: a reviewed list, and nothing beside it.

Keras resolves `module.class_name`, so a class name with a dot, a function or a class that reads files would run in the
database with the rights of its operating system's user.
"""

# Class names per module. Left out on purpose: what runs code of its own (Lambda, TFSMLayer, JaxLayer, FlaxLayer,
# TorchModuleWrapper), what reads a vocabulary from a file (StringLookup, IntegerLookup, TextVectorization), and what
# is no part of a model of one input and one output.
ALLOWED = {
    "keras": "DTypePolicy Sequential",
    "keras.src.models.functional": "Functional",
    "keras.layers": """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
        AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
        AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional
        CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose
        Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D
        Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
        GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
        GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing
        Hashing Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D
        MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply Normalization PReLU Permute
        RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
        RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue
        RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear
        RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing STFTSpectrogram SeparableConv1D
        SeparableConv2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
        SpectralNormalization StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D
        UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """,
    "keras.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
        RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling Zeros
    """,
    "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
    "keras.constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
    "keras.optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD
        ScheduleFreeAdamW
    """,
    "keras.optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
    """,
    # Operators on tensors, such as x + y, and the functions of keras.ops that compute with numbers alone.
    "keras.src.ops.numpy": """
        Abs Absolute Add Arctan Argmax Argmin Average BroadcastTo Ceil Clip Concatenate Cos Cosh Cumsum Divide Dot
        Einsum Equal Exp ExpandDims Expm1 Flip Floor FloorDivide Greater GreaterEqual Less LessEqual Log Log10 Log1p
        Log2 LogicalAnd LogicalNot LogicalOr Matmul Max Maximum Mean Min Minimum Mod Moveaxis Multiply Negative NotEqual
        OnesLike Pad Power Prod Ravel Reciprocal Repeat Reshape Roll Round Sign Sin Sinh Sqrt Square Squeeze Stack Std
        Subtract Sum Swapaxes Take Tan Tanh Tensordot Tile Transpose TrueDivide Var Where ZerosLike
    """,
}
PAIRS = frozenset((module, name) for module, names in ALLOWED.items() for name in names.split())
TENSOR = "__keras_tensor__"
# A ResNet of 152 layers has 30,000 parts in 11 levels.
MOST_PARTS, MOST_LEVELS = 500_000, 64


def refuse_foreign_objects(description: object) -> None:
    """Raise ValueError unless a description (JSON) names allowed objects only, which get tensors and numbers only."""
    # A list of parts yet to be read: a description may be deeper than Python's stack.
    parts, seen = [(description, 0)], 0
    while parts:
        part, level = parts.pop()
        seen += 1
        if seen > MOST_PARTS or level > MOST_LEVELS:
            raise ValueError(
                f"the description of the model has more than {MOST_PARTS:,} parts or {MOST_LEVELS} levels, which is "
                "more than any known model has"
            )
        if isinstance(part, dict):
            require_known(part)
            require_calls(part.get("inbound_nodes"))
        if isinstance(part, (dict, list)):
            parts += [(child, level + 1) for child in (part.values() if isinstance(part, dict) else part)]


def require_known(part: "dict[str, object]") -> None:
    """Raise ValueError when an object is none of the allowed ones; a part without a class is no object."""
    name = part.get("class_name")
    if part.get("compile_config"):
        raise ValueError("the description of the model has a compile_config; the training compiles it")
    if name is None or name == TENSOR:
        return
    module = part.get("module")
    is_text = isinstance(module, str) and isinstance(name, str)
    if not is_text or (module, name) not in PAIRS or part.get("registered_name") not in (None, name):
        raise ValueError(
            f"{module}.{name} cannot be trained in the database; use layers, initializers and optimizers "
            "that Keras itself provides and that neither run own code nor read files"
        )


def require_calls(calls: object) -> None:
    """Raise ValueError unless the calls of a layer have arguments of tensors, numbers, true, false and null only."""
    parts: list[object] = []
    for call in calls if isinstance(calls, list) else [calls] if calls else []:
        if not isinstance(call, dict) or set(call) != {"args", "kwargs"} or not isinstance(call["kwargs"], dict):
            raise ValueError("a call of a layer must have args and kwargs, as Keras 3 writes them")
        parts += [call["args"], *call["kwargs"].values()]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, str) or (isinstance(part, dict) and part.get("class_name") != TENSOR):
            raise ValueError(
                f"a call of a layer has the argument {str(part)[:60]!r}; only tensors, numbers, true, false and null "
                "are allowed"
            )
