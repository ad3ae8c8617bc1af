"""Tests of lrteach.problems: what they say about themselves is so."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrteach.optimizers import adam, heavy_ball, sgd
from lrteach.problems import LeastSquares, descend, quadratic, rosenbrock
from lrteach.schedules import cosine, step


def least_squares():
    rng = np.random.default_rng(0)
    return LeastSquares(rng.normal(size=(20, 3)), rng.normal(size=20))


PROBLEMS = {
    "quadratic": (quadratic(1, 10, 100), np.array([0.3, -2.0, 1.0]), np.zeros(3)),
    "rosenbrock": (rosenbrock(), np.array([-1.2, 1.0]), np.array([1.0, 1.0])),
    "rosenbrock(2, 5)": (rosenbrock(2.0, 5.0), np.array([0.5, -1.0]), np.array([2.0, 4.0])),
    "least squares": (least_squares(), np.array([1.0, -1.0, 2.0]), least_squares().minimum),
}
each_problem = pytest.mark.parametrize("name", PROBLEMS)


def slope(f, x, h=1e-6):
    """Central differences of f at x, one row for each coordinate."""
    return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))])


@each_problem
def test_the_gradient_is_the_slope_of_the_loss(name):
    problem, x, _ = PROBLEMS[name]
    np.testing.assert_allclose(problem.gradient(x), slope(problem.loss, x), rtol=1e-6, atol=1e-6)


@each_problem
def test_the_loss_has_its_minimum_where_it_says(name):
    problem, _, minimum = PROBLEMS[name]
    np.testing.assert_allclose(problem.gradient(minimum), 0, atol=1e-12)
    nearby = minimum + 0.01 * np.random.default_rng(1).normal(size=(50, len(minimum)))
    assert all(problem.loss(p) > problem.loss(minimum) for p in nearby)
    if hasattr(problem, "minimum"):
        assert np.array_equal(problem.minimum, minimum)


@pytest.mark.parametrize("problem", [rosenbrock(), rosenbrock(2.0, 5.0)])
def test_the_valleys_hessian_is_the_slope_of_the_gradient(problem):
    for x in (np.array([-1.2, 1.0]), np.array([0.5, 2.0])):
        np.testing.assert_allclose(problem.hessian(x), slope(problem.gradient, x), rtol=1e-6)


def test_the_hessian_of_least_squares_is_the_slope_of_its_gradient():
    problem = least_squares()
    h = slope(problem.gradient, np.zeros(3))
    np.testing.assert_allclose(problem.hessian(), h, rtol=1e-7)


def test_a_quadratic_knows_its_constants():
    problem = quadratic(4, 100, 1)
    assert (problem.L, problem.mu, problem.condition) == (100.0, 1.0, 100.0)
    assert problem.loss(np.array([1.0, 1.0, 2.0])) == 0.5 * (4 + 100 + 4)


@pytest.mark.parametrize("name", ["quadratic", "rosenbrock"])
def test_many_points_at_once_are_bit_identical_to_one_by_one(name):
    problem, x, _ = PROBLEMS[name]
    points = np.random.default_rng(2).normal(size=(4, 5, len(x)))
    losses, gradients = problem.loss(points), problem.gradient(points)
    assert losses.shape == (4, 5)
    assert gradients.shape == points.shape
    for i in np.ndindex(4, 5):
        assert losses[i] == problem.loss(points[i])
        assert np.array_equal(gradients[i], problem.gradient(points[i]))


def test_the_gradient_on_all_rows_is_the_mean_over_equal_batches():
    problem, w = least_squares(), np.array([1.0, -1.0, 2.0])
    parts = [problem.gradient(w, np.arange(i, i + 5)) for i in range(0, 20, 5)]
    np.testing.assert_allclose(np.mean(parts, axis=0), problem.gradient(w), rtol=1e-12)


@pytest.mark.parametrize(
    "curvatures", [(), (0,), (-1,), (1, np.nan), (1, np.inf), ([1, 2],)], ids=repr
)
def test_curvatures_that_are_not_positive_are_refused(curvatures):
    with pytest.raises(ValueError, match="is not allowed: finite numbers > 0"):
        quadratic(*curvatures)


def test_a_problem_compares_and_hashes_as_an_object():
    problem = quadratic(1, 2)
    assert problem == problem != quadratic(1, 2)
    assert len({problem, problem}) == 1


# --- descend -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None, derandomize=True)
@given(lr=st.floats(0.001, 0.03), h=st.floats(0.1, 100), x=st.floats(-10, 10))
def test_gradient_descent_on_a_parabola_is_a_power(lr, h, x):
    path = descend(quadratic(h), sgd, [x], lr, steps=10)
    assert path.shape == (11, 1)
    want = x * (1 - lr * h) ** np.arange(11)
    np.testing.assert_allclose(path[:, 0], want, rtol=1e-9, atol=1e-9 * abs(x))


def test_above_two_over_the_curvature_every_step_is_larger():
    inside = descend(quadratic(4), sgd, [1.0], 0.49, steps=50)
    outside = descend(quadratic(4), sgd, [1.0], 0.51, steps=50)
    assert np.all(np.diff(np.abs(inside[:, 0])) < 0)
    assert np.all(np.diff(np.abs(outside[:, 0])) > 0)


@pytest.mark.parametrize("rule", [sgd, heavy_ball, adam], ids=lambda r: r.__name__)
def test_k_runs_are_bit_identical_to_single_runs(rule):
    problem = quadratic(1, 30)
    start = np.random.default_rng(3).normal(size=(3, 2))
    lrs = np.array([0.001, 0.01, 0.05])
    together = descend(problem, rule, start, lrs, steps=40, schedule=cosine(40))
    assert together.shape == (41, 3, 2)
    for i, lr in enumerate(lrs):
        alone = descend(problem, rule, start[i], float(lr), steps=40, schedule=cosine(40))
        assert np.array_equal(together[:, i], alone)


def test_the_schedule_multiplies_the_rate_of_every_update():
    path = descend(quadratic(1), sgd, [1.0], 0.5, steps=4, schedule=step(2, 0.5))
    assert path[:, 0].tolist() == [1, 0.5, 0.25, 0.1875, 0.140625]


def test_hyperparameters_reach_the_rule():
    plain = descend(quadratic(1), sgd, [1.0], 0.1, steps=9)
    assert np.array_equal(descend(quadratic(1), heavy_ball, [1.0], 0.1, 9, momentum=0.0), plain)
    with pytest.raises(TypeError, match="sgd has no hyperparameter 'momentum'"):
        descend(quadratic(1), sgd, [1.0], 0.1, 9, momentum=0.0)


@pytest.mark.filterwarnings("error")
def test_runs_that_overflow_go_on_without_warnings_and_leave_the_others():
    path = descend(quadratic(1), sgd, np.ones((2, 1)), np.array([0.5, 1e200]), steps=20)
    assert not np.isfinite(path[-1, 1, 0])
    assert path[-1, 0, 0] == 0.5**20


def test_the_start_is_left_as_it_is():
    start = np.array([1.0, 2.0])
    before = copy.deepcopy(start)
    path = descend(quadratic(1, 2), sgd, start, 0.1, steps=3)
    assert np.array_equal(start, before)
    assert np.array_equal(path[0], start)
    path[0] = 9
    assert np.array_equal(start, before)


@pytest.mark.parametrize("schedule", [None, cosine(steps=9)])
def test_a_list_of_rates_is_refused_and_an_array_is_what_is_allowed(schedule):
    start, bowl = [[1.0, 1.0], [2.0, 1.0]], quadratic(1, 2)
    with pytest.raises(
        ValueError, match=r"^lr=\[0.1, 0.2\] is not allowed: .*array of shape \(K,\)"
    ):
        descend(bowl, sgd, start, [0.1, 0.2], 9, schedule)
    assert descend(bowl, sgd, start, np.array([0.1, 0.2]), 9, schedule).shape == (10, 2, 2)
