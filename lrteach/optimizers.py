"""The update rules, each one formula.

A rule is a function whose signature is its declaration: the positional names after
`theta, g` are its state, the keyword defaults are its hyperparameters, and the body is what
the book prints. The `rule` decorator turns it into an object:

    state = adam.init(theta)                          # {'t': 0, 'm': 0·theta, 'v': 0·theta}
    theta, state = adam(theta, g, state, lr=0.001)    # one update, nothing changed in place

The bodies are plain arithmetic, so the same rule runs on NumPy arrays and on torch tensors. A
`lr` of shape (K,) with a `theta` of shape (K, ...) makes K runs side by side, one rate each, and
each bit for bit what it is alone (hence `g * g`: NumPy rounds `g**2` of a scalar differently).
Weight decay in its L2 form belongs to the loss: add `weight_decay * theta` to `g`.

What a formula may ask for, and what kinds of state there are, is said in `lrteach.rules`. The
field lists at the end of the docstrings are the page "All optimizers on one card".
"""

import math

from lrteach.rules import (
    Rule,
    average,
    ema,
    layer_rule,
    maximum,
    minimum,
    nonzero,
    number,
    plain,
    point,
    rule,
    sign,
    sqrt,
    tail_average,
    where,
)

__all__ = [
    "Rule", "rule", "layer_rule", "number", "point", "average", "plain", "sqrt", "sign", "where",
    "maximum", "minimum", "nonzero",
    "sgd", "heavy_ball", "nesterov", "polyak",
    "signsgd", "signum", "lion", "rprop",
    "adagrad", "rmsprop", "adadelta",
    "adam", "adamw", "amsgrad", "adamax", "nadam", "radam", "adabelief",
    "lars", "lamb", "adafactor", "muon",
    "schedule_free_sgd", "schedule_free_adamw",
    "dog", "dadapt_sgd", "dadapt_adam", "prodigy",
    "extragradient", "optimistic",
    "newton_schulz", "ema", "tail_average",
]  # fmt: skip


@rule
def sgd(theta, g, *, lr):
    r"""Gradient descent: one step against the gradient. On a batch's gradient it is SGD.

    .. math:: \theta_t = \theta_{t-1} - \eta\, g_t

    `theta`, `g` share one shape; `lr` is in units of theta² / loss: 0.1 moves each coordinate by a
    tenth of its slope, and what is too much the largest curvature decides.

    :when: The baseline; with a falling rate also the last word in theory.
    :rate: 0.001 in torch, 0.01 in Keras, by default
    :torch: `SGD(params, lr)`
    :optax: `sgd(lr)`
    :keras: `SGD(lr)`
    :source: Cauchy 1847; stochastic gradients: Robbins & Monro 1951
    """
    return theta - lr * g


@rule
def heavy_ball(theta, g, b, *, lr, momentum=0.9):
    r"""Gradient descent with momentum: step along a decaying sum of past gradients.

    .. math:: b_t = \beta\, b_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta\, b_t

    `theta`, `g`, `b` share one shape; `lr` is in units of theta² / loss. As in torch, the rate
    multiplies the sum: a steady slope is walked at lr / (1 − momentum), 0.1 as if it were 1.
    Sutskever et al. 2013 put it inside the sum: the same path while the rate
    is constant, another one after it changes.

    :when: Image networks with normalisation and a schedule; ill-conditioned problems without much noise.
    :rate: 0.001 in torch, 0.01 in Keras, by default
    :torch: `SGD(params, lr, momentum)`
    :optax: `sgd(lr, momentum)`
    :keras: `SGD(lr, momentum)`: the rate stands inside the sum
    :source: Polyak 1964, USSR Comput. Math. Math. Phys. 4(5), eq. (9)
    """
    b = momentum * b + g
    return theta - lr * b, b


@rule
def nesterov(theta, g, b, *, lr, momentum=0.9):
    r"""Momentum with Nesterov's look-ahead, in the form torch uses.

    .. math:: b_t = \beta\, b_{t-1} + g_t, \qquad \theta_t = \theta_{t-1} - \eta\,(g_t + \beta\, b_t)

    `theta`, `g`, `b` share one shape; `lr` is in units of theta² / loss: 0.1 walks a steady slope
    as if it were 1. `theta` here is Nesterov's look-ahead point, where the gradient is taken.

    :when: As `heavy_ball`; it damps the steepest directions better.
    :rate: 0.001 in torch, 0.01 in Keras, by default
    :torch: `SGD(params, lr, momentum, nesterov=True)`
    :optax: `sgd(lr, momentum, nesterov=True)`
    :keras: `SGD(lr, momentum, nesterov=True)`
    :source: Nesterov 1983; this form: Sutskever et al. 2013, section 2
    """
    b = momentum * b + g
    return theta - lr * (g + momentum * b), b


@rule
def adagrad(theta, g, s, *, lr, eps=1e-10):
    r"""AdaGrad: divide each coordinate's rate by the root of its summed squared gradients.

    .. math:: s_t = s_{t-1} + g_t^2, \qquad \theta_t = \theta_{t-1} - \eta\, g_t / (\sqrt{s_t} + \epsilon)

    `theta`, `g`, `s` share one shape; `lr` is in units of theta (the ratio g/√s has none):
    0.1 first moves every coordinate by 0.1, and after t equal gradients by 0.1/√t. Starts with
    s = 0, as torch does (optax and Keras start at 0.1).

    :when: Sparse features: rare coordinates keep a large rate.
    :rate: 0.01 in torch, 0.001 in Keras, by default
    :torch: `Adagrad(params, lr, eps=eps)`
    :optax: `adagrad(lr, initial_accumulator_value=0, eps=eps)` (with eps in the root)
    :keras: `Adagrad(lr, initial_accumulator_value=0, epsilon=eps)` (with eps in the root)
    :source: Duchi, Hazan & Singer 2011, JMLR 12, the diagonal form
    """
    s = s + g * g
    return theta - lr * g / (sqrt(s) + eps), s


