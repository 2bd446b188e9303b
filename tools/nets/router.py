"""The gating heads of UniRestorer."""

import torch.nn as nn


class Router(nn.Module):
    """Features [N, width] to mu, log variance, leaf gates and level gates (twice as many as the tree has)."""

    def __init__(self, width=512, leaves=22, levels=3):
        super().__init__()

        def head():
            layers = []
            for i in range(5):
                layers.append(nn.Linear(width, width, bias=False))
                if i < 4:
                    layers.append(nn.LeakyReLU(0.1))
            return nn.Sequential(*layers, nn.BatchNorm1d(width))

        self.mu, self.sigma = head(), head()
        self.lf_gate = nn.Sequential(nn.Linear(width, 2 * leaves, bias=False))
        self.layer_gate = nn.Sequential(nn.Linear(width, 2 * levels, bias=False))

    def forward(self, features):
        mu, logvar = self.mu(features), self.sigma(features)
        return mu, logvar, self.lf_gate(mu), self.layer_gate(logvar)
