"""A language model on an LSTM: orthogonal recurrence, forget bias 1, small embedding.

fanwise plan examples/lstm.py:model
"""

import torch
from torch import nn


class LanguageModel(nn.Module):
    """Embedding, two LSTM layers, a dense layer on every state."""

    def __init__(self, vocabulary: int = 1000, width: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the next token's logits, (N, T, vocabulary), from (N, T) tokens."""
        states, _ = self.lstm(self.embedding(tokens))
        return self.output(states)


def model() -> tuple[nn.Module, torch.Tensor]:
    """Return the network and a batch of tokens."""
    torch.manual_seed(0)
    return LanguageModel(), torch.randint(1000, (16, 32))


if __name__ == "__main__":
    import fanwise.torch as fwt

    net, batch = model()
    print(fwt.plan(net, batch))