@rule
def rmsprop(theta, g, v, *, lr, alpha=0.99, eps=1e-8):
    r"""RMSprop: divide by the root of a moving average of the squared gradient.

    .. math:: v_t = \alpha v_{t-1} + (1-\alpha) g_t^2, \qquad \theta_t = \theta_{t-1} - \eta\, g_t / (\sqrt{v_t} + \epsilon)

    `theta`, `g`, `v` share one shape; `lr` is in units of theta: 0.1 is about a step of 0.1. No
    bias correction: the first step is lr / √(1 − alpha). `eps` stands outside the root and `alpha` is 0.99, as in torch
    (the lecture uses 0.9; optax by default puts eps inside the root).

    :when: Reinforcement learning and recurrent networks; elsewhere Adam has replaced it.
    :rate: 0.01 in torch, 0.001 in Keras, by default
    :torch: `RMSprop(params, lr, alpha, eps)`
    :optax: `rmsprop(lr, decay=alpha, eps=eps, eps_in_sqrt=False)`
    :keras: `RMSprop(lr, rho=alpha, epsilon=eps)` (with eps in the root)
    :source: Tieleman & Hinton 2012, Coursera lecture 6.5 (there is no paper)
    """
    v = alpha * v + (1 - alpha) * g * g
    return theta - lr * g / (sqrt(v) + eps), v


@rule
def adadelta(theta, g, v, u, *, lr, rho=0.9, eps=1e-6):
    r"""Adadelta: a step in the units of theta, from the ratio of two moving averages.

    .. math:: v_t = \rho v_{t-1} + (1-\rho) g_t^2, \qquad \Delta_t = \frac{\sqrt{u_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}}\, g_t

    .. math:: u_t = \rho u_{t-1} + (1-\rho) \Delta_t^2, \qquad \theta_t = \theta_{t-1} - \eta\, \Delta_t

    `theta`, `g`, `v`, `u` share one shape; `lr` has no unit and is 1 in the paper, which has no
    rate at all; 0.1 is a tenth of its step. Both `eps` stand inside the root, as in the paper and in torch.

    :when: To see how a step gets the units of theta; seldom in practice.
    :rate: 1 in torch, 0.001 in Keras, by default
    :torch: `Adadelta(params, lr, rho, eps)`
    :optax: `adadelta(lr, rho, eps)`
    :keras: `Adadelta(lr, rho, eps)`
    :source: Zeiler 2012, arXiv:1212.5701, algorithm 1
    """
    v = rho * v + (1 - rho) * g * g
    delta = sqrt(u + eps) / sqrt(v + eps) * g
    u = rho * u + (1 - rho) * delta * delta
    return theta - lr * delta, v, u


@rule
def adam(theta, g, m, v, *, t, lr, betas=(0.9, 0.999), eps=1e-8):
    r"""Adam: momentum divided by the root mean square of the gradient, both bias-corrected.

    .. math:: m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2

    .. math:: \theta_t = \theta_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}

    `theta`, `g`, `m`, `v` share one shape; `lr` is in units of theta: 0.1 is about a step of
    0.1, whatever the scale of the gradient. `eps` is outside the root and after the correction, as in
    the paper's algorithm 1 and in torch.

    :when: The usual first choice, where no weight decay is wanted.
    :rate: 0.001 in torch and Keras, by default
    :torch: `Adam(params, lr, betas, eps)`
    :optax: `adam(lr, *betas, eps)`
    :keras: `Adam(lr, *betas, eps)` (its eps meets the uncorrected root)
    :source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    return theta - lr * m_hat / (sqrt(v_hat) + eps), m, v


@rule
def adamw(theta, g, m, v, *, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    r"""AdamW: Adam, with the weights shrunk beside the adaptive step and not through it.

    .. math:: \theta_t = (1 - \eta\lambda)\,\theta_{t-1} - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}

    Shapes, the units of `lr` and `eps` are those of `adam`. The weights shrink by lr · weight_decay
    a step, as in torch: at 0.1, by a thousandth; in the paper the shrinkage is multiplied by the schedule but not by the base rate.

    :when: Transformers, and the first choice wherever weights should decay.
    :rate: 0.001 in torch and Keras, by default
    :torch: `AdamW(params, lr, betas, eps, weight_decay)`
    :optax: `adamw(lr, *betas, eps, weight_decay=weight_decay)`
    :keras: `AdamW(lr, weight_decay, *betas, eps)` (its eps meets the uncorrected root)
    :source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta = theta - lr * weight_decay * theta
    return theta - lr * m_hat / (sqrt(v_hat) + eps), m, v


# --- Steps from the loss and the sign ------------------------------------------------------------


@rule
def polyak(theta, g, *, loss, dot, lr, f_min=0.0, cap=None):
    r"""Polyak's step: as far as the linear model says to the lowest value there is.

    .. math:: \eta_t = \min\!\Big(\frac{f(\theta_{t-1}) - f_{\min}}{\lVert g_t\rVert^2},\ \texttt{cap}\Big), \qquad \theta_t = \theta_{t-1} - \eta\,\eta_t\, g_t

    `theta`, `g` share one shape; it asks for the `loss` of the batch. `lr` multiplies the step
    and has no unit: 1 is Polyak's, 0.1 a tenth of it; on a parabola 1 goes half the way. `f_min`
    is the lowest value of the loss, which you have to know; 0 for a network that can fit its
    data. Below `f_min` it walks uphill. A gradient of zero is no step; optax makes none below
    ‖g‖² = 2e-16 either, has `cap` = 1 by default where here there is none, and its `scaling`
    divides the step, for it scales the gradient before it measures its length.

    :when: The lowest loss is known, as for a model that fits every example.
    :torch: not there
    :optax: `polyak_sgd(max_learning_rate=cap, f_min=f_min)`, at `lr` = 1
    :keras: not there
    :source: Polyak 1969, USSR Comput. Math. Math. Phys. 9(3); on batches: Loizou et al. 2021, arXiv:2002.10542
    """
    step = (loss - f_min) / nonzero(dot(g, g))
    if cap is not None:
        step = minimum(step, cap)
    return theta - lr * step * g


