"""How many numbers explain the data, in words."""

from dataclasses import replace

from tiedae_cli.model.rate_distortion import Curve, Point, RateDistortion, explained, sizes_tried, statements

PCA = tuple(1.0 * 0.9**count for count in range(65))  # 90% with 22 numbers, 95% with 29, 99% with 44
FOUND = RateDistortion(
    (
        Curve(
            "",
            (
                Point(2, (0.5, 0.52)),
                Point(4, (0.2, 0.22)),
                Point(8, (0.06, 0.08)),
                Point(16, (0.04, 0.06)),
                Point(32, (0.045,)),
            ),
        ),
    ),
    PCA,
    "validation",
)


def test_the_words_give_the_smallest_sizes_that_explain_the_variance() -> None:
    assert [FOUND.pca_explaining(percent) for percent in (0, 90, 95, 99, 99.99)] == [0, 22, 29, 44, None]
    assert list(statements(FOUND)) == [
        "90% of the variance: PCA 22 numbers, the autoencoder 8; 95%: 29, 16; 99%: 44, more than 32"
    ]
    assert (
        sizes_tried(FOUND)
        == "the autoencoder's number is the smallest that was tried (2, 4, 8, 16, 32); sizes in between narrow it down"
    )


def test_the_words_do_not_claim_more_than_was_tried() -> None:
    good = replace(FOUND, curves=(Curve("tied=true", (Point(2, (0.04,)), Point(4, (0.02,)))),), pca=PCA[:25])
    said = "tied=true: 90% of the variance: PCA 22 numbers, the autoencoder at most 2"
    assert list(statements(good)) == [f"{said}; 95%: more than 24, at most 2; 99%: more than 24, more than 4"]
    one = Curve("", (Point(1, (0.04,)), Point(2, (0.02,))))
    assert next(statements(replace(good, curves=(one,), pca=(1.0, 0.01)))).startswith(
        "90% of the variance: PCA 1 number, the autoencoder 1;"
    )


def test_the_words_say_beyond_which_size_seeds_differ_more_than_a_doubling_gains() -> None:
    """Per doubling: 8 to 16 gains 0.02 while the standard deviation is 0.014; 16 to 64 gains 0.005 twice."""
    points = (Point(4, (0.2, 0.22)), Point(8, (0.06, 0.08)), Point(16, (0.04, 0.06)), Point(64, (0.03, 0.05)))
    curve = Curve("", points)
    assert curve.seeds_differ_beyond == 16
    assert next(statements(replace(FOUND, curves=(curve,)))).endswith(
        "; beyond 16 numbers seeds differ by more than another doubling gains"
    )
    assert Curve("", points[:3]).seeds_differ_beyond is None
    assert Curve("", (Point(4, (0.2,)), Point(8, (0.3,)))).seeds_differ_beyond is None  # one seed says nothing about seeds
    bump = (Point(2, (0.3, 0.4)), Point(4, (0.3, 0.39)), Point(8, (0.1, 0.1)))
    assert Curve("", bump).seeds_differ_beyond is None  # a later size gains again


def test_data_without_variance_is_explained_by_nothing() -> None:
    assert explained(0.0, 0.0) == 100 and explained(0.25, 1.0) == 75
