"""Running metrics of regression, from torchmetrics."""

from torchmetrics import (
    MeanAbsoluteError,
    MeanSquaredError,
    MetricCollection,
    PearsonCorrCoef,
    SpearmanCorrCoef,
)


def regression() -> MetricCollection:
    """Return metrics of predicted and true numbers [rows].

    Spearman's rank correlation keeps all of them, two numbers per row.
    """
    return MetricCollection(
        {
            "rmse": MeanSquaredError(squared=False),
            "mae": MeanAbsoluteError(),
            "pearson": PearsonCorrCoef(),
            "spearman": SpearmanCorrCoef(),
        },
        compute_groups=False,
    )