@rule
def signsgd(theta, g, *, lr):
    r"""signSGD: every coordinate moves by the rate, whatever its slope.

    .. math:: \theta_t = \theta_{t-1} - \eta\, \operatorname{sign}(g_t)

    `theta`, `g` share one shape; `lr` is in units of theta: 0.1 moves every coordinate by 0.1,
    unless its gradient is exactly zero.

    :when: Gradients must be sent over a thin wire, one bit each; as the core of Lion and Adam.
    :torch: not there
    :optax: `sign_sgd(lr)`
    :keras: not there
    :source: Bernstein et al. 2018, arXiv:1802.04434, algorithm 1
    """
    return theta - lr * sign(g)


@rule
def signum(theta, g, m, *, lr, momentum=0.9):
    r"""Signum: the sign of an averaged gradient.

    .. math:: m_t = \beta\, m_{t-1} + (1-\beta)\, g_t, \qquad \theta_t = \theta_{t-1} - \eta\, \operatorname{sign}(m_t)

    `theta`, `g`, `m` share one shape; `lr` is in units of theta: 0.1 moves every coordinate by
    0.1. Without momentum it is `signsgd`.

    :when: As signSGD, with noisy gradients.
    :torch: not there
    :optax: `chain(ema(momentum, debias=False), sign_sgd(lr))`
    :keras: not there
    :source: Bernstein et al. 2018, arXiv:1802.04434, algorithm 2
    """
    m = momentum * m + (1 - momentum) * g
    return theta - lr * sign(m), m


@rule
def lion(theta, g, m, *, lr, betas=(0.9, 0.99), weight_decay=0.0):
    r"""Lion: the sign of a mixture of the gradient and its longer average.

    .. math:: \begin{aligned} \theta_t = {}& (1-\eta\lambda)\,\theta_{t-1} \\
        & - \eta\, \operatorname{sign}\big(\beta_1 m_{t-1} + (1-\beta_1) g_t\big) \end{aligned}

    .. math:: m_t = \beta_2 m_{t-1} + (1-\beta_2) g_t

    `theta`, `g`, `m` share one shape; `lr` is in units of theta: 0.1 moves every coordinate by
    0.1, so rates are three to ten times smaller than Adam's, and λ as much larger. optax has
    λ = 0.001 by default, Keras and the authors' code 0.

    :when: Large models, where half of Adam's state matters.
    :rate: 0.001 in Keras, by default
    :torch: not there
    :optax: `lion(lr, *betas, weight_decay=weight_decay)`
    :keras: `Lion(lr, *betas, weight_decay=weight_decay)`
    :source: Chen et al. 2023, arXiv:2302.06675, algorithm 2
    """
    beta1, beta2 = betas
    direction = sign(beta1 * m + (1 - beta1) * g)
    m = beta2 * m + (1 - beta2) * g
    return theta - lr * weight_decay * theta - lr * direction, m


@rule
def rprop(theta, g, before, s, *, t, lr, etas=(0.5, 1.2), step_sizes=(1e-6, 50)):
    r"""Rprop: each coordinate has a step of its own, which grows until the slope changes sign.

    .. math:: s_t = \begin{cases} \eta^+ s_{t-1} & g_t\, g_{t-1} > 0 \\ \eta^- s_{t-1} & g_t\, g_{t-1} < 0 \\ s_{t-1} & \text{else} \end{cases} \qquad \theta_t = \theta_{t-1} - s_t \operatorname{sign}(g_t)

    Where the sign changed, the coordinate rests for one update and g counts as 0. `s` stays
    between the two `step_sizes`. `theta`, `g`, `before`, `s` share one shape; `lr` is in units
    of theta and only the first step: 0.1 starts with steps of 0.1, and a schedule does nothing
    after the first update, as in torch. This is the variant without a step back (iRprop−).
    optax makes each step one update later, and not at all if the sign has changed by then.

    :when: Whole-batch training; noise in the gradients' signs makes all steps shrink.
    :rate: 0.01 in torch, by default
    :torch: `Rprop(params, lr, etas, step_sizes)`
    :optax: `rprop(lr, *etas, *step_sizes)` (one update later)
    :keras: not there
    :source: Riedmiller & Braun 1993, IEEE Int. Conf. Neural Networks, 586–591; this variant: Igel & Hüsken 2000
    """
    (shrink, grow), (smallest, largest) = etas, step_sizes
    s = s + lr * (t == 1)
    turn = g * before
    s = where(turn > 0, grow * s, where(turn < 0, shrink * s, s))
    s = minimum(maximum(s, smallest), largest)
    g = where(turn < 0, 0 * g, g)
    return theta - s * sign(g), g, s


# --- Relatives of Adam ---------------------------------------------------------------------------


