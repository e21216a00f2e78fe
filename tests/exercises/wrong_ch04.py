"""Plausible wrong answers to the exercises of chapter 04."""

import torch.nn.functional as F

RIGHT = {
    "parameters of BatchNorm2d(16)": 32,
    "numbers in its state dict that no gradient reaches": 33,
    "means it takes of the batch": 16,
    "values that go into one of them": 200,
    "means that LayerNorm((16, 5, 5)) takes of the batch": 8,
    "means that GroupNorm(4, 16) takes of the batch": 32,
}
PARAMETERS, BUFFERS, MEANS, VALUES, LAYER, GROUP = RIGHT
CHANNELS = (0, 2, 3)


def counts(name, number):
    return RIGHT | {name: number}


def centre(x, axes=CHANNELS):
    return x - x.mean(axes, keepdim=True)


def variance(x, axes=CHANNELS, correction=0):
    return x.var(axes, correction=correction, keepdim=True)


def only_centred(x, eps):
    return centre(x)


def without_eps(x, eps):
    return centre(x) / variance(x).sqrt()


def eps_behind_the_root(x, eps):
    return centre(x) / (variance(x).sqrt() + eps)


def by_the_variance(x, eps):
    return centre(x) / (variance(x) + eps)


def one_less(x, eps):
    return centre(x) / (variance(x, correction=1) + eps).sqrt()


def each_image(x, eps):
    return centre(x, (1, 2, 3)) / (variance(x, (1, 2, 3)) + eps).sqrt()


def each_map(x, eps):
    return centre(x, (2, 3)) / (variance(x, (2, 3)) + eps).sqrt()


def each_pixel(x, eps):
    return centre(x, (0,)) / (variance(x, (0,)) + eps).sqrt()


def one_mean_for_all(x, eps):
    return (x - x.mean()) / (x.var(correction=0) + eps).sqrt()


def one_spread_for_all(x, eps):
    return centre(x) / (centre(x).square().mean() + eps).sqrt()


def in_place(x, eps):
    x -= x.mean(CHANNELS, keepdim=True)
    return x / (x.square().mean(CHANNELS, keepdim=True) + eps).sqrt()


def torchs(x, eps):
    return F.batch_norm(x, None, None, training=True, eps=eps)


def channels_only(x, eps):
    return (x.mean(CHANNELS) / x.std(CHANNELS)).view(1, -1)


def old_weighs(mean, var, x, momentum):
    return momentum * mean + (1 - momentum) * x.mean(0), momentum * var + (1 - momentum) * x.var(0)


def forgets(mean, var, x, momentum):
    return x.mean(0), x.var(0)


def biased(mean, var, x, momentum):
    return mix(mean, x.mean(0), momentum), mix(var, x.var(0, correction=0), momentum)


def roots(mean, var, x, momentum):
    return mix(mean, x.mean(0), momentum), mix(var, x.std(0), momentum)


def variance_forgets(mean, var, x, momentum):
    return mix(mean, x.mean(0), momentum), x.var(0)


def adds_up(mean, var, x, momentum):
    return mean + momentum * x.mean(0), var + momentum * x.var(0)


def variance_about_the_old_mean(mean, var, x, momentum):
    return mix(mean, x.mean(0), momentum), mix(var, (x - mean).square().mean(0), momentum)


def fixed_momentum(mean, var, x, momentum):
    return mix(mean, x.mean(0), 0.25), mix(var, x.var(0), 0.25)


def update_in_place(mean, var, x, momentum):
    mean.lerp_(x.mean(0), momentum)
    return mean, mix(var, x.var(0), momentum)


def mean_alone(mean, var, x, momentum):
    return mix(mean, x.mean(0), momentum)


def mix(old, new, momentum):
    return (1 - momentum) * old + momentum * new


