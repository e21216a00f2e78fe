"""The translator that many tutorials write, as it is usually written, to be measured and mended.

An LSTM reads the source, another one writes the target from where the first one ended. The model is
the same in both forms: what is wrong with the program is the way it is fed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.text import START


class TutorialTranslator(nn.Module):
    """Two LSTMs, no attention.

    Args:
        source_size, target_size: of the vocabularies.
        hidden: of embeddings and states.
    """

    def __init__(self, source_size: int, target_size: int, hidden: int = 256):
        super().__init__()
        self.source_embedding = nn.Embedding(source_size, hidden)
        self.encoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.target_embedding = nn.Embedding(target_size, hidden)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.output = nn.Linear(hidden, target_size)

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Ids (B, S), (B, T) -> logits (B, T, target_size) of the words that follow."""
        _, state = self.encoder(self.source_embedding(source))
        outputs, _ = self.decoder(self.target_embedding(target_in), state)
        return self.output(outputs)


def loss_by_token(model: TutorialTranslator, source: Tensor, target: Tensor) -> Tensor:
    """The loss of one pair (S,), (T,), as the tutorials compute it.

    Every token is a call of its own; START goes in first and is also the first word to predict; and
    the padding behind the words is read and predicted like words.
    """
    state, loss = None, 0.0
    for token in source:
        _, state = model.encoder(model.source_embedding(token.view(1, 1)), state)
    token = torch.tensor(START)
    for wanted in target:
        output, state = model.decoder(model.target_embedding(token.view(1, 1)), state)
        loss = loss + F.cross_entropy(model.output(output[0]), wanted.view(1))
        token = wanted  # teacher forcing
    return loss / len(target)


def start_twice(target: Tensor) -> Tensor:
    """(B, T) -> (B, 1 + T): a second START in front, so that the first one is a target."""
    return torch.cat((torch.full_like(target[:, :1], START), target), dim=1)


def loss_with_padding(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy in which PAD is a word like others; source (B, S), target (B, T)."""
    source, target = batch
    logits = model(source, target[:, :-1])  # -> (B, T - 1, target_size)
    return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
