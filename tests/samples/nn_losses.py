# ruff: noqa: E501  (a sample is one line)
"""Losses, as functions and as modules."""

from __future__ import annotations

from .nn_shorthand import full
from .table import Family, given, integers, normal, uniform

FAMILY = Family(
    inputs={
        "x": normal(4, 5),
        "y": normal(4, 5),
        "z": normal(4, 5),
        "v": normal(4),
        "v2": normal(4),
        "vec": normal(5),
        "p": uniform(4, 5, low=0.05, high=0.95),
        "target": uniform(4, 5, low=0.05, high=0.95, grad=False),
        "signs": given([1, -1, -1, 1]),
        "signs2": given([[1, -1, 1, 1, -1]] * 4),
        "classes": given([1, 0, 4, 3], "int64"),
        "some": given([1, -100, 4, 3], "int64"),
        "labels": given([[3, 0, -1, 1, 2], [1, -1, 0, 0, 0], [0, 1, 2, 3, 4], [4, 2, -1, -1, 0]], "int64"),
        "multi": integers(4, 5, low=0, high=2),
        "w": uniform(5, low=0.5, high=2.0, grad=False),
        "im": normal(2, 5, 3),
        "im_classes": given([[0, 4, 2], [1, 1, 3]], "int64"),
        "im_target": uniform(2, 5, 3, low=0.1, high=0.9, grad=False),
        "counts": given([[0, 1, 3, 5, 2]] * 4),
        "var": uniform(4, 5, low=0.2, high=2.0),
        "var1": uniform(4, 1, low=0.2, high=2.0),
        "rows": normal(6, 3),
        "lin": normal(5, 3),
        "linb": normal(5),
        "lin2": normal(5, 2, 3),
        "row_classes": given([0, 1, 4, 2, 3, 3], "int64"),
        "row_classes2": given([[0, 1], [2, 3], [4, 4], [1, 0], [2, 2], [3, 1]], "int64"),
        "logits": normal(6, 2, 4),
        "ctc": given([[1, 2, 2], [3, 1, 0]], "int64"),
        "in_len": given([6, 5], "int64"),
        "out_len": given([3, 2], "int64"),
        "many": normal(4, 3),
        "many_t": given([1, 5, 9, 3], "int64"),
    },
    samples=full("""
    F.mse_loss(x, y)
    F.mse_loss(x, y, reduction='none')
    F.mse_loss(x, y, reduction='sum')
    F.l1_loss(x, y)
    F.l1_loss(x, y, weight=target)
    F.mse_loss(x, y, weight=target)
    F.mse_loss(x, y, weight=target, reduction='none')
    F.huber_loss(x, y, weight=target, reduction='sum')
    F.l1_loss(x, y, reduction='sum')
    F.smooth_l1_loss(x, y)
    F.smooth_l1_loss(x, y, beta=0.3, reduction='none')
    F.smooth_l1_loss(x, y, beta=0.0)
    F.huber_loss(x, y)
    F.huber_loss(x, y, delta=0.4, reduction='sum')
    F.kl_div(x.log_softmax(1), target)
    F.kl_div(x.log_softmax(1), target, reduction='batchmean')
    F.kl_div(x.log_softmax(1), y.log_softmax(1), reduction='sum', log_target=True)
    F.nll_loss(x.log_softmax(1), classes)
    F.nll_loss(x.log_softmax(1), some, weight=w)
    F.nll_loss(im.log_softmax(1), im_classes, reduction='none')
    F.nll_loss(vec.log_softmax(0), classes[0])
    F.cross_entropy(x, classes)
    F.cross_entropy(x, some, weight=w)
    F.cross_entropy(x, some, label_smoothing=0.2)
    F.cross_entropy(x, some, weight=w, label_smoothing=0.2, reduction='sum')
    F.cross_entropy(x, target)
    F.cross_entropy(x, target, weight=w, label_smoothing=0.1, reduction='none')
    F.cross_entropy(im, im_classes)
    F.cross_entropy(im, im_classes, ignore_index=1, reduction='none')
    F.cross_entropy(im, im_target, reduction='sum')
    F.cross_entropy(vec, classes[0])
    F.linear_cross_entropy(rows, lin, row_classes)
    F.linear_cross_entropy(rows, lin, row_classes, linear_bias=linb, weight=w, reduction='sum')
    F.linear_cross_entropy(rows, lin2, row_classes2, ignore_index=1)
    F.linear_cross_entropy(rows, lin, row_classes, options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=4, chunking_method=None))
    F.linear_cross_entropy(rows[0], lin, row_classes[0], label_smoothing=0.1)
    F.binary_cross_entropy(p, target)
    F.binary_cross_entropy(p, target, weight=w, reduction='none')
    F.binary_cross_entropy_with_logits(x, target)
    F.binary_cross_entropy_with_logits(x, target, weight=w, pos_weight=w, reduction='sum')
    F.poisson_nll_loss(x, counts)
    F.poisson_nll_loss(p, counts, log_input=False, full=True)
    F.poisson_nll_loss(x, counts, full=True, reduction='none')
    F.gaussian_nll_loss(x, y, var)
    F.gaussian_nll_loss(x, y, var1, full=True, reduction='sum')
    F.gaussian_nll_loss(x, y, 0.5)
    F.ctc_loss(logits.permute(0, 1, 2).log_softmax(2), ctc, in_len, out_len)
    F.ctc_loss(logits.log_softmax(2), ctc, in_len, out_len, reduction='none')
    F.ctc_loss(logits.log_softmax(2), ctc, in_len, out_len, blank=3, reduction='sum', zero_infinity=True)
    F.margin_ranking_loss(v, v2, signs)
    F.margin_ranking_loss(v, v2, signs, margin=0.5, reduction='none')
    F.hinge_embedding_loss(x, signs2)
    F.hinge_embedding_loss(v, signs, margin=0.3, reduction='sum')
    F.cosine_embedding_loss(x, y, signs)
    F.cosine_embedding_loss(x, y, signs, margin=0.2, reduction='none')
    F.triplet_margin_loss(x, y, z)
    F.triplet_margin_loss(x, y, z, margin=2.0, p=1, swap=True, reduction='none')
    F.triplet_margin_with_distance_loss(x, y, z)
    F.triplet_margin_with_distance_loss(x, y, z, distance_function=torch.nn.functional.pairwise_distance, margin=0.5, swap=True)
    F.multi_margin_loss(x, classes)
    F.multi_margin_loss(x, classes, p=2, margin=0.7, weight=w, reduction='none')
    F.multi_margin_loss(vec, classes[0])
    F.multilabel_margin_loss(x, labels)
    F.multilabel_margin_loss(x, labels, reduction='none')
    F.multilabel_margin_loss(vec, labels[0], reduction='sum')
    F.multilabel_soft_margin_loss(x, multi.to(x.dtype))
    F.multilabel_soft_margin_loss(x, multi.to(x.dtype), weight=w, reduction='none')
    F.soft_margin_loss(x, signs2)
    F.soft_margin_loss(x, signs2, reduction='sum')
    torch.kl_div(x.log_softmax(1), target, 1)
    torch.binary_cross_entropy_with_logits(x, target, w, None, 1)
    torch.poisson_nll_loss(x, counts, True, False, 1e-8, 1)
    torch.margin_ranking_loss(v, v2, signs, 0.1, 1)
    torch.hinge_embedding_loss(x, signs2, 0.8, 2)
    torch.cosine_embedding_loss(x, y, signs)
    torch.triplet_margin_loss(x, y, z, 1.0, 2.0, 1e-6, True, 1)
    torch.ctc_loss(logits.log_softmax(2), ctc, in_len, out_len, 0, 1)
    """),
    modules=full("""
    nn.L1Loss() <- x, y
    nn.L1Loss(reduction='none') <- x, y
    nn.MSELoss() <- x, y
    nn.MSELoss(reduction='sum') <- x, y
    nn.SmoothL1Loss() <- x, y
    nn.SmoothL1Loss(beta=0.5, reduction='sum') <- x, y
    nn.HuberLoss() <- x, y
    nn.HuberLoss('none', 0.3) <- x, y
    nn.KLDivLoss(reduction='batchmean') <- x.log_softmax(1), target
    nn.KLDivLoss(log_target=True) <- x.log_softmax(1), y.log_softmax(1)
    nn.NLLLoss() <- x.log_softmax(1), classes
    nn.NLLLoss(weight=torch.arange(1., 6.), ignore_index=0) <- x.log_softmax(1), classes
    nn.CrossEntropyLoss() <- x, classes
    nn.CrossEntropyLoss(label_smoothing=0.1, reduction='sum') <- im, im_classes
    nn.CrossEntropyLoss(weight=torch.arange(1., 6.)) <- x, target
    nn.LinearCrossEntropyLoss(3, 5, bias=True) <- rows, row_classes
    nn.LinearCrossEntropyLoss(3, 5, out_features=(2,), label_smoothing=0.1) <- rows, row_classes2
    nn.LinearCrossEntropyLoss(3, 5, bias=False, reduction='sum', options=nn.LinearCrossEntropyOptions(batch_chunk_size=2, chunking_method=None)) <- rows, row_classes
    nn.BCELoss() <- p, target
    nn.BCELoss(weight=torch.arange(1., 6.), reduction='none') <- p, target
    nn.BCEWithLogitsLoss() <- x, target
    nn.BCEWithLogitsLoss(pos_weight=torch.arange(1., 6.)) <- x, target
    nn.PoissonNLLLoss() <- x, counts
    nn.PoissonNLLLoss(log_input=False, full=True) <- p, counts
    nn.GaussianNLLLoss() <- x, y, var
    nn.GaussianNLLLoss(full=True, reduction='none') <- x, y, var1
    nn.CTCLoss() <- logits.log_softmax(2), ctc, in_len, out_len
    nn.CTCLoss(blank=3, reduction='none', zero_infinity=True) <- logits.log_softmax(2), ctc, in_len, out_len
    nn.MarginRankingLoss() <- v, v2, signs
    nn.MarginRankingLoss(0.3, reduction='none') <- v, v2, signs
    nn.HingeEmbeddingLoss() <- x, signs2
    nn.HingeEmbeddingLoss(0.3) <- v, signs
    nn.CosineEmbeddingLoss() <- x, y, signs
    nn.CosineEmbeddingLoss(margin=0.4, reduction='sum') <- x, y, signs
    nn.TripletMarginLoss() <- x, y, z
    nn.TripletMarginLoss(0.5, p=1, swap=True) <- x, y, z
    nn.TripletMarginWithDistanceLoss() <- x, y, z
    nn.TripletMarginWithDistanceLoss(distance_function=torch.nn.PairwiseDistance(), margin=0.4) <- x, y, z
    nn.MultiMarginLoss() <- x, classes
    nn.MultiMarginLoss(p=2, margin=0.5, weight=torch.arange(1., 6.)) <- x, classes
    nn.MultiLabelMarginLoss() <- x, labels
    nn.MultiLabelMarginLoss(reduction='none') <- x, labels
    nn.MultiLabelSoftMarginLoss() <- x, multi.to(x.dtype)
    nn.MultiLabelSoftMarginLoss(weight=torch.arange(1., 6.), reduction='sum') <- x, multi.to(x.dtype)
    nn.SoftMarginLoss() <- x, signs2
    nn.SoftMarginLoss(reduction='none') <- x, signs2
    nn.AdaptiveLogSoftmaxWithLoss(3, 10, [2, 5], div_value=1.5) <- many, many_t
    nn.AdaptiveLogSoftmaxWithLoss(3, 10, [4], head_bias=True) <- many[0], many_t[1]
    """),
    programs={
        "adaptive log_prob": full("""
torch.manual_seed(1)
head = nn.AdaptiveLogSoftmaxWithLoss(3, 10, [2, 5], div_value=1.5)
result = head.log_prob(many), head.predict(many)
"""),
    },
    eager_only={"adaptive log_prob": "a module is made inside it"},
    variants={
        "float64": full("""
        F.cross_entropy(x, some, weight=w, label_smoothing=0.2, reduction='sum')
        F.binary_cross_entropy_with_logits(x, target)
        F.gaussian_nll_loss(x, y, var)
        nn.CTCLoss() <- logits.log_softmax(2), ctc, in_len, out_len
        nn.KLDivLoss(reduction='sum') <- x.log_softmax(1), target
        nn.TripletMarginLoss() <- x, y, z
        nn.MultiMarginLoss() <- x, classes
        nn.AdaptiveLogSoftmaxWithLoss(3, 10, [4], dtype=torch.float64) <- many, many_t
        """),
        "bfloat16": full("""
        nn.MSELoss() <- x, y
        nn.L1Loss() <- x, y
        nn.SmoothL1Loss() <- x, y
        nn.HuberLoss(reduction='sum') <- x, y
        nn.NLLLoss() <- x.log_softmax(1), classes
        nn.CrossEntropyLoss(label_smoothing=0.1) <- x, classes
        nn.BCELoss() <- p, target
        nn.BCEWithLogitsLoss(reduction='none') <- x, target
        nn.SoftMarginLoss() <- x, signs2
        nn.MultiLabelSoftMarginLoss() <- x, multi.to(x.dtype)
        nn.KLDivLoss(reduction='batchmean') <- x, target
        nn.PoissonNLLLoss() <- x, counts.to(x.dtype)
        nn.GaussianNLLLoss() <- x, y, var
        nn.CosineEmbeddingLoss() <- x, y, signs
        nn.TripletMarginLoss() <- x, y, z
        """),
    },
    exact={
        full("nn.CrossEntropyLoss(label_smoothing=0.1) <- x, classes [bfloat16]"): "gradient 2.0, here 0.17",
        full("nn.BCEWithLogitsLoss(reduction='none') <- x, target [bfloat16]"): "gradient 11, here 0.16",
        full("nn.GaussianNLLLoss() <- x, y, var [bfloat16]"): "gradient of var 3.5, here 0.21",
        full("nn.CosineEmbeddingLoss() <- x, y, signs [bfloat16]"): "gradient of y 2.9, here 0.20",
    },
)  # fmt: skip
