"""The training loop: against a plain autograd loop written here, and what its reports say, recomputed by hand."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from tiedae_cli.config import Config
from tiedae_cli.config.yaml_reader import parse_config
from tiedae_cli.data.item_set import Splits
from tiedae_cli.data.sources.digits import load_digits
from tiedae_cli.errors import DivergedError
from tiedae_cli.model.autoencoder import build_autoencoder
from tiedae_cli.runs.observer import Progress
from tiedae_cli.runs.training_state import EpochReport
from tiedae_cli.system.devices import Place
from tiedae_cli.system.random_streams import epoch_order, seeded
from tiedae_cli.training import trainer as training_module
from tiedae_cli.training.schedule import learning_rate
from tiedae_cli.training.trainer import Trainer

CPU = Place(torch.device("cpu"))
SMALL = """
model: {hidden_sizes: [16, 6], activation: elu}
training: {epochs: 2, batch_size: 50, learning_rate: 0.01, l2: 0.0005, seed: 7}
"""


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load_digits()


def configured(*assignments: str) -> Config:
    return parse_config(SMALL, "small.yaml", assignments)


def train(config: Config, splits: Splits) -> tuple[Trainer, list[EpochReport]]:
    trainer = Trainer(config, splits, CPU)
    return trainer, [report for report in trainer.train() if isinstance(report, EpochReport)]


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("model.tied=false", "training.schedule=one_cycle"),
        ("training.loss=squared_error", "model.activation=silu", "model.output=sigmoid", "training.l2=0"),
        ("training.loss=cross_entropy", "model.output=sigmoid", "training.schedule=cosine", "training.warmup=0.1"),
    ],
    ids=["reference", "untied one-cycle", "squared error", "cross-entropy cosine"],
)
def test_two_epochs_match_a_plain_loop(digits: Splits, assignments: tuple[str, ...]) -> None:
    """The loop that people write: autograd, torch's Adam, the penalty in the loss; the last 47 of 1,297 images are dropped."""
    config = configured(*assignments)
    training = config.training
    model = build_autoencoder(64, config.model, seeded(training.seed, 0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, eps=1e-8)
    rows = torch.from_numpy(digits.train.values).reshape(-1, 64).float() / 255
    train_errors, step = [], 0
    for epoch in range(2):
        errors = []
        for chosen in epoch_order(training.seed, epoch, 1297)[:1250].split(50):
            x = rows[chosen]
            y = model(x)
            squared = (y - x).square()
            if training.loss == "mse":
                loss = squared.mean()
            elif training.loss == "squared_error":
                loss = squared.sum() / 50
            else:
                loss = -(x * y.log() + (1 - x) * (1 - y).log()).sum() / 50
            weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
            loss = loss + training.l2 / 2 * torch.stack([weight.square().sum() for weight in weights]).sum()
            optimizer.param_groups[0]["lr"] = learning_rate(training, step, 50)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            errors.append(squared.detach().double().sum())
            step += 1
        train_errors.append((torch.stack(errors).sum() / (1250 * 64)).item())
    trainer, reports = train(config, digits)
    for ours, plain in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=2e-4, atol=2e-5)
    assert [report.train_mse_per_value for report in reports] == pytest.approx(train_errors, rel=1e-5)
    with torch.no_grad():
        x = torch.from_numpy(digits.validation.values).reshape(-1, 64).float() / 255
        validation = (model(x) - x).double().square().mean().item()
    assert reports[-1].validation_mse_per_value == pytest.approx(validation, rel=1e-4)


def test_the_train_error_is_the_mean_over_the_epochs_items(digits: Splits) -> None:
    """With a learning rate of next to nothing the model stands still, and the mean is that over its 1,250 images at once."""
    config = configured("training.learning_rate=1e-12", "training.epochs=1")
    trainer, (report,) = train(config, digits)
    seen = torch.from_numpy(digits.train.values).reshape(-1, 64)[epoch_order(7, 0, 1297)[:1250]].float() / 255
    with torch.no_grad():
        error = (trainer.model(seen) - seen).double().square().mean().item()
    assert report.train_mse_per_value == pytest.approx(error, rel=1e-6)


def test_reports_of_an_epoch(digits: Splits) -> None:
    trainer, reports = train(configured("training.schedule=cosine", "training.epochs=3"), digits)
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert trainer.step.steps == 25
    for number, report in enumerate(reports, start=1):
        assert report.learning_rate == pytest.approx(0.01 * (1 + math.cos(math.pi * (25 * number - 1) / 75)) / 2)
        assert report.items_per_second == pytest.approx(1250 / report.seconds)
    assert trainer.history == reports


def test_progress_is_reported_in_order(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "REPORT_EVERY", -1.0)
    found = list(Trainer(configured("training.epochs=2"), digits, CPU).train())
    assert [type(report) for report in found] == ([Progress] * 25 + [EpochReport]) * 2
    steps = [report for report in found if isinstance(report, Progress)]
    assert [(report.epoch, report.step, report.steps, report.items) for report in steps] == [
        (epoch, step, 25, 50 * step) for epoch in (1, 2) for step in range(1, 26)
    ]


