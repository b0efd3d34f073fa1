"""The default encoder: a message is a bag of features through one hidden layer; a token is seen with its neighbours."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu

from trainer.tasks.nlu.window import Window


class Bag(nn.Module):
    """States of messages and of their tokens from sums of embeddings; `message_features`, `token_features`: widths.

    Messages' embeddings are `width` wide, tokens' `token_width`, and so are tokens' states.

    As embeddings start at zero, the offsets are what tells the units apart at first: they start at random.
    """

    def __init__(self, width: int, hidden: int, token_width: int, dropout: float) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.randn(width))
        self.hidden = nn.Linear(width, hidden)
        self.window = Window(token_width, token_width, dropout)
        self.dropout = dropout
        self.message_features = width + hidden
        self.token_width = self.token_features = token_width

    def forward(self, tokens: Tensor, messages: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, token_width), one message's after the other's, and messages (n, width) to the states of both.

        They are (N, token_features) and (n, message_features).
        """
        first = self._dropped(gelu(messages + self.offset))
        message_states = torch.cat([first, self._dropped(gelu(self.hidden(first)))], dim=1)
        return self.window(tokens, lengths), message_states

    def _dropped(self, states: Tensor) -> Tensor:
        return dropout(states, self.dropout, self.training)
