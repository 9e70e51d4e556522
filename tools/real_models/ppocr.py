"""PP-OCR on rendered text: find the lines of a page, read words, tell upside down from upright."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .rendering import Box, Page, draw_line, draw_page, fit_height, normalised, word_half
from .session import input_name, open_session, run_batched
from .store import copied, shipped
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

PACKAGE = "rapidocr_onnxruntime"
DETECTION = "models/ch_PP-OCRv4_det_infer.onnx"
RECOGNITION = "models/ch_PP-OCRv4_rec_infer.onnx"
DIRECTION = "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"

PAGES, WORDS, LINES = 24, 300, 400
WORD_BLUR, LINE_BLUR = 1.2, 1.8  # pixels; enough that the dense models make mistakes
INK, BOX_SCORE, UNCLIP, SMALLEST = 0.3, 0.5, 1.6, 3  # the detector's published post-processing
SAME_LINE = 0.5  # intersection over union from which a found box counts as that line


def pages(count: int, second: bool) -> list[Page]:
    """Rendered pages; `second` draws from the calibration half of the words with another seed."""
    chance = random.Random(7001 + second)
    return [draw_page(chance, word_half(second)) for _ in range(count)]


def found_boxes(probability: NDArray[np.float32]) -> list[Box]:
    """Boxes around connected ink, grown to undo the shrinking of the training masks [H,W]."""
    ink = ndimage.binary_dilation(probability > INK, structure=np.ones((2, 2), dtype=np.bool_))
    labels, _ = ndimage.label(ink, structure=np.ones((3, 3), dtype=np.bool_))
    boxes = []
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < SMALLEST or probability[rows, columns].mean() < BOX_SCORE:
            continue
        grow = height * width * UNCLIP / (2 * (height + width))
        boxes.append(Box(columns.start - grow, rows.start - grow, columns.stop + grow, rows.stop + grow))
    return boxes


def matches(found: list[Box], truth: tuple[Box, ...]) -> int:
    """Lines found, each box used once, best overlap first."""
    pairs = sorted(
        ((box.overlap(line), i, j) for i, box in enumerate(found) for j, line in enumerate(truth)),
        reverse=True,
    )
    used_found: set[int] = set()
    used_truth: set[int] = set()
    for overlap, i, j in pairs:
        if overlap >= SAME_LINE and i not in used_found and j not in used_truth:
            used_found.add(i)
            used_truth.add(j)
    return len(used_truth)


def evaluate_detection(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Line F1 over all pages; items are the F1 of each page."""
    session = open_session(model)
    name = input_name(session)
    counts = []
    for page in pages(PAGES, second=False)[:limit]:
        probability = session.run(None, {name: normalised(page.pixels)[None]})[0][0, 0]
        found = found_boxes(probability)
        counts.append((matches(found, page.lines), len(found), len(page.lines)))
    right, found_count, truth = np.array(counts, dtype=np.float64).T
    metrics = {
        "line_f1": float(2 * right.sum() / (found_count.sum() + truth.sum())),
        "recall": float(right.sum() / truth.sum()),
        "precision": float(right.sum() / max(found_count.sum(), 1)),
    }
    return Evaluation(metrics, 2 * right / (found_count + truth))