@rule
def amsgrad(theta, g, m, v, v_max, *, t, lr, betas=(0.9, 0.999), eps=1e-8):
    r"""AMSGrad: Adam whose denominator never falls.

    .. math:: \bar v_t = \max(\bar v_{t-1}, v_t), \qquad \theta_t = \theta_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t)}{\sqrt{\bar v_t / (1-\beta_2^t)} + \epsilon}

    m and v are Adam's; all arrays share one shape, and `lr` is in units of theta: 0.1 is at most
    about a step of 0.1. As in torch, the largest uncorrected v is kept and corrected afterwards.
    The paper has no correction; optax keeps the largest corrected v, which the first gradients
    dominate for ever.

    :when: Rare large gradients that Adam forgets; in practice seldom better.
    :rate: 0.001 in torch and Keras, by default
    :torch: `Adam(params, lr, betas, eps, amsgrad=True)`
    :optax: `amsgrad(lr, *betas, eps)` (the maximum of the corrected v)
    :keras: `Adam(lr, *betas, eps, amsgrad=True)` (its eps meets the uncorrected root)
    :source: Reddi, Kale & Kumar 2018, arXiv:1904.09237, algorithm 2
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    v_max = maximum(v_max, v)
    m_hat = m / (1 - beta1**t)
    v_hat = v_max / (1 - beta2**t)
    return theta - lr * m_hat / (sqrt(v_hat) + eps), m, v, v_max


@rule
def adamax(theta, g, m, u, *, t, lr, betas=(0.9, 0.999), eps=1e-8):
    r"""Adamax: Adam with the largest recent gradient in the place of the root mean square.

    .. math:: u_t = \max(\beta_2 u_{t-1},\ |g_t| + \epsilon), \qquad \theta_t = \theta_{t-1} - \eta\, \frac{m_t / (1-\beta_1^t)}{u_t}

    m is Adam's; `theta`, `g`, `m`, `u` share one shape, and `lr` is in units of theta: 0.1 is at
    most about a step of 0.1. The paper has no eps; torch adds it to |g|, optax too.

    :when: Sparse gradients with rare large ones; embeddings.
    :rate: 0.002 in torch, 0.001 in Keras, by default
    :torch: `Adamax(params, lr, betas, eps)`
    :optax: `adamax(lr, *betas, eps)`
    :keras: `Adamax(lr, *betas, eps)` (eps beside the maximum)
    :source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 2
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    u = maximum(beta2 * u, abs(g) + eps)
    return theta - lr * (m / (1 - beta1**t)) / u, m, u


@rule
def nadam(theta, g, m, v, c: number, *, t, lr, betas=(0.9, 0.999), eps=1e-8, momentum_decay=0.004):
    r"""NAdam: Adam that looks ahead, with a momentum that warms up from β₁/2 to β₁.

    .. math:: \mu_t = \beta_1\big(1 - \tfrac12\, 0.96^{\,t\psi}\big), \qquad c_t = 1 - \mu_1 \mu_2 \cdots \mu_t

    .. math:: d_t = \frac{1-\mu_t}{c_t}\, g_t + \frac{\mu_{t+1}}{1 - (1-c_t)\,\mu_{t+1}}\, m_t, \qquad
        \theta_t = \theta_{t-1} - \eta\, \frac{d_t}{\sqrt{\hat v_t} + \epsilon}

    m and v are Adam's, ψ is `momentum_decay`. `theta`, `g`, `m`, `v` share one shape and `c` is
    one number; `lr` is in units of theta: 0.1 is about a step of 0.1. As in torch, the momentum
    warms up; optax's `nadam` has a constant one.

    :when: As Adam; a little faster where curvature dominates noise.
    :rate: 0.002 in torch, 0.001 in Keras, by default
    :torch: `NAdam(params, lr, betas, eps, momentum_decay=momentum_decay)`
    :optax: `nadam(lr, *betas, eps)` (constant momentum)
    :keras: `Nadam(lr, *betas, eps)` (its `momentum_decay` is 1)
    :source: Dozat 2016, ICLR workshop, "Incorporating Nesterov Momentum into Adam"
    """
    beta1, beta2 = betas
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    c = 1 - mu * (1 - c)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    step = (1 - mu) / c * g + mu_next / (1 - mu_next * (1 - c)) * m
    return theta - lr * step / (sqrt(v / (1 - beta2**t)) + eps), m, v, c


@rule
def radam(theta, g, m, v, *, t, lr, betas=(0.9, 0.999), eps=1e-8):
    r"""RAdam: Adam that trusts v only once it has seen enough gradients; a built-in warm-up.

    .. math:: \rho_\infty = \frac{2}{1-\beta_2} - 1, \qquad \rho_t = \rho_\infty - \frac{2t\,\beta_2^t}{1-\beta_2^t}, \qquad r_t^2 = \frac{(\rho_t-4)(\rho_t-2)\,\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\,\rho_t}

    .. math:: \theta_t = \theta_{t-1} - \eta\, a_t \hat m_t, \qquad
        a_t = \begin{cases} r_t \sqrt{1-\beta_2^t} / (\sqrt{v_t} + \epsilon) & \rho_t > 5 \\
        1 & \text{else} \end{cases}

    m and v are Adam's; all arrays share one shape. `lr` has two units: the first updates (five
    with β₂ = 0.999) are momentum steps, where it is in units of theta² / loss; then it is in
    units of theta, and 0.1 is about a step of 0.1. `eps` meets the uncorrected root, as in torch.

    :when: As Adam, where you would rather not choose the length of a warm-up.
    :rate: 0.001 in torch, by default
    :torch: `RAdam(params, lr, betas, eps)`
    :optax: `radam(lr, *betas, eps)` (its eps meets the corrected root)
    :keras: not there
    :source: Liu et al. 2020, arXiv:1908.03265, algorithm 2
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return theta - lr * m_hat, m, v
    r2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    trust = (r2 * (1 - beta2**t)) ** 0.5
    return theta - lr * m_hat * trust / (sqrt(v) + eps), m, v


@rule
def adabelief(theta, g, m, s, *, t, lr, betas=(0.9, 0.999), eps=1e-16):
    r"""AdaBelief: Adam that divides by how far the gradient was from what was expected.

    .. math:: s_t = \beta_2 s_{t-1} + (1-\beta_2)(g_t - m_t)^2 + \epsilon, \qquad \theta_t = \theta_{t-1} - \eta\, \frac{m_t/(1-\beta_1^t)}{\sqrt{s_t/(1-\beta_2^t)} + \epsilon}

    m is Adam's; `theta`, `g`, `m`, `s` share one shape, and `lr` is in units of theta: with noisy
    gradients 0.1 is about a step of 0.1, with steady ones the step grows without a bound but
    eps. As in the paper eps is added twice, once into the state. torch has no AdaBelief.

    :when: As Adam, with gradients that are small but steady.
    :torch: not there
    :optax: `adabelief(lr, *betas, eps=eps, eps_root=eps)`
    :keras: not there
    :source: Zhuang et al. 2020, arXiv:2010.07468
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * (g - m) * (g - m) + eps
    m_hat = m / (1 - beta1**t)
    s_hat = s / (1 - beta2**t)
    return theta - lr * m_hat / (sqrt(s_hat) + eps), m, s


