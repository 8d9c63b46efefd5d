"""Put on PYTHONPATH in front of a CPU-only host, for the tests alone.

torchvision has no CPU wheel; with the compiled files of the CUDA wheel removed its Python part still works, except that
importing it registers fake kernels for two operators which only the compiled part declares. Declare those two first.
"""

import glob
import importlib.abc
import importlib.machinery
import os
import sys


class DeclareVisionOperators(importlib.abc.MetaPathFinder):
    library = None

    def find_spec(self, name, path=None, target=None):
        if name != "torchvision" or DeclareVisionOperators.library is not None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or not spec.origin or glob.glob(os.path.join(os.path.dirname(spec.origin), "_C*")):
            return None
        import torch

        DeclareVisionOperators.library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            DeclareVisionOperators.library.define(
                operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        return None


sys.meta_path.insert(0, DeclareVisionOperators())
