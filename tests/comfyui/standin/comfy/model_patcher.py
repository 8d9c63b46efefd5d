"""Networks wrapped so that patches go on while they are loaded and come off again."""


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size=0):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.patches, self.backup, self.model_options = {}, {}, {}
        model.device = offload_device

    def is_dynamic(self):
        return False

    def clone(self):
        twin = type(self)(self.model, self.load_device, self.offload_device)
        twin.patches = {key: list(value) for key, value in self.patches.items()}
        return twin

    def add_patches(self, patches, strength_patch=1.0):
        names = dict(self.model.named_parameters())
        added = [key for key in patches if key in names]
        for key in added:
            self.patches.setdefault(key, []).append((strength_patch, patches[key]))
        return added

    def patch(self):
        parameters = dict(self.model.named_parameters())
        for key, entries in self.patches.items():
            weight = parameters[key]
            self.backup[key] = weight.data
            value = weight.data.float()
            for strength, (kind, tensors) in entries:
                if kind == "lora":
                    up, down, alpha = tensors
                    scale = 1.0 if alpha is None else alpha / down.shape[0]
                    value = value + strength * scale * (up.float() @ down.float()).reshape(value.shape)
                else:
                    value = value + strength * tensors[0].float()
            weight.data = value.to(weight.dtype)

    def unpatch(self):
        parameters = dict(self.model.named_parameters())
        for key, weight in self.backup.items():
            parameters[key].data = weight
        self.backup = {}


CoreModelPatcher = ModelPatcher
