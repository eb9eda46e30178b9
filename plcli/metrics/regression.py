"""Running metrics of numbers, through torchmetrics."""

from torchmetrics import (
    MeanAbsoluteError,
    MeanSquaredError,
    MetricCollection,
    PearsonCorrCoef,
    SpearmanCorrCoef,
)


def regression() -> MetricCollection:
    """Metrics of predicted against true numbers [rows].

    Spearman's rank correlation has to keep them, two numbers a row.
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
