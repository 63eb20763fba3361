"""Estimators for scikit-learn: a transformer and an outlier detector, which train as ``tiedae.train`` does and leave no files.

Shapes: N rows, B rows per block, D features, K numbers of a code.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from tiedae_cli.api.python_training import Training, training_request
from tiedae_cli.api.trained_model import FALSE_ALARMS, Model
from tiedae_cli.errors import DivergedError, InputError
from tiedae_cli.model.inference import block_size
from tiedae_cli.runs.trained_run import OpenRun
from tiedae_cli.scoring.rankers import open_ranker

LARGEST_SEED = 2**31 - 1
ROUNDING = 1e-5  # of a score in float32; so much below the model's threshold, the held-out row that set it is flagged
KEYS = ("hidden_sizes", "activation", "epochs", "batch_size", "learning_rate", "l2")  # parameters that are keys of the config


class _Tied(BaseEstimator):
    """What both estimators share: training, and inference in float64, in which a row does not depend on the rows beside it."""

    def __init__(
        self,
        hidden_sizes: Any = None,
        *,
        activation: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        l2: float | None = None,
        validation: float = 0.1,
        config: Any = "vectors",
        settings: Any = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_sizes = hidden_sizes
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.l2 = l2
        self.validation = validation
        self.config = config
        self.settings = settings
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validated(self, X: Any, *, reset: bool = False) -> Any:
        """Return X, (N, D), as a float array or a sparse matrix."""
        least = {"ensure_min_samples": 2} if reset else {}
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=[np.float64, np.float32], **least)

    def _train(self, X: Any) -> Training:
        """Return a finished training on X."""
        settings = {key: value for key in KEYS if (value := getattr(self, key)) is not None}
        settings |= {"validation": self.validation, "test": 0} | dict(self.settings or {})
        if self.random_state is not None:
            drawn = not isinstance(self.random_state, (int, np.integer))
            settings["seed"] = check_random_state(self.random_state).randint(LARGEST_SEED) if drawn else self.random_state
        try:
            held = {name: settings.pop(name) for name in ("validation", "test")}
            request = training_request(X, self.config, **held, settings=settings)
            with Training(request, device=self.device, quiet=not self.verbose) as training:
                training.train()
                return training
        except (InputError, DivergedError) as error:
            raise ValueError(str(error)) from error

    def _keep(self, training: Training) -> Model:
        """Set the fitted attributes that both estimators have, and return the model, which still knows its data."""
        run = training.run()
        model = run.model
        self.history_ = list(run.history)
        self.n_iter_ = sum(epoch["epoch"] > 0 for epoch in self.history_)
        self.model_ = Model(OpenRun(run.best, model.device))
        return model

    def _blocks(self, X: Any) -> Iterator[Tensor]:
        """Yield rows as the model sees them, (B, D) float64."""
        form = self.model_.form
        size = block_size(form)
        for start in range(0, X.shape[0], size):
            rows = X[start : start + size]
            dense = rows.toarray() if hasattr(rows, "toarray") else rows
            if form.transform != "none" and (dense < 0).any():
                raise ValueError(f"X has values below 0; data.transform: {form.transform} takes values of 0 and above")
            yield torch.from_numpy(form.normalize(form.transformed(dense))).double()

    def _mapped(self, X: Any, function: Callable[[Any, Tensor], Tensor]) -> np.ndarray:
        """Return a function of (network in float64, block) over all rows of X."""
        network = copy.deepcopy(self.model_.module).cpu().double()
        with torch.inference_mode():
            return np.concatenate([function(network, block).numpy() for block in self._blocks(X)])


class TiedAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Tied):
    """An autoencoder with tied weights as a transformer: X, (N, D) -> codes, (N, K).

    A parameter that is None takes the value of ``config``. Training is bit-identical to ``tiedae.train(X, config, test=0, ...)``.

    Args:
        hidden_sizes: units of each encoder layer; the last is the code size K.
        activation: after each hidden layer.
        epochs: passes over the training rows.
        batch_size: rows per step.
        learning_rate: at the peak of the schedule.
        l2: L2 penalty in the loss.
        validation: rows held out to choose the best epoch: a fraction, or a count; 0 for none.
        config: name of a sample config, a YAML file or a dict of sections, for everything else.
        settings: more keys of the config, for example ``{"corruption": "gaussian"}``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``, for training.
        random_state: the seed; None takes that of ``config``.
        verbose: whether to show the training.

    Attributes:
        model_: the trained ``tiedae.Model``.
        history_: the epochs, a dict each; epoch 0 is the model before training.
        n_iter_: epochs of training.
        n_features_in_: D.
        feature_names_in_: names of the columns, if X is a DataFrame.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> from tiedae import TiedAutoencoder
        >>> X = load_iris().data
        >>> encoder = TiedAutoencoder(hidden_sizes=(16, 2), epochs=20).fit(X)
        >>> encoder.transform(X).shape
        (150, 2)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on X, (N, D); y is ignored.

        Raises:
            ValueError: X or a parameter cannot be used, or the training diverged.
        """
        X = self._validated(X, reset=True)
        self._keep(self._train(X))
        return self

    def transform(self, X: Any) -> Any:
        """Return the codes of rows, (N, D) -> (N, K), in the dtype of X."""
        check_is_fitted(self)
        X = self._validated(X)
        return self._mapped(X, lambda network, block: network.encode(block)).astype(X.dtype, copy=False)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that codes stand for, (N, K) -> (N, D), in the dtype of X."""
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32])
        if codes.shape[1] != self._n_features_out:
            raise ValueError(f"X has {codes.shape[1]} columns, but the codes of this model have {self._n_features_out} numbers")
        network = copy.deepcopy(self.model_.module).cpu().double()
        with torch.inference_mode():
            seen = network.decode(torch.from_numpy(codes).double()).numpy()
        return self.model_.form.restored(seen).astype(codes.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the explained variance of scaled rows, (N, D): 1 - squared error / that of the training mean; higher is better."""
        check_is_fitted(self)
        X = self._validated(X)
        mean = self.model_.pca.mean
        error = self._mapped(X, lambda network, block: (network(block) - block).square().sum(1)).sum()
        around = self._mapped(X, lambda network, block: (block - mean).square().sum(1)).sum()
        return float(1 - error / around) if around else 0.0

    @property
    def _n_features_out(self) -> int:
        return int(self.model_.module.sizes[-1])


class TiedOutlierDetector(OutlierMixin, _Tied):
    """An outlier detector that ranks rows by what an autoencoder with tied weights makes of them.

    A parameter that is None takes the value of ``config``. The names of PyOD (``decision_scores_``, ``labels_``, ``threshold_``) are
    there too.

    Args:
        contamination: ``'auto'`` flags what the model's own threshold flags: rows above the scores of nearly all validation rows, with
            about 1% false alarms. A number is, as everywhere in scikit-learn, the fraction of the rows given to ``fit`` that is
            flagged; it is not a false-alarm rate.
        hidden_sizes: units of each encoder layer.
        activation: after each hidden layer.
        epochs: passes over the training rows; ``config='anomalies'`` trains for 1,500 steps instead.
        batch_size: rows per step.
        learning_rate: at the peak of the schedule.
        l2: L2 penalty in the loss.
        validation: rows held out for the threshold: a fraction, or a count.
        config: name of a sample config, a YAML file or a dict of sections, for everything else.
        settings: more keys of the config, for example ``{"rank": "squared_error"}``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``, for training.
        random_state: the seed; None takes that of ``config``.
        verbose: whether to show the training.

    Attributes:
        model_: the trained ``tiedae.Model``.
        offset_: ``decision_function`` is ``score_samples`` less this.
        threshold_: -``offset_``; a higher score makes an outlier.
        decision_scores_: scores of the rows given to ``fit``, (N,); a higher one is more anomalous.
        labels_: 1 for outliers among these rows, else 0, (N,).
        history_: the epochs, a dict each; epoch 0 is the model before training.
        n_iter_: epochs of training.
        n_features_in_: D.
        feature_names_in_: names of the columns, if X is a DataFrame.

    Examples:
        >>> import numpy as np
        >>> from tiedae import TiedOutlierDetector
        >>> X = np.random.default_rng(0).normal(size=(500, 4))
        >>> detector = TiedOutlierDetector(settings={"steps": 200}).fit(X)
        >>> detector.predict([[0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        contamination: Any = "auto",
        *,
        hidden_sizes: Any = None,
        activation: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        l2: float | None = None,
        validation: float = 0.1,
        config: Any = "anomalies",
        settings: Any = None,
        device: str = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.contamination = contamination
        super().__init__(
            hidden_sizes,
            activation=activation,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            l2=l2,
            validation=validation,
            config=config,
            settings=settings,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on X, (N, D), mostly normal rows; y is ignored.

        Raises:
            ValueError: X or a parameter cannot be used, or the training diverged.
        """
        automatic = isinstance(self.contamination, str) and self.contamination == "auto"
        if not automatic and (isinstance(self.contamination, str) or not 0 < self.contamination <= 0.5):
            raise ValueError(f"contamination: {self.contamination!r}: expected 'auto', or a fraction in (0, 0.5]")
        X = self._validated(X, reset=True)
        model = self._keep(self._train(X))
        self.decision_scores_ = self._scores(X)
        if automatic:
            try:
                self.threshold_ = model.threshold(FALSE_ALARMS).value * (1 - ROUNDING)
            except InputError as error:
                raise ValueError(f"contamination='auto' needs validation rows ({error})") from error
        else:
            self.threshold_ = -float(np.percentile(-self.decision_scores_, 100 * self.contamination))
        self.offset_ = -self.threshold_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return how normal rows are, (N, D) -> (N,): the model's score, negated."""
        check_is_fitted(self)
        return -self._scores(self._validated(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return ``score_samples`` less ``offset_``, (N, D) -> (N,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return -1 for outliers and +1 for normal rows, (N, D) -> (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _scores(self, X: Any) -> np.ndarray:
        trained = self.model_.checkpoint
        kept = {} if trained.finished is None else trained.finished.score
        ranker = open_ranker(kept, trained.form, trained.config)
        return self._mapped(X, lambda network, block: ranker.scores(block, network(block)))
