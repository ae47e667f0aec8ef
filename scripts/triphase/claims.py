# SPDX-License-Identifier: Apache-2.0
"""What the post claims about the cost of a training step: a table, and nothing else.

The source is "What's the backward-forward FLOP ratio for neural networks?" (Hobbhahn and Sevilla,
Epoch, 2021). Each line says what is claimed, the band that counts as agreement, and how the same
number is computed from rows (measures.py). It judges nothing: findings.py does.
No number below is a result; the bands are this project's reading of "about" (10 %) and "negligible"
(5 % of the forward pass).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from triphase.measures import (
    POST_ADAM_FLOP,
    Band,
    Measured,
    all_ratios,
    change,
    elementwise_share,
    growth,
    layer_ratio,
    per_parameter,
    ratio,
    resnets,
    update_share,
    with_post_adam,
)
from triphase.picking import (
    DEEP,
    LARGE_BATCH,
    at_batch_one,
    at_depth,
    at_large_batch,
    batch_range,
    deep_at_small_batch,
    pick,
)
from triphase.records import Records


@dataclass(frozen=True)
class Claim:
    id: str
    text: str
    source: str  # section of the post
    claimed: str
    band: Band  # agreement lies inside
    measure: Callable[[Records], Measured]
    run: str  # arguments of triphase_steps that would measure it
    unit: str = "backward/forward"


THEORY, FIRST, TYPE = "Theory", "First layer and the rest", "Type of layer"
BATCH, DEPTH, ALL, ADAM = "Batch size", "Depth", "Combining all", "Appendix B: optimizers"
ABOUT_1, ABOUT_2, ABOUT_3 = (0.9, 1.1), (1.8, 2.2), (2.7, 3.3)
RANGE = (ABOUT_1[0], ABOUT_3[1])
NEGLIGIBLE = (-0.05, 0.05)
FLAT = (-0.1, 0.1)

# fmt: off
CLAIMS = (
    Claim(
        "first-dominates-small-batch",
        "Where the first layer dominates, a small batch gives 2:1",
        THEORY, "2:1", ABOUT_2,
        lambda r: ratio(at_batch_one(r, "LinearNet"), update=True),
        "--model=LinearNet --batch=1",
    ),
    Claim(
        "first-dominates-large-batch",
        "Where the first layer dominates, a large batch gives 1:1",
        THEORY, "1:1", ABOUT_1,
        lambda r: ratio(at_large_batch(r, "LinearNet"), update=True),
        f"--model=LinearNet --batch={LARGE_BATCH}",
    ),
    Claim(
        "others-dominate-small-batch",
        "Where the other layers dominate, a small batch gives 3:1",
        THEORY, "3:1", ABOUT_3,
        lambda r: ratio(at_batch_one(r, "OneNet"), update=True),
        "--model=OneNet --batch=1",
    ),
    Claim(
        "others-dominate-large-batch",
        "Where the other layers dominate, a large batch gives 2:1",
        THEORY, "2:1", ABOUT_2,
        lambda r: ratio(at_large_batch(r, "OneNet"), update=True),
        f"--model=OneNet --batch={LARGE_BATCH}",
    ),
    Claim(
        "convolutions-small-batch",
        "Deep convolutional networks stay at 2:1 even in small batches",
        THEORY, "2:1", ABOUT_2,
        lambda r: ratio(deep_at_small_batch(r, "DeeperConvNet"), update=True),
        f"--model=DeeperConvNet:depth={DEEP} --batch=1",
    ),
    Claim(
        "range",
        "Ratios with SGD lie between 1:1 and 3:1",
        THEORY, "1:1 to 3:1", RANGE,
        lambda r: all_ratios(r, RANGE),
        "--model=LinearNet --model=OneNet --model=ConvNet --batch=1,4,16",
    ),
    Claim(
        "relu-and-loss-negligible",
        "ReLUs and the loss cost next to nothing beside the layers",
        THEORY, "about 0", NEGLIGIBLE,
        lambda r: elementwise_share(pick(r, "ConvNet")[-1]),
        "--model=ConvNet --batch=4",
        unit="share of forward and backward",
    ),
    Claim(
        "first-layer",
        "The first layer has a ratio of 1:1",
        FIRST, "1:1", ABOUT_1,
        lambda r: layer_ratio(pick(r, "LinearNet")[-1], first=True),
        f"--model=LinearNet --batch={LARGE_BATCH}",
    ),
    Claim(
        "other-layers",
        "All other layers have a ratio of 2:1",
        FIRST, "2:1", ABOUT_2,
        lambda r: layer_ratio(pick(r, "OneNet")[-1], first=False),
        f"--model=OneNet --batch={LARGE_BATCH}",
    ),
    Claim(
        "linear-update-matters",
        "In linear layers at batch 1 the update costs as much as the forward pass",
        TYPE, "1:1", ABOUT_1,
        lambda r: update_share(at_batch_one(r, "LinearNet")),
        "--model=LinearNet --batch=1",
        unit="update/forward",
    ),
    Claim(
        "conv-update-negligible",
        "In convolutional networks the update is negligible",
        TYPE, "about 0", NEGLIGIBLE,
        lambda r: update_share(pick(r, "ConvNet")[0]),
        "--model=ConvNet --batch=1",
        unit="update/forward",
    ),
    Claim(
        "update-constant-over-batch",
        "The update costs the same at every batch size",
        BATCH, "1", ABOUT_1,
        lambda r: growth(*batch_range(r, "LinearNet"), "update"),
        f"--model=LinearNet --batch=1,{LARGE_BATCH}",
        unit="update at the largest batch/at the smallest",
    ),
    Claim(
        "passes-grow-with-batch",
        "The passes grow in proportion to the batch",
        BATCH, "1", ABOUT_1,
        lambda r: growth(*batch_range(r, "LinearNet"), "forward", per_example=True),
        f"--model=LinearNet --batch=1,{LARGE_BATCH}",
        unit="forward per example at the largest batch/at the smallest",
    ),
    Claim(
        "large-batch-dilutes-update",
        "Large batches make the update negligible",
        BATCH, "about 0", NEGLIGIBLE,
        lambda r: update_share(at_large_batch(r, "LinearNet")),
        f"--model=LinearNet --batch={LARGE_BATCH}",
        unit="update/forward",
    ),
    Claim(
        "no-depth-below-two",
        "Without intermediate convolutions the ratio is well below 2:1",
        DEPTH, "< 2:1", (0.0, ABOUT_2[0]),
        lambda r: ratio(at_depth(r, "DeeperConvNet", deepest=False), update=False),
        "--model=DeeperConvNet:depth=0 --batch=4",
    ),
    Claim(
        "depth-converges",
        "With depth the ratio converges to 2:1",
        DEPTH, "2:1", ABOUT_2,
        lambda r: ratio(at_depth(r, "DeeperConvNet", deepest=True), update=False),
        f"--model=DeeperConvNet:depth={DEEP} --batch=4",
    ),
    Claim(
        "resnets",
        "Deep convolutional architectures (ResNets) are close to 2:1",
        DEPTH, "2:1", ABOUT_2,
        lambda r: resnets(r, ABOUT_2),
        "--model=ResNet50 --batch=4",
    ),
    Claim(
        "linearnet-over-batch",
        "LinearNet falls from 2:1 to 1:1 as the batch grows",
        ALL, "-1", (-1.1, -0.9),
        lambda r: change(at_batch_one(r, "LinearNet"), at_large_batch(r, "LinearNet")),
        f"--model=LinearNet --batch=1,{LARGE_BATCH}",
        unit="change of backward/forward",
    ),
    Claim(
        "onenet-over-batch",
        "OneNet falls from 3:1 to 2:1 as the batch grows",
        ALL, "-1", (-1.1, -0.9),
        lambda r: change(at_batch_one(r, "OneNet"), at_large_batch(r, "OneNet")),
        f"--model=OneNet --batch=1,{LARGE_BATCH}",
        unit="change of backward/forward",
    ),
    Claim(
        "convnet-over-batch",
        "ConvNet does not change with the batch",
        ALL, "0", FLAT,
        lambda r: change(*batch_range(r, "ConvNet")),
        "--model=ConvNet --batch=1,4,16",
        unit="change of backward/forward",
    ),
    Claim(
        "sgd-flop-per-parameter",
        "SGD takes 2 FLOP per parameter",
        ADAM, "2", (1.8, 2.2),
        lambda r: per_parameter(pick(r, "OneNet")[0]),
        "--model=OneNet --batch=1",
        unit="update per parameter",
    ),
    Claim(
        "adam-flop-per-parameter",
        "Adam takes about 18 FLOP per parameter",
        ADAM, f"{POST_ADAM_FLOP}", (0.9 * POST_ADAM_FLOP, 1.1 * POST_ADAM_FLOP),
        lambda r: per_parameter(pick(r, "OneNet", "adam")[0]),
        "--model=OneNet --batch=1 --optimizer=adam",
        unit="update per parameter",
    ),
    Claim(
        "adam-exceeds-three",
        "With Adam the ratio may exceed 3:1 in niche settings",
        ADAM, "> 3:1", (ABOUT_3[1], math.inf),
        lambda r: with_post_adam(at_batch_one(r, "OneNet", "adam")),
        "--model=OneNet --batch=1 --optimizer=adam",
    ),
    Claim(
        "adam-large-batch",
        "In large batches 2:1 holds with Adam too",
        ADAM, "2:1", ABOUT_2,
        lambda r: with_post_adam(at_large_batch(r, "OneNet", "adam")),
        f"--model=OneNet --batch={LARGE_BATCH} --optimizer=adam",
    ),
)
# fmt: on
