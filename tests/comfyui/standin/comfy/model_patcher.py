"""Networks wrapped so that patches go on while they are loaded and come off again."""

import torch


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.patches, self.backup, self.model_options = {}, {}, {}
        self.object_patches, self.object_patches_backup = {}, {}
        model.device = offload_device

    def is_dynamic(self):
        return False

    def clone(self):
        twin = type(self)(self.model, self.load_device, self.offload_device)
        twin.patches = {key: list(value) for key, value in self.patches.items()}
        twin.object_patches, twin.object_patches_backup = dict(self.object_patches), self.object_patches_backup
        return twin

    def add_patches(self, patches, strength_patch=1.0):
        names = dict(self.model.named_parameters())
        added = [key for key in patches if key in names]
        for key in added:
            self.patches.setdefault(key, []).append((strength_patch, patches[key]))
        return added

    def add_object_patch(self, name, value):
        self.object_patches[name] = value

    def get_model_object(self, name):
        for values in (self.object_patches, self.object_patches_backup):
            if name in values:
                return values[name]
        return self.model.get_parameter(name)

    def patch(self):
        for key, entries in self.patches.items():
            owner, last = self._at(key)
            if list(owner.children()):  # layers alone are patched
                continue
            self.backup[key] = weight = getattr(owner, last)
            value = weight.detach().float()
            value = value.clone()
            for strength, adapter in entries:
                value = adapter.calculate_weight(value, key, strength, 1.0, None, lambda x: x)
            setattr(owner, last, torch.nn.Parameter(value.to(weight.dtype), requires_grad=False))
        for name, value in self.object_patches.items():
            owner, last = self._at(name)
            self.object_patches_backup.setdefault(name, getattr(owner, last))
            setattr(owner, last, value)

    def unpatch(self):
        for kept in (self.backup, self.object_patches_backup):
            for key, weight in kept.items():
                setattr(*self._at(key), weight)
            kept.clear()

    def _at(self, key):
        stem, _, last = key.rpartition(".")
        return self.model.get_submodule(stem), last


CoreModelPatcher = ModelPatcher
