"""Shape annotations of tensors, such as ``Float[Tensor, "B T E"]``: read by mypy, checked in the tests by jaxtyping.

Without jaxtyping (it is a development dependency) the names exist and are never used: annotations are not evaluated.
A dimension is a letter of the legend in docs/glossary.md; one that stands alone has a space before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Shaped
else:
    try:
        from jaxtyping import Bool, Float, Float32, Float64, Int, Shaped
    except ImportError:
        Bool = Float = Float32 = Float64 = Int = Shaped = Any

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Shaped"]
