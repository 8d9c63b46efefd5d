"""Colours of latent channels."""


class LTXV:
    def __init__(self):
        self.latent_rgb_factors = [[0.01 * (i % 7), 0.01 * (i % 5), -0.01 * (i % 3)] for i in range(128)]
        self.latent_rgb_factors_bias = [0.0, 0.0, 0.0]