# --- Layer by layer ------------------------------------------------------------------------------


def _trust_ratio(theta, step, norm, trust=1.0):
    """trust · ‖θ‖ / ‖step‖; 1 where one of them is zero, so that zero weights can leave zero."""
    a, b = norm(theta), norm(step)
    return where((a > 0) & (b > 0), trust * a / nonzero(b), 0 * a + 1)


@layer_rule
def lars(theta, g, b, *, norm, lr, momentum=0.9, weight_decay=0.0, trust=0.001):
    r"""LARS: momentum whose step in each layer is in proportion to the layer's weights.

    .. math:: d_t = g_t + \lambda\theta_{t-1}, \qquad b_t = \beta\, b_{t-1} + \eta\,\tau\, \frac{\lVert\theta_{t-1}\rVert}{\lVert d_t\rVert}\, d_t, \qquad \theta_t = \theta_{t-1} - b_t

    One layer's `theta`, `g`, `b` share one shape; the norms are the layer's, and the ratio
    τ‖θ‖/‖d‖, with τ = `trust`, is 1 where one of them is zero. `lr` has no unit: without momentum
    0.1 moves a layer by 0.1 · trust of its own length. The rate stands inside the sum, as in
    the paper. The paper divides by ‖g‖ + λ‖θ‖, an upper bound of ‖d‖; this is optax's form, the
    same for λ = 0. Biases and normalisation are scaled like all others; the authors leave them out.

    :when: Image networks with batches of many thousands.
    :torch: not there
    :optax: `lars(lr, weight_decay, trust_coefficient=trust, momentum=momentum)`
    :keras: not there
    :source: You, Gitman & Ginsburg 2017, arXiv:1708.03888, algorithm 1
    """
    d = g + weight_decay * theta
    b = momentum * b + lr * _trust_ratio(theta, d, norm, trust) * d
    return theta - b, b