def by_input(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(1, -1, 1, 1), (bias - mean) * scale + beta


def by_column(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / (var + eps).sqrt()
    return weight * scale, (bias - mean) * scale + beta


def fold_without_eps(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / var.sqrt()
    return weight * scale.view(-1, 1, 1, 1), (bias - mean) * scale + beta


def gamma_only(weight, bias, gamma, beta, mean, var, eps):
    return weight * gamma.view(-1, 1, 1, 1), bias + beta


def bias_unscaled(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), bias + beta - mean * scale


def bias_lost(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), beta - mean * scale


def mean_lost(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), bias * scale + beta


def mean_added(weight, bias, gamma, beta, mean, var, eps):
    scale = gamma / (var + eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), (bias + mean) * scale + beta


def weight_alone(weight, bias, gamma, beta, mean, var, eps):
    return weight * (gamma / (var + eps).sqrt()).view(-1, 1, 1, 1)


def through(grad, x_hat, inv_std, axis):
    along = (grad * x_hat).mean(axis, keepdim=True)
    return inv_std * (grad - grad.mean(axis, keepdim=True) - x_hat * along)


def not_through(grad, x_hat, inv_std):
    return grad * 1.0


def constants(grad, x_hat, inv_std):
    return grad * inv_std


def mean_minded(grad, x_hat, inv_std):
    return inv_std * (grad - grad.mean(1, keepdim=True))


def deviation_minded(grad, x_hat, inv_std):
    return inv_std * (grad - x_hat * (grad * x_hat).mean(1, keepdim=True))


def down_the_columns(grad, x_hat, inv_std):
    return through(grad, x_hat, inv_std, 0)


def not_divided(grad, x_hat, inv_std):
    return through(grad, x_hat, 1.0, 1)


def a_sum_for_a_mean(grad, x_hat, inv_std):
    along = (grad * x_hat).sum(1, keepdim=True)
    return inv_std * (grad - grad.mean(1, keepdim=True) - x_hat * along)


def both_sums(grad, x_hat, inv_std):
    along = (grad * x_hat).sum(1, keepdim=True)
    return inv_std * (grad - grad.sum(1, keepdim=True) - x_hat * along)


WRONG = {
    "4.1": [
        (counts(PARAMETERS, 64), "a weight and a bias for each channel"),
        (counts(BUFFERS, 32), "one count of batches"),
        (counts(MEANS, 128), "one mean for each channel"),
        (counts(VALUES, 25), "over all images and all of their pixels"),
        (counts(LAYER, 16), "each image is normalised by itself"),
        (counts(GROUP, 4), "for each of its four groups"),
        (counts(GROUP, ...), "is still open"),
        (counts(MEANS, "16"), "not a str"),
        ({MEANS: 16}, "Keep the dictionary"),
    ],
    "4.2": [
        (only_centred, "now divide"),
        (without_eps, "where is it?"),
        (eps_behind_the_root, "before the root"),
        (by_the_variance, "divide by the variance"),
        (one_less, "not one less"),
        (each_image, "each image by itself"),
        (each_map, "each image by itself"),
        (each_pixel, "Each pixel has a mean of its own"),
        (one_mean_for_all, "means are not 0 afterwards"),
        (one_spread_for_all, "channel by channel"),
        (in_place, "has changed"),
        (torchs, "here it is your turn"),
        (channels_only, "should have shape (4, 3, 2, 5)"),
    ],
    "4.3": [
        (old_weighs, "weighs the *new* one"),
        (forgets, "a running mean remembers"),
        (biased, "the count less one"),
        (roots, "not its root"),
        (variance_forgets, "part of the old one stays"),
        (adds_up, "three quarters of the old"),
        (variance_about_the_old_mean, "mix it as you mix the mean"),
        (fixed_momentum, "with 1 only the new batch"),
        (update_in_place, "return new tensors"),
        (mean_alone, "Return two tensors"),
    ],
    "4.4": [
        (by_input, "sees its outputs"),
        (by_column, "the columns of the kernel"),
        (fold_without_eps, "eps belongs to the variance"),
        (gamma_only, "of its own channel"),
        (bias_unscaled, "passes through the norm, too"),
        (bias_lost, "the layer's own bias"),
        (mean_lost, "subtracts its running mean"),
        (mean_added, "what becomes of an output of 0"),
        (weight_alone, "Return two tensors"),
    ],
    "4.5": [
        (not_through, "go on through the norm"),
        (constants, "as constants"),
        (mean_minded, "The deviation depends on x, too"),
        (deviation_minded, "The mean depends on x, too"),
        (down_the_columns, "its means run down the columns"),
        (not_divided, "a factor is missing"),
        (a_sum_for_a_mean, "the part along x_hat is not right"),
        (both_sums, "each row must sum to 0"),
    ],
}
