"""Silero voice activity detection: espeak-ng speech in noise against noise alone, frame by frame."""

from __future__ import annotations

import random
import shutil
import subprocess
import wave
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from graphprune.errors import DataError

from .rendering import word_half
from .session import open_session
from .store import copied, shipped
from .workload import Arrays, Evaluation, Kind, ModelSource, Workload

RATE, FRAME, CONTEXT, STATE = 16_000, 512, 64, 128
CLIPS, SECONDS = 24, 4
PACKAGE, MODEL = "silero_vad", "data/silero_vad.onnx"
BATCH = 32  # windows in one calibration feed
VOICES = ("en-us", "en-gb+f3", "de+m2", "fr+f2", "es+m5", "it+f4")
LOUD = 0.1  # a frame is speech when its clean level exceeds this share of the clip's loudest frame


@cache
def spoken(text: str, voice: str, speed: int) -> NDArray[np.float64]:
    """Speech at 16 kHz, [samples].

    Raises:
        DataError: espeak-ng is not installed.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise DataError("espeak-ng is not installed", "apt-get install espeak-ng")
    command = [program, "-v", voice, "-s", str(speed), "--stdout", text]
    sound = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(BytesIO(sound)) as stream:
        rate = stream.getframerate()
        samples = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2") / 32768
    from scipy import signal  # slow to import

    return np.asarray(signal.resample_poly(samples, RATE // 50, rate // 50))


def noise(generator: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Coloured noise, with hum or a few clicks at times, of unit power [samples]."""
    spectrum = np.fft.rfft(generator.normal(size=samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20)
    sound = np.fft.irfft(spectrum * frequency ** -generator.choice([0.0, 0.5, 1.0]), samples)
    sound /= sound.std()
    if generator.random() < 0.5:
        hum = 2 * np.pi * generator.uniform(50, 800) * np.arange(samples) / RATE
        sound += generator.uniform(0.2, 1.5) * np.sin(hum)
    if generator.random() < 0.3:
        sound[generator.integers(0, samples, 12)] += generator.normal(0, 20, 12)
    return np.asarray(sound / sound.std())


def clip(index: int, second: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """One clip as frames [n,512], which frames are speech [n], and which are noise alone [n].

    Odd clips hold no speech. Frames in which speech is fading belong to neither class.
    """
    chance = random.Random(9001 + 10_000 * second + index)
    generator = np.random.default_rng(chance.getrandbits(63))
    samples = SECONDS * RATE // FRAME * FRAME
    background = noise(generator, samples)
    voice = np.zeros(samples)
    if index % 2 == 0:
        text = " ".join(chance.choices(word_half(second), k=14))
        speech = spoken(text, chance.choice(VOICES), chance.randint(130, 190))[: samples - RATE // 2]
        voice[RATE // 2 : RATE // 2 + len(speech)] = speech
    level = np.sqrt((voice.reshape(-1, FRAME) ** 2).mean(1))
    loudest = max(float(level.max()), 1e-9)
    ratio = 10 ** (-chance.uniform(0, 15) / 20)
    power = voice[voice != 0].std() if loudest > 1e-9 else 0.05
    mixed = voice + background * power * ratio
    frames = (mixed * 0.5 / max(float(np.abs(mixed).max()), 1e-9)).reshape(-1, FRAME).astype(np.float32)
    return frames, level > LOUD * loudest, level == 0


def probabilities(model: ModelSource, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Speech probability of clips [clips,n,512] run side by side through the recurrent state, [clips,n]."""
    session = open_session(model)
    clips, count, _ = frames.shape
    state = np.zeros((2, clips, STATE), dtype=np.float32)
    tail = np.zeros((clips, CONTEXT), dtype=np.float32)
    known = {each.name for each in session.get_inputs()}
    rate = {"sr": np.array(RATE, dtype=np.int64)} if "sr" in known else {}
    result = np.zeros((clips, count), dtype=np.float32)
    for at in range(count):
        window = np.concatenate((tail, frames[:, at]), axis=1)
        output, state = session.run(None, {"input": window, "state": state, **rate})
        result[:, at], tail = output[:, 0], frames[:, at, -CONTEXT:]
    return result


def evaluate(model: ModelSource, limit: int | None = None) -> Evaluation:
    """ROC AUC; items are the share of noise frames that score below each speech frame (mean: the AUC)."""
    clips = [clip(index, second=False) for index in range(CLIPS)[:limit]]
    scores = probabilities(model, np.stack([frames for frames, _, _ in clips]))
    speech = scores[np.stack([loud for _, loud, _ in clips])]
    silent = np.sort(scores[np.stack([quiet for _, _, quiet in clips])])
    below = np.searchsorted(silent, speech, "left") + np.searchsorted(silent, speech, "right")
    placement = below / (2 * len(silent))
    return Evaluation({"roc_auc": float(placement.mean())}, placement)


def calibration(count: int) -> Arrays:
    """A stack of feeds of BATCH windows with the state that the dense model had reached by then.

    Windows [n/BATCH,BATCH,576], state [n/BATCH,2,BATCH,128]; half of them come from clips with speech. With
    the state at zero throughout, the recurrent weights would look unused.
    """
    clips = np.stack([clip(index, second=True)[0] for index in range(2 * max(1, count // 100))])
    windows, states = replay(clips)
    chosen = np.random.default_rng(9002).permutation(len(windows))[: max(count // BATCH, 1) * BATCH]
    feeds = windows[chosen].reshape(-1, BATCH, FRAME + CONTEXT)
    state = states[chosen].reshape(-1, BATCH, 2, STATE).transpose(0, 2, 1, 3)
    rate = np.array(RATE, dtype=np.int64)
    return {"input": feeds, "state": np.ascontiguousarray(state), "sr": rate}


def replay(clips: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows [n,576] and the state [n,2,128] before each, from running the dense model over the clips."""
    session = open_session(shipped(PACKAGE, MODEL))
    state = np.zeros((2, len(clips), STATE), dtype=np.float32)
    windows, states = [], []
    for at in range(1, clips.shape[1]):
        windows.append(np.concatenate((clips[:, at - 1, -CONTEXT:], clips[:, at]), axis=1))
        states.append(state.transpose(1, 0, 2))
        state = session.run(
            None, {"input": windows[-1], "state": state, "sr": np.array(RATE, dtype=np.int64)}
        )[1]
    return np.concatenate(windows), np.concatenate(states)


WORKLOADS = (
    Workload(
        name="silero-vad",
        kind=Kind.SYNTHETIC,
        metric="ROC AUC of speech against noise frames",
        expected=0.992,
        about="torch, opset 16: weights inside the bodies of an If, pruned with sr fixed to 16 000; LSTM",
        fetch=copied(PACKAGE, MODEL, "silero-vad"),
        evaluate=evaluate,
        calibration=calibration,
        fixed={"sr": RATE},
    ),
)
