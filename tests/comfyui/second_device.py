"""A card on a machine that has none: tensors say that they are on it, keep their numbers in main memory, and refuse to
meet others.

So a network whose weights are partly elsewhere can be run, with its numbers, and whatever was left behind is found.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("cuda", 0)
CPU = torch.device("cpu")
aten = torch.ops.aten
MOVING = {aten.to, aten._to_copy}
INDEXING = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class Placed(torch.Tensor):
    """A tensor that says it is at ``place``; ``held`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor, place: torch.device):
        sizes = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        with torch.inference_mode(False):
            made = torch.Tensor._make_wrapper_subclass(
                cls, held.shape, **sizes, dtype=held.dtype, device=place, dispatch_device=True
            )
        made.held, made.place = held, place
        return made

    @property
    def device(self):
        return self.place

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        self.held, self.place = _held(value), _place(value)

    # Of these, torch's own look for the device or for memory of the wrapper before they ask anybody.

    def __getitem__(self, index):
        _check_index(self, index)
        return Placed(self.held[_held(index)], self.place)

    def __setitem__(self, index, value):
        _check_index(self, index)
        self.held[_held(index)] = _held(value)

    def detach(self):
        return Placed(self.held.detach(), self.place)

    def contiguous(self, **how):
        held = self.held.contiguous(**how)
        return self if held is self.held else Placed(held, self.place)

    def copy_(self, source, *_, **__):
        self.held.copy_(_held(source))
        return self

    def numpy(self):
        if self.place != CPU:
            raise TypeError(f"can't convert {self.place} tensor to numpy")
        return self.held.numpy()

    def __repr__(self, **_):
        return f"{list(self.shape)} {self.dtype} on {self.place}"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


for name in ("__int__", "__float__", "__bool__", "__index__", "tolist", "item", "data_ptr"):
    setattr(Placed, name, lambda self, name=name: getattr(self.held, name)())


class _Machine(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@contextmanager
def card(monkeypatch):
    """A machine with a card, for as long as the block runs."""
    answers = {"_lazy_init": None, "synchronize": None, "empty_cache": None, "current_device": 0}
    answers |= {"reset_peak_memory_stats": None, "max_memory_allocated": 0}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(
        True
    )  # torch.tensor(…, device=card) makes it in main memory and then asks to move it
    try:
        with _Machine():
            yield CARD
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _run(func, args, kwargs):
    """An operation on what its tensors hold; the result is where they are. Raises RuntimeError unless they are at one
    place."""
    if func is torch.ops.prim.device.default:
        return _place(args[0])
    if func is aten._has_compatible_shallow_copy_type.default:
        return all(isinstance(one, Placed) for one in args)
    tensors = list(_tensors((*args, *kwargs.values())))
    asked = args[1] if func is aten.to.device else kwargs.get("device")
    if asked in (None, CPU) and not any(isinstance(one, Placed) for one in tensors):
        return func(*args, **kwargs)
    packet = func.overloadpacket
    held_args, held_kwargs = _held(args), {name: _held(value) for name, value in kwargs.items()}
    if func is aten.to.device:
        held_args = (held_args[0], CPU, *held_args[2:])
    elif asked is not None:
        held_kwargs["device"] = CPU
    if packet in MOVING:
        place = asked or _place(args[1] if func is aten.to.other else args[0])
    elif packet in INDEXING:
        _check_index(args[0], args[1])
        place = _together(func, [args[0], *_tensors(args[2:3])])
    elif packet is aten.copy_:
        place = _place(args[0])
    else:
        place = asked or _together(func, tensors)
    out = func(*held_args, **held_kwargs)
    if packet in MOVING and place != _place(args[0]) and out is held_args[0]:
        out = out.clone()
    written = _written(func._schema, args, kwargs)
    if written:
        return written[0] if len(written) == 1 else tuple(written)
    if place == CPU and packet in MOVING:
        return out
    return _placed(out, place)


def _together(func, tensors) -> torch.device:
    """Where an operation takes place: all tensors are there, but for single numbers in main memory."""
    places = {_place(one) for one in tensors if one.dim() or _place(one) != CPU}
    if len(places) > 1:
        found = ", ".join(f"{list(one.shape)} on {_place(one)}" for one in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} got {found}")
    return places.pop() if places else CPU


def _check_index(tensor, index) -> None:
    """Indices may be beside the tensor or in main memory."""
    if {_place(one) for one in _tensors((index,))} - {CPU, _place(tensor)}:
        raise RuntimeError(f"indices should be on the CPU or with the tensor, which is on {_place(tensor)}")


def _written(schema, args, kwargs) -> list:
    """The arguments that an operation writes to and gives back."""
    if not any(one.alias_info is not None and one.alias_info.is_write for one in schema.returns):
        return []
    given = {one.name: value for one, value in zip(schema.arguments, args)} | kwargs
    return [
        given[one.name]
        for one in schema.arguments
        if one.alias_info is not None and one.alias_info.is_write and one.name in given
    ]


def _tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _held(value):
    if isinstance(value, (tuple, list)):
        return type(value)(_held(one) for one in value)
    return value.held if isinstance(value, Placed) else value


def _placed(value, place):
    if isinstance(value, (tuple, list)):
        return type(value)(_placed(one, place) for one in value)
    return Placed(value, place) if isinstance(value, torch.Tensor) else value


def _place(tensor) -> torch.device:
    return tensor.place if isinstance(tensor, Placed) else CPU
