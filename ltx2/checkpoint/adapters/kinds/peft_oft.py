"""OFT as PEFT stores it: blocks of columns turned by small orthogonal matrices.

How a matrix is made of the stored numbers stands in the configuration alone, and the two ways that there are turn in
opposite directions: a file without it is refused.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ....errors import CheckpointError
from ..difference import Difference, Parts, Shape
from ..stored import AdapterKind, StoredModule

_TERMS = 5  # of the series, where a configuration does not say
_MOST_TERMS = 64
_COFT_LIMIT = 6e-5
_SINCE = (0, 18)  # what version of PEFT sums the series so


@dataclass(frozen=True)
class PeftOrthogonal:
    """Columns of block k become columns · Rₖᵀ. Q is skew-symmetric, its upper triangle stored row by row; one Q may be
    of all blocks.

    terms: None: R = (I − Q)(I + Q)⁻¹; else the first terms of (I + Q)(I − Q)⁻¹ = I + 2Q + 2Q² + …, the last of them
    once. limit: of the norm of all Q times the root of their number; None: none.
    """

    terms: int | None = None
    limit: float | None = None
    name: str = "OFT of PEFT"

    def weight_shape(self, shapes: Mapping[str, Shape], wanted: Shape) -> Shape:
        """The weight that the factors are for; see Kind."""
        count, size = shapes["turns"][0], _block_size(shapes["turns"][1])
        columns = math.prod(wanted[1:])
        shared = count == 1 and columns % size == 0
        return (*wanted[:1], columns if shared else count * size)

    def rank(self, shapes: Mapping[str, Shape]) -> None:
        """The rank of the factors; see Kind."""
        return None

    def apply(self, weight: torch.Tensor, parts: Parts, strength: float) -> None:
        """Change a weight in place; see Kind."""
        turn = self._rotations(parts["turns"].float())
        columns = weight.float().view(len(weight), -1, turn.shape[1]).transpose(0, 1)  # [k, out, b]
        turned = columns @ turn.transpose(1, 2)
        weight.copy_(torch.lerp(columns, turned, strength).transpose(0, 1).reshape(weight.shape))

    def _rotations(self, stored: torch.Tensor) -> torch.Tensor:
        size = _block_size(stored.shape[1])
        upper = stored.new_zeros(len(stored), size, size)
        rows, columns = torch.triu_indices(size, size, 1, device=stored.device)
        upper[:, rows, columns] = stored
        skew = upper - upper.transpose(1, 2)
        if self.limit is not None:
            norms = torch.linalg.vector_norm(skew, dim=(1, 2), keepdim=True)
            bound = self.limit / math.sqrt(len(stored))
            skew = torch.where(norms > bound, skew * (bound / norms), skew)
        identity = torch.eye(size, device=stored.device)
        if self.terms is None:  # (I + Q)⁻¹ and (I − Q) commute
            return torch.linalg.solve(identity + skew, identity - skew)
        turn, power = identity.expand_as(skew).clone(), skew
        for _ in range(self.terms - 2):
            turn += 2 * power
            power = power @ skew
        return turn + power if self.terms > 2 else turn + 2 * (self.terms - 1) * power


def _block_size(count: int) -> int:
    """Rows of a square matrix that has so many numbers above its diagonal; 0: there is none."""
    size = (1 + math.isqrt(1 + 8 * count)) // 2
    return size if size * (size - 1) // 2 == count else 0


def _read(module: StoredModule) -> Mapping[str, Difference]:
    parts = module.need("turns")
    shape = parts["turns"].shape
    if len(shape) != 2 or not _block_size(shape[1]):
        raise module.refuse(f"oft_R of shape {list(shape)}, expected the upper triangles of square blocks,")
    return {"": Difference(PeftOrthogonal(_terms(module), _limit(module)), parts)}


def _terms(module: StoredModule) -> int | None:
    series = str(module.config.get("use_cayley_neumann", "")).lower()
    if series == "false":
        return None
    if series != "true":
        raise CheckpointError(
            f"{module.path} holds OFT of PEFT without its configuration, which says how it turns: put its "
            "adapter_config.json beside it, and call it adapter_model.safetensors as PEFT does"
        )
    version = re.match(r"(\d+)\.(\d+)", str(module.config.get("peft_version", "")))
    if version is None or (int(version[1]), int(version[2])) < _SINCE:
        raise CheckpointError(
            f"{module.path} holds OFT by a series (use_cayley_neumann) of PEFT before 0.18, which is not read here: "
            "get it as a plain LoRA, or as a model that it is merged into"
        )
    terms = module.config.get("num_cayley_neumann_terms", _TERMS)
    if not isinstance(terms, int) or not 1 <= terms <= _MOST_TERMS:
        raise module.refuse(f"num_cayley_neumann_terms {str(terms)[:20]!r}, expected 1 to {_MOST_TERMS},")
    return 4 if terms == 3 else terms  # PEFT sums as many for 3 as for 4


def _limit(module: StoredModule) -> float | None:
    if str(module.config.get("coft", "")).lower() != "true":
        return None
    limit = module.config.get("eps", _COFT_LIMIT)
    if not isinstance(limit, (int, float)) or not 0 <= limit < math.inf:
        raise module.refuse(f"eps {str(limit)[:20]!r}, expected a number from 0 on,")
    return float(limit)


KIND = AdapterKind("OFT of PEFT", {r"oft_R(?:\.(?!weight$)[A-Za-z0-9_-]+)?(?:\.weight)?": "turns"}, _read)
