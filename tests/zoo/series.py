"""Architectures of `transformers` that hear, and that forecast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from zoo.configured import BATCH, LABELS, VOCABULARY, labels, model, tokens
from zoo.entry import Entry
from zoo.language import SEQ2SEQ
from zoo.vision import PATCHES

SPEECH = {
    "vocab_size": 32,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "conv_dim": (64, 64, 64),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 3),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 64,
    "num_labels": LABELS,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}


def waves() -> dict[str, Any]:
    return {"input_values": torch.randn(BATCH, 2000), "labels": labels()}


def mel() -> dict[str, Any]:
    return {"input_features": torch.randn(BATCH, 40, 64), "labels": tokens(BATCH, 16)}


def spectrogram() -> dict[str, Any]:
    return {"input_values": torch.randn(BATCH, 64, 32), "labels": labels()}


def speech(
    name: str,
    class_name: str,
    config: dict[str, Any] = SPEECH,
    inputs: Callable[[], dict[str, Any]] = waves,
    classes: int | None = LABELS,
    **more: Any,
) -> Entry:
    return model(name, "audio", class_name, config, inputs, classes, **more)


AUDIO = [
    speech(
        "speech-to-text",
        "Speech2TextForConditionalGeneration",
        {
            **SEQ2SEQ,
            "input_feat_per_channel": 40,
            "conv_channels": 64,
            "max_source_positions": 64,
            "max_target_positions": 32,
        },
        lambda: {"input_features": torch.randn(BATCH, 64, 40), "labels": tokens(BATCH, 16)},
        VOCABULARY,
    ),
    speech("wav2vec2", "Wav2Vec2ForSequenceClassification"),
    speech("hubert", "HubertForSequenceClassification"),
    speech("wavlm", "WavLMForSequenceClassification"),
    speech("sew", "SEWForSequenceClassification", {**SPEECH, "squeeze_factor": 2}),
    speech("unispeech", "UniSpeechForSequenceClassification"),
    speech(
        "whisper",
        "WhisperForConditionalGeneration",
        {**SEQ2SEQ, "num_mel_bins": 40, "max_source_positions": 32, "max_target_positions": 32},
        mel,
        VOCABULARY,
    ),
    speech(
        "ast",
        "ASTForAudioClassification",
        {**PATCHES, "max_length": 64, "num_mel_bins": 32, "frequency_stride": 8, "time_stride": 8},
        spectrogram,
    ),
]


CODEC = speech(
    "encodec",
    "EncodecModel",
    {
        "num_filters": 8,
        "hidden_size": 32,
        "codebook_dim": 32,
        "codebook_size": 64,
        "upsampling_ratios": [4, 2],
        "num_lstm_layers": 1,
    },
    lambda: {"input_values": torch.randn(4, 1, 512)},
    None,
)


def past() -> dict[str, Any]:
    return {"past_values": torch.randn(BATCH, 64, 4)}


def dated() -> dict[str, Any]:
    """A series with its lags before it, and what is known of each of its times."""
    return {
        "past_values": torch.randn(BATCH, 18),
        "past_time_features": torch.randn(BATCH, 18, 2),
        "past_observed_mask": torch.ones(BATCH, 18),
        "future_values": torch.randn(BATCH, 12),
        "future_time_features": torch.randn(BATCH, 12, 2),
    }


SERIES = {
    "num_input_channels": 4,
    "context_length": 64,
    "patch_length": 8,
    "patch_stride": 8,
    "d_model": 64,
    "prediction_length": 16,
}
FORECASTS = [
    model(
        "patchtst",
        "time series",
        "PatchTSTForPrediction",
        {**SERIES, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 128},
        past,
    ),
    model(
        "patchtsmixer",
        "time series",
        "PatchTSMixerForPrediction",
        {**SERIES, "num_layers": 2},
        past,
    ),
    model(
        "time-series-transformer",
        "time series",
        "TimeSeriesTransformerForPrediction",
        {
            "prediction_length": 12,
            "context_length": 16,
            "lags_sequence": [1, 2],
            "num_time_features": 2,
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "encoder_layerdrop": 0.0,
            "decoder_layerdrop": 0.0,
        },
        dated,
        draws=8,  # each parameter of the distribution is one output
    ),
]
ENTRIES = [*AUDIO, CODEC, *FORECASTS]
