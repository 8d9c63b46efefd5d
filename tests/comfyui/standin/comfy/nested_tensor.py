class NestedTensor:
    """Two streams in one value. Like the host's it is no tensor: ``shape`` and ``dtype`` speak of the first alone."""

    is_nested = True

    def __init__(self, tensors):
        self.tensors = list(tensors)

    def unbind(self):
        return self.tensors

    def to(self, *args, **keywords):
        return NestedTensor([t.to(*args, **keywords) for t in self.tensors])

    def __add__(self, other):
        others = other.tensors if isinstance(other, NestedTensor) else [other] * len(self.tensors)
        return NestedTensor([a + b for a, b in zip(self.tensors, others)])

    @property
    def shape(self):
        return self.tensors[0].shape

    @property
    def dtype(self):
        return self.tensors[0].dtype
