"""Our networks as `transformers` models: masked language modelling, features, sequence classification.

Thin: the networks are `kleiber.model.dnabert2` and `kleiber.model.shortconv`, and an exported folder holds those files
and this one joined, so that it loads with ``trust_remote_code`` where kleiber is not installed. Nothing here depends on
kleiber beyond the networks, for that reason. Rejected: a second modelling file for export, which
would drift from this one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, SequenceClassifierOutput

from kleiber.model.config import ModelConfig
from kleiber.model.dnabert2 import Embeddings, Encoder, Head
from kleiber.model.networks import NETWORKS
from kleiber.model.shortconv import CONV_SPREAD, ShortConvolution

__all__ = [
    "DNABERT2Config",
    "DNABERT2ForMaskedLM",
    "DNABERT2ForSequenceClassification",
    "DNABERT2Model",
    "DNABERT2PreTrainedModel",
]


class DNABERT2Config(PretrainedConfig):
    """The published ``config.json``'s keys; what this network does not vary is kept as it is."""

    model_type = "kleiber-dnabert2"

    def __init__(
        self,
        vocab_size: int = 4096,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        hidden_dropout_prob: float = 0.1,
        initializer_range: float = 0.02,
        is_decoder: bool = False,
        pad_token_id: int = 3,
        tie_word_embeddings: bool = True,
        architecture: str = "dnabert2",
        **others: Any,
    ):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.initializer_range = initializer_range
        self.architecture = architecture
        self.is_decoder = is_decoder
        super().__init__(pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **others)  # type: ignore[call-arg]
        self.is_decoder = is_decoder

    @property
    def shape(self) -> ModelConfig:
        """The network's shape."""
        return ModelConfig(
            vocab_size=self.vocab_size,
            hidden=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            intermediate=self.intermediate_size,
            dropout=self.hidden_dropout_prob,
            architecture=self.architecture,
        )


class DNABERT2PreTrainedModel(PreTrainedModel):
    """What the models below share: how they begin."""

    config_class = DNABERT2Config
    base_model_prefix = "bert"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0.0, self.config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.LayerNorm):
            module.weight.data.fill_(1.0)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, ShortConvolution):
            module.weight.data.normal_(0.0, CONV_SPREAD)
        elif isinstance(module, Encoder):
            module.set_slopes()  # what no file holds is handed here unset


class DNABERT2Model(DNABERT2PreTrainedModel):
    """The encoder: a vector for each token; there is no pooler."""

    embeddings: Embeddings

    def __init__(self, config: DNABERT2Config):
        super().__init__(config)
        self.body = NETWORKS[config.architecture].body  # its parts are this model's own, by the published names
        for name, part in self.body(config.shape).named_children():
            setattr(self, name, part)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens, whose weight is (V, H)."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        """Put another embedding of tokens, whose weight is (V, H)."""
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **unused: Any,
    ) -> BaseModelOutput:
        """Return ``last_hidden_state``, (B, S, H); `attention_mask` is 0 where there is padding."""
        return BaseModelOutput(self.body.forward(self, input_ids, attention_mask, None, token_type_ids))  # type: ignore[arg-type]


class _WithHead(DNABERT2PreTrainedModel):
    """The encoder below a head that says what it makes of its vectors."""

    def __init__(self, config: DNABERT2Config):
        super().__init__(config)
        self.bert = NETWORKS[config.architecture].body(config.shape)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens, whose weight is (V, H)."""
        return self.bert.embeddings.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        """Put another embedding of tokens, whose weight is (V, H)."""
        self.bert.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **unused: Any,
    ) -> Any:
        """Return the head's logits, and its loss where there are labels."""
        x = self.bert(input_ids, attention_mask, None, token_type_ids)
        is_token = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self._answer(x, is_token.unsqueeze(-1).to(x.dtype), labels)

    def _answer(self, x: Tensor, is_token: Tensor, labels: Tensor | None) -> Any:
        """Return what the head makes of vectors, (B, S, H); `is_token`, (B, S, 1), is 0 where there is padding."""
        raise NotImplementedError


class DNABERT2ForMaskedLM(_WithHead):
    """The encoder and the tied head: logits (B, S, V), and the mean loss over labels that are not -100."""

    _tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: DNABERT2Config):
        super().__init__(config)
        self.cls = Head(config.shape, self.bert.embeddings.word_embeddings.weight)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder, whose weight (V, H) is the embedding's."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, value: Any) -> None:
        """Put another decoder, whose weight is (V, H)."""
        self.cls.predictions.decoder = value

    def _answer(self, x: Tensor, is_token: Tensor, labels: Tensor | None) -> MaskedLMOutput:
        logits = self.cls.predictions(x)
        loss = None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return MaskedLMOutput(loss=loss, logits=logits)


class DNABERT2ForSequenceClassification(_WithHead):
    """The encoder and a linear layer on the mean of the unpadded tokens: logits (B, num_labels).

    A float label makes it a regression, and the loss the squared error.
    """

    def __init__(self, config: DNABERT2Config):
        super().__init__(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)
        self.post_init()

    def _answer(self, x: Tensor, is_token: Tensor, labels: Tensor | None) -> SequenceClassifierOutput:
        logits = self.classifier(self.dropout((x * is_token).sum(1) / is_token.sum(1)))
        loss = None
        if labels is not None:
            is_class = not labels.is_floating_point()
            loss = F.cross_entropy(logits, labels) if is_class else F.mse_loss(logits.view(labels.shape), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