@layer_rule
def lamb(theta, g, m, v, *, t, norm, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
    r"""LAMB: Adam's direction, as long in each layer as the layer's weights.

    .. math:: d_t = \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda\theta_{t-1}, \qquad \theta_t = \theta_{t-1} - \eta\, \frac{\lVert\theta_{t-1}\rVert}{\lVert d_t\rVert}\, d_t

    m̂ and v̂ are Adam's; one layer's arrays share one shape and the norms are the layer's. The
    ratio is 1 where one of them is zero. `lr` has no unit: 0.1 moves every layer by a tenth of
    its own length. The paper's φ, a clip of ‖θ‖, is left out, as in optax (whose λ is 0 by
    default).

    :when: Transformers with batches of many thousands.
    :rate: 0.001 in Keras, by default
    :torch: not there
    :optax: `lamb(lr, *betas, eps, weight_decay=weight_decay)`
    :keras: `Lamb(lr, *betas, eps, weight_decay=weight_decay)` (decay outside the ratio)
    :source: You et al. 2020, arXiv:1904.00962, algorithm 2
    """
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    d = m_hat / (sqrt(v_hat) + eps) + weight_decay * theta
    return theta - lr * _trust_ratio(theta, d, norm) * d, m, v


@layer_rule
def adafactor(
    theta, g, r: number, c: number, *, t, shape, mean, lr,
    beta2_decay=-0.8, eps1=1e-16, eps2=1e-3, d=1.0, weight_decay=0.0,
):  # fmt: skip
    r"""Adafactor: Adam without momentum whose v is one number for each row and each column.

    .. math:: r_t = \beta_t r_{t-1} + (1-\beta_t) \operatorname{mean}_j g_t^2, \qquad c_t = \beta_t c_{t-1} + (1-\beta_t) \operatorname{mean}_i g_t^2, \qquad \beta_t = 1 - t^{-0.8}

    .. math:: v_{ij} = \frac{r_i\, c_j}{\operatorname{mean}_i r_i}, \qquad u_t = \frac{g_t}{\sqrt{v}}, \qquad
        \alpha_t = \max(\epsilon_2, \operatorname{rms}\theta_{t-1})\, \min(\eta, t^{-1/2})

    .. math:: \theta_t = (1-\eta\lambda)\,\theta_{t-1} - \alpha_t\, \frac{u_t}{\max(1, \operatorname{rms}(u_t)/d)}

    One layer's `theta` and `g` share one shape; `r` is (rows, 1) and `c` (1, columns) of its last
    two axes. A layer with one axis keeps its whole v in `r`. `lr` has no unit: 0.1 moves a layer
    by 0.1 of its root mean square, in the first 100 updates; after that 1/√t is smaller, and a
    smaller `lr` is reached later. As in torch, eps₁ is a least value (of mean r, and its square
    of v), where the paper adds 1e-30 to g²; torch's eps₁ is by default the dtype's, 2.2e-16 or
    1.2e-7.

    :when: Large transformers, when memory for Adam's v is missing.
    :rate: 0.01 in torch, 0.001 in Keras, by default
    :torch: `Adafactor(params, lr, beta2_decay, eps=(eps1, eps2), d=d, weight_decay=weight_decay)`
    :optax: `adafactor(lr)` (another set of defaults, factored from 128 columns on)
    :keras: `Adafactor(lr, beta2_decay, eps1, eps2, d)` (its eps₁ is added to g²)
    :source: Shazeer & Stern 2018, arXiv:1804.04235, algorithms 4 and 5
    """
    beta = 1 - t**beta2_decay
    if len(shape) < 2:
        v = r = beta * r + (1 - beta) * g * g
    else:
        r = beta * r + (1 - beta) * (g * g).mean(axis=-1, keepdims=True)
        c = beta * c + (1 - beta) * (g * g).mean(axis=-2, keepdims=True)
        v = r * c / maximum(r.mean(axis=-2, keepdims=True), eps1)
    u = g / sqrt(maximum(v, eps1 * eps1))
    size = maximum(sqrt(mean(theta * theta)), eps2)
    clip = maximum(sqrt(mean(u * u)) / d, 1.0)
    return theta - lr * weight_decay * theta - size * minimum(lr, t**-0.5) * u / clip, r, c


@layer_rule
def muon(
    theta, g, m, v: number, *, t, shape, norm, lr,
    momentum=0.95, weight_decay=0.1, ns_steps=5, others=1.0, betas=(0.9, 0.999), eps=1e-8,
):  # fmt: skip
    r"""Muon: momentum, with all singular values of a matrix's step brought near 1.

    .. math:: M_t = \beta M_{t-1} + (1-\beta)\, G_t, \qquad O_t = \operatorname{NS}_5\big(\beta M_t + (1-\beta)\, G_t\big)

    .. math:: \Theta_t = (1-\eta\lambda)\,\Theta_{t-1} - \eta \sqrt{\max(1, \tfrac{\text{rows}}{\text{columns}})}\; O_t

    One layer's `theta`, `g`, `m` share one shape. NS is `newton_schulz`, which does not change
    with the scale of G. A layer with more than two axes is the matrix (outputs, all the rest). A
    layer with fewer, a bias say, is updated by `adamw` at the rate `others` · lr, with its own
    `v`; embeddings and output layers are matrices here, so give them another optimizer if you
    follow the authors. `lr` is in units of theta: 0.1 changes a matrix by about 0.1 in every
    singular direction. As in torch; Jordan's code sums the gradients in M, which is the same for
    NS, and torch rounds NS to bfloat16. optax corrects the bias of M, which mixes G otherwise.

    :when: Hidden matrices of transformers and dense networks.
    :rate: 0.001 in torch and Keras, by default
    :torch: `Muon(params, lr, weight_decay, momentum, ns_steps=ns_steps)`, for matrices only
    :optax: `contrib.muon(lr, beta=momentum, weight_decay=weight_decay, ns_steps=ns_steps)`
        (with bias correction; rows are inputs)
    :keras: `Muon(lr, momentum=momentum, weight_decay=weight_decay, ns_steps=ns_steps)`
        (its factor is 0.2·√max(rows, columns); other shapes by Adam)
    :source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; with weight decay: Liu et al. 2025, arXiv:2502.16982
    """
    if len(shape) < 2:
        return adamw.formula(
            theta, g, m, v, t=t, lr=others * lr, betas=betas, eps=eps, weight_decay=weight_decay
        )
    m = momentum * m + (1 - momentum) * g
    step = momentum * m + (1 - momentum) * g
    step = step / maximum(norm(step), 1e-7)
    rows, columns = shape[0], math.prod(shape[1:])
    step = newton_schulz(step.reshape(-1, rows, columns), ns_steps).reshape(theta.shape)
    scale = max(1, rows / columns) ** 0.5
    return theta - lr * weight_decay * theta - scale * lr * step, m, v


def newton_schulz(x, steps=5):
    """Matrices x (K, rows, columns), none longer than 1, with their singular values near 1.

    A polynomial in x that is odd keeps the singular vectors and maps every singular value s to
    a·s + b·s³ + c·s⁵. Five times with these numbers, it takes [0.01, 1] to about [0.68, 1.13].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    if x.shape[-2] > x.shape[-1]:
        return newton_schulz(x.swapaxes(-1, -2), steps).swapaxes(-1, -2)
    for _ in range(steps):
        xx = x @ x.swapaxes(-1, -2)
        x = a * x + (b * xx + c * xx @ xx) @ x
    return x


# --- Without a schedule, without a rate ----------------------------------------------------------


@rule
def schedule_free_sgd(
    theta, g, z: point, x: average, top: number, total: number, *,
    lr, momentum=0.9, weight_decay=0.0,
):  # fmt: skip
    r"""Schedule-Free SGD: gradients are taken between the walk z and its average x.

    .. math:: z_t = z_{t-1} - \eta\,(g_t + \lambda\theta_{t-1}), \qquad x_t = (1 - c_t)\, x_{t-1} + c_t z_t, \qquad \theta_t = \beta\, x_t + (1-\beta)\, z_t

    θ is y in the paper, the point of the gradients; x is evaluated. The weights c are 1/t at a
    constant rate; in general cₜ = wₜ / Σ w with w the square of the largest rate so far. All
    arrays share one shape, `top` (the largest rate) and `total` (Σ w) are one number for each
    run. `lr` is in units of theta² / loss: 0.1 walks z as SGD at 0.1 does. Weight decay is in L2
    form, at θ. A warm-up is a schedule. optax computes x from θ and z and cannot have momentum 0.

    :when: The length of the run is open and you want one rate.
    :rate: 1 in the authors' package and optax, by default
    :torch: `schedulefree.SGDScheduleFree(params, lr, momentum, weight_decay)`, the authors' package
    :optax: `contrib.schedule_free_sgd(lr, b1=momentum, weight_decay=weight_decay)`
    :keras: not there
    :source: Defazio et al. 2024, arXiv:2405.15682
    """
    z = z - lr * (g + weight_decay * theta)
    top = maximum(top, lr)
    total = total + top * top
    share = top * top / nonzero(total)
    x = (1 - share) * x + share * z
    return momentum * x + (1 - momentum) * z, z, x, top, total


@rule
def schedule_free_adamw(
    theta, g, v, z: point, x: average, top: number, total: number, *,
    t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
):  # fmt: skip
    r"""Schedule-Free AdamW: the walk z takes Adam's steps without momentum; x averages it.

    .. math:: z_t = z_{t-1} - \eta\, \Big(\frac{g_t}{\sqrt{v_t/(1-\beta_2^t)} + \epsilon} + \lambda\theta_{t-1}\Big), \qquad \theta_t = \beta_1 x_t + (1-\beta_1)\, z_t

    v is Adam's; x, its weights, `top` and `total` are as in `schedule_free_sgd`, and x is
    evaluated. `lr` is in units of theta: 0.1 moves each coordinate of z by about 0.1. Weight
    decay acts at θ, as in the authors' package.

    :when: As AdamW, with an open end.
    :rate: 0.0025 in the authors' package, optax and Keras, by default
    :torch: `schedulefree.AdamWScheduleFree(params, lr, betas, eps, weight_decay)`,
        the authors' package
    :optax: `contrib.schedule_free_adamw(lr, None, *betas, eps, weight_decay)`
    :keras: `ScheduleFreeAdamW(lr, *betas, eps)`
        (on JAX; on torch, Keras 3.15 finds x from the new z, which is another path)
    :source: Defazio et al. 2024, arXiv:2405.15682, algorithm 1
    """
    beta1, beta2 = betas
    v = beta2 * v + (1 - beta2) * g * g
    d = g / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * theta
    z = z - lr * d
    top = maximum(top, lr)
    total = total + top * top
    share = top * top / nonzero(total)
    x = (1 - share) * x + share * z
    return beta1 * x + (1 - beta1) * z, v, z, x, top, total


@rule
def dog(theta, g, start: point, r: number, s: number, *, norm, dot, lr, r0=1e-6, eps=1e-8):
    r"""DoG: the rate is the distance from the start over the root of the summed squared gradients.

    .. math:: \bar r_t = \max\big(\bar r_{t-1},\ \lVert\theta_{t-1} - \theta_0\rVert,\ r_0 (1 + \lVert\theta_0\rVert)\big), \qquad s_t = s_{t-1} + \lVert g_t\rVert^2

    .. math:: \theta_t = \theta_{t-1} - \eta\, \frac{\bar r_t}{\sqrt{s_t + \epsilon}}\, g_t

    `theta`, `g`, `start` share one shape, `r` and `s` are one number for each run: norms are of
    all parameters at once. `lr` has no unit and is 1 in the paper; 0.1 is a tenth of DoG's step.
    The authors evaluate an average: `tail_average(dog)` or `ema(dog)`.

    :when: Fine-tuning, or a first run on a new problem, when no rate is known.
    :rate: 1 in optax, by default
    :torch: `dog.DoG`, the authors' package
    :optax: `contrib.dog(lr, init_step=("heuristic", r0), eps=eps)`
    :keras: not there
    :source: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022
    """
    r = maximum(maximum(r, norm(theta - start)), r0 * (1 + norm(start)))
    s = s + dot(g, g)
    return theta - lr * r / sqrt(s + eps) * g, start, r, s


@rule
def dadapt_sgd(
    theta, g, start: point, s, d: number, n: number, g0: number, *,
    norm, dot, lr, momentum=0.0, d0=1e-6,
):  # fmt: skip
    r"""D-Adaptation for SGD: a lower bound d of the distance to the solution sets the rate.

    .. math:: \lambda_t = \eta\, \frac{d_{t-1}}{\lVert g_1\rVert}, \qquad n_t = n_{t-1} + \lambda_t\, g_t^\top s_{t-1}, \qquad s_t = s_{t-1} + \lambda_t g_t

    .. math:: d_t = \max\Big(d_{t-1},\ \frac{2 n_t}{\lVert s_t\rVert}\Big), \qquad \theta_t = \beta\,\theta_{t-1} + (1-\beta)(\theta_0 - s_t)

    `theta`, `g`, `start`, `s` share one shape; `d`, `n` and `g0` = ‖g₁‖ are one number for each
    run, with norms over all parameters. `d` begins at `d0`. `lr` has no unit and is 1 in the
    paper; 0.1 is a tenth of the rate it finds. Gradients of zero before the first other one are
    skipped (the authors' package divides by zero).

    :when: A first run on a new problem, when no rate is known.
    :rate: 1 in the authors' package, by default
    :torch: `dadaptation.DAdaptSGD(params, lr, momentum, d0=d0)`, the authors' package
    :optax: not there
    :keras: not there
    :source: Defazio & Mishchenko 2023, arXiv:2301.07733
    """
    d = maximum(d, d0)
    g0 = g0 + (g0 == 0) * norm(g)
    step = lr * d / nonzero(g0)
    n = n + step * dot(g, s)
    s = s + step * g
    d = maximum(d, 2 * n / nonzero(norm(s)))
    return momentum * theta + (1 - momentum) * (start - s), start, s, d, n, g0


@rule
def dadapt_adam(
    theta, g, m, v, s, d: number, n: number, *,
    norm, dot, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, d0=1e-6,
):  # fmt: skip
    r"""D-Adaptation for Adam: a lower bound d of the distance sets Adam's rate.

    .. math:: \lambda_t = \eta\, d_{t-1}, \qquad n_t = \gamma n_{t-1} + (1-\gamma)\,\lambda_t\, g_t^\top \frac{s_{t-1}}{\sqrt{v_{t-1}} + \epsilon}, \qquad s_t = \gamma s_{t-1} + (1-\gamma)\,\lambda_t g_t

    .. math:: d_t = \max\Big(d_{t-1},\ \frac{n_t}{(1-\gamma)\lVert s_t\rVert_1}\Big), \qquad \gamma = \sqrt{\beta_2}

    .. math:: m_t = \beta_1 m_{t-1} + (1-\beta_1)\,\lambda_t g_t, \qquad \theta_t = (1 - \lambda_t\lambda)\,\theta_{t-1} - \frac{m_t}{\sqrt{v_t} + \epsilon}

    v is Adam's. `theta`, `g`, `m`, `v`, `s` share one shape; `d` and `n` are one number for each
    run, over all parameters. `d` begins at `d0`. `lr` has no unit and is 1 in the paper; 0.1 is
    a tenth of the rate it finds. Neither average is corrected, as in the paper and by default in
    the authors' package; optax corrects both, so its first steps are 0.32 as long. In float16 the
    first d underflows.

    :when: As Adam, when no rate is known.
    :rate: 1 in the authors' package and optax, by default
    :torch: `dadaptation.DAdaptAdam(params, lr, betas, eps, weight_decay, decouple=True, d0=d0)`,
        the authors' package
    :optax: `contrib.dadapt_adamw(lr, betas, eps, estim_lr0=d0)` (with bias correction)
    :keras: not there
    :source: Defazio & Mishchenko 2023, arXiv:2301.07733, the form for Adam
    """
    (beta1, beta2), gamma = betas, betas[1] ** 0.5
    d = maximum(d, d0)
    step = lr * d
    n = gamma * n + (1 - gamma) * step * dot(g, s / nonzero(sqrt(v) + eps))
    m = beta1 * m + (1 - beta1) * step * g
    v = beta2 * v + (1 - beta2) * g * g
    s = gamma * s + (1 - gamma) * step * g
    d = maximum(d, n / nonzero((1 - gamma) * norm(s, 1)))
    return theta - step * weight_decay * theta - m / (sqrt(v) + eps), m, v, s, d, n


@rule
def prodigy(
    theta, g, m, v, s, start: point, d: number, n: number, *,
    norm, dot, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, d0=1e-6, d_coef=1.0,
):  # fmt: skip
    r"""Prodigy: D-Adaptation whose estimate weighs late gradients more, and so grows faster.

    .. math:: n_t = \gamma n_{t-1} + \eta\, \frac{d_{t-1}^2}{d_0}\, g_t^\top(\theta_0 - \theta_{t-1}), \qquad s_t = \gamma s_{t-1} + \eta\, \frac{d_{t-1}^2}{d_0}\, g_t, \qquad d_t = \max\Big(d_{t-1},\ c\, \frac{n_t}{\lVert s_t\rVert_1}\Big)

    .. math:: m_t = \beta_1 m_{t-1} + (1-\beta_1)\, d_{t-1} g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2)\, d_{t-1}^2 g_t^2

    .. math:: \theta_t = (1 - \eta\, d_{t-1}\lambda)\,\theta_{t-1} - \eta\, d_{t-1}\, \frac{m_t}{\sqrt{v_t} + d_t \epsilon}, \qquad \gamma = \sqrt{\beta_2}

    `theta`, `g`, `m`, `v`, `s`, `start` share one shape; `d` and `n` are one number for each run,
    over all parameters. `d` begins at `d0`, and c = `d_coef` is what to tune. `lr` has no unit
    and is 1 in the paper; 0.1 is a tenth of the rate it finds. No bias correction, as by default
    in the authors' package; optax corrects, so its first steps are 0.32 as long.
    Without momentum the package's fast form multiplies g by the new d; its reference does not. In
    float16 the first d underflows.

    :when: As AdamW, when no rate is known; adapters for image models.
    :rate: 1 in the authors' package and optax, by default
    :torch: `prodigyopt.Prodigy(params, lr, betas, None, eps, weight_decay, d0=d0, d_coef=d_coef)`,
        the authors' package
    :optax: `contrib.prodigy(lr, betas, eps=eps, estim_lr0=d0, estim_lr_coef=d_coef)`
        (with bias correction)
    :keras: not there
    :source: Mishchenko & Defazio 2024, arXiv:2306.06101, the form for Adam
    """
    (beta1, beta2), gamma = betas, betas[1] ** 0.5
    d = maximum(d, d0)
    step, weight = lr * d, lr * d * d / d0
    n = gamma * n + weight * dot(g, start - theta)
    s = gamma * s + weight * g
    m = beta1 * m + (1 - beta1) * d * g
    v = beta2 * v + (1 - beta2) * d * d * g * g
    d = maximum(d, d_coef * n / nonzero(norm(s, 1)))
    theta = theta - step * weight_decay * theta
    return theta - step * m / (sqrt(v) + d * eps), m, v, s, start, d, n


# --- Games ---------------------------------------------------------------------------------------


@rule
def extragradient(theta, g, *, gradient, lr):
    r"""Extragradient: try the step, and make it with the gradient found there.

    .. math:: \theta_t = \theta_{t-1} - \eta\, \nabla f\big(\theta_{t-1} - \eta\, g_t\big)

    `theta`, `g` share one shape; it asks for the `gradient` of the same batch at another point,
    which costs a second pass. `lr` is in units of theta² / loss: 0.1 is the rate of both steps.
    On f(x, y) = xy it shrinks the distance by √(1 − η² + η⁴), where gradient descent grows.

    :when: Games: two losses that pull against each other.
    :torch: not there
    :optax: not there
    :keras: not there
    :source: Korpelevich 1976, Ekonomika i Matematicheskie Metody 12
    """
    return theta - lr * gradient(theta - lr * g)


@rule
def optimistic(theta, g, before, *, t, lr):
    r"""Optimistic gradient: extragradient with the last gradient as a guess of the next.

    .. math:: \theta_t = \theta_{t-1} - \eta\,(2 g_t - g_{t-1}), \qquad g_0 = g_1

    `theta`, `g`, `before` share one shape; `lr` is in units of theta² / loss: a steady slope is
    walked at `lr`. The first step is plain gradient descent, as in optax; with g₀ = 0 it would be
    twice as long.

    :when: Games, at the price of one gradient an update.
    :torch: not there
    :optax: `optimistic_gradient_descent(lr)`
    :keras: not there
    :source: Popov 1980, Math. Notes 28(5); for GANs: Daskalakis et al. 2018, arXiv:1711.00141
    """
    before = before + (t == 1) * g
    return theta - lr * (2 * g - before), g
