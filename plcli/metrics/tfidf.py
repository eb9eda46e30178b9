"""A baseline on request: word and letter n-grams weighted by TF-IDF, and a linear model."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from plcli.packages import need

Problem = Literal["single_label", "multi_label", "regression"]
MOST_FEATURES = 200_000


def need_library() -> None:
    """Check that scikit-learn is installed.

    Raises:
        MachineError: if it is not.
    """
    need("sklearn", extra="baseline", purpose="--baseline tfidf")


def predictions(
    texts: Sequence[str],
    targets: npt.NDArray[Any],
    others: Sequence[str],
    *,
    problem: Problem,
) -> npt.NDArray[Any]:
    """Return what a linear model on TF-IDF predicts of texts.

    It is logistic regression, one for each label of multi-label problems, or ridge regression, with
    scikit-learn's defaults. Its features are words, pairs of words and, for scripts without spaces
    and for inflections, 2 to 4 letters within words.

    Args:
        texts: the training texts.
        targets: label ids int64 [rows], indicators [rows, labels] or numbers [rows] of them.
        others: the texts to predict.
        problem: the kind of targets.

    Returns:
        Label ids int64, indicators uint8 [rows, labels], or numbers float64.
    """
    need_library()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_union

    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=MOST_FEATURES),
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=MOST_FEATURES
        ),
    )
    known, asked = features.fit_transform(texts), features.transform(others)
    if problem == "regression":
        return np.asarray(Ridge().fit(known, targets).predict(asked), np.float64)

    def classified(wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if len(np.unique(wanted)) < 2:
            return np.full(asked.shape[0], wanted[0])
        model = LogisticRegression(C=10.0, max_iter=1000)
        return np.asarray(model.fit(known, wanted).predict(asked))

    if problem == "single_label":
        return classified(targets).astype(np.int64)
    columns = [classified(column) for column in (targets > 0).astype(np.uint8).T]
    return np.stack(columns, axis=1).astype(np.uint8)
