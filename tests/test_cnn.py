"""The digit network: shapes, and readiness for devices that this machine may not have."""

import pytest
import torch
import torch.nn.functional as F

from course_lib import cnn
from tests import readiness


@pytest.fixture
def network():
    return cnn.DigitNet(width=4)


def batch(count=4):
    return torch.randn(count, 1, 28, 28), torch.arange(count)


def loss(model, images, labels):
    return F.cross_entropy(model(images), labels)


def test_shapes(network):
    assert network(batch(3)[0]).shape == (3, 10)
    assert cnn.DigitNet(classes=4)(batch(3)[0]).shape == (3, 4)


def test_it_can_memorise_a_batch(network):
    torch.manual_seed(0)
    images, labels = batch(8)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss(network, images, labels).backward()
        optimizer.step()
    assert network(images).argmax(1).equal(labels)


def test_ready_for_any_device(network):
    readiness.check_fake_cuda(network, loss, batch())
    readiness.check_meta(cnn.DigitNet(width=4), loss, batch())
    readiness.check_autocast(network, loss, batch())


def test_compiles_without_graph_breaks(network):
    readiness.check_compiles(network, loss, batch())
