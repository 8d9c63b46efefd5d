"""What a patch is made of that changes a weight in its own way."""


class WeightAdapterBase:
    def calculate_weight(
        self, weight, key, strength, strength_model, offset, function, intermediate_dtype=None, original_weight=None
    ):
        raise NotImplementedError
