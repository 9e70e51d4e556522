"""Choosing calibration samples from a pool (`graphprune calibrate`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphprune.errors import ArgumentError, DataError, OutputError, did_you_mean
from graphprune.ir.arrays import Arrays
from graphprune.ir.fixed import NOTHING
from graphprune.ir.names import quote
from graphprune.ops import record_of
from graphprune.pipeline.samples import Given
from graphprune.pipeline.settings import Choosing
from graphprune.shown import Shown

if TYPE_CHECKING:
    from graphprune.ir.shapes import Sizes
    from graphprune.sampling.choose import Choice
    from graphprune.sampling.images import Preparation
    from graphprune.sampling.judge import Judgement
    from graphprune.sampling.pool import Pool


@dataclass(frozen=True)
class Wish:
    """What to choose.

    Attributes:
        samples: how many.
        select: the mode.
        preparation: how pictures become inputs.
        window: tokens of one sample; None where the pool is no file of token ids.
        stored: type of the integers in a .bin of token ids.
    """

    samples: int = 512
    select: str = "random"
    preparation: Preparation | None = None
    window: int | None = None
    stored: str = "uint16"


@dataclass(frozen=True)
class Chosen(Shown):
    """The samples, and how they compare with ten random draws of the same size.

    Attributes:
        pool: samples there were to choose from.
        what: what a sample is.
        select: the mode.
        numbers: of the samples in the pool.
        weights: how much of the pool each stands for, 1 on average.
        arrays: the samples by input name.
        notes: what happened on the way.
        judgement: None for random samples, and where no layer can be compared.
        files: what was written.
    """

    pool: int
    what: str
    select: str
    numbers: tuple[int, ...]
    weights: tuple[float, ...]
    arrays: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()
    judgement: Judgement | None = None
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Everything but the arrays themselves."""
        judged = self.judgement
        return {
            "pool": self.pool,
            "select": self.select,
            "samples": len(self.numbers),
            "numbers": list(self.numbers),
            "weights": list(self.weights),
            "notes": list(self.notes),
            "files": list(self.files),
            "moments": None
            if judged is None
            else {
                "layers": list(judged.layers),
                "error": judged.error,
                "draws": list(judged.draws),
                "verdict": judged.verdict,
            },
        }


def run(source: object, given: Given, output: Path | None, wish: Wish, settings: Choosing) -> Chosen:
    """Choose, compare, and write the samples if there is an output.

    Raises:
        GraphpruneError: the model does not load or run, or the pool does not fit it.
    """
    from graphprune.pipeline.opened import load_to_run
    from graphprune.runtime.jobs import one_blas_thread
    from graphprune.sampling.choose import MODES

    if wish.select not in MODES:
        raise ArgumentError(f"no selection '{wish.select}'", did_you_mean(wish.select, MODES))
    if wish.samples < 1:
        raise ArgumentError(f"samples must be at least 1, got {wish.samples}")
    _require_free(output, source, given, settings.force)
    ready = load_to_run(source, settings)
    pool = open_pool(given, ready.model, wish, ready.constants)
    with one_blas_thread():
        chosen = _choose(ready.model, pool, wish, settings)
    return chosen if output is None else _written(chosen, output, settings)


def open_pool(given: Given, model: ir.Model, wish: Wish, constants: Arrays = NOTHING) -> Pool:
    """The samples to choose from.

    Raises:
        DataError: the pool holds nothing usable.
    """
    from graphprune.pipeline.samples import as_sets
    from graphprune.sampling.images import Preparation, image_pool, is_image_folder
    from graphprune.sampling.pool import array_pool, pool_of
    from graphprune.sampling.tokens import token_pool

    if given is None:
        raise DataError("there is no pool to choose from")
    if wish.window is not None:
        if not isinstance(given, Path):
            raise ArgumentError("a window cuts a file of token ids", "give its path")
        return token_pool(given, model, wish.window, wish.stored)
    if not isinstance(given, Path):
        return pool_of(as_sets(given, model, constants), model)
    if wish.preparation is not None or is_image_folder(given):
        return image_pool(given, model, wish.preparation or Preparation())
    return array_pool(given, model, constants)


def _choose(model: ir.Model, pool: Pool, wish: Wish, settings: Choosing) -> Chosen:
    from graphprune.ir.normalise import normalise
    from graphprune.sampling.judge import judge

    own = model.clone()
    sizes = normalise(own, record_of, settings.shape)
    choice, judgement = _pick(own, sizes, pool, wish, settings), None
    if wish.select != "random":
        judgement = judge(own, sizes, pool, choice.numbers, run=settings.run)
    return Chosen(
        pool=pool.count,
        what=pool.what,
        select=wish.select,
        numbers=tuple(int(number) for number in choice.numbers),
        weights=tuple(float(weight) for weight in choice.weights),
        arrays=pool.take([int(number) for number in choice.numbers]),
        notes=choice.notes,
        judgement=judgement,
    )


def _pick(model: ir.Model, sizes: Sizes, pool: Pool, wish: Wish, settings: Choosing) -> Choice:
    from graphprune.sampling.choose import Choice, choose, draw
    from graphprune.sampling.features import measure

    small = (f"the pool holds {pool.count}, all are used",) if pool.count <= wish.samples else ()
    if wish.select == "random" or small:
        numbers = draw(pool.count, wish.samples, settings.seed)
        return Choice(numbers, np.ones(len(numbers)), small)
    features = measure(model, sizes, pool, run=settings.run)
    return choose(features, wish.samples, wish.select, settings.seed)


def _require_free(output: Path | None, source: object, given: Given, overwrite: bool) -> None:
    from graphprune.ir.publish import refuse_unsafe

    if output is None:
        return
    if output.suffix != ".npz":
        raise OutputError(f"the output {quote(str(output))} is no .npz", f"name it {output.stem}.npz")
    read = [Path(each) for each in (source, given) if isinstance(each, str | Path)]
    refuse_unsafe([output], read)
    if output.exists() and not overwrite:
        raise OutputError(f"the output {quote(str(output))} exists", "choose another name, or use --force")


def _written(chosen: Chosen, output: Path, settings: Choosing) -> Chosen:
    from graphprune.ir.publish import create, publish, temporaries, unwritable

    settings.progress(0, 0, "writing")
    try:
        with temporaries([output]) as (temporary,):
            with create(temporary) as file:
                np.savez(file, **chosen.arrays)  # type: ignore[arg-type]
            publish((temporary, output), overwrite=settings.force)
    except OSError as error:
        raise unwritable(output, error) from None
    return replace(chosen, files=(str(output),))