def calibrate_detection(count: int) -> Arrays:
    """Pages [n/8,3,640,480]: a page shows each weight as much as eight pictures of words do."""
    return {"x": np.stack([normalised(page.pixels) for page in pages(max(count // 8, 1), second=True)])}


def written_words(count: int, second: bool) -> list[tuple[str, NDArray[np.float32]]]:
    """Words with their picture [3,48,320]; one in six is a number."""
    chance = random.Random(7003 + second)
    vocabulary = word_half(second)
    texts = [
        str(chance.randint(10**3, 10**7)) if chance.random() < 1 / 6 else chance.choice(vocabulary)
        for _ in range(count)
    ]
    return [(text, fit_height(draw_line(text, chance, WORD_BLUR), 48, 320)) for text in texts]


@cache
def alphabet() -> tuple[str, ...]:
    """Characters by output class: the blank, those stored in the dense model, and the space."""
    stored = open_session(shipped(PACKAGE, RECOGNITION)).get_modelmeta().custom_metadata_map["character"]
    return ("", *stored.splitlines(), " ")


def read_text(probability: NDArray[np.float32]) -> str:
    """Greedy CTC: best class per step, repeats merged, blanks dropped [steps, classes]."""
    best = probability.argmax(1)
    starts = np.append(True, best[1:] != best[:-1])
    return "".join(alphabet()[index] for index in best[starts])


def edit_distance(left: str, right: str) -> int:
    """Levenshtein distance."""
    previous = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        current = [i]
        for j, b in enumerate(right, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return previous[-1]


def evaluate_recognition(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Words read exactly, and characters right (1 - edits / characters); items are the exact matches."""
    samples = written_words(WORDS, second=False)[:limit]
    session = open_session(model)
    output = run_batched(session, {input_name(session): np.stack([image for _, image in samples])}, batch=8)
    read = [read_text(row) for row in output]
    exact = np.array(
        [text == answer for (text, _), answer in zip(samples, read, strict=True)], dtype=np.float64
    )
    edits = sum(
        min(len(text), edit_distance(text, answer)) for (text, _), answer in zip(samples, read, strict=True)
    )
    characters = 1 - edits / sum(len(text) for text, _ in samples)
    return Evaluation({"exact": float(exact.mean()), "characters": characters}, exact)


def calibrate_recognition(count: int) -> Arrays:
    """Words [n,3,48,320]."""
    return {"x": np.stack([image for _, image in written_words(count, second=True)])}


def turned_lines(count: int, second: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Lines of one to three words [n,3,48,192], half of them upside down, and which ones are."""
    chance = random.Random(7005 + second)
    vocabulary = word_half(second)
    turned = np.arange(count) % 2 == 1
    pictures = []
    for upside_down in turned:
        pixels = draw_line(" ".join(chance.choices(vocabulary, k=chance.randint(1, 3))), chance, LINE_BLUR)
        pictures.append(
            fit_height(np.ascontiguousarray(pixels[::-1, ::-1]) if upside_down else pixels, 48, 192)
        )
    return np.stack(pictures), turned


def evaluate_direction(model: ModelSource, limit: int | None = None) -> Evaluation:
    """Share of lines whose direction is told right."""
    images, turned = turned_lines(LINES, second=False)
    session = open_session(model)
    output = run_batched(session, {input_name(session): images[:limit]}, batch=32)
    right = (output.argmax(1) == turned[:limit]).astype(np.float64)
    return Evaluation({"accuracy": float(right.mean())}, right)


def calibrate_direction(count: int) -> Arrays:
    """Lines [n,3,48,192]."""
    return {"x": turned_lines(count, second=True)[0]}


WORKLOADS = (
    Workload(
        name="ppocr-detection",
        kind=Kind.SYNTHETIC,
        metric="line F1 on rendered pages",
        expected=0.992,
        about="PP-OCRv4, paddle2onnx, opset 12: HardSigmoid squeeze-excite, ConvTranspose",
        fetch=copied(PACKAGE, DETECTION, "ppocr-detection"),
        evaluate=evaluate_detection,
        calibration=calibrate_detection,
    ),
    Workload(
        name="ppocr-recognition",
        kind=Kind.SYNTHETIC,
        metric="words read exactly",
        expected=0.907,
        about="PP-OCRv4, paddle2onnx, opset 12: convolutions and attention; exact match is all or nothing",
        fetch=copied(PACKAGE, RECOGNITION, "ppocr-recognition"),
        evaluate=evaluate_recognition,
        calibration=calibrate_recognition,
    ),
    Workload(
        name="ppocr-direction",
        kind=Kind.SYNTHETIC,
        metric="0/180 degrees on rendered lines",
        expected=0.880,
        about="PaddlePaddle, opset 11: weights in Constant nodes",
        fetch=copied(PACKAGE, DIRECTION, "ppocr-direction"),
        evaluate=evaluate_direction,
        calibration=calibrate_direction,
    ),
)