def test_best_is_the_lowest_validation_error_so_far(digits: Splits) -> None:
    """At this rate the error goes up and down."""
    _, reports = train(configured("training.learning_rate=0.3", "training.epochs=12"), digits)
    errors = [report.validation_mse_per_value or math.nan for report in reports]
    assert [report.best for report in reports] == [
        all(error < earlier for earlier in errors[:index]) for index, error in enumerate(errors)
    ]
    assert {True, False} == {report.best for report in reports}


def test_without_validation_items_the_training_error_selects_the_best_epoch(digits: Splits) -> None:
    splits = replace(digits, validation=digits.validation.slice(0, 0))
    _, reports = train(configured("training.epochs=3"), splits)
    assert all(report.validation_mse_per_value is None for report in reports)
    assert all(report.selection_mse == report.train_mse_per_value for report in reports)
    assert [report.best for report in reports] == [True] * 3


def test_a_batch_larger_than_the_data_holds_all_items(digits: Splits) -> None:
    splits = replace(digits, train=digits.train.slice(0, 30))
    trainer, reports = train(configured(), splits)
    assert (trainer.step.steps, len(reports)) == (1, 2)


def test_the_same_seed_gives_bit_identical_results(digits: Splits) -> None:
    (first, first_reports), (second, second_reports) = (train(configured(), digits) for _ in range(2))
    assert torch.equal(first.step.parameters.master, second.step.parameters.master)
    for one, other in zip(first_reports, second_reports, strict=True):
        timed = {"seconds": 0.0, "items_per_second": 0.0}
        assert asdict(one) | timed == asdict(other) | timed
    other_seed, _ = train(configured("training.seed=8"), digits)
    assert not torch.equal(first.step.parameters.master, other_seed.step.parameters.master)


def test_results_do_not_depend_on_earlier_random_numbers(digits: Splits) -> None:
    """Nothing is drawn from torch's global generator."""
    first, _ = train(configured(), digits)
    torch.manual_seed(12345)
    torch.rand(17)
    second, _ = train(configured(), digits)
    assert torch.equal(first.step.parameters.master, second.step.parameters.master)


# Divergence


def test_divergence_names_epoch_and_step(digits: Splits) -> None:
    trainer = Trainer(configured("training.epochs=3"), digits, CPU)
    reports = trainer.train()
    while not isinstance(next(reports), EpochReport):
        pass
    original, steps = trainer.step.run, []

    def poisoned(step: int) -> None:
        steps.append(step)
        original(step)
        if len(steps) >= 4:
            trainer.step.errors[step] = math.nan

    trainer.step.run = poisoned
    with pytest.raises(DivergedError, match=r"^epoch 2, step 4: the loss is not finite") as caught:
        list(reports)
    assert caught.value.exit_code == 1
    assert "training.learning_rate" in str(caught.value)
    assert len(trainer.history) == 1


def test_a_real_divergence_is_detected(digits: Splits) -> None:
    config = configured(
        "training.learning_rate=10", "training.epochs=200", "model.activation=relu", "model.hidden_sizes=[32, 32, 32, 32, 32]"
    )
    with pytest.raises(DivergedError, match=r"^epoch \d+, step \d+: "):
        train(config, digits)


def test_a_diverged_state_is_not_saved(digits: Splits) -> None:
    trainer, _ = train(configured("training.epochs=1"), digits)
    trainer.state()
    trainer.step.parameters.master[3] = math.inf
    with pytest.raises(DivergedError, match="a weight is not finite"):
        trainer.state()


# Stopping in the middle and going on


def test_a_training_resumes_bit_identically_from_any_step(digits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "REPORT_EVERY", -1.0)
    config = configured("training.schedule=one_cycle")
    whole, reports = train(config, digits)
    for stop_at in (1, 25, 30):
        stopped = Trainer(config, digits, CPU)
        taken = 0
        for report in stopped.train():
            taken += isinstance(report, Progress)
            if taken == stop_at:
                break
        weights = {name: value.clone() for name, value in stopped.model.state_dict().items()}
        resumed = Trainer(config, digits, CPU)
        resumed.restore(weights, stopped.state())
        list(resumed.train())
        assert torch.equal(resumed.step.parameters.master, whole.step.parameters.master)
        assert [report.train_mse_per_value for report in resumed.history] == [r.train_mse_per_value for r in reports]


@pytest.mark.cuda
def test_training_on_cuda_reaches_the_same_error(digits: Splits, cuda: torch.device) -> None:
    _, reports = train(configured(), digits)
    trainer = Trainer(configured(), digits, Place(cuda))
    found = [report for report in trainer.train() if isinstance(report, EpochReport)]
    assert found[-1].train_mse_per_value == pytest.approx(reports[-1].train_mse_per_value, rel=1e-2)
